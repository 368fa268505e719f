//! Which WAL segments a server replays, in their order, and where they end.

use crate::catalogue::asked::{Piece, asked_for};
use crate::catalogue::wal_inventory::{Inventory, Run};
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineHistory, WalSegment};

/// How the WAL ends that can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEnd {
    /// The archive has no more of this branch: `next` is not there, nor anything after it.
    Archive {
        /// The segment that comes next.
        next: WalSegment,
    },
    /// Segments are missing, and there is WAL after them.
    Hole {
        /// The first that is missing.
        first: WalSegment,
        /// The first that is there again.
        next: WalSegment,
    },
}

impl ChainEnd {
    /// The segment that is not there.
    pub fn missing(&self) -> WalSegment {
        match self {
            ChainEnd::Archive { next } => *next,
            ChainEnd::Hole { first, .. } => *first,
        }
    }
}

/// The WAL that a recovery can replay, from the start of a base backup to the
/// first segment that the archive lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// In the order of replay; each begins where the one before ends.
    pub runs: Vec<Run>,
    /// A last segment that belongs to the chain only up to this LSN: of an older
    /// timeline, in the place of the newer one's file, which is missing.
    pub tail: Option<(WalSegment, Lsn)>,
    /// Why it ends.
    pub end: ChainEnd,
}

impl Chain {
    /// Follows `pieces` through what the archive has. `pieces` must not be empty.
    pub fn follow(
        pieces: &[Piece],
        inventory: &Inventory,
        history: &TimelineHistory,
        size: SegmentSize,
    ) -> Option<Chain> {
        let mut runs: Vec<Run> = Vec::new();
        let mut missing = None;
        for piece in pieces {
            let wal = inventory.get(&piece.timeline);
            let there = wal.and_then(|wal| wal.contiguous_from(piece.first));
            if let Some(there) = there {
                let last = piece.last.map_or(there, |last| last.min(there));
                runs.push(Run { timeline: piece.timeline, first: piece.first, last });
            }
            let number = there.map_or(piece.first, |there| SegmentNumber(there.0 + 1));
            if piece.last.is_none_or(|last| number <= last) {
                missing = Some(WalSegment { timeline: piece.timeline, number });
                break;
            }
        }
        let missing = missing?;
        let next =
            pieces.iter().filter(|piece| piece.timeline >= missing.timeline).find_map(|piece| {
                let from = piece.first.max(missing.number);
                let number = inventory.get(&piece.timeline)?.next_from(from)?;
                let inside = piece.last.is_none_or(|last| number <= last);
                inside.then_some(WalSegment { timeline: piece.timeline, number })
            });
        let end = match next {
            Some(next) => ChainEnd::Hole { first: missing, next },
            None => ChainEnd::Archive { next: missing },
        };
        // What is asked for may begin only within the segment that is missing.
        let reached = runs.last().map(|run| SegmentNumber(run.last.0 + 1));
        let reached = reached.or(pieces.first().map(|piece| piece.first));
        let tail = (reached == Some(missing.number))
            .then(|| tail(missing, inventory, history, size))
            .flatten();
        Some(Chain { runs, tail, end })
    }

    /// How many segments it has, the tail included.
    pub fn len(&self) -> u64 {
        let whole: u64 = self.runs.iter().map(|run| run.last.0 - run.first.0 + 1).sum();
        whole + u64::from(self.tail.is_some())
    }

    /// Whether it has no segment at all.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.tail.is_none()
    }

    /// The segment of an index, counted from 0.
    pub fn segment(&self, mut index: u64) -> Option<WalSegment> {
        for run in &self.runs {
            let length = run.last.0 - run.first.0 + 1;
            if index < length {
                let number = SegmentNumber(run.first.0 + index);
                return Some(WalSegment { timeline: run.timeline, number });
            }
            index -= length;
        }
        self.tail.filter(|_| index == 0).map(|(segment, _)| segment)
    }

    /// The index of the segment that holds the byte at `lsn`.
    pub fn index_of(&self, lsn: Lsn, size: SegmentSize) -> Option<u64> {
        let first = self.segment(0)?.number;
        let index = SegmentNumber::containing(lsn, size).0.checked_sub(first.0)?;
        (index < self.len()).then_some(index)
    }

    /// The LSN up to which records of the segment at `index` count; `None` when all do.
    pub fn limit(&self, index: u64) -> Option<Lsn> {
        self.tail.filter(|_| index + 1 == self.len()).map(|(_, until)| until)
    }

    /// Where the last segment ends, or what counts of it.
    pub fn end_lsn(&self, size: SegmentSize) -> Option<Lsn> {
        let whole = || self.runs.last().map(|run| run.last.end_lsn(size));
        self.tail.map(|(_, until)| until).or_else(whole)
    }

    /// Bytes in the store of the segments up to the one at `last`.
    pub fn bytes(&self, last: u64, inventory: &Inventory) -> u64 {
        let mut bytes = 0;
        let mut left = last.saturating_add(1).min(self.len());
        for run in &self.runs {
            if left == 0 {
                return bytes;
            }
            let length = (run.last.0 - run.first.0 + 1).min(left);
            let to = SegmentNumber(run.first.0 + length - 1);
            let wal = inventory.get(&run.timeline);
            bytes += wal.map_or(0, |wal| wal.bytes(run.first, to));
            left -= length;
        }
        if let Some((segment, _)) = self.tail.filter(|_| left > 0) {
            let wal = inventory.get(&segment.timeline);
            bytes += wal.map_or(0, |wal| wal.bytes(segment.number, segment.number));
        }
        bytes
    }
}

/// The file of an older timeline that has the beginning of the missing segment.
fn tail(
    missing: WalSegment,
    inventory: &Inventory,
    history: &TimelineHistory,
    size: SegmentSize,
) -> Option<(WalSegment, Lsn)> {
    let start = missing.number.start_lsn(size);
    // The first is the timeline on which it is missing.
    asked_for(history, missing.number, size).skip(1).find_map(|range| {
        let until = range.end.filter(|end| *end > start)?;
        let segment = WalSegment { timeline: range.timeline, number: missing.number };
        inventory.get(&range.timeline)?.has(missing.number).then_some((segment, until))
    })
}

#[cfg(test)]
mod tests;
