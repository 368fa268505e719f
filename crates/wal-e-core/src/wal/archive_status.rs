//! Which WAL files the server wants to have archived.
//!
//! PostgreSQL 15, `src/backend/postmaster/pgarch.c`: a file `NAME.ready` in
//! `pg_wal/archive_status` stands for a WAL file that is complete and not yet
//! archived; once it is acknowledged, the server renames the mark to `NAME.done`.
//! Only the server makes, renames and removes marks.

use std::collections::BinaryHeap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::postgres::{WalFileKind, WalFileName};

/// The directory of the marks, inside that of the WAL files.
const DIRECTORY: &str = "archive_status";

/// What the name of a mark ends with.
const READY: &str = ".ready";

/// Files that wait to be archived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadyFiles {
    /// The first ones, in the order in which the server will ask for them.
    pub files: Vec<WalFileName>,
    /// Whether there are more.
    pub truncated: bool,
}

/// The first `limit` files that wait to be archived, in the server's order.
/// Marks whose names no WAL file can have are passed over, as the server does it.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the directory cannot be read.
pub fn ready_files(wal_directory: &Path, limit: usize) -> Result<ReadyFiles> {
    let directory = wal_directory.join(DIRECTORY);
    let unreadable = |source: std::io::Error| Error::file("read directory", &directory, &source);
    // The first `limit` so far, the last of them on top.
    let mut first = BinaryHeap::new();
    let mut truncated = false;
    for entry in fs::read_dir(&directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?.file_name();
        let Some(name) = entry.to_str().and_then(|name| name.strip_suffix(READY)) else { continue };
        let Ok(name) = name.parse::<WalFileName>() else { continue };
        first.push(InOrder::of(name));
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
    fs::metadata(mark(wal_directory, name)).ok()?.modified().ok()
}

/// Whether the WAL file `name` waits to be archived.
pub fn is_ready(wal_directory: &Path, name: &WalFileName) -> bool {
    mark(wal_directory, name).exists()
}

fn mark(wal_directory: &Path, name: &WalFileName) -> PathBuf {
    wal_directory.join(DIRECTORY).join(format!("{name}{READY}"))
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(ready_since(dir.path(), &ready).is_some());
        assert!(ready_since(dir.path(), &done).is_none());
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_it() {
        let error = ready_files(Path::new("/nonexistent"), 1).unwrap_err();
        assert!(error.message().contains("/nonexistent/archive_status"));
    }
}
