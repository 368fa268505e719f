//! The marks that tie the directories outside of the data directory to a restore. The path
//! alone is not enough: another cluster may have been created there since.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use super::{Destination, remove_file};
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::UNFINISHED_RESTORE;

impl Destination {
    /// Marks each directory outside of the data directory as belonging to this restore.
    pub(super) fn make_marks(&self) -> Result<()> {
        for path in self.marks() {
            fs::write(&path, self.data_directory.as_os_str().as_encoded_bytes())
                .and_then(|()| File::open(&path)?.sync_all())
                .map_err(|error| Error::file("write file", &path, &error))?;
        }
        Ok(())
    }

    /// Checks that the directories outside of the data directory still belong to this
    /// restore.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when one does not.
    pub(crate) fn check_marks(&self) -> Result<()> {
        for (path, directory) in self.marks().zip(self.outside()) {
            match fs::read(&path) {
                Ok(mark) if mark == self.data_directory.as_os_str().as_encoded_bytes() => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("read file", &path, &error));
                }
                _ => {
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!(
                            "directory \"{}\" no longer belongs to the interrupted restore",
                            directory.display()
                        ),
                    )
                    .with_hint(format!(
                        "Remove the contents of the data directory, and restore again without {}.",
                        Word::Resume
                    )));
                }
            }
        }
        Ok(())
    }

    /// Removes the marks of a restore that is finished.
    pub(crate) fn remove_marks(&self) -> Result<()> {
        for path in self.marks() {
            remove_file(&path)?;
        }
        Ok(())
    }

    fn marks(&self) -> impl Iterator<Item = PathBuf> {
        self.outside().map(|place| place.join(UNFINISHED_RESTORE))
    }
}
