//! Which WAL segments the archive has.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::error::Result;
use crate::layout;
use crate::postgres::{
    SegmentNumber, SegmentSize, TimelineId, WalFileKind, WalFileName, WalSegment,
};
use crate::store::{ListRequest, ObjectStore};

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
}

impl TimelineWal {
    /// Lists the segments of `timeline` from `from` to `until`, in whatever encoding
    /// they are.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        store: &dyn ObjectStore,
        size: SegmentSize,
        timeline: TimelineId,
        from: SegmentNumber,
        until: Option<SegmentNumber>,
    ) -> Result<Self> {
        let first = WalFileName::segment(WalSegment { timeline, number: from }, size);
        let request = ListRequest {
            prefix: layout::wal_of_timeline(timeline),
            start_after: Some(layout::before_wal_file(&first)),
            shallow: true,
        };
        let mut wal = TimelineWal::default();
        let mut page = None;
        loop {
            let answer = store.list(&request, page).await?;
            for object in answer.objects {
                let Some((name, _)) = layout::wal_file_of(&object.key) else { continue };
                wal.newest = wal.newest.max(Some(object.last_modified));
                let Some(number) = name.segment_number(size).filter(|number| *number >= from)
                else {
                    continue;
                };
                if until.is_some_and(|until| number > until) {
                    return Ok(wal);
                }
                match name.kind() {
                    WalFileKind::Segment => wal.add(number, object.size_bytes),
                    WalFileKind::Partial => wal.partial.push(number),
                    WalFileKind::BackupHistory | WalFileKind::TimelineHistory => {}
                }
            }
            page = answer.next;
            if page.is_none() {
                return Ok(wal);
            }
        }
    }

    /// Of ranges from first to last, and segments that are only partial.
    #[cfg(test)]
    pub(super) fn of(ranges: &[(u64, u64)], partial: &[u64]) -> Self {
        let mut wal = TimelineWal::default();
        for (first, last) in ranges {
            (*first..=*last).for_each(|number| wal.add(SegmentNumber(number), 1));
        }
        wal.partial = partial.iter().map(|number| SegmentNumber(*number)).collect();
        wal
    }

    /// Segments come in ascending order; twice, when they are there in two encodings.
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

    /// The last segment that is there without a hole behind `number`; `None` when
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
pub type Inventory = BTreeMap<TimelineId, TimelineWal>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode};

    const TIMELINE: TimelineId = TimelineId(0x1A);

    async fn wal_of(names: &[&str], from: u64, until: Option<u64>) -> TimelineWal {
        let store = MemoryStore::with_page_size(2);
        for name in names {
            let key = format!("wal_005/{name}");
            let key = layout::ObjectKey::from_listing(&key).unwrap();
            let body = vec![0; name.len()];
            let attributes = Attributes::default();
            let put = store.put(&key, body.into(), PutMode::Replace, &attributes);
            let _ = put.await.unwrap();
        }
        let (from, until) = (SegmentNumber(from), until.map(SegmentNumber));
        TimelineWal::list(&store, SegmentSize::DEFAULT, TIMELINE, from, until).await.unwrap()
    }

    fn ranges(wal: &TimelineWal) -> Vec<(u64, u64)> {
        wal.ranges.iter().map(|range| (range.first.0, range.last().0)).collect()
    }

    const NAMES: [&str; 13] = [
        "00000019000000000000000C.lz4",
        "0000001A.history.lz4",
        "0000001A0000000000000007.lz4",
        "0000001A0000000000000008",
        "0000001A0000000000000008.00000028.backup.lz4",
        "0000001A0000000000000008.zst",
        "0000001A0000000000000009.br",
        "0000001A0000000000000009_delta.lz4",
        "0000001A00000000000000FF.lz4",
        "0000001A0000000100000000.lz4",
        "0000001A0000000100000001.partial.lz4",
        "0000001A0000000100000100.lz4",
        "0000001B0000000100000001.lz4",
    ];

    #[tokio::test]
    async fn segments_of_one_timeline_in_every_encoding_become_ranges() {
        let wal = wal_of(&NAMES, 0, None).await;
        assert_eq!(ranges(&wal), [(7, 9), (255, 256)]);
        assert_eq!(wal.contiguous_from(SegmentNumber(8)), Some(SegmentNumber(9)));
        assert_eq!(wal.contiguous_from(SegmentNumber(10)), None);
        assert_eq!(wal.next_from(SegmentNumber(10)), Some(SegmentNumber(255)));
        assert_eq!(wal.next_from(SegmentNumber(8)), Some(SegmentNumber(8)));
        assert_eq!(wal.next_from(SegmentNumber(257)), None);
        assert!(wal.has(SegmentNumber(256)) && !wal.has(SegmentNumber(6)));
        assert!(wal.has_only_partial(SegmentNumber(257)));
        // 28 + 24 + 27 bytes: of two encodings the first counts.
        assert_eq!(wal.bytes(SegmentNumber(0), SegmentNumber(9)), 79);
        assert_eq!(wal.bytes(SegmentNumber(8), SegmentNumber(8)), 24);
        assert_eq!(wal.bytes(SegmentNumber(9), SegmentNumber(255)), 27 + 28);
        assert_eq!(wal.bytes(SegmentNumber(300), SegmentNumber(400)), 0);
        assert_eq!(wal.bytes(SegmentNumber(9), SegmentNumber(8)), 0);
    }

    #[tokio::test]
    async fn only_what_was_asked_for_is_kept() {
        assert_eq!(ranges(&wal_of(&NAMES, 9, None).await), [(9, 9), (255, 256)]);
        assert_eq!(ranges(&wal_of(&NAMES, 8, Some(255)).await), [(8, 9), (255, 255)]);
        assert_eq!(ranges(&wal_of(&[], 0, None).await), []);
    }
}
