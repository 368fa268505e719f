//! What a server reads past its target.
//!
//! Replay stops at the target, but from PostgreSQL 15 on a server decodes records ahead of
//! replay, and asks for the segments that they are in. `wal-fetch` ends a recovery at a
//! segment that is damaged or missing, so one that lies after the target would make the
//! target unreachable. The server must not read ahead then.

use super::branch::Branch;
use super::chain::ChainEnd;
use super::plan::{Planner, ReadWal};
use super::reach::{Reach, missing_segment};
use super::wal_source::if_removed;
use crate::catalogue::wal_inventory::Absence;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentSize, WalReader, WalRecord};
use crate::wal::{RecordVisitor, Stop};

/// How much a server decodes ahead: `wal_decode_buffer_size`, by its default (PostgreSQL 15,
/// `src/backend/access/transam/xlogprefetcher.c`). A record takes more room decoded than
/// in the WAL.
const READ_AHEAD_BYTES: u64 = 512 * 1024;

/// How many segments are read to find out: of a server that writes next to nothing, each
/// holds few records.
const SEGMENTS_READ: u64 = 16;

/// What becomes of a server that reads ahead of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadAhead {
    /// Nothing is in its way.
    Sound,
    /// It would not reach the target: why.
    Fails(String),
    /// It may read more segments than were looked at.
    Unknown,
}

impl Planner<'_> {
    /// Reads what a server decodes past the target.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn read_ahead(&self, branch: &Branch, reach: &Reach) -> Result<ReadAhead> {
        let (Some(target), Some(first)) = (reach.lsn, branch.chain.segment(reach.last_index))
        else {
            return Ok(ReadAhead::Sound);
        };
        if self.request.read_wal == ReadWal::AtMost(0) {
            return Ok(ReadAhead::Unknown);
        }
        let size = branch.candidate.segment_size;
        let reader = WalReader::new(first.number.start_lsn(size), size);
        let end = reach.last_index.saturating_add(SEGMENTS_READ);
        let segments = (reach.last_index..end).map_while(|index| branch.chain.segment(index));
        let ahead = Ahead { from: target, size, bytes: 0 };
        let followed = branch.wal.archived().follow(segments, reader, ahead, &mut |_| {}).await?;
        match followed.stop {
            Stop::Enough | Stop::Ended(..) => Ok(ReadAhead::Sound),
            Stop::Failed(_, error) if error.is_unusable_object() => {
                Ok(ReadAhead::Fails(error.message().to_owned()))
            }
            Stop::Failed(segment, error) => Err(if_removed(segment, size, error)),
            Stop::AllRead if end < branch.chain.len() => Ok(ReadAhead::Unknown),
            Stop::AllRead => {
                let goes_on = matches!(branch.chain.end, ChainEnd::Hole { .. })
                    || branch.absence != Absence::NotThere
                    || self.continuation(branch).await?.is_some();
                Ok(match goes_on {
                    true => ReadAhead::Fails(missing_segment(branch)),
                    false => ReadAhead::Sound,
                })
            }
        }
    }
}

/// Counts what is decoded past the target.
#[derive(Debug)]
struct Ahead {
    from: Lsn,
    size: SegmentSize,
    bytes: u64,
}

impl RecordVisitor for Ahead {
    fn visit(&mut self, record: WalRecord) {
        // A switch takes the rest of its segment, but little room.
        let is_last = record.end.0.is_multiple_of(self.size.bytes());
        if record.start >= self.from && !is_last {
            self.bytes += record.end.0 - record.start.0;
        }
    }

    fn is_done(&self) -> bool {
        self.bytes > READ_AHEAD_BYTES
    }
}
