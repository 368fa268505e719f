//! What one reading of a tar has done so far. It is kept once the tar has proved to be
//! sound, and taken back when it has not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use roaring::RoaringBitmap;

use super::{Sink, comes_twice};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::CONTROL_FILE;
use crate::restore::destination::remove_file;
use crate::restore::selection::Selection;

/// What waits until the tar has proved to be sound, and what is there already.
pub(super) struct Attempt<'a> {
    sink: &'a Sink,
    selection: &'a Selection,
    /// Of the budget.
    bytes: u64,
    /// Paths of members that no other tar had.
    came: Vec<String>,
    /// Paths of the files that it created.
    made: Vec<PathBuf>,
    /// Files of which it has pages, their sizes, and those that were missing.
    pages: Vec<(PathBuf, u64, RoaringBitmap)>,
    /// Content of the control file.
    control: Option<Vec<u8>>,
    /// Places below the data directory, and where they lead.
    links: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(sink: &'a Sink, selection: &'a Selection) -> Self {
        Attempt {
            sink,
            selection,
            bytes: 0,
            came: Vec::new(),
            made: Vec::new(),
            pages: Vec::new(),
            control: None,
            links: Vec::new(),
        }
    }

    /// Uses some of the budget.
    pub(super) fn take_budget(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.sink.budget.take(bytes)
    }

    /// A member came. Returns whether it is a listed one that came before.
    pub(super) fn came(&mut self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        let came_before = self.selection.came(&path);
        if !came_before {
            self.came.push(path.into_owned());
        }
        came_before
    }

    /// Creates a file that does not exist yet.
    pub(super) fn create(&mut self, place: &Path) -> Result<File> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(comes_twice()),
            Err(error) => Err(Error::file("create file", place, &error)),
            Ok(file) => {
                self.made.push(place.to_owned());
                Ok(file)
            }
        }
    }

    /// Opens the file where pages of newer backups wait, or creates it.
    pub(super) fn open_or_create(&mut self, place: &Path) -> Result<File> {
        let failed = |error| Error::file("open file", place, &error);
        match place.symlink_metadata() {
            Ok(found) if found.is_file() => {
                OpenOptions::new().write(true).open(place).map_err(failed)
            }
            Ok(_) => Err(comes_twice()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(place),
            Err(error) => Err(failed(error)),
        }
    }

    /// It has these pages of a file.
    pub(super) fn add_pages(&mut self, path: PathBuf, file_bytes: u64, kept: RoaringBitmap) {
        self.pages.push((path, file_bytes, kept));
    }

    pub(super) fn keep_control(&mut self, content: Vec<u8>) -> Result<()> {
        match self.control.replace(content) {
            Some(_) => Err(Error::new(
                ErrorKind::Corrupt,
                format!("tar member \"{CONTROL_FILE}\" appears twice"),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn keep_link(&mut self, place: PathBuf, target: PathBuf) {
        self.links.push((place, target));
    }

    /// The tar is sound: what it wrote counts, and what is written last is handed over.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the control file came in another tar as well.
    pub(super) fn keep(&mut self, is_control: bool) -> Result<()> {
        if let Some(content) = self.control.take() {
            self.sink.deferred.keep_control(content, is_control)?;
        }
        for (place, target) in self.links.drain(..) {
            self.sink.deferred.keep_link(place, target);
        }
        for (path, file_bytes, kept) in self.pages.drain(..) {
            self.sink.assembly.settle(path, file_bytes, kept);
        }
        Ok(())
    }

    /// Removes everything of it but pages that count for nothing.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn take_back(self) -> Result<()> {
        self.sink.budget.give_back(self.bytes);
        for path in &self.came {
            self.selection.did_not_come(path);
        }
        self.made.iter().try_for_each(|place| remove_file(place))
    }
}
