//! Changed pages on disk, until the rest of their file comes.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::restore::remove_file;

/// A temporary directory, removed when this is dropped. Only this user can read it.
#[derive(Debug)]
pub(super) struct Spool(TempDir);

impl Spool {
    /// A new one below `parent`.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn new(parent: &Path) -> Result<Self> {
        let made = tempfile::Builder::new().prefix("wal-e-merge-").tempdir_in(parent);
        made.map(Spool).map_err(|error| Error::file("create a directory in", parent, &error))
    }

    /// Where the pages of the file at `path` below the data directory are.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.0.path().join(path)
    }

    /// Opens it for more pages.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn open_or_create(&self, path: &Path) -> Result<File> {
        let place = self.place(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| Error::file("create directory", parent, &error))?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.open(&place).map_err(|error| Error::file("create file", &place, &error))
    }

    /// The file that they belong to is complete: their space is free again.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        remove_file(&self.place(path))
    }
}
