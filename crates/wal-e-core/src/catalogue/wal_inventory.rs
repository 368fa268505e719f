//! Which WAL segments the archive has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::OffsetDateTime;

use crate::codec::{Encoding, StoredEncoding};
use crate::postgres::{
    SegmentNumber, SystemIdentifier, TimelineId, WalFileKind, WalFileName, WalSegment,
};
use crate::store::ObjectInfo;

/// Segments of one timeline without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The timeline.
    pub timeline: TimelineId,
    /// The first segment.
    pub first: SegmentNumber,
    /// The last one.
    pub last: SegmentNumber,
}

/// Segments of consecutive numbers.
///
/// An archive may hold millions of segments: four bytes are kept of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRange {
    /// The first.
    pub first: SegmentNumber,
    /// How large each is in the store, in bytes.
    stored_bytes: Vec<u32>,
}

impl SegmentRange {
    /// The last.
    pub fn last(&self) -> SegmentNumber {
        SegmentNumber(self.first.0 + self.stored_bytes.len().saturating_sub(1) as u64)
    }

    /// Bytes in the store of the segments from `first` to `last`, as far as they are in it.
    fn bytes(&self, first: SegmentNumber, last: SegmentNumber) -> u64 {
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let from = index(first.0.saturating_sub(self.first.0)).min(self.stored_bytes.len());
        let to = index((last.0 + 1).saturating_sub(self.first.0)).min(self.stored_bytes.len());
        self.stored_bytes.get(from..to).unwrap_or_default().iter().map(|&b| u64::from(b)).sum()
    }
}

/// What the archive has of one timeline, from one segment on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimelineWal {
    /// The whole segments, ascending; there is a hole between two ranges.
    ranges: Vec<SegmentRange>,
    /// Segments of which there is a `.partial` file. PostgreSQL does not read it.
    partial: Vec<SegmentNumber>,
    /// When the newest file of the timeline was stored that was met.
    newest: Option<OffsetDateTime>,
    /// Segments of which there is an object without a single byte.
    empty: BTreeSet<SegmentNumber>,
    /// Segments in cold storage that have not been found to be readable all the same.
    cold: BTreeMap<SegmentNumber, ColdSegment>,
}

/// A segment in cold storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdSegment {
    /// How its object is encoded.
    pub encoding: Encoding,
    /// The size of its object.
    stored_bytes: u64,
}

/// Why the archive cannot give a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It has no object of it.
    NotThere,
    /// Its object is empty.
    Empty,
    /// Its object has to be restored from its storage class first.
    Cold,
    /// What the archive has from here on is of another cluster.
    OtherCluster(SystemIdentifier),
    /// The log ends before it: the cluster has begun another one, with this segment.
    OtherLog(WalSegment),
}

impl TimelineWal {
    /// Adds an object of a segment, or of a part of one. Segments come in ascending
    /// order; twice, when they are there in two encodings.
    pub(crate) fn add_object(
        &mut self,
        name: &WalFileName,
        number: SegmentNumber,
        object: &ObjectInfo,
        encoding: &StoredEncoding,
    ) {
        let stored_bytes = object.size_bytes;
        self.newest = self.newest.max(Some(object.last_modified));
        match (name.kind(), encoding) {
            (WalFileKind::Segment, _) if stored_bytes == 0 => {
                self.empty.insert(number);
            }
            (WalFileKind::Segment, StoredEncoding::Readable(encoding))
                if object.is_in_cold_storage() =>
            {
                self.cold.insert(number, ColdSegment { encoding: *encoding, stored_bytes });
            }
            (WalFileKind::Segment, _) => self.add(number, stored_bytes),
            (WalFileKind::Partial, _) => self.partial.push(number),
            (WalFileKind::BackupHistory | WalFileKind::TimelineHistory, _) => {}
        }
    }

    /// Puts the segments of `older` before these, all of which come after them.
    pub(crate) fn prepend(&mut self, older: TimelineWal) {
        let mut newer = std::mem::replace(self, older);
        let joined = match (self.ranges.last_mut(), newer.ranges.first_mut()) {
            (Some(last), Some(first)) if first.first.0 == last.last().0 + 1 => {
                last.stored_bytes.append(&mut first.stored_bytes);
                1
            }
            _ => 0,
        };
        self.ranges.extend(newer.ranges.drain(joined..));
        self.partial.append(&mut newer.partial);
        self.newest = self.newest.max(newer.newest);
        self.empty.append(&mut newer.empty);
        self.cold.append(&mut newer.cold);
    }

