//! The base backups that a data directory has been through.
//!
//! A backup in the archive may be another cluster's, although identifier, timeline and LSN fit:
//! a copy of the data directory that went its own way writes the same. What is noted in the data
//! directory itself went the same way as the data. No backup has the note, so a restored
//! cluster begins without.
//!
//! PostgreSQL keeps a note of its own, the backup history file in `pg_wal`, until the next
//! backup ends (`src/backend/access/transam/xlog.c`, `CleanupBackupHistory`). It tells of
//! backups by other tools, too.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable_file;
use crate::postgres::data_directory::TAKEN_BACKUPS;
use crate::postgres::{Lsn, SegmentSize, TimelineId, WalSegment};

/// How many are remembered: the chain of which a backup may become a part is younger.
const MOST: usize = 64;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    /// The newest last.
    backups: Vec<Taken>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    name: String,
    start_lsn: Lsn,
}

/// Notes that a backup was taken of `data_directory`.
///
/// # Errors
/// Those of the file system: the next backup cannot be an increment of this one then.
pub(crate) fn remember(data_directory: &Path, name: &str, start_lsn: Lsn) -> io::Result<()> {
    let mut note = read(data_directory);
    note.backups.retain(|taken| taken.name != name);
    note.backups.push(Taken { name: name.to_owned(), start_lsn });
    let excess = note.backups.len().saturating_sub(MOST);
    note.backups.drain(..excess);
    let json = serde_json::to_vec(&note)?;
    durable_file::replace(&data_directory.join(TAKEN_BACKUPS), |_| Ok(json))
}

/// Whether the backup `name` that began at `start_lsn` was taken of this data directory, or of
/// one from which it was copied after that.
pub(super) fn has_been_through(
    data_directory: &Path,
    name: &str,
    start_lsn: Lsn,
    timeline: TimelineId,
    segment_size: SegmentSize,
) -> bool {
    let noted = read(data_directory);
    let is_noted = |taken: &Taken| taken.name == name && taken.start_lsn == start_lsn;
    if noted.backups.iter().any(is_noted) {
        return true;
    }
    let segment = WalSegment::containing(timeline, start_lsn, segment_size);
    let history = crate::postgres::WalFileName::backup_history(segment, start_lsn, segment_size);
    data_directory.join("pg_wal").join(history.as_str()).exists()
}

/// A note that cannot be read says nothing.
fn read(data_directory: &Path) -> Note {
    let read = || serde_json::from_slice(&fs::read(data_directory.join(TAKEN_BACKUPS)).ok()?).ok();
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size() -> SegmentSize {
        SegmentSize::new(16 << 20).unwrap()
    }

    #[test]
    fn what_was_taken_is_known_by_name_and_start() {
        let data = tempfile::tempdir().unwrap();
        let knows =
            |name: &str, lsn| has_been_through(data.path(), name, Lsn(lsn), TimelineId(1), size());
        assert!(!knows("base_1", 5));
        for number in 0..70_u64 {
            remember(data.path(), &format!("base_{number}"), Lsn(number)).unwrap();
        }
        assert!(knows("base_69", 69) && knows("base_6", 6));
        assert!(!knows("base_69", 68) && !knows("base_5", 5));
        std::fs::write(data.path().join(TAKEN_BACKUPS), "{").unwrap();
        assert!(!knows("base_69", 69));
    }

    #[test]
    fn the_servers_own_note_counts() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("pg_wal")).unwrap();
        let history = data.path().join("pg_wal/000000010000000000000002.00000028.backup");
        fs::write(history, "START WAL LOCATION: 0/2000028").unwrap();
        let knows = |lsn| has_been_through(data.path(), "base_x", Lsn(lsn), TimelineId(1), size());
        assert!(knows(0x200_0028) && !knows(0x200_0060));
    }
}
