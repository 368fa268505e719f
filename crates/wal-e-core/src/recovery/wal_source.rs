//! Archived WAL, read for what its records say.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use time::OffsetDateTime;

use super::chain::Chain;
use crate::archived::{ArchivedObject, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::{
    Lsn, RecordKind, SegmentSize, WalEnd, WalFileName, WalPageHeader, WalReader, WalRecord,
    WalSegment,
};
use crate::store::ObjectStore;
use crate::wal::{self, ArchivedWal, Followed, ReadingProgress, RecordVisitor, Stop};

/// The end of a transaction, or another record that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Where the record begins.
    pub start: Lsn,
    /// The byte after it.
    pub end: Lsn,
    /// When it was written; `None` for records that do not say.
    pub time: Option<OffsetDateTime>,
}

/// What one segment says of transactions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Where its last record begins.
    pub last_start: Option<Lsn>,
    /// Its last transaction.
    pub last: Option<Point>,
    /// The last transaction before the first one that ended after the target time.
    pub last_before: Option<Point>,
    /// The first transaction that ended after the target time.
    pub first_after: Option<Point>,
    /// Why it has no further record, when that is not its end.
    pub ended: Option<WalEnd>,
}

/// A record to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// A restore point of this name.
    RestorePoint(String),
    /// The end of this transaction.
    Transaction(u32),
    /// The end of the base backup that began at this LSN.
    BackupEnd(Lsn),
    /// The end of any transaction.
    AnyTransaction,
    /// Any record that says when it was written.
    AnyTime,
}

impl Goal {
    fn time_if_met(&self, kind: &RecordKind) -> Option<Option<OffsetDateTime>> {
        match (self, kind) {
            (Goal::RestorePoint(wanted), RecordKind::RestorePoint { name, time }) => {
                (wanted == name).then_some(Some(*time))
            }
            (Goal::Transaction(wanted), RecordKind::TransactionEnd { xid, time, .. }) => {
                (Some(*wanted) == *xid).then_some(Some(*time))
            }
            (Goal::BackupEnd(wanted), RecordKind::BackupEnd { start }) => {
                (wanted == start).then_some(None)
            }
            (Goal::AnyTransaction, RecordKind::TransactionEnd { time, .. }) => Some(Some(*time)),
            (
                Goal::AnyTime,
                RecordKind::TransactionEnd { time, .. }
                | RecordKind::RestorePoint { time, .. }
                | RecordKind::Checkpoint { time, .. }
                | RecordKind::EndOfRecovery { time },
            ) => Some(Some(*time)),
            _ => None,
        }
    }
}

/// What became of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The first record that was looked for.
    Here(Point),
    /// All was read, and no record is what was looked for.
    Nowhere,
    /// No record is, up to here, where the WAL of this segment ends too early.
    Broken(WalSegment, WalEnd),
}

/// Reads archived segments, and remembers what they said.
#[derive(Debug)]
pub struct WalSource {
    archived: ArchivedWal,
    size: SegmentSize,
    notices: Notices,
    /// Of [`Summary`].
    target: Option<OffsetDateTime>,
    summaries: HashMap<(WalSegment, Option<Lsn>), Summary>,
}

impl WalSource {
    /// Reads segments of this size. [`Summary`] separates transactions up to `target`
    /// from later ones.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        size: SegmentSize,
        target: Option<OffsetDateTime>,
        notices: Notices,
    ) -> Self {
        let archived = ArchivedWal::new(store, size, notices.clone());
        WalSource { archived, size, notices, target, summaries: HashMap::new() }
    }

    /// What the segment at `index` of a chain says. A record that begins in it and
    /// ends in the next one is its own.
    ///
    /// # Errors
    /// Those of the store, and [`ErrorKind::Corrupt`] for a damaged object.
    pub async fn summary(&mut self, chain: &Chain, index: u64) -> Result<Summary> {
        let Some(segment) = chain.segment(index) else { return Ok(Summary::default()) };
        let limit = chain.limit(index);
        if let Some(known) = self.summaries.get(&(segment, limit)) {
            return Ok(known.clone());
        }
        let boundary = segment.number.end_lsn(self.size);
        let visitor = Summarizer {
            target: self.target,
            limit: limit.unwrap_or(boundary).min(boundary),
            done: None,
            summary: Summary::default(),
        };
        let reader = WalReader::new(segment.number.start_lsn(self.size), self.size);
        let Followed { reader, mut visitor, stop, .. } =
            self.archived.follow([segment], reader, visitor, &mut |_| {}).await?;
        if let Stop::Failed(segment, error) = stop {
            return Err(if_removed(segment, self.size, error));
        }
        let ended = reader.ended().cloned();
        let mut summary = Summary { ended, ..visitor.summary.clone() };
        if summary.ended.is_none()
            && reader.waits_for_record_that_matters()
            && let Some(next) = chain.segment(index + 1)
        {
            visitor.done = Some(false);
            let followed = self.archived.follow([next], reader, visitor, &mut |_| {}).await?;
            match followed.stop {
                // Recovery stops before it has to go on there.
                Stop::Failed(_, error)
                    if error.is_unusable_object() && summary.first_after.is_some() => {}
                Stop::Failed(segment, error) => return Err(if_removed(segment, self.size, error)),
                _ => summary = Summary { ended: summary.ended, ..followed.visitor.summary },
            }
        }
        self.summaries.insert((segment, limit), summary.clone());
        Ok(summary)
    }

    /// The segments, to be read for something else.
    pub fn archived(&self) -> &ArchivedWal {
        &self.archived
    }

    /// Looks for the first record that begins at `from` or later, in the segments of
    /// these indexes.
    ///
    /// # Errors
    /// Those of the store, and [`ErrorKind::Corrupt`] for a damaged object.
    pub async fn find(
        &self,
        chain: &Chain,
        indexes: RangeInclusive<u64>,
        from: Lsn,
        goal: Goal,
    ) -> Result<Found> {
        let Some(first) = chain.segment(*indexes.start()) else { return Ok(Found::Nowhere) };
        let last = chain.len().checked_sub(1).and_then(|last| chain.segment(last));
        let count = (indexes.end() + 1).saturating_sub(*indexes.start());
        let until = chain.limit(chain.len().saturating_sub(1)).unwrap_or(Lsn(u64::MAX));
        let reader = WalReader::new(first.number.start_lsn(self.size), self.size);
        let visitor = Searcher { goal, from, until, found: None };
        let segments = indexes.filter_map(|index| chain.segment(index));
        let mut progress = ReadingProgress::new(&self.notices, count);
        let mut told = |read| progress.tell(read);
        let followed = self.archived.follow(segments, reader, visitor, &mut told).await?;
        if let Some(point) = followed.visitor.found {
            return Ok(Found::Here(point));
        }
        match followed.stop {
            Stop::Failed(segment, error) => Err(if_removed(segment, self.size, error)),
            // The last segment may end anywhere, and a tail does.
            Stop::Ended(segment, end) if Some(segment) != last => Ok(Found::Broken(segment, end)),
            Stop::Ended(..) | Stop::Enough | Stop::AllRead => Ok(Found::Nowhere),
        }
    }
}

