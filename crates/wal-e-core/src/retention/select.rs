//! Which base backups stay.

mod rules;

use time::OffsetDateTime;

use super::policy::Request;
use crate::coverage::Branches;
use crate::postgres::{Lsn, SystemIdentifier, TimelineId};

/// What retention has to know of a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name.
    pub name: String,
    /// When it was complete, by the clock of its host.
    pub complete_at: OffsetDateTime,
    /// When its sentinel was stored, by the clock of the store.
    pub stored_at: OffsetDateTime,
    /// The cluster, if the backup says it.
    pub system_identifier: Option<SystemIdentifier>,
    /// The timeline that it was taken on.
    pub timeline: TimelineId,
    /// Where replay begins.
    pub start: Lsn,
    /// Where it is consistent.
    pub stop: Option<Lsn>,
    /// The backup that it is a delta of.
    pub parent: Option<String>,
    /// Where no sentinel says what it is a delta of: all that it may be one of, `parent` included.
    pub perhaps_parents: Vec<String>,
    /// Why it is pinned, if it is.
    pub pinned: Option<String>,
    /// Why it does not count as one that can be restored, if it does not.
    pub unusable: Option<String>,
    /// Whether it has its sentinel. One without is under way, and pinned, or was given up.
    pub is_complete: bool,
}

impl Backup {
    /// What it builds on, or may build on.
    pub(super) fn needs(&self, other: &Backup) -> bool {
        self.parent.as_ref() == Some(&other.name) || self.perhaps_parents.contains(&other.name)
    }

    /// Where a server that was restored from it can go on from.
    fn consistent(&self) -> Lsn {
        self.stop.unwrap_or(self.start)
    }
}

/// How much WAL a backup keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// What it needs to be consistent.
    Itself,
    /// All that comes after it, on every timeline that can be reached from it.
    Onwards,
}

/// What becomes of a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// With how much WAL it stays; `None` when it goes.
    pub keeps: Option<Extent>,
    /// The rule, or the backup, that keeps it; or why nothing does.
    pub reason: String,
}

/// What becomes of each of `backups`. `now` is the end of the recovery window.
///
/// Which backup is newer is told by two clocks, and either may be wrong: a host's has been
/// set, or the archive was copied, and is younger than what is in it. Where they do not agree,
/// what the rules keep by one of them stays. A backup that goes takes with it what it said of
/// the clocks; so the rules are asked again until they keep all that is left, and a second run
/// would delete nothing.
pub fn select(
    backups: &[Backup],
    branches: &Branches,
    request: &Request,
    now: OffsetDateTime,
) -> Vec<Decision> {
    let mut decisions = select_once(backups, branches, request, now);
    loop {
        let is_left = |index: &usize| decisions[*index].keeps.is_some();
        let left: Vec<usize> = (0..backups.len()).filter(is_left).collect();
        let remaining: Vec<Backup> = left.iter().map(|index| backups[*index].clone()).collect();
        let again = select_once(&remaining, branches, request, now);
        let is_stable = again.iter().all(|decision| decision.keeps.is_some());
        for (index, decision) in left.into_iter().zip(again) {
            decisions[index] = decision;
        }
        if is_stable {
            return decisions;
        }
    }
}

fn select_once(
    backups: &[Backup],
    branches: &Branches,
    request: &Request,
    now: OffsetDateTime,
) -> Vec<Decision> {
    let complete = |backup: &Backup| backup.complete_at.min(backup.stored_at);
    let by_host = in_order(backups, complete);
    let by_store = in_order(backups, |backup| backup.stored_at);
    let mut decisions = select_in_order(backups, &by_host, branches, request, now);
    if by_host != by_store {
        let others = select_in_order(backups, &by_store, branches, request, now);
        for (decision, other) in decisions.iter_mut().zip(others) {
            if decision.keeps < other.keeps {
                *decision = other;
            }
        }
    }
    decisions
}

