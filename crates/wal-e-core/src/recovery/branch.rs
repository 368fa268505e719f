//! The way of a recovery from one base backup: its history, and the WAL along it.

use std::sync::Arc;

use super::backups::{self, Candidate};
use super::chain::{Chain, pieces};
use super::plan::Planner;
use super::refusal::{Cause, Refusal, is_damage};
use super::target::{RecoveryTarget, TargetTime};
use super::wal_inventory::{Inventory, TimelineWal};
use super::wal_source::{Found, Goal, WalSource};
use crate::base_backup::BackupInfo;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentNumber, TimelineHistory, TimelineId, WalSegment};

/// The WAL along which a recovery from one base backup goes.
pub(super) struct Branch {
    pub(super) candidate: Candidate,
    pub(super) stop: Lsn,
    pub(super) history: TimelineHistory,
    pub(super) inventory: Inventory,
    pub(super) chain: Chain,
    pub(super) wal: WalSource,
}

impl Branch {
    pub(super) fn name_of(&self, segment: WalSegment) -> String {
        segment.file_name(self.candidate.segment_size)
    }

    /// The timeline of the `.partial` file that stands in the place of the segment at
    /// which the chain ends.
    pub(super) fn partial_at_end(&self) -> Option<TimelineId> {
        let number = self.chain.end.missing().number;
        let with = self.inventory.iter().filter(|(_, wal)| wal.has_only_partial(number));
        with.map(|(timeline, _)| *timeline).next_back()
    }
}

impl Planner<'_> {
    /// Follows the WAL from a base backup, and sees to it that the backup can be used.
    pub(super) async fn branch(&mut self, backup: &BackupInfo) -> Result<Result<Branch, Refusal>> {
        let candidate = match backups::prepare(&self.store, &self.backups, backup).await? {
            Ok(candidate) => candidate,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let size = candidate.segment_size;
        let history = match self.history_for(backup).await? {
            Ok(history) => history,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(refusal) = off_branch(&candidate, &history) {
            return Ok(Err(refusal));
        }
        let start = SegmentNumber(candidate.start.0 / size.bytes());
        let mut inventory = Inventory::new();
        for range in history.ranges() {
            let from = SegmentNumber(range.begin.0 / size.bytes()).max(start);
            let until = range.end.map(|end| SegmentNumber(end.0 / size.bytes()));
            if until.is_none_or(|until| until >= from) {
                let wal = TimelineWal::list(&*self.store, size, range.timeline, from, until);
                inventory.insert(range.timeline, wal.await?);
            }
        }
        let pieces = pieces(&history, start, size);
        let chain = Chain::follow(&pieces, &inventory, &history, size);
        let missing = |chain: &Chain| {
            let name = chain.end.missing().file_name(size);
            Refusal::unusable(&backup.name, &backups::missing(&name))
        };
        let Some(chain) = chain else {
            return Ok(Err(Refusal::new(
                Cause::OffBranch,
                format!("timeline {} has no WAL", history.timeline()),
            )));
        };
        let target = self.request.target.as_ref().and_then(RecoveryTarget::last_time);
        let target = target.map(TargetTime::time);
        let wal = WalSource::new(Arc::clone(&self.store), size, target, self.notices.clone());
        let stop = match candidate.stop {
            Some(stop) => stop,
            None if chain.is_empty() => return Ok(Err(missing(&chain))),
            None => {
                let all = 0..=chain.len() - 1;
                let goal = Goal::BackupEnd(candidate.start);
                match wal.find(&chain, all, candidate.start, goal).await {
                    Ok(Found::Here(point)) => point.end,
                    Ok(Found::Nowhere | Found::Broken(..)) => return Ok(Err(missing(&chain))),
                    Err(error) if is_damage(&error) => {
                        return Ok(Err(Refusal::unusable_by_damage(&backup.name, &error)));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if chain.end_lsn(size).is_none_or(|end| end < stop) {
            return Ok(Err(missing(&chain)));
        }
        Ok(Ok(Branch { candidate, stop, history, inventory, chain, wal }))
    }
}

impl Candidate {
    /// Whether its end is still on the part of the log that its timeline
    /// contributes to `history`.
    pub(super) fn ends_on(&self, history: &TimelineHistory) -> bool {
        let range = history.range_of(self.info.timeline);
        range.is_some_and(|range| {
            range.end.is_none_or(|end| self.stop.is_none_or(|stop| stop <= end))
        })
    }
}

/// A timeline that was left before the base backup began, or ended, is of no use.
fn off_branch(candidate: &Candidate, history: &TimelineHistory) -> Option<Refusal> {
    let (name, timeline) = (&candidate.info.name, candidate.info.timeline);
    let of = history.timeline();
    let reason = format!("base backup \"{name}\" is not on the history of timeline {of}");
    let detail = match history.range_of(timeline) {
        None => format!(
            "It was taken on timeline {timeline}, from which timeline {of} does not descend."
        ),
        Some(range) => {
            if range.contains(candidate.start) && candidate.ends_on(history) {
                return None;
            }
            let left = range.end.unwrap_or_default();
            format!(
                "It was taken on timeline {timeline} from LSN {} on; the history of timeline {of} has timeline {timeline} only up to LSN {left}.",
                candidate.start
            )
        }
    };
    Some(Refusal::new(Cause::OffBranch, reason).with_detail(detail).with_advice(format!(
        "Use AUTO to have a base backup chosen that is on it, or recover along timeline {timeline} with --recovery-target-timeline {timeline}."
    )))
}
