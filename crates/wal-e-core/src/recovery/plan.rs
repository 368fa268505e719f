//! The plan of a restore, and the choice of the base backup.

use std::collections::HashMap;
use std::sync::Arc;

use time::OffsetDateTime;

use super::backups::{self, BackupChoice, Candidate};
use super::branch::{Chain, pieces};
use super::reach::{Reach, Searched};
use super::refusal::{Cause, Nearest, Refusal, is_damage};
use super::target::{RecoveryTarget, TargetTimeline, format_time};
use super::wal_inventory::{Inventory, TimelineWal};
use super::wal_source::{self, Found, Goal, WalSource};
use crate::base_backup::{self, BackupInfo};
use crate::error::Result;
use crate::notice::Notices;
use crate::postgres::{Lsn, SegmentNumber, TimelineHistory, TimelineId, TimelineRange, WalSegment};
use crate::store::ObjectStore;

/// What to restore, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// Which base backup.
    pub backup: BackupChoice,
    /// Where recovery should end; `None` is the end of the archive.
    pub target: Option<RecoveryTarget>,
    /// Along which timeline; `None` was not said, and is PostgreSQL's default.
    pub timeline: Option<TargetTimeline>,
    /// Whether the server will wait for WAL that is not there yet, as a standby does.
    pub standby: bool,
    /// Whether to say when the last transaction ended that is replayed, where WAL has
    /// to be read for nothing else.
    pub read_end: bool,
}

/// A restore that reaches what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct RestorePlan {
    /// The base backup.
    pub backup: BackupInfo,
    /// The names of all backups that are read: itself, then what a delta builds on.
    pub backup_chain: Vec<String>,
    /// Bytes in the store of all of them, if they tell.
    pub backup_bytes: Option<u64>,
    /// Where recovery ends; `None` is the end of the archive.
    pub target: Option<RecoveryTarget>,
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// The parts of the log that are replayed, oldest first; the first begins where
    /// the base backup does.
    pub timelines: Vec<TimelineRange>,
    /// The name of the first WAL segment that is needed.
    pub first_segment: String,
    /// The name of the last one.
    pub last_segment: String,
    /// How many they are.
    pub wal_segments: u64,
    /// Their bytes in the store.
    pub wal_bytes: u64,
    /// Where the restored cluster is consistent.
    pub consistent_lsn: Lsn,
    /// Where replay ends: after the record that begins here, or before the first
    /// transaction that a target time leaves out. `None` when it is not known.
    pub reached_lsn: Option<Lsn>,
    /// When the last transaction ended that is replayed, or the restore point was
    /// made. `None` when there is none or it is not known.
    pub reached_time: Option<OffsetDateTime>,
    /// What is worth knowing: whole sentences.
    pub notes: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It can be done, so.
    Reachable(Box<RestorePlan>),
    /// It cannot.
    Refused(Refusal),
}

impl Outcome {
    /// The plan.
    ///
    /// # Errors
    /// The refusal: [`crate::ErrorKind::Config`], or [`crate::ErrorKind::Corrupt`]
    /// when damage is in the way.
    pub fn into_plan(self) -> Result<RestorePlan> {
        match self {
            Outcome::Reachable(plan) => Ok(*plan),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }
}

/// Plans a restore. Reads names of WAL files from the base backup on, history files,
/// and of the WAL itself a few segments; to find a name or a transaction, all of it.
///
/// # Errors
/// [`crate::ErrorKind::NotFound`] when there is no such base backup, those of the
/// store, and [`crate::ErrorKind::Corrupt`] for damaged objects that have to be read.
pub async fn plan(
    store: Arc<dyn ObjectStore>,
    request: &PlanRequest,
    notices: Notices,
) -> Result<Outcome> {
    let backups = base_backup::list_sound(&*store, &notices).await?;
    let mut allowed = backups::choose(&*store, &backups, &request.backup)?;
    leave_out_too_new(&mut allowed, request.target.as_ref());
    let histories = HashMap::new();
    let mut planner = Planner { store, request, backups, histories, notices, searched: None };
    let mut refusals: Vec<(BackupInfo, Refusal)> = Vec::new();
    for backup in allowed {
        match planner.consider(&backup).await? {
            Ok(mut plan) => {
                let unusable = refusals.iter().filter(|(_, why)| why.cause == Cause::Unusable);
                for (_, why) in unusable {
                    plan.notes.insert(0, format!("A newer {}.", why.reason));
                }
                return Ok(Outcome::Reachable(Box::new(plan)));
            }
            Err(refusal) if refusal.cause == Cause::Target => {
                return Ok(Outcome::Refused(refusal));
            }
            Err(refusal) => refusals.push((backup, refusal)),
        }
    }
    Ok(Outcome::Refused(planner.none_left(refusals)))
}

/// Takes those away that ended after the target, which need no closer look; but not
/// the oldest, which can say what is wrong when all did. `backups` are newest first.
fn leave_out_too_new(backups: &mut Vec<BackupInfo>, target: Option<&RecoveryTarget>) {
    let too_new = |backup: &BackupInfo| match target {
        Some(RecoveryTarget::Time(time)) => backup.finish_time.is_some_and(|at| at > time.time()),
        Some(RecoveryTarget::Lsn(lsn)) => backup.stop_lsn.is_some_and(|stop| stop > *lsn),
        Some(RecoveryTarget::Name(_) | RecoveryTarget::Xid(_)) | None => false,
    };
    let oldest = backups.last().cloned();
    backups.retain(|backup| !too_new(backup));
    if backups.is_empty() {
        backups.extend(oldest);
    }
}

/// What was found out so far.
pub(super) struct Planner<'a> {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) request: &'a PlanRequest,
    /// Oldest first.
    backups: Vec<BackupInfo>,
    histories: HashMap<TimelineId, Option<TimelineHistory>>,
    pub(super) notices: Notices,
    /// By earlier searches for a name or a transaction.
    pub(super) searched: Option<Searched>,
}

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
}

