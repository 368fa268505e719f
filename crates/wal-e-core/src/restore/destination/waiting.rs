//! Where the pages of newer backups wait until the rest of their file comes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Destination;
use crate::error::{Error, Result};
use crate::postgres::data_directory::UNFINISHED_RESTORE;

/// The path below the data directory of the file where pages of the file at `path` wait. It is on
/// the same file system: in the same tablespace.
pub(crate) fn waiting_pages(path: &Path) -> PathBuf {
    let mut components = path.components();
    let beginning: PathBuf = match path.starts_with("pg_tblspc") {
        true => components.by_ref().take(2).collect(),
        false => PathBuf::new(),
    };
    beginning.join(directory()).join(components.as_path())
}

/// Its name begins as that of all notes of a restore.
fn directory() -> String {
    format!("{UNFINISHED_RESTORE}.pages")
}

impl Destination {
    /// Removes the directories of waiting pages.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn remove_waiting(&self) -> Result<()> {
        let roots = self.roots().map(Path::to_owned);
        let in_place = self.data_directory.join("pg_tblspc");
        let in_place = fs::read_dir(in_place).into_iter().flatten().flatten();
        for root in roots.chain(in_place.map(|entry| entry.path())) {
            let place = root.join(directory());
            match fs::remove_dir_all(&place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("remove directory", &place, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::data_directory::is_note_of_restore;

    #[test]
    fn pages_wait_in_the_same_tablespace_and_under_names_that_no_backup_has() {
        for (path, expected) in [
            ("base/5/16384", "wal_e.unfinished_restore.pages/base/5/16384"),
            ("pg_tblspc/7/PG_18/5/1", "pg_tblspc/7/wal_e.unfinished_restore.pages/PG_18/5/1"),
        ] {
            let place = waiting_pages(Path::new(path));
            assert_eq!(place, Path::new(expected));
            assert!(is_note_of_restore(expected));
        }
    }
}
