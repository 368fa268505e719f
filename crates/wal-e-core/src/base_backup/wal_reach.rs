//! How far the server's WAL has come, as far as its files show.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::postgres::{Lsn, SegmentSize, WalFileKind, WalFileName};

/// The end of the last segment in `pg_wal`. Segments that will be used next are there already, so
/// it is somewhat too far; what a damaged page says is usually much farther.
#[derive(Debug)]
pub(super) struct WalReach {
    directory: PathBuf,
    segment_size: SegmentSize,
    /// As of the last look.
    known: AtomicU64,
}

impl WalReach {
    /// Of the server with this data directory.
    pub(super) fn of(data_directory: &Path, segment_size: SegmentSize) -> Self {
        let directory = data_directory.join("pg_wal");
        WalReach { directory, segment_size, known: AtomicU64::new(0) }
    }

    /// Whether there can be a record that ends at `lsn`. A directory that cannot be read refutes
    /// nothing.
    pub(super) fn has_reached(&self, lsn: Lsn) -> bool {
        lsn.0 <= self.known.load(Ordering::Relaxed)
            || self.look().is_none_or(|reach| {
                self.known.fetch_max(reach, Ordering::Relaxed);
                lsn.0 <= reach
            })
    }

    fn look(&self) -> Option<u64> {
        let ends = fs::read_dir(&self.directory).ok()?.filter_map(|entry| {
            let name: WalFileName = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let number = (name.kind() == WalFileKind::Segment)
                .then(|| name.segment_number(self.segment_size))??;
            number.0.checked_add(1)?.checked_mul(self.segment_size.bytes())
        });
        ends.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reaches_to_the_end_of_the_last_segment() {
        let data = tempfile::tempdir().unwrap();
        let reach = WalReach::of(data.path(), SegmentSize::DEFAULT);
        assert!(reach.has_reached(Lsn(u64::MAX)), "it cannot be seen");
        let wal = data.path().join("pg_wal");
        fs::create_dir(&wal).unwrap();
        assert!(reach.has_reached(Lsn(5)), "there is none");
        for name in ["000000010000000000000003", "000000010000000000000002", "archive_status"] {
            fs::write(wal.join(name), "").unwrap();
        }
        assert!(reach.has_reached(Lsn(0x400_0000)) && !reach.has_reached(Lsn(0x400_0001)));
        fs::write(wal.join("000000010000000000000004"), "").unwrap();
        assert!(reach.has_reached(Lsn(0x400_0001)));
    }
}
