//! The plan of a restore, and the choice of the base backup.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use time::OffsetDateTime;

use super::backups::{self, BackupChoice};
use super::branch::Branch;
use super::lives::Life;
use super::reach::{Reach, Searched};
use super::read_ahead::ReadAhead;
use super::refusal::{Cause, Refusal, capitalized};
use super::scan::{NewTablespace, Scan};
use super::target::{RecoveryTarget, TargetTimeline};
use crate::catalogue;
use crate::catalogue::BackupInfo;
use crate::catalogue::wal_listing::WalListing;
use crate::error::{ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::{
    Lsn, RequiredSettings, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId,
    TimelineRange, WalSegment,
};
use crate::store::ObjectStore;
use crate::tasks::Work;

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
    /// How much is read of the WAL that is replayed.
    pub read_wal: ReadWal,
}

/// How much a plan reads of the WAL that recovery would replay, from its beginning on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadWal {
    /// All.
    All,
    /// So many segments.
    AtMost(u64),
}

impl ReadWal {
    /// 16 GB of segments of the usual size: a day of WAL of most clusters, read within a
    /// few minutes from a store that is far away.
    pub const DEFAULT: ReadWal = ReadWal::AtMost(1024);
}

/// A restore that reaches what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct RestorePlan {
    /// The base backup.
    pub backup: BackupInfo,
    /// The names of all backups that are read: itself, then what a delta builds on.
    pub backup_chain: Vec<String>,
    /// Bytes in the store of all of them, where their sentinels say so.
    pub backup_bytes: Option<u64>,
    /// Where recovery ends; `None` is the end of the archive.
    pub target: Option<RecoveryTarget>,
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// Whether the timeline must be set, because a server would otherwise choose another one.
    pub timeline_must_be_told: bool,
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
    /// Where replay ends: after the record that begins here, or before it when it is the
    /// first that the target leaves out. `None` when it is not known.
    pub reached_lsn: Option<Lsn>,
    /// When the last transaction ended that is replayed, or the restore point was
    /// made. `None` when nothing of the kind is replayed, or it is not known.
    pub reached_time: Option<OffsetDateTime>,
    /// When the newest WAL was stored that was met in the archive: whether its server may
    /// still be alive.
    pub newest_wal: Option<OffsetDateTime>,
    /// How many of the WAL segments were read, from the first on.
    pub wal_segments_read: u64,
    /// The largest values of the settings that a server must not fall below while it
    /// replays what was read; `None` when the WAL has no record of them: those at the
    /// time of the base backup do then.
    pub raised_settings: Option<RequiredSettings>,
    /// The tablespaces that replay of what was read creates.
    pub new_tablespaces: Vec<NewTablespace>,
    /// Whether the server must not read WAL ahead of its replay (`recovery_prefetch`): what
    /// follows the target would stop it before it is there, or was not looked at.
    pub must_not_read_ahead: bool,
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
pub fn plan(
    store: Arc<dyn ObjectStore>,
    request: &PlanRequest,
    notices: Notices,
) -> Work<'_, Result<Outcome>> {
    Box::pin(async move {
        let request = &on_own_timeline(request);
        let backups = catalogue::list_sound(&*store, &request.backup.to_string(), &notices).await?;
        let mut allowed = backups::choose(&*store, &backups, &request.backup)?;
        leave_out_too_new(&mut allowed, request.target.as_ref());
        let mut planner = Planner::new(store, request, backups, notices);
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
    })
}

/// The end of a base backup lies on the backup's own timeline, whatever became of it.
fn on_own_timeline(request: &PlanRequest) -> PlanRequest {
    let mut request = request.clone();
    if request.target == Some(RecoveryTarget::Immediate) {
        request.timeline = request.timeline.or(Some(TargetTimeline::Current));
    }
    request
}

