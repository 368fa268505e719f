//! To which moments a restore is possible at all.
//!
//! Along each timeline a recovery can begin with a base backup and go on until the WAL ends,
//! or has a hole: a stretch. What the stretches of a newer timeline have as well is left out
//! of those of the older ones, so that each moment is in one of them.
//!
//! The rules are those of a plan, because it is the planner that follows the WAL. Only the
//! ends of a stretch are read, though: what lies between them is taken for sound as long as
//! its objects are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use super::backups::{BackupChoice, Candidate};
use super::branch::Branch;
use super::chain::ChainEnd;
use super::plan::{PlanRequest, Planner, ReadWal};
use super::reach::{index_of_byte_before, last_transaction, missing_segment};
use super::sides::is_on;
use super::target::TargetTimeline;
use super::wal_source::{Found, Goal};
use crate::catalogue::BackupInfo;
use crate::catalogue::wal_inventory::Absence;
use crate::catalogue::wal_listing::WalListing;
use crate::error::Result;
use crate::notice::Notices;
use crate::postgres::{Lsn, SegmentNumber, TimelineHistory, TimelineId};
use crate::store::ObjectStore;

/// How many segments are read at each end of a stretch to find a transaction.
const SEGMENTS_READ: u64 = 256;

/// The first time that a target cannot be, and the last one that it can be, are so far apart.
const RESOLUTION: Duration = Duration::microseconds(1);

/// An unbroken stretch of moments to which a restore is possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The timeline along which a recovery reaches them.
    pub timeline: TimelineId,
    /// The first time that can be a target: when the base backup was complete, or, where the
    /// timeline parts from a newer one, when its first transaction after that ended.
    pub from_time: OffsetDateTime,
    /// The last time that can be a target: just before the last transaction ended. `None` when
    /// no transaction ended in it, or none in the last 4 GB of WAL.
    pub to_time: Option<OffsetDateTime>,
    /// The first LSN that can be a target.
    pub from_lsn: Lsn,
    /// The last LSN that can be a target, where the last record begins. `None` when there is
    /// no record after `from_lsn`, or it cannot be read.
    pub to_lsn: Option<Lsn>,
    /// The base backup with which a recovery to its first moment begins.
    pub backup_name: String,
    /// Why it ends.
    pub ends: String,
}

