//! Incremental base backups: which backup one builds on, and what is stored of each file.
//!
//! A restored file is what the parent has of it, with the stored blocks put over it, and then
//! the WAL from the start of this backup on replayed. So every block has to be stored that
//! changed after the *start* of the parent: while it was taken, it read blocks before and
//! after they changed, and half of a change.
//!
//! Doubt means whole: a file is stored as in a full backup unless it is certain that the
//! parent has the same one, and a full backup is taken unless it is certain that the cluster
//! went on from the parent.
//!
//! * `parent`: which backup it builds on, and why none.
//! * `taken`: the backups that a data directory has been through.
//! * `source`: where it comes from which blocks have changed.
//! * `outlook`: what the next one would be.

mod outlook;
mod parent;
mod source;
mod taken;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use outlook::check;
pub(super) use parent::Parent;
use parent::choose;
pub use parent::{Incremental, Origin};
pub(super) use source::Changed;
use source::{Found, find_changed};
pub(super) use taken::remember;

use super::member::{member_name, time_of};
use super::progress::Share;
use super::start::BackupStart;
use super::wal_reach::WalReach;
use super::walk::Entry;
use crate::changed_blocks::{Changes, RelationId};
use crate::error::Result;
use crate::notice::Notices;
use crate::postgres::{BLOCK_SIZE, Lsn, SegmentSize, data_directory, page};
use crate::sentinel::format_time;
use crate::store::ObjectStore;

/// What an incremental backup knows of its parent and of what has changed since.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) parent: Parent,
    pub(super) changed: Changed,
    /// The start of this backup.
    pub(super) start_lsn: Lsn,
    /// Size of the cluster's WAL segments.
    pub(super) segment_size: SegmentSize,
    /// No page can have been changed later than that.
    pub(super) wal_reach: WalReach,
    /// OIDs of the databases whose files are those of the parent.
    same_databases: HashSet<u32>,
}

/// File systems take the time of a file from a clock that is somewhat slow.
const CLOCK_TICK: Duration = Duration::from_secs(1);

/// How a file is stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stored<'a> {
    /// As it is.
    Whole,
    /// The pages that have changed, if that is known of each.
    Pages {
        /// The number in its relation of the first block of the file.
        first_block: u32,
        /// Which they may be.
        candidates: Candidates<'a>,
    },
}

/// Which pages of a file may have changed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Candidates<'a> {
    /// Those that say so themselves: all are read.
    ByPageLsn {
        /// The start of the parent.
        since: Lsn,
    },
    /// Those that a map has. Some others are read, to see that it has all.
    Mapped {
        /// What the map has of the relation; `None` when it has nothing.
        changes: Option<&'a Changes>,
        /// The start of the parent.
        since: Lsn,
        /// The start of this backup: up to here the map goes.
        until: Lsn,
    },
}

/// The parent of a backup that has begun, and what has changed since; or why it has to be a
/// full one, as the end of a sentence.
///
/// # Errors
/// Those of the store, and [`ErrorKind::Cancelled`](crate::error::ErrorKind::Cancelled).
pub(super) async fn prepare(
    store: &dyn ObjectStore,
    start: &BackupStart,
    wanted: Incremental,
    notices: &Notices,
    cancel: &CancellationToken,
) -> Result<Result<(Parent, Changed), String>> {
    let why = match choose(store, start, wanted, cancel).await? {
        Err(why) => why,
        Ok(parent) => match find_changed(start, &parent, cancel).await? {
            Found::Known { changed, from } => {
                notices.log(format!(
                    "an incremental base backup builds on \"{}\"; what has changed since {} is known from {from}",
                    parent.name, parent.start_lsn
                ));
                return Ok(Ok((parent, changed)));
            }
            Found::Unknown(why) => format!("it is not known what has changed: {why}"),
        },
    };
    notices.log(format!("a full base backup is taken instead of an incremental one: {why}"));
    Ok(Err(why))
}

impl Delta {
    /// Looks which of the cluster's databases are the parent's. `files` are those of the
    /// cluster.
    pub(super) fn new(
        parent: Parent,
        changed: Changed,
        start: &BackupStart,
        files: &[Entry],
    ) -> Self {
        let BackupStart { start_lsn, segment_size, ref data_directory, .. } = *start;
        let same_databases = same_databases(data_directory, files, &parent);
        let wal_reach = WalReach::of(data_directory, segment_size);
        Delta { parent, changed, start_lsn, segment_size, wal_reach, same_databases }
    }

