//! Changed pages on disk, until the rest of their file comes.
//!
//! They are where they belong, each in a file of its relation file's name; what no increment has
//! is a hole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::postgres::BLOCK_SIZE;
use crate::restore::assembly::Begun;

/// How a file is put together: a whole number of pages.
const PIECE_BYTES: usize = 32 * BLOCK_SIZE;

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

    /// Opens it to read its pages, if there are any. Its space is free again when the file is
    /// closed.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn take(&self, path: &Path) -> Result<Option<File>> {
        let place = self.place(path);
        let file = match File::open(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(|error| Error::file("open file", &place, &error))?,
        };
        fs::remove_file(&place).map_err(|error| Error::file("remove file", &place, &error))?;
        Ok(Some(file))
    }
}

/// A file of which newer backups have pages, to be read from its beginning to its end.
pub(super) struct WholeFile<'a, R> {
    /// What the oldest backup has.
    old: R,
    old_has_ended: bool,
    begun: &'a Begun,
    /// The pages of newer ones.
    newer: Option<File>,
    /// Where the next piece begins.
    position: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` has been handed on.
    served: usize,
}

impl<'a, R: Read> WholeFile<'a, R> {
    /// The file that `old` becomes with the pages in `newer`.
    pub(super) fn new(old: R, begun: &'a Begun, newer: Option<File>) -> Self {
        let (position, served, old_has_ended) = (0, 0, false);
        WholeFile { old, old_has_ended, begun, newer, position, buffer: Vec::new(), served }
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = usize::try_from(self.begun.file_bytes() - self.position).unwrap_or(usize::MAX);
        self.buffer.resize(left.min(PIECE_BYTES), 0);
        let mut length = 0;
        while length < self.buffer.len() && !self.old_has_ended {
            match self.old.read(&mut self.buffer[length..]) {
                Ok(0) => self.old_has_ended = true,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What no backup has is zeros.
        self.buffer[length..].fill(0);
        self.begun.overlay(&mut self.buffer, self.position, self.newer.as_ref())?;
        self.position += self.buffer.len() as u64;
        self.served = 0;
        Ok(())
    }
}

impl<R: Read> Read for WholeFile<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.served == self.buffer.len() && self.position < self.begun.file_bytes() {
            self.fill()?;
        }
        let length = buffer.len().min(self.buffer.len() - self.served);
        buffer[..length].copy_from_slice(&self.buffer[self.served..self.served + length]);
        self.served += length;
        Ok(length)
    }
}
