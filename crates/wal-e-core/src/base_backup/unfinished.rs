//! The note that a backup keeps in the data directory while it runs.
//!
//! A process that is killed cannot end its uploads in parts, which a store
//! keeps, and charges for, without showing them. The next backup finds the note
//! and ends them. The note is locked while its backup runs, so that one backup
//! never takes another that runs for dead; a note that was copied with the data
//! directory says of itself that it belongs elsewhere.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::data_directory::UNFINISHED_BACKUP;

/// Who takes a base backup. Of each kind one runs at a time in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// The extension's background worker.
    Server,
    /// The program `wal-e`.
    Program,
}

/// A taker's note, locked until it is dropped.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    file: File,
    /// Tells this data directory from a copy of it.
    directory: String,
}

impl Note {
    /// # Errors
    /// [`ErrorKind::Conflict`] when a backup of this taker runs;
    /// [`ErrorKind::Io`] when the note cannot be kept.
    pub(super) fn claim(taker: Taker, data_directory: &Path) -> Result<Self> {
        let taker = match taker {
            Taker::Server => "server",
            Taker::Program => "program",
        };
        let path = data_directory.join(format!("{UNFINISHED_BACKUP}.{taker}"));
        let refused = |error: &std::io::Error| Error::file("open file", &path, error);
        let metadata = data_directory.metadata().map_err(|error| refused(&error))?;
        let directory = format!("{}:{}", metadata.dev(), metadata.ino());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| refused(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Note { path, file, directory }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Conflict,
                "another base backup of this server is running",
            )
            .with_detail(format!("It holds a lock on \"{}\".", path.display()))),
            Err(TryLockError::Error(error)) => Err(refused(&error)),
        }
    }

    /// The backups that were not finished.
    pub(super) fn unfinished(&mut self) -> Vec<String> {
        let mut text = String::new();
        if self.file.rewind().is_err() || self.file.read_to_string(&mut text).is_err() {
            return Vec::new();
        }
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(backup, directory)| {
                *directory == self.directory
                    && layout::timeline_of_backup(backup).is_some()
                    && !backup.contains('/')
            })
            .map(|(backup, _)| backup.to_owned())
            .collect()
    }

    /// Replaces what it says.
    pub(super) fn write(&mut self, backups: &[String]) -> Result<()> {
        let lines: String =
            backups.iter().map(|backup| format!("{backup} {}\n", self.directory)).collect();
        // On a full disk it says what it said, as far as it can: it is cut only at last.
        self.file
            .rewind()
            .and_then(|()| self.file.write_all(lines.as_bytes()))
            .and_then(|()| self.file.set_len(lines.len() as u64))
            .map_err(|error| Error::file("write file", &self.path, &error))
    }

    /// All is finished. A note that stays costs the next one a request.
    pub(super) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
