//! What one reading of a tar has done so far. It is kept once the tar has proved to be
//! sound, and taken back when it has not.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Sink, Unpacked, comes_twice};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::CONTROL_FILE;
use crate::restore::increment;
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
    increments: Vec<Increment>,
    /// What of them is in memory, in bytes.
    memory_bytes: u64,
    /// Content of the control file.
    control: Option<Vec<u8>>,
    /// Places below the data directory, and where they lead.
    links: Vec<(PathBuf, PathBuf)>,
}

/// Changed pages of a file.
pub(super) struct Increment {
    /// Of the file, below the data directory.
    pub(super) path: PathBuf,
    /// Where the file is.
    pub(super) place: PathBuf,
    /// Where the pages wait.
    pub(super) waiting: Waiting,
    /// Of the member that holds them.
    pub(super) bytes: u64,
    /// Size of the file once they are there.
    pub(super) file_bytes: u64,
}

/// Where changed pages wait.
pub(super) enum Waiting {
    InMemory(Vec<u8>),
    OnDisk(PathBuf),
}

/// How much memory the increments of a tar take at most while they wait, in bytes. Of an
/// incremental backup most files have few pages, or none.
const MEMORY_BYTES: u64 = 4 << 20;

/// Where the changed pages of the file at `place` wait.
pub(super) fn waiting_place(place: &Path) -> PathBuf {
    let mut name = place.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".wal-e-pages");
    place.with_file_name(name)
}

impl<'a> Attempt<'a> {
    pub(super) fn new(sink: &'a Sink, selection: &'a Selection) -> Self {
        Attempt {
            sink,
            selection,
            bytes: 0,
            came: Vec::new(),
            made: Vec::new(),
            increments: Vec::new(),
            memory_bytes: 0,
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

    /// Takes memory for an increment, if there is enough.
    pub(super) fn has_memory_for(&mut self, bytes: u64) -> bool {
        let has_memory = self.memory_bytes.saturating_add(bytes) <= MEMORY_BYTES;
        if has_memory {
            self.memory_bytes += bytes;
        }
        has_memory
    }

    pub(super) fn wait_with(&mut self, increment: Increment) {
        self.increments.push(increment);
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

    /// The tar is sound: applies its increments, and hands over what is written last.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the control file came in another tar as well, and those
    /// of the file system.
    pub(super) fn keep(&mut self, is_control: bool, unpacked: &mut Unpacked) -> Result<()> {
        if let Some(content) = self.control.take() {
            self.sink.deferred.keep_control(content, is_control)?;
        }
        for (place, target) in self.links.drain(..) {
            self.sink.deferred.keep_link(place, target);
        }
        let batch = self.sink.syncing.batch();
        let applied = self.increments.iter().try_for_each(|increment| {
            if let Some((file, bytes)) = increment.apply()? {
                batch.sync(file, increment.place.clone())?;
                unpacked.bytes += bytes;
            }
            unpacked.record(&increment.path, Some(increment.file_bytes));
            Ok(())
        });
        batch.wait().and(applied)
    }

    /// Removes everything of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn take_back(self) -> Result<()> {
        self.sink.budget.give_back(self.bytes);
        for path in &self.came {
            self.selection.did_not_come(path);
        }
        self.made.iter().try_for_each(|place| remove(place))
    }
}

impl Increment {
    /// Changes the file, and removes what waited. Returns the file and the bytes written;
    /// `None` when it is already as it should be.
    fn apply(&self) -> Result<Option<(File, u64)>> {
        let failed = |what, error| Error::file(what, &self.place, &error);
        if self.bytes == increment::WITHOUT_PAGES_BYTES {
            let found = fs::metadata(&self.place).map_err(|error| failed("stat file", error))?;
            if found.len() == self.file_bytes {
                return Ok(None);
            }
        }
        let file = OpenOptions::new()
            .write(true)
            .open(&self.place)
            .map_err(|error| failed("open file", error))?;
        let apply =
            |content: &mut dyn Read| increment::apply(content, self.bytes, &file, &self.place);
        let bytes = match &self.waiting {
            Waiting::InMemory(pages) => apply(&mut pages.as_slice())?,
            Waiting::OnDisk(place) => {
                let unread = |error| Error::file("read file", place, &error);
                let bytes = apply(&mut BufReader::new(File::open(place).map_err(unread)?))?;
                remove(place)?;
                bytes
            }
        };
        Ok(Some((file, bytes)))
    }
}

fn remove(place: &Path) -> Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove file", place, &error))
        }
        _ => Ok(()),
    }
}