/// A segment that was listed is no longer there: that is not the same as an archive
/// that does not have what was asked for.
pub fn if_removed(segment: WalSegment, size: SegmentSize, error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let name = segment.file_name(size);
    let message = format!("WAL segment \"{name}\" has just been removed from the archive");
    Error::new(ErrorKind::Conflict, message).with_hint("Try again once nothing is being deleted.")
}

/// The size of segments, out of the header of one. `None` when the archive does
/// not have it.
///
/// # Errors
/// Those of the store, and [`ErrorKind::Corrupt`] for a damaged object.
pub async fn segment_size(
    store: &dyn ObjectStore,
    name: &WalFileName,
) -> Result<Option<SegmentSize>> {
    let header = segment_header(store, name).await?;
    Ok(header.and_then(|(header, _)| SegmentSize::new(u64::from(header.segment_bytes))))
}

/// The header of a segment, and whether a log begins with the segment. `None` when the
/// archive does not have it.
///
/// # Errors
/// As [`segment_size`].
pub async fn segment_header(
    store: &dyn ObjectStore,
    name: &WalFileName,
) -> Result<Option<(WalPageHeader, bool)>> {
    let Some(opened) = open_file(store, name).await? else { return Ok(None) };
    let url = opened.url().to_owned();
    let start = opened.read_at_most(WalPageHeader::LENGTH_WITH_RECORD as u64).await?;
    let header = WalPageHeader::parse(&start);
    let header =
        header.filter(|header| SegmentSize::new(u64::from(header.segment_bytes)).is_some());
    header
        .map(|header| Some((header, WalPageHeader::begins_log(&start))))
        .ok_or_else(|| damaged(&url, "it does not begin with the page header of a WAL segment"))
}

async fn open_file(store: &dyn ObjectStore, name: &WalFileName) -> Result<Option<ArchivedObject>> {
    let Some(located) = wal::locate_sound(store, name).await? else { return Ok(None) };
    let encoding = located.encoding.readable(&store.url(located.key.as_str()))?;
    Ok(Some(ArchivedObject::open(store, &located.key, encoding).await?))
}

struct Summarizer {
    target: Option<OffsetDateTime>,
    /// Records that begin here or later are of no interest.
    limit: Lsn,
    /// In the next segment: whether the record that was waited for has come.
    done: Option<bool>,
    summary: Summary,
}

impl RecordVisitor for Summarizer {
    fn visit(&mut self, record: WalRecord) {
        if let Some(done) = &mut self.done {
            *done = true;
        }
        if record.start >= self.limit {
            return;
        }
        self.summary.last_start = Some(record.start);
        let RecordKind::TransactionEnd { time, .. } = record.kind else { return };
        let point = Point { start: record.start, end: record.end, time: Some(time) };
        self.summary.last = Some(point);
        if self.summary.first_after.is_none() {
            match self.target {
                Some(target) if time > target => self.summary.first_after = Some(point),
                _ => self.summary.last_before = Some(point),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.done == Some(true)
    }
}

struct Searcher {
    goal: Goal,
    from: Lsn,
    until: Lsn,
    found: Option<Point>,
}

impl RecordVisitor for Searcher {
    fn visit(&mut self, record: WalRecord) {
        if self.found.is_some() || record.start < self.from || record.start >= self.until {
            return;
        }
        if let Some(time) = self.goal.time_if_met(&record.kind) {
            self.found = Some(Point { start: record.start, end: record.end, time });
        }
    }

    fn is_done(&self) -> bool {
        self.found.is_some()
    }
}
