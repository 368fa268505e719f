//! The note of the multipart uploads that a process has open.
//!
//! A process that is killed cannot end its multipart uploads, which a store keeps, and
//! charges for, without showing them. So each is noted in a file before its first part
//! is sent, by the number that the store gave it, and the next process that takes the
//! note ends exactly those that are left; this needs no right to list uploads. The
//! note is locked while its process lives.
//!
//! A data directory may be copied with the note in it, and what the note says is then
//! for the original to end. Device and inode do not distinguish the two: device numbers
//! change when a machine starts again, inodes are used again. The note says
//! of itself in its first line
//!
//! * which server it was written under ([`ServerStart`]): a copy has a server of its own;
//! * its own inode and time of birth, which a copy of the file does not share, and which
//!   stay when the server, or the machine, starts again.
//!
//! A copy of the whole file system (a snapshot of the volume) shares the latter; see
//! [`Origin::SameFile`].

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use crate::error::{Error, Result};
use crate::layout::ObjectKey;
use crate::postgres::ServerStart;

/// More entries are not kept: what could not be ended for so long will not be ended here.
const MOST_ENTRIES: usize = 1000;

/// More bytes are not read.
const LARGEST_NOTE_BYTES: u64 = 1024 * 1024;

/// What was begun and may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// An upload, by its key and the number that the store gave it.
    Upload {
        /// The object.
        key: ObjectKey,
        /// The store's number.
        id: String,
    },
    /// Any upload for keys that begin so.
    Below(String),
}

impl Open {
    fn parse(line: &str) -> Option<Self> {
        if let Some(directory) = line.strip_prefix("below ") {
            let is_sound = directory
                .strip_suffix('/')
                .is_some_and(|directory| ObjectKey::from_listing(directory).is_some());
            return is_sound.then(|| Open::Below(directory.to_owned()));
        }
        let (id, key) = line.strip_prefix("upload ")?.split_once(' ')?;
        Some(Open::Upload { key: ObjectKey::from_listing(key)?, id: id.to_owned() })
    }

    fn line(&self) -> String {
        match self {
            Open::Upload { key, id } => format!("upload {id} {key}\n"),
            Open::Below(directory) => format!("below {directory}\n"),
        }
    }
}

/// How a note relates to the process that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was written under the server that runs now, by a process that has ended.
    SameServer,
    /// It is the file that was written. The server has been started again since, or this
    /// is a copy of the file system, where the original may live on.
    SameFile,
}

/// A note, locked until it is dropped.
#[derive(Debug)]
pub struct UploadNote {
    path: PathBuf,
    /// What its first line says of this process.
    heading: String,
    left: Option<(Origin, Vec<Open>)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    open: Vec<Open>,
}

