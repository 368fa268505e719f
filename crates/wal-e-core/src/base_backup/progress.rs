//! How far a backup has come: counters that one side advances and another reads.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a base backup is doing, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Waiting for the checkpoint that begins it.
    Starting = 0,
    /// Reading and uploading the files of the cluster.
    Uploading = 1,
    /// Waiting until the archive has all WAL that the backup needs.
    WaitingForWal = 2,
    /// Writing metadata and, last, the sentinel.
    Finishing = 3,
}

impl Phase {
    /// As shown to users.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "waiting for checkpoint",
            Phase::Uploading => "uploading files",
            Phase::WaitingForWal => "waiting for WAL to be archived",
            Phase::Finishing => "writing metadata",
        }
    }
}

/// Counters of a running backup. Sizes are in bytes.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    /// Estimated when the files are listed; files may grow or vanish later.
    pub bytes_total: AtomicU64,
    /// Read from data files so far.
    pub bytes_read: AtomicU64,
    /// Confirmed by the store so far, after compression.
    pub bytes_uploaded: AtomicU64,
    /// Tar partitions planned.
    pub partitions_total: AtomicU64,
    /// Tar partitions stored.
    pub partitions_done: AtomicU64,
    /// Pages whose checksum was wrong; each was named in a warning.
    pub corrupt_pages: AtomicU64,
}

impl Progress {
    /// What the backup is doing now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Uploading,
            2 => Phase::WaitingForWal,
            _ => Phase::Finishing,
        }
    }

    /// Says what the backup does from now on.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}
