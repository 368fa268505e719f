//! Which blocks the records change that begin in one WAL segment, and what ties it to its
//! neighbours.

use super::ChangedBlocks;
use super::collector::Collector;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::wal_blocks::{SegmentEnds, SegmentScan, Unreadable};
use crate::postgres::{Lsn, SegmentSize, WalSegment};

mod file;

pub use file::LARGEST_MAP_BYTES;

/// What the records change that begin in one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentMap {
    pub(super) segment: WalSegment,
    pub(super) ends: SegmentEnds,
    /// A record says that `wal_level` is `minimal`.
    pub(super) wal_level_is_minimal: bool,
    pub(super) changed: ChangedBlocks,
}

impl SegmentMap {
    /// The segment.
    pub fn segment(&self) -> WalSegment {
        self.segment
    }

    /// How large the segment is.
    pub fn segment_size(&self) -> SegmentSize {
        self.ends.segment_size
    }

    /// The cluster, the pages' version and timelines, and the records that are cut.
    pub fn ends(&self) -> &SegmentEnds {
        &self.ends
    }

    /// The same as the map of the next segment.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn following(&self) -> Self {
        let mut map = self.clone();
        map.segment = map.segment.next();
        map.ends.start = map.segment.number.start_lsn(map.ends.segment_size);
        map
    }

    /// Whether a record says that `wal_level` is `minimal`: then not all that changes is in
    /// the WAL.
    pub fn wal_level_is_minimal(&self) -> bool {
        self.wal_level_is_minimal
    }

    /// What changes, but for a record that began before the segment, and one whose headers go
    /// on after it.
    pub fn changed(&self) -> &ChangedBlocks {
        &self.changed
    }
}

/// Makes the map of a segment from its bytes, which are handed in as they come.
#[derive(Debug)]
pub struct SegmentMapper {
    segment: WalSegment,
    segment_size: SegmentSize,
    scan: SegmentScan<Collector>,
}

impl SegmentMapper {
    /// For a segment that is complete: not a partial one, and not one that is being written.
    pub fn new(segment: WalSegment, segment_size: SegmentSize) -> Self {
        let start = segment.number.start_lsn(segment_size);
        let scan = SegmentScan::new(start, segment_size, Collector::new());
        SegmentMapper { segment, segment_size, scan }
    }

    /// For a segment that is being written, up to `lsn`, where a record begins or will. What comes
    /// after need not be handed in.
    pub fn until(self, lsn: Lsn) -> Self {
        SegmentMapper { scan: self.scan.until(lsn), ..self }
    }

    /// Takes the next bytes. After an error, further ones make no difference.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for what PostgreSQL 15 to 18 does not write, or what is not
    /// understood: there is no map of the segment.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let result = self.scan.feed(bytes);
        result.map_err(|error| no_map(self.segment, self.segment_size, &error))
    }

    /// The map, when the whole segment was handed in, or enough of it.
    ///
    /// # Errors
    /// As [`feed`](Self::feed), and when bytes are missing.
    pub fn finish(self) -> Result<SegmentMap> {
        let (segment, segment_size) = (self.segment, self.segment_size);
        let (ends, collector) =
            self.scan.finish().map_err(|error| no_map(segment, segment_size, &error))?;
        if ends.last_timeline > segment.timeline {
            let reason = "the pages are of a later timeline than its name says".to_owned();
            return Err(no_map(segment, segment_size, &Unreadable { lsn: ends.start, reason }));
        }
        let (changed, wal_level_is_minimal) = collector.finish();
        Ok(SegmentMap { segment, ends, wal_level_is_minimal, changed })
    }
}

fn no_map(segment: WalSegment, size: SegmentSize, error: &Unreadable) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "could not tell which blocks WAL segment \"{}\" changes: {}",
            segment.file_name(size),
            error.reason
        ),
    )
    .with_detail(format!("This is at LSN {}.", error.lsn))
}

#[cfg(test)]
mod tests;