    /// One that knows no file.
    #[cfg(test)]
    pub(super) fn of_test(data_directory: &Path) -> Self {
        Delta {
            parent: Parent::default(),
            changed: Changed::ByPageLsn,
            start_lsn: Lsn(0),
            segment_size: SegmentSize::DEFAULT,
            wal_reach: WalReach::of(data_directory, SegmentSize::DEFAULT),
            same_databases: HashSet::new(),
        }
    }

    /// How much of what it looks at the backup sends.
    pub(super) fn share(&self) -> Share {
        match self.changed {
            Changed::ByPageLsn => Share::Found,
            Changed::Blocks(_) => Share::Known,
        }
    }

    /// How a file, of which this is the listed entry, is stored.
    pub(super) fn plan(&self, entry: &Entry) -> Stored<'_> {
        let Some(file) = data_directory::relation_file(&entry.path) else { return Stored::Whole };
        let Some(relation) = RelationId::of_path(&entry.path) else { return Stored::Whole };
        let first_block = file.segment.checked_mul(page::BLOCKS_PER_SEGMENT_FILE);
        let Some(first_block) = first_block else { return Stored::Whole };
        let in_parent = self.parent.files.get(&member_name(&entry.path));
        // WAL-G stores everything in "global" whole; it is small.
        let is_whole = file.fork.is_some()
            || relation.database == 0
            || !self.same_databases.contains(&relation.database)
            || in_parent.is_none_or(|file| file.corrupt_blocks.is_some());
        if is_whole {
            return Stored::Whole;
        }
        let since = self.parent.start_lsn;
        let candidates = match &self.changed {
            Changed::ByPageLsn => Candidates::ByPageLsn { since },
            Changed::Blocks(map) => {
                let RelationId { tablespace, database, .. } = relation;
                let changes = map.of(relation);
                let limit = changes.and_then(Changes::limit);
                let is_other = limit.is_some_and(|limit| limit <= first_block);
                if is_other || map.is_new_database(tablespace, database) {
                    return Stored::Whole;
                }
                Candidates::Mapped { changes, since, until: self.start_lsn }
            }
        };
        Stored::Pages { first_block, candidates }
    }
}

/// How many bytes of a file are read, as far as it is known before; all of a full backup.
pub(super) fn bytes_to_read(delta: Option<&Delta>, entry: &Entry) -> u64 {
    match delta.map(|delta| delta.plan(entry)) {
        Some(Stored::Pages {
            first_block: first,
            candidates: Candidates::Mapped { changes, .. },
        }) => {
            let blocks = changes.map_or(0, |changes| {
                let blocks = u32::try_from(entry.size_bytes / BLOCK_SIZE as u64);
                changes.count_between(first, first.saturating_add(blocks.unwrap_or(u32::MAX)))
            });
            (blocks * BLOCK_SIZE as u64).min(entry.size_bytes)
        }
        _ => entry.size_bytes,
    }
}

/// How many bytes of a file are sent, before compression, as far as it is known before it is
/// read; all of a full backup.
pub(super) fn bytes_to_send(delta: Option<&Delta>, entry: &Entry) -> u64 {
    match delta.map(|delta| delta.plan(entry)) {
        Some(Stored::Pages { candidates: Candidates::ByPageLsn { .. }, .. }) => 0,
        _ => bytes_to_read(delta, entry),
    }
}

/// The databases that are those of the parent. `PG_VERSION` is written when a database is
/// created, by both strategies, and when it is moved to another tablespace, and never again:
/// where the parent has the same one at the same place, the database is the same. A database
/// that was copied file by file has pages with LSNs from before it existed; and one that was
/// made while the parent was taken may be in it with half of its files.
fn same_databases(data_directory: &Path, files: &[Entry], parent: &Parent) -> HashSet<u32> {
    let in_parent = &parent.files;
    let made_before = parent.start_time.map(|start| start - CLOCK_TICK);
    let mut same = HashSet::new();
    let mut other = HashSet::new();
    for file in files {
        let Some(directory) = file.path.strip_suffix("/PG_VERSION") else { continue };
        let Some(Ok(database)) = directory.rsplit('/').next().map(str::parse::<u32>) else {
            continue;
        };
        let modified = fs::metadata(data_directory.join(&file.path)).map(|file| time_of(&file));
        let listed = in_parent.get(&member_name(&file.path));
        let is_same = modified.is_ok_and(|modified| {
            listed.is_some_and(|listed| listed.mtime == format_time(modified))
                && made_before.is_some_and(|time| modified < time)
        });
        if is_same {
            same.insert(database)
        } else {
            other.insert(database)
        };
    }
    same.retain(|database| !other.contains(database));
    same
}

#[cfg(test)]
mod tests;
