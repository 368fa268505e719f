//! The server's own WAL segments, as far as it still has them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::postgres::WalFileName;

/// How files are read, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// `pg_wal` of a data directory.
#[derive(Debug, Clone)]
pub(super) struct PgWal {
    data_directory: PathBuf,
    directory: PathBuf,
}

impl PgWal {
    pub(super) fn of(data_directory: &Path) -> Self {
        let directory = data_directory.join("pg_wal");
        PgWal { data_directory: data_directory.to_owned(), directory }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the marks are of what was or will be archived.
    pub(super) fn marks(&self) -> PathBuf {
        self.directory.join("archive_status")
    }

    pub(super) fn file(&self, name: &WalFileName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// Whether the server replays WAL that another one writes.
    pub(super) fn is_standby(&self) -> bool {
        ["standby.signal", "recovery.signal"]
            .iter()
            .any(|signal| self.data_directory.join(signal).exists())
    }

    /// Whether the server has written, or received, all of a segment.
    pub(super) fn is_finished(&self, name: &WalFileName) -> bool {
        [".ready", ".done"].iter().any(|state| self.has_mark(name, state))
    }

    /// Whether the server takes a segment for archived.
    pub(super) fn is_archived(&self, name: &WalFileName) -> bool {
        self.has_mark(name, ".done")
    }

    /// Whether the server has removed a segment that it had finished, with its marks: only
    /// what it takes for archived, which the checkpoint of a backup's start does.
    pub(super) fn is_removed(&self, name: &WalFileName) -> bool {
        // In this order, which is the server's.
        !self.file(name).exists() && !self.is_finished(name)
    }

    fn has_mark(&self, name: &WalFileName, state: &str) -> bool {
        self.marks().join(format!("{name}{state}")).exists()
    }
}

/// XXH3 of a segment; `None` when the server has removed it, or recycled it meanwhile,
/// or it cannot be read.
pub(super) fn checksum(path: &Path) -> Option<u128> {
    let read = || -> io::Result<(u64, u128)> {
        let mut file = File::open(path)?;
        let mut state = Xxh3::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok((file.metadata()?.ino(), state.digest128()));
            }
            state.update(&buffer[..length]);
        }
    };
    let (inode, checksum) = read().ok()?;
    // A segment is recycled under a new name before it is written again.
    let now = fs::metadata(path).ok()?;
    (now.ino() == inode).then_some(checksum)
}