impl UploadNote {
    /// Takes the note at `path`, or makes one; `None` when another process has it.
    /// `server` is the one that runs on the data directory.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] or [`crate::ErrorKind::DiskFull`] when none can be kept.
    pub fn claim(path: &Path, server: Option<ServerStart>) -> Result<Option<Self>> {
        let refused = |error: &io::Error| Error::file("open file", path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| refused(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(refused(&error)),
        }
        let metadata = file.metadata().map_err(|error| refused(&error))?;
        let (this_server, this_file) = (server_token(server), file_token(&metadata));
        // One that cannot be read says nothing.
        let mut text = String::new();
        let _ = (&file).take(LARGEST_NOTE_BYTES).read_to_string(&mut text);
        let mut lines = text.lines();
        let heading = lines.next().and_then(|line| line.strip_prefix("note ")?.split_once(' '));
        let origin = heading.and_then(|(server, file)| {
            if server != UNKNOWN && server == this_server {
                return Some(Origin::SameServer);
            }
            (file == this_file).then_some(Origin::SameFile)
        });
        let open: Vec<Open> = lines.filter_map(Open::parse).filter(|_| origin.is_some()).collect();
        let left = origin.map(|origin| (origin, open.clone()));
        let state = Mutex::new(State { file, open });
        let heading = format!("note {this_server} {this_file}\n");
        Ok(Some(UploadNote { path: path.to_owned(), heading, left, state }))
    }

    /// What a process that has ended left open, as far as that is known without taking the
    /// note: nothing where there is no note, where its process lives, and in a copy.
    pub fn abandoned(path: &Path) -> Vec<Open> {
        let Ok(file) = File::open(path) else { return Vec::new() };
        // Not for long: a process that begins meanwhile takes the note for that of another.
        if file.try_lock_shared().is_err() {
            return Vec::new();
        }
        let mut text = String::new();
        let _ = (&file).take(LARGEST_NOTE_BYTES).read_to_string(&mut text);
        let Ok(metadata) = file.metadata() else { return Vec::new() };
        drop(file);
        let mut lines = text.lines();
        let heading = lines.next().and_then(|line| line.strip_prefix("note ")?.split_once(' '));
        match heading {
            Some((_, file)) if file == file_token(&metadata) => {
                lines.filter_map(Open::parse).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What the processes before had left when the note was taken, and where it comes from.
    /// Nothing in a copy.
    pub fn left(&self) -> Option<&(Origin, Vec<Open>)> {
        self.left.as_ref().filter(|(_, open)| !open.is_empty())
    }

    /// Notes what is begun. Blocks until it is on disk.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] or [`crate::ErrorKind::DiskFull`].
    pub fn add(&self, begun: Open) -> Result<()> {
        let mut state = self.lock();
        state.open.push(begun);
        let surplus = state.open.len().saturating_sub(MOST_ENTRIES);
        state.open.drain(..surplus);
        self.write(&mut state)
            .and_then(|()| state.file.sync_data())
            .map_err(|error| Error::file("write file", &self.path, &error))
    }

    /// Takes out what has ended. Should this fail, the next process asks the store for
    /// what is not there any more.
    pub fn remove(&self, ended: &Open) {
        let mut state = self.lock();
        state.open.retain(|open| open != ended);
        let _ = self.write(&mut state);
    }

    /// Removes the file, unless something is left in it; the process ends its work.
    pub fn close(&self) {
        if self.lock().open.is_empty() {
            // One that stays is taken by the next process.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// In place, since it is locked; cut last, so that on a full disk it says what it said.
    fn write(&self, state: &mut State) -> io::Result<()> {
        let lines: String = state.open.iter().map(Open::line).collect();
        let text = format!("{}{lines}", self.heading);
        state.file.rewind()?;
        state.file.write_all(text.as_bytes())?;
        state.file.set_len(text.len() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for what is not known.
const UNKNOWN: &str = "-";

fn server_token(server: Option<ServerStart>) -> String {
    match server {
        Some(server) => format!("{}@{}", server.pid, server.started.unix_timestamp()),
        None => UNKNOWN.to_owned(),
    }
}

fn file_token(metadata: &Metadata) -> String {
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    match born {
        Some(born) => format!("{}@{}", metadata.ino(), born.as_nanos()),
        // Not every file system knows it.
        None => format!("{}@{UNKNOWN}", metadata.ino()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "11\n/data\n1764348000\n";
    const LATER_SERVER: &str = "11\n/data\n1764348001\n";

    fn claim(path: &Path, server: &str) -> UploadNote {
        UploadNote::claim(path, ServerStart::parse(server)).unwrap().unwrap()
    }

    fn upload(id: &str) -> Open {
        let key = ObjectKey::from_listing("wal_005/0000000100000000000000A1.lz4").unwrap();
        Open::Upload { key, id: id.to_owned() }
    }

    fn below() -> Open {
        Open::Below("basebackups_005/base_000000010000000000000002/".to_owned())
    }

    #[test]
    fn the_next_process_finds_what_was_not_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("note");
        let note = claim(&path, SERVER);
        assert_eq!(note.left(), None);
        for open in [below(), upload("a"), upload("b")] {
            note.add(open).unwrap();
        }
        note.remove(&upload("a"));
        assert!(UploadNote::claim(&path, None).unwrap().is_none(), "it is locked");
        drop(note);
        let left = vec![below(), upload("b")];
        let note = claim(&path, SERVER);
        assert_eq!(note.left(), Some(&(Origin::SameServer, left.clone())));
        drop(note);
        for server in [LATER_SERVER, ""] {
            let note = claim(&path, server);
            assert_eq!(note.left(), Some(&(Origin::SameFile, left.clone())));
            assert_eq!(UploadNote::abandoned(&path), [], "its process lives");
        }
        assert_eq!(UploadNote::abandoned(&path), left);
        let note = claim(&path, SERVER);
        left.iter().for_each(|ended| note.remove(ended));
        note.close();
        assert!(!path.exists());
    }

    #[test]
    fn a_note_that_was_copied_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (path, copy) = (directory.path().join("note"), directory.path().join("copy"));
        let note = claim(&path, SERVER);
        note.add(upload("a")).unwrap();
        drop(note);
        std::fs::copy(&path, &copy).unwrap();
        for server in [LATER_SERVER, ""] {
            assert_eq!(claim(&copy, server).left(), None);
        }
        assert_eq!(UploadNote::abandoned(&copy), []);
        // A note that says of no server what it was written under is judged by the file.
        std::fs::remove_file(&copy).unwrap();
        drop(claim(&path, "").add(upload("b")));
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(claim(&copy, "").left(), None);
    }

    #[test]
    fn a_note_does_not_grow_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let note = claim(&directory.path().join("note"), SERVER);
        for number in 0..MOST_ENTRIES + 5 {
            note.lock().open.push(upload(&number.to_string()));
        }
        note.add(upload("last")).unwrap();
        assert_eq!(note.lock().open.len(), MOST_ENTRIES);
        assert_eq!(note.lock().open.last(), Some(&upload("last")));
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        for line in ["", "upload a", "upload a ../x", "below x", "below /", "below ../", "other"] {
            assert_eq!(Open::parse(line), None, "{line:?}");
        }
        for open in [upload("2~x/-_."), below()] {
            assert_eq!(Open::parse(open.line().trim_end()), Some(open));
        }
    }
}
