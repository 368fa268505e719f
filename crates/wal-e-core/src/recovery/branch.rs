//! The way of a recovery from one base backup: its history, and the WAL along it.

use std::sync::Arc;

use super::backups::{self, BackupChoice, Candidate};
use super::chain::{Chain, ChainEnd};
use super::plan::Planner;
use super::refusal::{Cause, Refusal, log_begins_anew};
use super::target::{RecoveryTarget, TargetTime};
use super::wal_source::{Found, Goal, WalSource};
use crate::catalogue::BackupInfo;
use crate::catalogue::asked::{asked_for, pieces};
use crate::catalogue::wal_inventory::{Absence, Inventory};
use crate::config::Word;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineHistory, TimelineId, WalSegment};

/// The WAL along which a recovery from one base backup goes.
pub(super) struct Branch {
    pub(super) candidate: Candidate,
    pub(super) stop: Lsn,
    pub(super) history: TimelineHistory,
    pub(super) inventory: Inventory,
    pub(super) chain: Chain,
    /// Why the segment at which the chain ends cannot be had.
    pub(super) absence: Absence,
    /// Whether a server would follow another timeline if this one is not set.
    pub(super) strays_untold: bool,
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
        let mut asked = asked_for(&self.history, number, self.candidate.segment_size)
            .map(|range| range.timeline);
        asked.find(|timeline| {
            self.inventory.get(timeline).is_some_and(|wal| wal.has_only_partial(number))
        })
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
        let mut history = match self.history_for(backup).await? {
            Ok(history) => history,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let start = SegmentNumber::containing(candidate.start, size);
        self.listing(size).extend_to(start).await?;
        let mut off_branch = off_branch(&candidate, &history);
        let mut strays_untold = false;
        if off_branch.is_some()
            && self.no_timeline_was_given()
            && let Some(own) = self.way_of_own_cluster(&candidate, &history).await?
        {
            (history, off_branch, strays_untold) = (own, None, true);
        }
        if off_branch.is_some() || self.request.target.is_none() {
            let is_free = self.request.backup == BackupChoice::Auto;
            let why_not = off_branch.as_ref().filter(|_| !is_free);
            if let Some(refusal) = self.unclear(&candidate, &history, None, why_not).await? {
                return Ok(Err(refusal));
            }
        }
        if let Some(refusal) = off_branch {
            return Ok(Err(refusal));
        }
        let (inventory, chain) = self.chain(&history, start, size).await?;
        let Some(mut chain) = chain else {
            return Ok(Err(Refusal::new(
                Cause::OffBranch,
                format!("timeline {} has no WAL", history.timeline()),
            )));
        };
        let missing = chain.end.missing();
        let mut absence = inventory
            .get(&missing.timeline)
            .map_or(Absence::NotThere, |wal| wal.absence(missing.number));
        if absence != Absence::NotThere {
            // The server does not go on to the file of an older timeline.
            chain.tail = None;
        }
        if let Some(other) = self.cut_at_other_cluster(&candidate, &mut chain).await? {
            absence = Absence::OtherCluster(other);
        } else if let ChainEnd::Hole { next, .. } = chain.end
            && self.begins_log(next, size).await?
        {
            absence = Absence::OtherLog(next);
        }
        let missing = |chain: &Chain| {
            let segment = segment_that_is_missing(chain.end.missing(), absence, size);
            Refusal::unusable(&backup.name, &backups::missing(&segment))
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
                    Err(error) if error.is_unusable_object() => {
                        return Ok(Err(Refusal::unusable_by_damage(&backup.name, &error)));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if chain.end_lsn(size).is_none_or(|end| end < stop) {
            return Ok(Err(missing(&chain)));
        }
        Ok(Ok(Branch { candidate, stop, history, inventory, chain, absence, strays_untold, wal }))
    }

    /// The segments along a history from `start` on. What is in cold storage is asked for
    /// where the chain would end there.
    async fn chain(
        &mut self,
        history: &TimelineHistory,
        start: SegmentNumber,
        size: SegmentSize,
    ) -> Result<(Inventory, Option<Chain>)> {
        let pieces = pieces(history, start, size);
        let listing = self.listing(size);
        loop {
            let inventory = listing.along(history, start);
            let chain = Chain::follow(&pieces, &inventory, history, size);
            let missing = chain.as_ref().map(|chain| chain.end.missing());
            match missing {
                Some(missing) if listing.try_to_thaw(missing).await? => {}
                _ => return Ok((inventory, chain)),
            }
        }
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
        "Use AUTO to have a base backup chosen that is on it, or recover along timeline {timeline} with {}.",
        Word::TargetTimeline.of(timeline)
    )))
}

/// `WAL segment "..." is not in the archive`, or what else is wrong with it.
pub(super) fn segment_that_is_missing(
    segment: WalSegment,
    absence: Absence,
    size: SegmentSize,
) -> String {
    let name = segment.file_name(size);
    match absence {
        Absence::NotThere => format!("WAL segment \"{name}\" is not in the archive"),
        Absence::Empty => format!("WAL segment \"{name}\" is an empty object in the archive"),
        Absence::Cold => {
            format!("WAL segment \"{name}\" is in a storage class that cannot be read at once")
        }
        Absence::OtherCluster(other) => format!(
            "the archive goes on from WAL segment \"{name}\" with another cluster, which has system identifier {other}"
        ),
        Absence::OtherLog(first) => log_begins_anew(&first.file_name(size)),
    }
}
