//! `pg_wal/archive_status`: which WAL files wait to be archived.
//!
//! PostgreSQL 15, `src/backend/access/transam/xlogarchive.c`: a file that is
//! complete gets an empty mark `<file>.ready`, which becomes `<file>.done` once
//! the file is archived. Only the server makes and renames them.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::{Lsn, SegmentSize, WalFileKind, WalFileName};
use crate::error::{Error, Result};

/// The WAL files that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadyQueue {
    /// How many there are, of all kinds.
    pub files: u64,
    /// The whole segment among them that begins first in the log.
    pub oldest_segment: Option<ReadySegment>,
}

/// A WAL segment that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadySegment {
    /// Its name.
    pub name: WalFileName,
    /// Where it begins: all WAL before it is archived.
    pub start_lsn: Lsn,
    /// When it was complete; `None` when its mark has just become another one.
    pub since: Option<SystemTime>,
}

impl ReadyQueue {
    /// Reads the marks below `pg_wal`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the directory cannot be read.
    pub fn read(pg_wal: &Path, size: SegmentSize) -> Result<Self> {
        let directory = pg_wal.join("archive_status");
        let failed = |error| Error::file("read directory", &directory, &error);
        let mut queue = ReadyQueue::default();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let mark = entry.map_err(failed)?.file_name();
            let Some(name) = mark.to_str().and_then(|mark| mark.strip_suffix(".ready")) else {
                continue;
            };
            let Ok(name) = name.parse::<WalFileName>() else { continue };
            queue.files += 1;
            if name.kind() != WalFileKind::Segment {
                continue;
            }
            let Some(number) = name.segment_number(size) else { continue };
            let start_lsn = number.start_lsn(size);
            if queue.oldest_segment.as_ref().is_none_or(|oldest| start_lsn < oldest.start_lsn) {
                queue.oldest_segment = Some(ReadySegment { name, start_lsn, since: None });
            }
        }
        if let Some(oldest) = &mut queue.oldest_segment {
            let mark = directory.join(format!("{}.ready", oldest.name));
            oldest.since = fs::metadata(mark).and_then(|mark| mark.modified()).ok();
        }
        Ok(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn marks_are_counted_and_the_first_segment_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let size = SegmentSize::DEFAULT;
        assert_eq!(ReadyQueue::read(dir.path(), size).unwrap_err().kind(), ErrorKind::Io);
        let status = dir.path().join("archive_status");
        fs::create_dir(&status).unwrap();
        assert_eq!(ReadyQueue::read(dir.path(), size).unwrap(), ReadyQueue::default());
        for mark in [
            "00000002.history.ready",
            "000000020000000000000007.ready",
            "000000010000000000000009.ready",
            "000000010000000000000001.partial.ready",
            "000000010000000000000002.done",
            "notes.ready",
            "0000000100000000000000FF.ready.tmp",
        ] {
            fs::write(status.join(mark), "").unwrap();
        }
        let queue = ReadyQueue::read(dir.path(), size).unwrap();
        assert_eq!(queue.files, 4);
        let oldest = queue.oldest_segment.unwrap();
        assert_eq!(oldest.name.as_str(), "000000020000000000000007");
        assert_eq!(oldest.start_lsn, Lsn(0x700_0000));
        assert!(oldest.since.is_some());
    }
}
