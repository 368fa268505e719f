//! How far a backup has come: counters that one side advances and another reads.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::pace::size;

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

/// How much of what a backup looks at it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Share {
    /// All of it: a full backup.
    #[default]
    All = 0,
    /// What has changed, which is known before it is looked at.
    Known = 1,
    /// What has changed, which shows when it is looked at.
    Found = 2,
}

impl Share {
    /// For people, of an incremental backup: how many bytes are to be sent, of those that it
    /// looks at.
    pub fn describe(self, bytes_to_send: u64) -> Option<String> {
        let bytes = size(bytes_to_send);
        match self {
            Share::All => None,
            Share::Known => Some(format!("{bytes} to send")),
            Share::Found => Some(format!("{bytes} to send so far")),
        }
    }
}

/// Counters of a running backup. Sizes are in bytes.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    share: AtomicU8,
    /// What is to be looked at. Estimated when the files are listed; files may grow or vanish
    /// later.
    pub bytes_total: AtomicU64,
    /// How much of that is to be sent, before compression, as far as it is known.
    pub bytes_to_send: AtomicU64,
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

    /// How much of what it looks at the backup sends.
    pub fn share(&self) -> Share {
        match self.share.load(Ordering::Relaxed) {
            0 => Share::All,
            1 => Share::Known,
            _ => Share::Found,
        }
    }

    /// Says how much it sends.
    pub fn set_share(&self, share: Share) {
        self.share.store(share as u8, Ordering::Relaxed);
    }

    /// Says what the backup does from now on.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incremental_backup_says_what_it_has_to_send() {
        let progress = Progress::default();
        assert_eq!(progress.share().describe(7 << 20), None);
        progress.set_share(Share::Known);
        assert_eq!(progress.share().describe(70 << 20).as_deref(), Some("70 MB to send"));
        progress.set_share(Share::Found);
        assert_eq!(progress.share().describe(70 << 20).as_deref(), Some("70 MB to send so far"));
    }
}
