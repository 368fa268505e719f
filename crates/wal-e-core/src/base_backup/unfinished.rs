//! The note that a backup keeps in the data directory while it runs.
//!
//! A process that is killed cannot end its uploads in parts, which a store
//! keeps, and charges for, without showing them. The next backup finds the note
//! and ends them. Of each kind of taker only one backup runs at a time in a
//! cluster, so that whatever a note names is dead.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::layout;
use crate::postgres::data_directory::UNFINISHED_BACKUP;

/// Who takes a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// The extension's background worker.
    Server,
    /// The program `wal-e`.
    Program,
}

/// The place of one taker's note.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
}

impl Note {
    pub(super) fn of(taker: Taker, data_directory: &Path) -> Self {
        let taker = match taker {
            Taker::Server => "server",
            Taker::Program => "program",
        };
        Note { path: data_directory.join(format!("{UNFINISHED_BACKUP}.{taker}")) }
    }

    /// The backup that was not finished, when there is one.
    pub(super) fn read(&self) -> Option<String> {
        let name = fs::read_to_string(&self.path).ok()?;
        let name = name.trim_end();
        (layout::timeline_of_backup(name).is_some() && !name.contains('/')).then(|| name.to_owned())
    }

    pub(super) fn write(&self, backup: &str) -> Result<()> {
        fs::write(&self.path, format!("{backup}\n"))
            .map_err(|error| Error::file("write file", &self.path, &error))
    }

    /// The backup is finished. A note that stays costs the next one a request.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