    /// A segment in cold storage has been found to be readable.
    pub(crate) fn thaw(&mut self, number: SegmentNumber) {
        let Some(found) = self.cold.remove(&number) else { return };
        let after = self.ranges.partition_point(|range| range.first <= number);
        let mut newer =
            TimelineWal { ranges: self.ranges.split_off(after), ..TimelineWal::default() };
        self.add(number, found.stored_bytes);
        let ranges = std::mem::take(&mut self.ranges);
        newer.prepend(TimelineWal { ranges, ..TimelineWal::default() });
        self.ranges = newer.ranges;
    }

    /// The segments in cold storage from `number` on.
    pub(crate) fn cold_from(
        &self,
        number: SegmentNumber,
    ) -> impl Iterator<Item = (SegmentNumber, ColdSegment)> {
        self.cold.range(number..).map(|(number, cold)| (*number, *cold))
    }

    /// Why a segment cannot be had that is not [there](Self::has).
    pub fn absence(&self, number: SegmentNumber) -> Absence {
        match (self.cold.contains_key(&number), self.empty.contains(&number)) {
            (true, _) => Absence::Cold,
            (false, true) => Absence::Empty,
            (false, false) => Absence::NotThere,
        }
    }

    /// The runs of segments from `number` on.
    pub(crate) fn runs_from(&self, timeline: TimelineId, number: SegmentNumber) -> Vec<Run> {
        let ranges = self.ranges.iter().filter(|range| range.last() >= number);
        ranges
            .map(|range| Run { timeline, first: range.first.max(number), last: range.last() })
            .collect()
    }

    /// The segments of which there is an object that is not empty, in whatever storage class, as
    /// first and last ones of what has no hole.
    pub(crate) fn stored_runs(&self) -> Vec<(SegmentNumber, SegmentNumber)> {
        let ranges = self.ranges.iter().map(|range| (range.first, range.last()));
        let mut runs: Vec<_> = ranges.chain(self.cold.keys().map(|at| (*at, *at))).collect();
        if !self.cold.is_empty() {
            runs.sort_unstable();
            runs.dedup_by(|next, before| {
                let joined = next.0.0 <= before.1.0.saturating_add(1);
                if joined {
                    before.1 = before.1.max(next.1);
                }
                joined
            });
        }
        runs
    }

    /// The last segment of all, if it comes at `number` or later.
    pub fn last_from(&self, number: SegmentNumber) -> Option<SegmentNumber> {
        self.ranges.last().map(SegmentRange::last).filter(|last| *last >= number)
    }

    /// Of ranges from first to last, and segments that are only partial.
    #[cfg(test)]
    pub(crate) fn of(ranges: &[(u64, u64)], partial: &[u64]) -> Self {
        let mut wal = TimelineWal::default();
        for (first, last) in ranges {
            (*first..=*last).for_each(|number| wal.add(SegmentNumber(number), 1));
        }
        wal.partial = partial.iter().map(|number| SegmentNumber(*number)).collect();
        wal
    }

    fn add(&mut self, number: SegmentNumber, stored_bytes: u64) {
        let stored_bytes = u32::try_from(stored_bytes).unwrap_or(u32::MAX);
        match self.ranges.last_mut() {
            Some(range) if number <= range.last() => {}
            Some(range) if number.0 == range.last().0 + 1 => range.stored_bytes.push(stored_bytes),
            _ => self.ranges.push(SegmentRange { first: number, stored_bytes: vec![stored_bytes] }),
        }
    }

    /// When the newest file was stored that the listing met.
    pub fn newest(&self) -> Option<OffsetDateTime> {
        self.newest
    }

    /// Whether the whole segment is there.
    pub fn has(&self, number: SegmentNumber) -> bool {
        self.range_with(number).is_some()
    }

    /// Whether there is only a `.partial` file of the segment.
    pub fn has_only_partial(&self, number: SegmentNumber) -> bool {
        self.partial.contains(&number) && !self.has(number)
    }

    /// The last segment that is there without a hole after `number`; `None` when
    /// `number` itself is missing.
    pub fn contiguous_from(&self, number: SegmentNumber) -> Option<SegmentNumber> {
        self.range_with(number).map(SegmentRange::last)
    }

    /// The first segment that is there from `number` on.
    pub fn next_from(&self, number: SegmentNumber) -> Option<SegmentNumber> {
        let range = self.ranges.iter().find(|range| range.last() >= number)?;
        Some(range.first.max(number))
    }

    /// Bytes in the store of the segments from `first` to `last`.
    pub fn bytes(&self, first: SegmentNumber, last: SegmentNumber) -> u64 {
        self.ranges.iter().map(|range| range.bytes(first, last)).sum()
    }

    fn range_with(&self, number: SegmentNumber) -> Option<&SegmentRange> {
        let after = self.ranges.partition_point(|range| range.first <= number);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        (number <= range.last()).then_some(range)
    }
}

/// What the archive has of the timelines that a recovery may need.
pub type Inventory = BTreeMap<TimelineId, Arc<TimelineWal>>;
