//! Whether replay along a branch reaches a target, and with which segment.

use time::OffsetDateTime;

use super::branch::Branch;
use super::chain::ChainEnd;
use super::plan::Planner;
use super::refusal::{Cause, Refusal, capitalized};
use super::target::RecoveryTarget;
use super::wal_source::Goal;
use crate::catalogue::asked::asked_for;
use crate::catalogue::wal_inventory::Absence;
use crate::config::Word;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentNumber, TimelineId, WalFileName, WalSegment};
use crate::wal::{self, Continuation};

mod last_transaction;
mod search;
mod shortfall;
mod time_target;

pub(super) use search::Searched;

use last_transaction::SEGMENTS_READ_TO_TELL;
pub(super) use last_transaction::{index_of_byte_before, last_transaction};
use shortfall::broken;
pub(super) use shortfall::missing_segment;

/// What replay reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Reach {
    /// The index of the last segment in the chain that is needed.
    pub(super) last_index: u64,
    pub(super) lsn: Option<Lsn>,
    pub(super) time: Option<OffsetDateTime>,
    /// Whole sentences.
    pub(super) notes: Vec<String>,
}

impl Planner<'_> {
    /// Whether replay along `branch` reaches the target of the request.
    pub(super) async fn reach(&mut self, branch: &mut Branch) -> Result<Result<Reach, Refusal>> {
        match self.request.target.clone() {
            None => self.reach_end(branch).await,
            Some(RecoveryTarget::Immediate) => Ok(Ok(reach_consistency(branch))),
            // Times are counted in microseconds: before one is up to the one before it.
            Some(target @ (RecoveryTarget::Time(time) | RecoveryTarget::BeforeTime(time))) => {
                self.reach_time(branch, target.last_time().unwrap_or(time)).await
            }
            // One stops after the record that the other stops before.
            Some(RecoveryTarget::Lsn(lsn) | RecoveryTarget::BeforeLsn(lsn)) => {
                self.reach_lsn(branch, lsn).await
            }
            Some(RecoveryTarget::Name(name)) => self.search(branch, Goal::RestorePoint(name)).await,
            Some(RecoveryTarget::Xid(xid)) => self.search(branch, Goal::Transaction(xid)).await,
            Some(RecoveryTarget::BeforeXid(xid)) => {
                let found = self.search(branch, Goal::Transaction(xid)).await?;
                // That is the time of the transaction itself, which is left out.
                Ok(found.map(|reach| Reach { time: None, ..reach }))
            }
        }
    }

    async fn reach_end(&mut self, branch: &mut Branch) -> Result<Result<Reach, Refusal>> {
        if let Some(stray) = stray(branch) {
            return Ok(Err(stray));
        }
        let mut notes = Vec::new();
        let continuation = self.continuation(branch).await?;
        let is_hole = matches!(branch.chain.end, ChainEnd::Hole { .. });
        if continuation.is_some() || is_hole || branch.absence != Absence::NotThere {
            // For WAL of another log it would wait in vain.
            let waits = !matches!(branch.absence, Absence::OtherCluster(_) | Absence::OtherLog(_));
            if !(self.request.standby && waits) {
                let reason = format!(
                    "recovery to the end of the archive would end early: {}",
                    missing_segment(branch)
                );
                return Ok(Err(self.stopped_short(branch, reason, continuation).await?));
            }
            notes.push(format!(
                "{}; the standby waits there until it is.",
                capitalized(&missing_segment(branch))
            ));
        }
        let last_index = branch.chain.len().saturating_sub(1);
        let mut reach = Reach { last_index, notes, ..Reach::default() };
        if !self.request.read_end {
            return Ok(Ok(reach));
        }
        let last = last_transaction(branch, branch.stop, Some(SEGMENTS_READ_TO_TELL)).await?;
        reach.lsn = last.start;
        reach.time = last.summary.last.and_then(|point| point.time);
        match last.damage {
            // Recovery would stop there, or end as if the log had no more.
            Some(damage) if !self.request.standby => return Ok(Err(damage)),
            // What the server will say to it is worth knowing.
            Some(damage) => {
                let why = damage.reason;
                reach.notes.push(format!("The end of the WAL could not be read: {why}."));
            }
            None => {}
        }
        Ok(Ok(reach))
    }

    /// What, other than segments of the branch, shows that the log went on after the end of
    /// the chain: `wal-fetch` will not take it for the end of the WAL.
    pub(super) async fn continuation(&self, branch: &Branch) -> Result<Option<Continuation>> {
        let ChainEnd::Archive { next } = branch.chain.end else { return Ok(None) };
        if branch.absence != Absence::NotThere {
            return Ok(None);
        }
        let size = branch.candidate.segment_size;
        for range in asked_for(&branch.history, next.number, size) {
            let segment = WalSegment { timeline: range.timeline, ..next };
            let name = WalFileName::segment(segment, size);
            let found = wal::continuation(&*self.store, &name, size, &self.notices).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn reach_lsn(&mut self, branch: &mut Branch, lsn: Lsn) -> Result<Result<Reach, Refusal>> {
        if lsn < branch.stop {
            let better = self.backup_below(lsn).map(|backup| backup.name.clone());
            return Ok(Err(self.too_early(branch, better)));
        }
        let size = branch.candidate.segment_size;
        // PostgreSQL stops after the first record that begins at the target or after it.
        let mut index = branch.chain.index_of(lsn, size);
        while let Some(at) = index.filter(|at| *at < branch.chain.len()) {
            let summary = branch.wal.summary(&branch.chain, at).await?;
            if summary.last_start.is_some_and(|start| start >= lsn) {
                let reach = Reach { last_index: at, lsn: Some(lsn), ..Reach::default() };
                return Ok(Ok(reach));
            }
            if let Some(refusal) = broken(branch, at, &summary) {
                return Ok(Err(refusal));
            }
            index = at.checked_add(1);
        }
        Ok(Err(self.past_the_end(branch).await?))
    }
}

/// PostgreSQL stops as soon as it has replayed the end of the base backup.
fn reach_consistency(branch: &Branch) -> Reach {
    let size = branch.candidate.segment_size;
    let last_byte = Lsn(branch.stop.0.saturating_sub(1));
    let last_index = branch.chain.index_of(last_byte, size).unwrap_or_default();
    Reach { last_index, lsn: Some(branch.stop), ..Reach::default() }
}

/// The first segment of a timeline is missing, and the server would read that of the
/// timeline that it left, and go on there.
fn stray(branch: &Branch) -> Option<Refusal> {
    let size = branch.candidate.segment_size;
    let missing = branch.chain.end.missing();
    let mut asked = asked_for(&branch.history, missing.number, size);
    let switch = asked.next()?.begin;
    if SegmentNumber::containing(switch, size) != missing.number || switch.0 == 0 {
        return None;
    }
    let has = |timeline: &TimelineId| {
        branch.inventory.get(timeline).is_some_and(|wal| wal.has(missing.number))
    };
    let left = asked.map(|range| range.timeline).find(has)?;
    let (timeline, name) = (missing.timeline, branch.name_of(missing));
    Some(
        Refusal::new(
            Cause::Target,
            format!("recovery would leave timeline {timeline}: WAL segment \"{name}\" is not in the archive"),
        )
        .with_detail(format!(
            "Timeline {timeline} left timeline {left} at LSN {switch}. Without that segment, a server would go on with the one of timeline {left}, which is not part of the history of timeline {timeline}."
        ))
        .with_advice(format!(
            "Recover along timeline {left} with {}, or to a target before LSN {switch}.",
            Word::TargetTimeline.of(left)
        )),
    )
}
