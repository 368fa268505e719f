//! Whether two data directories have the same pages, as far as replay gives the same.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Size of a page in bytes.
const PAGE: usize = 8192;

/// What replay of the same WAL gives the same in any copy of a page. Hints are not in it: not
/// each of them is in the WAL.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    lsn: u64,
    is_all_visible: bool,
    lower: u16,
    upper: u16,
    special: u16,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { lsn, is_all_visible, lower, upper, special } = self;
        write!(f, "LSN {lsn:X}, all visible {is_all_visible}, {lower}/{upper}/{special}")
    }
}

/// The first segment of a log has number 1, and no segment is smaller, so no record ends before.
const FIRST_LSN: u64 = 1 << 20;

impl Facts {
    /// A GiST index is built with pages whose LSN is 1, and only what replay makes of them has
    /// that of a record. A page that has changed after the end of replay, which reading can do to a
    /// catalog, says nothing.
    ///
    /// A hint in a page that a checkpoint is just writing is logged with the whole page, which
    /// does not get the LSN of that record, but replay gives it (src/backend/storage/buffer/bufmgr.c,
    /// `MarkBufferDirtyHint`). `reference` is of a later backup, so it may not have replayed it.
    fn fits(self, reference: Facts, end: u64) -> bool {
        let is_built = |facts: Facts| (1..FIRST_LSN).contains(&facts.lsn);
        let differs_by_lsn = self == Facts { lsn: self.lsn, ..reference };
        if is_built(self) || is_built(reference) {
            return differs_by_lsn;
        }
        let has_hint = differs_by_lsn && self.lsn > reference.lsn;
        self == reference || has_hint || self.lsn > end || reference.lsn > end
    }

    /// Of a page; those of one that does not exist are those of an empty one, since not each
    /// extension of a file is in the WAL.
    fn of(page: Option<&[u8]>) -> Facts {
        let Some(page) = page else {
            return Facts { lsn: 0, is_all_visible: false, lower: 0, upper: 0, special: 0 };
        };
        let half = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
        let word = |at: usize| {
            u64::from(u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes")))
        };
        let special = half(16);
        // GIN_DELETED, in the last field of what a page of a GIN index ends with: replay empties
        // such a page, and the server that deletes it does not.
        let is_deleted = usize::from(special) == PAGE - 8 && half(PAGE - 2) & 4 != 0;
        Facts {
            lsn: word(0) << 32 | word(4),
            // PD_ALL_VISIBLE
            is_all_visible: half(10) & 4 != 0,
            lower: if is_deleted { 0 } else { half(12) },
            upper: if is_deleted { 0 } else { half(14) },
            special,
        }
    }
}

/// Main forks of the relations of all databases, by their paths without the directory that a
/// tablespace is in.
fn relations(data_directory: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut directories = vec![data_directory.join("base"), data_directory.join("pg_tblspc")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let place = entry.expect("it can be read").path();
            let name = place.file_name().expect("it has a name").to_string_lossy().into_owned();
            if place.is_dir() {
                directories.push(place);
            } else if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                let path = place.strip_prefix(data_directory).expect("it is below");
                found.insert(path.to_string_lossy().into_owned(), place);
            }
        }
    }
    found
}

/// Compares every page of every relation of a cluster with a reference, which was restored from a
/// later base backup. In both, WAL was replayed up to `end`.
///
/// # Panics
///
/// When one differs; the message names the first.
#[track_caller]
pub fn assert_same_pages(one: &Path, reference: &Path, end: u64) {
    let (ours, theirs) = (relations(one), relations(reference));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert!(ours.len() > 300, "only {} relations were compared", ours.len());
    let mut pages = 0;
    let mut differences = Vec::new();
    for (path, place) in &ours {
        let (ours, theirs) = (fs::read(place), fs::read(&theirs[path]));
        let (ours, theirs) = (ours.expect("it can be read"), theirs.expect("it can be read"));
        for number in 0..ours.len().max(theirs.len()).div_ceil(PAGE) {
            let facts = |content: &[u8]| Facts::of(content.get(number * PAGE..(number + 1) * PAGE));
            let (ours, theirs) = (facts(&ours), facts(&theirs));
            if !ours.fits(theirs, end) {
                differences.push(format!("{path}, block {number}: {ours:?} and {theirs:?}"));
            }
            pages += 1;
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {pages} pages of {} and {} differ after replay up to {end:X}; the first are\n{}",
        differences.len(),
        one.display(),
        reference.display(),
        differences[..differences.len().min(10)].join("\n")
    );
}