/// The stretches of moments to which a restore from one of `candidates` is possible, oldest
/// first. `backups` are all that a plan would choose from, and `listing` is what was listed
/// before of the WAL.
///
/// # Errors
/// Those of the store.
pub(crate) async fn windows(
    store: Arc<dyn ObjectStore>,
    backups: Vec<BackupInfo>,
    mut candidates: Vec<Candidate>,
    listing: Option<WalListing>,
    notices: Notices,
) -> Result<Vec<Window>> {
    candidates.sort_by(|a, b| (a.start, &a.info.name).cmp(&(b.start, &b.info.name)));
    let listings = listing.into_iter().map(|listing| (listing.segment_size().bytes(), listing));
    let mut listings: BTreeMap<_, _> = listings.collect();
    for candidate in &candidates {
        let size = candidate.segment_size;
        let listing = listings
            .entry(size.bytes())
            .or_insert_with(|| WalListing::new(Arc::clone(&store), size));
        // The oldest comes first, so that each is listed once.
        listing.extend_to(SegmentNumber::containing(candidate.start, size)).await?;
    }
    let mut timelines: BTreeSet<TimelineId> =
        candidates.iter().map(|candidate| candidate.info.timeline).collect();
    timelines.extend(listings.values().flat_map(WalListing::timelines));
    let along = |timeline| PlanRequest {
        backup: BackupChoice::Auto,
        target: None,
        timeline: Some(timeline),
        standby: false,
        read_end: false,
        read_wal: ReadWal::AtMost(0),
    };
    let numbered: BTreeMap<TimelineId, PlanRequest> = timelines
        .into_iter()
        .map(|timeline| (timeline, along(TargetTimeline::Number(timeline))))
        .collect();
    // Where its history is not there, a server follows a timeline only as its backups' own.
    let own = along(TargetTimeline::Current);
    let mut planner = Planner::new(store, &own, backups, notices);
    planner.listings = listings;
    let mut found = Windows::default();
    for (timeline, request) in numbered.iter().rev() {
        let history = match planner.history(*timeline).await {
            Ok(history) => history,
            Err(error) if error.is_unusable_object() => {
                planner.notices.warning(format!("timeline {timeline} is left out: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        planner.request = match history.is_some() || timeline.0 == 1 {
            true => request,
            false => &own,
        };
        let line = history.unwrap_or_else(|| TimelineHistory::without_ancestors(*timeline));
        for stretch in planner.stretches(&candidates, &line).await? {
            found.add(&mut planner, stretch).await?;
        }
    }
    found.windows.sort_by_key(|window| (window.from_time, window.timeline, window.from_lsn));
    Ok(found.windows)
}

/// WAL along one timeline, and the base backups from which it can be replayed to its end.
struct Stretch {
    /// From the oldest of them.
    branch: Branch,
    /// In the order in which they begin, each with where it is consistent.
    backups: Vec<(Candidate, Lsn)>,
}

impl Stretch {
    /// Whether what is replayed from `candidate` ends as this does.
    fn leads_on_from(&self, candidate: &Candidate) -> bool {
        let end = self.branch.chain.end_lsn(candidate.segment_size);
        let clusters =
            self.branch.candidate.info.system_identifier.zip(candidate.info.system_identifier);
        clusters.is_some_and(|(own, other)| own == other)
            && candidate.segment_size == self.branch.candidate.segment_size
            && candidate.stop.is_some_and(|stop| end.is_some_and(|end| stop <= end))
    }
}

impl Planner<'_> {
    /// What can be replayed along `line`. `candidates` come in the order in which they begin.
    async fn stretches(
        &mut self,
        candidates: &[Candidate],
        line: &TimelineHistory,
    ) -> Result<Vec<Stretch>> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for candidate in candidates.iter().filter(|candidate| is_on(&candidate.info, line)) {
            let same = stretches.iter_mut().find(|stretch| stretch.leads_on_from(candidate));
            if let (Some(stretch), Some(stop)) = (same, candidate.stop) {
                stretch.backups.push((candidate.clone(), stop));
                continue;
            }
            if let Ok(branch) = self.branch(&candidate.info).await? {
                let backups = vec![(candidate.clone(), branch.stop)];
                stretches.push(Stretch { branch, backups });
            }
        }
        Ok(stretches)
    }

    /// What can be replayed of a stretch from its first backup on that begins at `from` or later.
    async fn rest_of(
        &mut self,
        mut backups: Vec<(Candidate, Lsn)>,
        from: Lsn,
    ) -> Result<Option<Stretch>> {
        backups.retain(|(candidate, _)| candidate.start >= from);
        while let Some((first, _)) = backups.first() {
            if let Ok(branch) = self.branch(&first.info.clone()).await? {
                return Ok(Some(Stretch { branch, backups }));
            }
            backups.remove(0);
        }
        Ok(None)
    }

    /// Why replay ends with `branch`.
    async fn end_of(&self, branch: &Branch) -> Result<String> {
        let is_hole = matches!(branch.chain.end, ChainEnd::Hole { .. });
        if is_hole || branch.absence != Absence::NotThere {
            return Ok(missing_segment(branch));
        }
        Ok(match self.continuation(branch).await {
            Ok(None) => {
                let timeline = branch.chain.end.missing().timeline;
                format!("the archive has no more of timeline {timeline}")
            }
            Ok(Some(_)) => missing_segment(branch),
            Err(error) if error.is_unusable_object() => error.message().to_owned(),
            Err(error) => return Err(error),
        })
    }
}

/// What replay along a timeline that was looked at before passes.
struct Passed {
    line: TimelineHistory,
    from: Lsn,
    to: Lsn,
    /// Where the damage ends, if it ends because what comes next is damaged.
    damaged_until: Option<Lsn>,
}

/// What is left of a stretch after those of newer timelines.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    All,
    /// What comes from this LSN on.
    From(Lsn),
    Nothing,
    /// Nothing that replay from there reaches: there is damage up to this LSN.
    After(Lsn),
}

/// What of `line` from `from` up to `to` no other stretch passes.
fn left_of(line: &TimelineHistory, from: Lsn, to: Lsn, passed: &[Passed]) -> Left {
    let mut shared = from;
    for other in passed.iter().filter(|other| other.from <= from) {
        let parted = line.parts_from(&other.line).unwrap_or(Lsn(u64::MAX));
        if let Some(until) = other.damaged_until
            && other.to < parted
            && from < until
        {
            return Left::After(until);
        }
        shared = shared.max(parted.min(other.to));
    }
    match shared {
        shared if shared >= to => Left::Nothing,
        shared if shared > from => Left::From(shared),
        _ => Left::All,
    }
}

