//! The search for a target time, which is by halves, and what is ambiguous in it.

use time::OffsetDateTime;

use super::Reach;
use super::last_transaction::{Last, index_of_byte_before, last_transaction, probe};
use super::shortfall::breaks_off;
use crate::catalogue::wal_inventory::Run;
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, SegmentNumber, TimelineId, WalSegment};
use crate::recovery::branch::Branch;
use crate::recovery::chain::{Chain, ChainEnd};
use crate::recovery::plan::Planner;
use crate::recovery::refusal::{Cause, Refusal};
use crate::recovery::sides::Side;
use crate::recovery::target::{TargetTime, format_time};
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
        // Without a time in the sentinel, only the WAL shows whether a base backup whose
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
                // What was found comes after it; something before it may do as well.
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
                None => self.past_the_end(branch).await?,
            }));
        };
        if first_after.start < branch.stop {
            return Ok(Err(self.too_early(branch, None)));
        }
        let notes = match self.lies_beside(branch, time, index, first_after).await? {
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

    /// Whether the target time lies on another timeline, as well or only. Where that could not
    /// be found out, a note says so: replay needs none of it.
    ///
    /// A time between the last transaction before a switch and the first one after it lies on
    /// the timeline that was left, if that has transactions of that time. And where another
    /// timeline went on, a time from there on lies on both.
    async fn lies_beside(
        &mut self,
        branch: &Branch,
        time: OffsetDateTime,
        index: u64,
        first_after: Point,
    ) -> Result<Result<Vec<String>, Refusal>> {
        let mut notes = Vec::new();
        if !self.no_timeline_was_given() {
            return Ok(Ok(notes));
        }
        let (candidate, way) = (&branch.candidate, &branch.history);
        let size = candidate.segment_size;
        let mut meant = Vec::new();
        for side in self.sides(size, way).await? {
            if side.parts_at > first_after.start {
                continue;
            }
            let life = self.life(size, side.timeline, side.own_from).await?;
            let reaches = life.last_sign().is_some_and(|last| last > time)
                && self.has_backup(candidate, &side)
                && self.is_alive(size, way, &side, &life).await?;
            let parts_in_backup = side.parts_at < branch.stop;
            let was_left = way.range_of(side.timeline).is_some() && !parts_in_backup;
            if !reaches && !was_left {
                continue;
            }
            let own = match parts_in_backup {
                true => Ok(true),
                false => self.passes_transaction(branch, side.parts_at, index, first_after).await?,
            };
            match own {
                Ok(true) if reaches => meant.push(side.timeline),
                Ok(true) => {}
                Ok(false) => match self.has_transaction(branch, &side, time).await {
                    Ok(true) if was_left => {
                        let timeline = way.timeline_at(side.parts_at);
                        let refusal = ambiguous(&side, timeline, first_after);
                        return Ok(Err(self.with_timelines(candidate, way, refusal).await?));
                    }
                    Ok(true) => meant.push(side.timeline),
                    Ok(false) => {}
                    Err(error) if error.is_unusable_object() => {
                        notes.push(format!(
                            "Whether timeline {}, which timeline {} left, has transactions up to the target time could not be found out: {error}.",
                            side.timeline,
                            way.timeline_at(side.parts_at)
                        ));
                    }
                    Err(error) => return Err(error),
                },
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        match meant.as_slice() {
            [] => Ok(Ok(notes)),
            meant => Ok(Err(self.refuse_to_choose(candidate, way, meant, None).await?)),
        }
    }

    /// Whether replay up to `first_after` passes a transaction from `parting` on.
    async fn passes_transaction(
        &self,
        branch: &Branch,
        parting: Lsn,
        index: u64,
        first_after: Point,
    ) -> Result<Result<bool, Refusal>> {
        let size = branch.candidate.segment_size;
        let Some(first) = branch.chain.index_of(parting, size) else { return Ok(Ok(true)) };
        match branch.wal.find(&branch.chain, first..=index, parting, Goal::AnyTransaction).await {
            Ok(Found::Here(point)) => Ok(Ok(point.start < first_after.start)),
            Ok(Found::Nowhere) => Ok(Ok(true)),
            // Replay has to pass there.
            Ok(Found::Broken(segment, end)) => Ok(Err(breaks_off(branch, segment, &end))),
            Err(error) if error.is_unusable_object() => {
                Ok(Err(Refusal::of_damage(Cause::Target, &error)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether another timeline has a transaction of its own that ended at `time` or before.
    async fn has_transaction(
        &mut self,
        branch: &Branch,
        side: &Side,
        time: OffsetDateTime,
    ) -> Result<bool> {
        let (size, timeline) = (branch.candidate.segment_size, side.timeline);
        let first = SegmentNumber::containing(side.own_from, size);
        let listing = self.listing(size);
        listing.extend_timeline_to(timeline, first).await?;
        let Some(last) = listing.wal(timeline).contiguous_from(first) else { return Ok(false) };
        let last = last.min(SegmentNumber(first.0 + SEGMENTS_OF_LEFT_TIMELINE - 1));
        let next = WalSegment { timeline, number: SegmentNumber(last.0 + 1) };
        let left = Chain {
            runs: vec![Run { timeline, first, last }],
            tail: None,
            end: ChainEnd::Archive { next },
        };
        let (all, any) = (0..=left.len() - 1, Goal::AnyTransaction);
        match branch.wal.find(&left, all, side.own_from, any).await? {
            Found::Here(point) => Ok(point.time.is_some_and(|at| at <= time)),
            Found::Nowhere => Ok(false),
            Found::Broken(segment, end) => {
                Err(Error::new(ErrorKind::Corrupt, breaks_off(branch, segment, &end).reason))
            }
        }
    }
}

/// A target time between the beginning of `timeline` and its first transaction, when the
/// timeline that it left has transactions of that time.
fn ambiguous(side: &Side, timeline: TimelineId, first_after: Point) -> Refusal {
    let (left, switch) = (side.timeline, side.parts_at);
    let next = first_after.time.map(format_time).unwrap_or_default();
    Refusal::new(
        Cause::Target,
        format!("the target time lies on timeline {left}, after timeline {timeline} had left it"),
    )
    .with_detail(format!(
        "Timeline {timeline} left timeline {left} at LSN {switch}, and the next transaction on it ended at {next}. Recovery along it would end at that LSN, without what timeline {left} has from then on."
    ))
    .with_advice(format!(
        "Recover along timeline {left} with {}, or, if the state at LSN {switch} is meant, along timeline {timeline} with {}.",
        Word::TargetTimeline.of(left),
        Word::TargetTimeline.of(timeline)
    ))
}
