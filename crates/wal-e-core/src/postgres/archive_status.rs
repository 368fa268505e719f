//! `pg_wal/archive_status`: which WAL files wait to be archived.
//!
//! PostgreSQL 15, `src/backend/access/transam/xlogarchive.c`: a file that is
//! complete gets an empty mark `<file>.ready`, which becomes `<file>.done` once
//! the file is archived. Only the server makes, renames and removes marks.

use std::collections::BinaryHeap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Lsn, SegmentSize, WalFileKind, WalFileName};
use crate::error::{Error, Result};

/// The directory of the marks, inside that of the WAL files.
const DIRECTORY: &str = "archive_status";

/// The suffix of a mark's name.
const READY: &str = ".ready";

/// The same of a file that is archived.
const DONE: &str = ".done";

/// Files that wait to be archived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadyFiles {
    /// The first ones, in the order in which the server will ask for them.
    pub files: Vec<WalFileName>,
    /// Whether there are more.
    pub truncated: bool,
}

/// The first `limit` files that wait to be archived, in the server's order.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the directory cannot be read.
pub fn ready_files(wal_directory: &Path, limit: usize) -> Result<ReadyFiles> {
    // The first `limit` so far, the last of them on top.
    let mut first = BinaryHeap::new();
    let mut truncated = false;
    for name in ready_names(wal_directory)? {
        first.push(InOrder::of(name?));
        if first.len() > limit {
            first.pop();
            truncated = true;
        }
    }
    let files = first.into_sorted_vec().into_iter().map(|file| file.name).collect();
    Ok(ReadyFiles { files, truncated })
}

/// When the server finished the WAL file `name`: the age of its mark. `None`
/// when there is no mark.
pub fn ready_since(wal_directory: &Path, name: &WalFileName) -> Option<SystemTime> {
    fs::metadata(mark(wal_directory, name, READY)).ok()?.modified().ok()
}

/// Whether the WAL file `name` waits to be archived.
pub fn is_ready(wal_directory: &Path, name: &WalFileName) -> bool {
    mark(wal_directory, name, READY).exists()
}

/// Whether the server takes the WAL file `name` for archived.
pub fn is_done(wal_directory: &Path, name: &WalFileName) -> bool {
    mark(wal_directory, name, DONE).exists()
}

fn mark(wal_directory: &Path, name: &WalFileName, state: &str) -> PathBuf {
    wal_directory.join(DIRECTORY).join(format!("{name}{state}"))
}

/// A name that sorts as the server sorts it: timeline history files first, the
/// rest by name (`ready_file_comparator` in `pgarch.c`).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InOrder {
    later: bool,
    name: WalFileName,
}

impl InOrder {
    fn of(name: WalFileName) -> Self {
        InOrder { later: name.kind() != WalFileKind::TimelineHistory, name }
    }
}

/// The names of all files that wait, in no order. Marks whose names no WAL file
/// can have are passed over, as the server does it.
fn ready_names(wal_directory: &Path) -> Result<impl Iterator<Item = Result<WalFileName>>> {
    let directory = wal_directory.join(DIRECTORY);
    let unreadable =
        move |source: std::io::Error| Error::file("read directory", &directory, &source);
    let entries = fs::read_dir(wal_directory.join(DIRECTORY)).map_err(&unreadable)?;
    Ok(entries.filter_map(move |entry| match entry {
        Ok(entry) => {
            let mark = entry.file_name();
            Some(Ok(mark.to_str()?.strip_suffix(READY)?.parse().ok()?))
        }
        Err(source) => Some(Err(unreadable(source))),
    }))
}

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
        let mut queue = ReadyQueue::default();
        for name in ready_names(pg_wal)? {
            let name = name?;
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
            oldest.since = ready_since(pg_wal, &oldest.name);
        }
        Ok(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn files_come_in_the_server_s_order_and_foreign_marks_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join(DIRECTORY);
        fs::create_dir(&status).unwrap();
        for mark in [
            "000000010000000000000003.ready",
            "000000010000000000000002.ready",
            "000000010000000000000002.00000028.backup.ready",
            "000000010000000000000001.done",
            "00000003.history.ready",
            "00000002.history.ready",
            "000000010000000000000004.partial.ready",
            "notes.ready",
            "0123456789ABCDEF.ready",
        ] {
            fs::write(status.join(mark), "").unwrap();
        }
        let names = |limit| {
            let ready = ready_files(dir.path(), limit).unwrap();
            let names: Vec<_> = ready.files.iter().map(|name| name.to_string()).collect();
            (names, ready.truncated)
        };
        let all = [
            "00000002.history",
            "00000003.history",
            "000000010000000000000002",
            "000000010000000000000002.00000028.backup",
            "000000010000000000000003",
            "000000010000000000000004.partial",
        ];
        assert_eq!(names(100), (all.map(String::from).to_vec(), false));
        assert_eq!(names(3), (all[..3].iter().map(|name| name.to_string()).collect(), true));

        let done = "000000010000000000000001".parse().unwrap();
        let ready = "000000010000000000000002".parse().unwrap();
        assert!(is_ready(dir.path(), &ready) && !is_ready(dir.path(), &done));
        assert!(is_done(dir.path(), &done) && !is_done(dir.path(), &ready));
        assert!(ready_since(dir.path(), &ready).is_some());
        assert!(ready_since(dir.path(), &done).is_none());
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_it() {
        let error = ready_files(Path::new("/nonexistent"), 1).unwrap_err();
        assert!(error.message().contains("/nonexistent/archive_status"));
    }

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
