//! The search for a target time, which is by halves, and what is ambiguous in it.

use time::OffsetDateTime;

use super::Reach;
use super::last_transaction::{Last, index_of_byte_before, last_transaction, probe};
use super::shortfall::breaks_off;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, SegmentNumber, TimelineId, TimelineRange, WalSegment};
use crate::recovery::branch::Branch;
use crate::recovery::chain::{Chain, ChainEnd, Run};
use crate::recovery::plan::Planner;
use crate::recovery::refusal::{Cause, Refusal, is_damage};
use crate::recovery::target::{TargetTime, TargetTimeline, format_time};
use crate::recovery::wal_inventory::TimelineWal;
use crate::recovery::wal_source::{Found, Goal, Point};

/// How far a timeline that was left is followed for a transaction.
const SEGMENTS_OF_LEFT_TIMELINE: u64 = 64;

impl Planner<'_> {
    pub(super) async fn reach_time(
        &mut self,
        branch: &mut Branch,
        target: TargetTime,
    ) -> Result<Result<Reach, Refusal>> {
        let time = target.time();
        // Without a time in the sentinel, only the WAL tells whether a base backup whose
        // sentinel was stored, or copied, after the target ended before it.
        let is_dated = branch.candidate.info.finish_time.is_some();
        let is_later = branch.candidate.finished > time;
        if is_dated && is_later {
            let better = self.backup_before(time).map(|backup| backup.name.clone());
            return Ok(Err(self.too_early(branch, better)));
        }
        // PostgreSQL stops before the first transaction that ended after the target,
        // so there must be one.
        let from = if is_later { branch.candidate.start } else { branch.stop };
        let Last { index, summary, mut damage, .. } = last_transaction(branch, from, None).await?;
        let mut low = index_of_byte_before(branch, from);
        // Whether a segment from `low` up to `high`, which is not among them, has a later
        // transaction is open; the first known one is in `found`.
        let mut high = if summary.first_after.is_some() { index } else { low };
        let mut found = Some((index, summary));
        while low < high {
            let middle = low + (high - low) / 2;
            let mut at = middle;
            let (summary, in_the_way) = loop {
                let (summary, in_the_way) = probe(branch, at).await?;
                at += 1;
                if summary.last.is_some() || in_the_way.is_some() || at >= high {
                    break (summary, in_the_way);
                }
            };
            if summary.first_after.is_some() {
                found = Some((at - 1, summary));
                high = middle;
            } else if in_the_way.is_some() {
                // What was found lies behind it; something before it may do as well.
                (found, damage) = (None, in_the_way);
                high = middle;
            } else if summary.last.is_some() {
                low = at;
            } else {
                high = middle;
            }
        }
        let found = found
            .and_then(|(index, summary)| Some((index, summary.first_after?, summary.last_before)));
        let Some((index, first_after, last_before)) = found else {
            return Ok(Err(match damage {
                Some(damage) => damage,
                None => self.behind_the_end(branch).await?,
            }));
        };
        if first_after.start < branch.stop {
            return Ok(Err(self.too_early(branch, None)));
        }
        let notes = match self.lies_on_left_timeline(branch, time, index, first_after).await? {
            Ok(notes) => notes,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(Reach {
            last_index: index,
            lsn: Some(first_after.start),
            time: last_before.and_then(|point| point.time),
            notes,
        }))
    }

    /// A time between the last transaction before a switch and the first one after
    /// it is ambiguous if the timeline that was left has transactions of that time.
    /// Where that could not be found out, a note says so: replay needs none of it.
    async fn lies_on_left_timeline(
        &mut self,
        branch: &Branch,
        time: OffsetDateTime,
        index: u64,
        first_after: Point,
    ) -> Result<Result<Vec<String>, Refusal>> {
        let mut notes = Vec::new();
        if !matches!(self.request.timeline, None | Some(TargetTimeline::Latest)) {
            return Ok(Ok(notes));
        }
        let size = branch.candidate.segment_size;
        let ranges = branch.history.ranges();
        // A timeline that gave nothing was left at the same LSN as the one before it.
        let mut pairs = Vec::new();
        for (index, range) in ranges.iter().enumerate().filter(|(_, range)| !range.is_empty()) {
            let older = ranges.iter().take(index);
            let left = older.filter(|older| older.end == Some(range.begin));
            pairs.extend(left.map(|left| (*left, *range)));
        }
        for (left, range) in pairs {
            if range.begin < branch.stop || range.begin > first_after.start {
                continue;
            }
            let Some(switch_index) = branch.chain.index_of(range.begin, size) else { continue };
            let (own, any) = (switch_index..=index, Goal::AnyTransaction);
            match branch.wal.find(&branch.chain, own, range.begin, any).await {
                Ok(Found::Here(point)) if point.start >= first_after.start => {}
                Ok(Found::Here(_) | Found::Nowhere) => continue,
                // Replay has to pass there.
                Ok(Found::Broken(segment, end)) => {
                    return Ok(Err(breaks_off(branch, segment, &end)));
                }
                Err(error) if is_damage(&error) => {
                    return Ok(Err(Refusal::of_damage(Cause::Target, &error)));
                }
                Err(error) => return Err(error),
            }
            let timeline = left.timeline;
            match self.has_transaction(branch, timeline, range.begin, time).await {
                Ok(true) => return Ok(Err(ambiguous(timeline, range, first_after))),
                Ok(false) => {}
                Err(error) if is_damage(&error) || error.kind() == ErrorKind::Conflict => {
                    notes.push(format!(
                        "Whether timeline {timeline}, which timeline {} left, has transactions up to the target time could not be found out: {error}.",
                        range.timeline
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(notes))
    }

    /// Whether a timeline that was left at `switch` has a transaction behind it that
    /// ended at `time` or before.
    async fn has_transaction(
        &self,
        branch: &Branch,
        timeline: TimelineId,
        switch: Lsn,
        time: OffsetDateTime,
    ) -> Result<bool> {
        let size = branch.candidate.segment_size;
        let first = SegmentNumber(switch.0 / size.bytes());
        let until = SegmentNumber(first.0 + SEGMENTS_OF_LEFT_TIMELINE - 1);
        let wal = TimelineWal::list(&*self.store, size, timeline, first, Some(until)).await?;
        let Some(last) = wal.contiguous_from(first) else { return Ok(false) };
        let next = WalSegment { timeline, number: SegmentNumber(last.0 + 1) };
        let left = Chain {
            runs: vec![Run { timeline, first, last }],
            tail: None,
            end: ChainEnd::Archive { next },
        };
        let (all, any) = (0..=left.len() - 1, Goal::AnyTransaction);
        match branch.wal.find(&left, all, switch, any).await? {
            Found::Here(point) => Ok(point.time.is_some_and(|at| at <= time)),
            Found::Nowhere => Ok(false),
            Found::Broken(segment, end) => {
                Err(Error::new(ErrorKind::Corrupt, breaks_off(branch, segment, &end).reason))
            }
        }
    }
}

/// A target time between the switch to the timeline of `range` and its first transaction.
fn ambiguous(left: TimelineId, range: TimelineRange, first_after: Point) -> Refusal {
    let (timeline, switch) = (range.timeline, range.begin);
    let next = first_after.time.map(format_time).unwrap_or_default();
    Refusal::new(
        Cause::Target,
        format!("the target time lies on timeline {left}, after timeline {timeline} had left it"),
    )
    .with_detail(format!(
        "Timeline {timeline} left timeline {left} at LSN {switch}, and the next transaction on it ended at {next}. Recovery along it would end at that LSN, without what timeline {left} has from then on."
    ))
    .with_advice(format!(
        "Recover along timeline {left} with --recovery-target-timeline {left}, or, if the state at LSN {switch} is meant, along timeline {timeline} with --recovery-target-timeline {timeline}."
    ))
}