#[derive(Default)]
struct Windows {
    windows: Vec<Window>,
    passed: Vec<Passed>,
}

impl Windows {
    async fn add(&mut self, planner: &mut Planner<'_>, stretch: Stretch) -> Result<()> {
        let mut next = Some(stretch);
        while let Some(Stretch { branch, backups }) = next {
            let damaged_until = self.add_up_to_damage(planner, branch, &backups).await?;
            next = match damaged_until {
                Some(until) => planner.rest_of(backups, until).await?,
                None => None,
            };
        }
        Ok(())
    }

    /// Returns where the damage ends with which the stretch ends, if it does.
    async fn add_up_to_damage(
        &mut self,
        planner: &mut Planner<'_>,
        mut branch: Branch,
        backups: &[(Candidate, Lsn)],
    ) -> Result<Option<Lsn>> {
        let (stop, size) = (branch.stop, branch.candidate.segment_size);
        let end = branch.chain.end_lsn(size).unwrap_or(stop);
        let left = match left_of(&branch.history, stop, end, &self.passed) {
            Left::Nothing => return Ok(None),
            Left::After(until) => return Ok(Some(until)),
            left => left,
        };
        let last = last_transaction(&mut branch, stop, Some(SEGMENTS_READ)).await?;
        let damaged = last.damaged_index.and_then(|index| branch.chain.segment(index));
        let damaged_until = damaged.map(|segment| segment.number.end_lsn(size));
        let ends = match &last.damage {
            Some(damage) => damage.reason.clone(),
            None => planner.end_of(&branch).await?,
        };
        self.passed.push(Passed {
            line: branch.history.clone(),
            from: stop,
            to: match damaged_until {
                Some(_) => last.start.unwrap_or(stop),
                None => end,
            },
            damaged_until,
        });
        // Whether the backup ends before the damage in that segment is not known.
        let is_in_backup = damaged.is_some_and(|segment| segment.number.start_lsn(size) < stop);
        if is_in_backup && last.start.is_none_or(|start| start < stop) {
            return Ok(damaged_until);
        }
        let (from_lsn, from_time) = match left {
            Left::From(lsn) => match first_transaction(&branch, lsn).await? {
                Some(time) => (lsn, time),
                // There is no moment that the newer timeline does not have.
                None => return Ok(damaged_until),
            },
            _ => (stop, to_microseconds(branch.candidate.finished)),
        };
        let last_time = last.summary.last.and_then(|point| point.time);
        let of_here = backups.iter().rev().find(|(_, stop)| *stop <= from_lsn);
        let backup = of_here.or(backups.first());
        self.windows.push(Window {
            timeline: branch.history.timeline(),
            from_time,
            to_time: last_time.map(|time| time - RESOLUTION).filter(|time| *time >= from_time),
            from_lsn,
            to_lsn: last.start.filter(|start| *start >= from_lsn),
            backup_name: backup.map(|(it, _)| it.info.name.clone()).unwrap_or_default(),
            ends,
        });
        Ok(damaged_until)
    }
}

/// The first time that can be a target from `time` on: targets are counted in microseconds, and
/// the clock of a backup in nanoseconds.
fn to_microseconds(time: OffsetDateTime) -> OffsetDateTime {
    match time.nanosecond() % 1000 {
        0 => time,
        part => time + Duration::nanoseconds(1000 - i64::from(part)),
    }
}

/// When the first transaction from `from` on ended. `None` when there is none within reach.
async fn first_transaction(branch: &Branch, from: Lsn) -> Result<Option<OffsetDateTime>> {
    let first = index_of_byte_before(branch, Lsn(from.0.saturating_add(1)));
    let last = branch.chain.len().saturating_sub(1).min(first.saturating_add(SEGMENTS_READ));
    match branch.wal.find(&branch.chain, first..=last, from, Goal::AnyTransaction).await {
        Ok(Found::Here(point)) => Ok(point.time),
        Ok(Found::Nowhere | Found::Broken(..)) => Ok(None),
        Err(error) if error.is_unusable_object() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