impl Planner<'_> {
    /// The plan with this base backup.
    async fn consider(&mut self, backup: &BackupInfo) -> Result<Result<RestorePlan, Refusal>> {
        let mut branch = match self.branch(backup).await? {
            Ok(branch) => branch,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut reach = match self.reach(&mut branch).await? {
            Ok(reach) => reach,
            Err(refusal) => return Ok(Err(refusal)),
        };
        reach.notes.extend(self.partial_note(&branch));
        Ok(Ok(describe(branch, reach, self.request.target.clone())))
    }

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
            let reason = format!(
                "base backup \"{}\" cannot be used: {}",
                backup.name,
                backups::missing(&name)
            );
            Refusal::new(Cause::Unusable, reason)
        };
        let Some(chain) = chain else {
            return Ok(Err(Refusal::new(
                Cause::OffBranch,
                format!("timeline {} has no WAL", history.timeline()),
            )));
        };
        let target = match self.request.target {
            Some(RecoveryTarget::Time(time)) => Some(time.time()),
            _ => None,
        };
        let wal = WalSource::new(Arc::clone(&self.store), size, target);
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
                        return Ok(Err(Refusal::of_damage(Cause::Unusable, &error)));
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

    /// The history of the timeline that the server will choose for a recovery from
    /// `backup`.
    async fn history_for(
        &mut self,
        backup: &BackupInfo,
    ) -> Result<Result<TimelineHistory, Refusal>> {
        let timeline = match self.request.timeline.unwrap_or_default() {
            TargetTimeline::Current => backup.timeline,
            TargetTimeline::Number(timeline) => {
                if timeline.0 > 1 && self.history(timeline).await?.is_none() {
                    let reason = format!("timeline {timeline} does not exist");
                    let file = crate::postgres::WalFileName::history(timeline);
                    let newest = self.newest_timeline(backup.timeline).await?;
                    return Ok(Err(Refusal::new(Cause::Target, reason)
                        .with_detail(format!("The archive has no history file \"{file}\"."))
                        .with_advice(format!("The newest timeline is {newest}."))));
                }
                timeline
            }
            TargetTimeline::Latest => self.newest_timeline(backup.timeline).await?,
        };
        // What the server does without the file of a timeline, too.
        let history = self.history(timeline).await?;
        Ok(Ok(history.unwrap_or_else(|| TimelineHistory::without_ancestors(timeline))))
    }

    /// PostgreSQL 15, `timeline.c`, `findNewestTimeLine`: counts up from the base
    /// backup's timeline as long as there are history files.
    async fn newest_timeline(&mut self, from: TimelineId) -> Result<TimelineId> {
        let mut newest = from;
        while let Some(next) = newest.0.checked_add(1) {
            if self.history(TimelineId(next)).await?.is_none() {
                break;
            }
            newest = TimelineId(next);
        }
        Ok(newest)
    }

    async fn history(&mut self, timeline: TimelineId) -> Result<Option<TimelineHistory>> {
        if timeline.0 <= 1 {
            return Ok(None);
        }
        if let Some(known) = self.histories.get(&timeline) {
            return Ok(known.clone());
        }
        let history = wal_source::history(&*self.store, timeline).await?;
        self.histories.insert(timeline, history.clone());
        Ok(history)
    }

    /// A segment that is only there as `.partial` is not replayed.
    fn partial_note(&self, branch: &Branch) -> Option<String> {
        let missing = branch.chain.end.missing();
        let timeline = partial_of(branch)?;
        let segment = WalSegment { timeline, ..missing };
        let asked = self.request.target.is_none();
        asked.then(|| {
            format!(
                "WAL segment \"{0}\" is in the archive only as \"{0}.partial\", which PostgreSQL does not read; what is in it is not recovered.",
                branch.name_of(segment)
            )
        })
    }

    /// The next base backup whose end lies behind `lsn` on the same branch.
    pub(super) async fn next_backup(
        &mut self,
        branch: &Branch,
        lsn: Lsn,
    ) -> Result<Option<Nearest>> {
        let size = branch.candidate.segment_size;
        for backup in self.backups.clone() {
            let later = backup.stop_lsn.is_some_and(|stop| stop > lsn)
                && backup.start_lsn.is_some_and(|start| start >= lsn);
            let on_branch = later
                && backup.start_lsn.map(|start| branch.history.timeline_at(start))
                    == Some(backup.timeline);
            if !on_branch {
                continue;
            }
            let Ok(candidate) = backups::prepare(&self.store, &self.backups, &backup).await? else {
                continue;
            };
            let first = SegmentNumber(candidate.start.0 / size.bytes());
            let pieces = pieces(&branch.history, first, size);
            let chain = Chain::follow(&pieces, &branch.inventory, &branch.history, size);
            let complete = chain.and_then(|chain| chain.end_lsn(size)) >= candidate.stop;
            if complete && candidate.ends_on(&branch.history) {
                return Ok(Some(end_of(&candidate, candidate.stop)));
            }
        }
        Ok(None)
    }

    /// Why no base backup will do.
    fn none_left(&self, refusals: Vec<(BackupInfo, Refusal)>) -> Refusal {
        // The oldest comes last: what speaks against it is what to say.
        let too_early = refusals.iter().rposition(|(_, why)| why.cause == Cause::TooEarly);
        let chosen = too_early.unwrap_or(refusals.len().saturating_sub(1));
        let others: Vec<String> = refusals
            .iter()
            .enumerate()
            .filter(|(index, (_, why))| *index != chosen && why.cause == Cause::Unusable)
            .map(|(_, (_, why))| format!("{}.", capitalized(&why.reason)))
            .collect();
        let (_, mut refusal) = match refusals.into_iter().nth(chosen) {
            Some(refusal) => refusal,
            None => unreachable!("at least one base backup was considered"),
        };
        let detail = refusal.detail.take().into_iter().chain(others).collect::<Vec<_>>().join(" ");
        refusal.detail = (!detail.is_empty()).then_some(detail);
        refusal
    }

    /// The newest base backup that was complete at `time`.
    pub(super) fn backup_before(&self, time: OffsetDateTime) -> Option<&BackupInfo> {
        let before = self.backups.iter().filter(|backup| backups::finished(backup) <= time);
        before.max_by_key(|backup| backups::finished(backup))
    }

    /// The newest base backup that ended at `lsn` or before it.
    pub(super) fn backup_below(&self, lsn: Lsn) -> Option<&BackupInfo> {
        let below = self.backups.iter().filter(|backup| backup.stop_lsn.is_some_and(|s| s <= lsn));
        below.max_by_key(|backup| backup.stop_lsn)
    }
}

