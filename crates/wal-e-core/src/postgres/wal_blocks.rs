//! Which blocks the records of a WAL segment change, without replaying them.
//!
//! PostgreSQL 15 to 18. What counts is what the server's own WAL summarizer counts
//! (`src/backend/postmaster/walsummarizer.c`); which records are valid is what its reader says
//! (`src/backend/access/transam/xlogreader.c`), except that the checksums of records are not
//! computed: it is for segments that were written as a whole. What holds the records together
//! is checked instead: the headers of the pages, and that each record names the one before.
//!
//! * [`scan`]: the pages of one segment.
//! * [`record`]: what one record says.
//! * [`join`]: the record that goes on from one segment into the next.

use super::wal_record::MAGIC_17;
use super::{Lsn, RelationId, SegmentSize, SystemIdentifier, TimelineId};

mod join;
mod record;
mod scan;

pub use join::Joint;
pub use record::MOST_KEPT_BYTES;
pub use scan::SegmentScan;

/// How much is kept of a record that began in the segment before. The headers of a record, with
/// all its references to blocks, have no more (33 blocks of 27 bytes, and 37 bytes).
pub const HEAD_BYTES: usize = 1024;

/// `XLOG_PAGE_MAGIC` of PostgreSQL 15, 16 and 18.
const MAGIC_15: u16 = 0xD110;
const MAGIC_16: u16 = 0xD113;
const MAGIC_18: u16 = 0xD118;

/// Takes what records change. The same may be said more than once.
pub trait BlockSink {
    /// A record changes a block of the main fork.
    fn block(&mut self, relation: &RelationId, block: u32);

    /// A record leaves so many blocks of the main fork: none where it is created or dropped.
    fn limit(&mut self, relation: &RelationId, blocks: u32);

    /// A record copies or removes all files of a database in one tablespace.
    fn database(&mut self, tablespace: u32, database: u32);

    /// A record says that `wal_level` is `minimal`: not all that changes is in the WAL.
    fn wal_level_is_minimal(&mut self);
}

/// Why it cannot be said what has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where the page, record or segment begins that is not understood.
    pub lsn: Lsn,
    /// What is wrong with it; fits after a colon.
    pub reason: String,
}

/// What ties a segment to its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEnds {
    /// Where the segment begins.
    pub start: Lsn,
    /// How large the segments of the cluster are.
    pub segment_size: SegmentSize,
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// The magic number of all its pages: which version wrote it.
    pub magic: u16,
    /// The timeline of the first page.
    pub first_timeline: TimelineId,
    /// The timeline of the last page that was looked at.
    pub last_timeline: TimelineId,
    /// The record that began before.
    pub head: Head,
    /// Which record the first that begins here names as the one before it. `None` when none
    /// begins here whose header is whole.
    pub first_previous: Option<Lsn>,
    /// The last record that begins and ends here.
    pub last_record: Option<Lsn>,
    /// The record that begins here and goes on.
    pub tail: Option<Tail>,
}

/// What a segment has of a record that began before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// How many bytes the record still has, by the first page. 0 when there is no such record.
    pub rest: u32,
    /// How many of them are in this segment.
    pub taken: u32,
    /// The first of them, [`HEAD_BYTES`] at most.
    pub bytes: Vec<u8>,
    /// How it ends.
    pub end: HeadEnd,
}

/// How the record ends that began before a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadEnd {
    /// It ends in the segment, or there is none.
    #[default]
    Whole,
    /// It goes on in the next segment.
    GoesOn,
    /// The server died while it wrote the record, and went on without.
    Abandoned,
    /// It ends in the segment, and nothing follows: it must be a switch to the next segment.
    Switch,
}

/// What a segment has of a record that goes on in the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Where the record begins.
    pub start: Lsn,
    /// How many bytes it has.
    pub total: u32,
    /// How many of them are in the next segments.
    pub rest: u32,
    /// The bytes that are here; none when what it changes is known from them already.
    pub bytes: Vec<u8>,
    /// Whether what it changes is known already.
    pub is_read: bool,
}

fn unreadable(lsn: Lsn, reason: impl Into<String>) -> Unreadable {
    Unreadable { lsn, reason: reason.into() }
}

#[cfg(test)]
mod tests;