/// The order of time: moments, and indices. Of one cluster and timeline, what begins later in the WAL is
/// later, whatever a clock says.
fn in_order(
    backups: &[Backup],
    clock: impl Fn(&Backup) -> OffsetDateTime,
) -> Vec<(OffsetDateTime, usize)> {
    let line = |index: usize| {
        let backup = &backups[index];
        (backup.system_identifier.map(|id| id.0), backup.timeline)
    };
    // A full backup that begins where a delta does was made of it, later.
    let place = |index: usize| {
        let Backup { start, parent, name, .. } = &backups[index];
        (line(index), *start, parent.is_none(), name)
    };
    let mut order: Vec<usize> = (0..backups.len()).collect();
    order.sort_by_key(|index| place(*index));
    let mut before = None;
    let mut timed: Vec<(OffsetDateTime, usize)> = Vec::with_capacity(backups.len());
    for index in order {
        let mut moment = clock(&backups[index]);
        if let Some((line_before, moment_before)) = before
            && line_before == line(index)
        {
            moment = moment.max(moment_before);
        }
        before = Some((line(index), moment));
        timed.push((moment, index));
    }
    timed.sort_by_key(|(moment, _)| *moment);
    timed
}

fn select_in_order(
    backups: &[Backup],
    order: &[(OffsetDateTime, usize)],
    branches: &Branches,
    request: &Request,
    now: OffsetDateTime,
) -> Vec<Decision> {
    let backups: Vec<&Backup> = order.iter().map(|(_, index)| &backups[*index]).collect();
    let moments: Vec<OffsetDateTime> = order.iter().map(|(moment, _)| *moment).collect();
    let mut selection = Selection::new(&backups, &moments, branches);
    match request {
        Request::Retain(policy) => selection.retain(policy, now),
        Request::Before(name) => selection.from(name),
        Request::Backup(name) => selection.all_but(name),
        Request::Garbage(what) => selection.garbage(*what),
        Request::Everything => {}
    }
    if *request != Request::Everything {
        selection.newest();
        selection.not_usable();
    }
    selection.pinned();
    selection.parents();
    let mut decided: Vec<(usize, Decision)> =
        order.iter().map(|(_, index)| *index).zip(selection.decisions).collect();
    decided.sort_by_key(|(index, _)| *index);
    decided.into_iter().map(|(_, decision)| decision).collect()
}

/// The backups in the order of time.
struct Selection<'a> {
    backups: &'a [&'a Backup],
    /// When each was complete.
    moments: &'a [OffsetDateTime],
    branches: &'a Branches,
    /// Whether each can be restored, its whole chain included.
    restorable: Vec<bool>,
    decisions: Vec<Decision>,
}

impl<'a> Selection<'a> {
    fn new(
        backups: &'a [&'a Backup],
        moments: &'a [OffsetDateTime],
        branches: &'a Branches,
    ) -> Self {
        let restorable = backups.iter().map(|backup| is_restorable(backups, backup)).collect();
        let nothing = |backup: &&Backup| {
            let reason = match backup.is_complete {
                true => "no rule keeps it",
                false => "it is not complete, and no longer being taken",
            };
            Decision { keeps: None, reason: reason.to_owned() }
        };
        let decisions = backups.iter().map(nothing).collect();
        Selection { backups, moments, branches, restorable, decisions }
    }

    /// The first rule that keeps the most is the one that is named.
    fn keep(&mut self, index: usize, extent: Extent, reason: impl FnOnce() -> String) {
        let decision = &mut self.decisions[index];
        if decision.keeps < Some(extent) {
            *decision = Decision { keeps: Some(extent), reason: reason() };
        }
    }

    /// Keeps a backup, and every moment from it on: so all that are newer, too.
    fn keep_from(&mut self, first: usize, reason: impl Fn(&str) -> String) {
        let name = &self.backups[first].name;
        for index in first..self.backups.len() {
            if self.backups[index].is_complete {
                self.keep(index, Extent::Onwards, || reason(name));
            }
        }
    }
}

/// A backup, and what it builds on as far as it is there.
fn chain<'a>(backups: &'a [&'a Backup], backup: &'a Backup) -> impl Iterator<Item = &'a Backup> {
    let parent = |child: &&'a Backup| {
        let parent = child.parent.as_ref()?;
        backups.iter().copied().find(|it| it.name == *parent)
    };
    // A chain that never ends is a damaged one.
    std::iter::successors(Some(backup), parent).take(backups.len())
}

fn is_restorable(backups: &[&Backup], backup: &Backup) -> bool {
    let mut last = None;
    let sound = chain(backups, backup).all(|link| {
        last = Some(link);
        link.unusable.is_none()
    });
    sound && last.is_some_and(|root| root.parent.is_none())
}