impl Candidate {
    /// Whether its end is still on the part of the log that its timeline
    /// contributes to `history`.
    fn ends_on(&self, history: &TimelineHistory) -> bool {
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

/// The end of a base backup, as a target.
pub(super) fn end_of(candidate: &Candidate, stop: Option<Lsn>) -> Nearest {
    let (name, finished) = (&candidate.info.name, candidate.finished);
    let description = match stop {
        Some(stop) => {
            format!("LSN {stop}, where base backup \"{name}\" ends ({})", format_time(finished))
        }
        None => format!("time {}, when base backup \"{name}\" was complete", format_time(finished)),
    };
    Nearest { lsn: stop, time: Some(finished), description }
}

/// The timeline of the `.partial` file that stands in the place of the segment at
/// which the chain ends.
pub(super) fn partial_of(branch: &Branch) -> Option<TimelineId> {
    let number = branch.chain.end.missing().number;
    let with = branch.inventory.iter().filter(|(_, wal)| wal.has_only_partial(number));
    with.map(|(timeline, _)| *timeline).next_back()
}

fn describe(branch: Branch, reach: Reach, target: Option<RecoveryTarget>) -> RestorePlan {
    let last = reach.last_index.min(branch.chain.len().saturating_sub(1));
    let name = |index| branch.chain.segment(index).map(|segment| branch.name_of(segment));
    let size = branch.candidate.segment_size;
    let end = branch.chain.segment(last).map(|segment| segment.number.end_lsn(size));
    let reached = reach.lsn.or(end).unwrap_or(branch.stop);
    let start = branch.candidate.start;
    let replayed = branch
        .history
        .ranges()
        .into_iter()
        .filter(|range| range.begin <= reached && range.end.is_none_or(|end| end > start))
        .filter(|range| !range.is_empty());
    RestorePlan {
        timelines: replayed
            .map(|range| TimelineRange { begin: range.begin.max(start), ..range })
            .collect(),
        timeline: branch.history.timeline(),
        first_segment: name(0).unwrap_or_default(),
        last_segment: name(last).unwrap_or_default(),
        wal_segments: last + 1,
        wal_bytes: branch.chain.bytes(last, &branch.inventory),
        backup_chain: branch.candidate.chain,
        backup_bytes: branch.candidate.stored_bytes,
        backup: branch.candidate.info,
        target,
        consistent_lsn: branch.stop,
        reached_lsn: reach.lsn,
        reached_time: reach.time,
        notes: reach.notes,
    }
}

pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