/// Takes those away that ended after the target, which need no closer look; but not
/// the oldest, which can say what is wrong when all did. `backups` are newest first.
fn leave_out_too_new(backups: &mut Vec<BackupInfo>, target: Option<&RecoveryTarget>) {
    let too_new = |backup: &BackupInfo| match target {
        Some(target @ (RecoveryTarget::Time(_) | RecoveryTarget::BeforeTime(_))) => {
            let last = target.last_time();
            last.is_some_and(|last| backup.finish_time.is_some_and(|at| at > last.time()))
        }
        Some(RecoveryTarget::Lsn(lsn) | RecoveryTarget::BeforeLsn(lsn)) => {
            backup.stop_lsn.is_some_and(|stop| stop > *lsn)
        }
        Some(
            RecoveryTarget::Name(_)
            | RecoveryTarget::Xid(_)
            | RecoveryTarget::BeforeXid(_)
            | RecoveryTarget::Immediate,
        )
        | None => false,
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
    pub(super) backups: Vec<BackupInfo>,
    /// Those that were asked for; `None` when the archive does not have the file.
    pub(super) histories: HashMap<TimelineId, Option<TimelineHistory>>,
    pub(super) notices: Notices,
    /// By earlier searches for a name or a transaction.
    pub(super) searched: Option<Searched>,
    /// By the size of the segments in bytes, of which a prefix has more than one only if
    /// several clusters archived to it.
    pub(super) listings: BTreeMap<u64, WalListing>,
    /// Of timelines, from some LSN on.
    pub(super) lives: HashMap<(TimelineId, Lsn), Life>,
    /// When timelines began.
    pub(super) beginnings: HashMap<TimelineId, Option<OffsetDateTime>>,
    /// Which cluster wrote a segment, as far as it was looked at.
    pub(super) clusters: HashMap<WalSegment, Option<SystemIdentifier>>,
    /// Of these segments, those with which a log begins.
    pub(super) log_begins: HashSet<WalSegment>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        request: &'a PlanRequest,
        backups: Vec<BackupInfo>,
        notices: Notices,
    ) -> Self {
        Planner {
            store,
            request,
            backups,
            histories: HashMap::new(),
            notices,
            searched: None,
            listings: BTreeMap::new(),
            lives: HashMap::new(),
            beginnings: HashMap::new(),
            clusters: HashMap::new(),
            log_begins: HashSet::new(),
        }
    }

    /// What the archive has of segments of this size.
    pub(super) fn listing(&mut self, size: SegmentSize) -> &mut WalListing {
        let store = &self.store;
        let listing = self.listings.entry(size.bytes());
        listing.or_insert_with(|| WalListing::new(Arc::clone(store), size))
    }

    /// The plan with this base backup.
    async fn consider(&mut self, backup: &BackupInfo) -> Result<Result<RestorePlan, Refusal>> {
        let mut branch = match self.branch(backup).await? {
            Ok(branch) => branch,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let reach = self.reach(&mut branch).await?;
        let (candidate, way) = (&branch.candidate, &branch.history);
        let mut reach = match reach {
            Ok(reach) => reach,
            // What this timeline does not have another may.
            Err(refusal) if refusal.cause == Cause::Target && refusal.kind == ErrorKind::Config => {
                let unclear = match refusal.timelines.is_empty() {
                    true => self.unclear(candidate, way, None, Some(&refusal)).await?,
                    false => None,
                };
                return Ok(Err(unclear.unwrap_or(refusal)));
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        let is_time = self.request.target.as_ref().is_some_and(|t| t.last_time().is_some());
        if !is_time && let Some(refusal) = self.unclear(candidate, way, reach.lsn, None).await? {
            return Ok(Err(refusal));
        }
        reach.notes.extend(self.left_notes(candidate, way, reach.lsn).await?);
        reach.notes.extend(self.partial_note(&branch));
        let scan = match self.scan(&branch, &reach).await? {
            Ok(scan) => scan,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let read_ahead = match self.request.target {
            Some(_) => self.read_ahead(&branch, &reach).await?,
            None => ReadAhead::Sound,
        };
        if let ReadAhead::Fails(why) = &read_ahead {
            reach.notes.push(format!(
                "What follows the target cannot be read: {why}. A server that reads ahead would stop there: it needs recovery_prefetch = off."
            ));
        }
        Ok(Ok(describe(branch, reach, scan, read_ahead, self.request.target.clone())))
    }

    /// A segment that is only there as `.partial` is not replayed.
    fn partial_note(&self, branch: &Branch) -> Option<String> {
        let missing = branch.chain.end.missing();
        let timeline = branch.partial_at_end()?;
        let segment = WalSegment { timeline, ..missing };
        let asked = self.request.target.is_none();
        asked.then(|| {
            format!(
                "WAL segment \"{0}\" is in the archive only as \"{0}.partial\", which PostgreSQL does not read; what is in it is not recovered.",
                branch.name_of(segment)
            )
        })
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
}

fn describe(
    branch: Branch,
    reach: Reach,
    scan: Scan,
    read_ahead: ReadAhead,
    target: Option<RecoveryTarget>,
) -> RestorePlan {
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
        timeline_must_be_told: branch.strays_untold,
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
        newest_wal: branch.inventory.values().filter_map(|wal| wal.newest()).max(),
        wal_segments_read: scan.segments,
        raised_settings: scan.settings,
        new_tablespaces: scan.tablespaces,
        must_not_read_ahead: read_ahead != ReadAhead::Sound,
        notes: reach.notes.into_iter().chain(scan.notes).collect(),
    }
}
