//! The last transaction that can be replayed, and damage on the way to it.

use super::shortfall::{before_segment, broken};
use crate::error::Result;
use crate::postgres::Lsn;
use crate::recovery::branch::Branch;
use crate::recovery::refusal::{Cause, Refusal};
use crate::recovery::wal_source::Summary;

/// How many segments without any transaction are read to say when the last one was.
pub(super) const SEGMENTS_READ_TO_TELL: u64 = 16;

/// The end of what can be replayed.
#[derive(Default)]
pub(in crate::recovery) struct Last {
    /// The index of the last segment with a transaction; 0 when there is none.
    pub(super) index: u64,
    /// What it says.
    pub(in crate::recovery) summary: Summary,
    /// Where the last record of all begins that damage does not cut off.
    pub(in crate::recovery) start: Option<Lsn>,
    /// Damage after that, the lowest of all that was met.
    pub(in crate::recovery) damage: Option<Refusal>,
    /// The index of the segment that is damaged.
    pub(in crate::recovery) damaged_index: Option<u64>,
}

/// Reads backwards from the end of the chain to the last transaction after `from`, at most
/// `at_most` segments. What comes after damage does not count.
pub(in crate::recovery) async fn last_transaction(
    branch: &mut Branch,
    from: Lsn,
    at_most: Option<u64>,
) -> Result<Last> {
    let indexes = (index_of_byte_before(branch, from)..branch.chain.len()).rev();
    let at_most = at_most.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let mut last = Last::default();
    for index in indexes.take(at_most) {
        let (summary, in_the_way) = probe(branch, index).await?;
        if in_the_way.is_some() {
            last = Last { damage: in_the_way, damaged_index: Some(index), ..Last::default() };
        }
        last.start = last.start.or(summary.last_start);
        if summary.last.is_some() {
            return Ok(Last { index, summary, ..last });
        }
    }
    Ok(last)
}

pub(in crate::recovery) fn index_of_byte_before(branch: &Branch, lsn: Lsn) -> u64 {
    let byte = Lsn(lsn.0.saturating_sub(1));
    branch.chain.index_of(byte, branch.candidate.segment_size).unwrap_or(0)
}

/// What a segment says, and whether replay could not go beyond it.
pub(super) async fn probe(branch: &mut Branch, index: u64) -> Result<(Summary, Option<Refusal>)> {
    match branch.wal.summary(&branch.chain, index).await {
        Ok(summary) => {
            let refusal = broken(branch, index, &summary);
            Ok((summary, refusal))
        }
        Err(error) if error.is_unusable_object() => {
            let refusal = Refusal::of_damage(Cause::Target, &error);
            Ok((Summary::default(), Some(refusal.with_nearest(before_segment(branch, index)))))
        }
        Err(error) => Err(error),
    }
}
