//! What becomes of everything in an archive.

use std::collections::BTreeMap;
use std::fmt;

use super::needs::{Needs, WalNeed};
use super::policy::{Garbage, Request};
use super::select::{Backup, Decision, Extent, select};
use super::survey::{Segment, Survey, Tally};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{SegmentNumber, SegmentSize, TimelineId, WalFileName, WalSegment};

/// What a plan does with objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// They stay.
    Keep,
    /// They go.
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Action::Keep => "keep",
            Action::Delete => "delete",
        })
    }
}

/// What kind of objects a line of a plan is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A base backup.
    Backup,
    /// What is left of a base backup that has no sentinel.
    IncompleteBackup,
    /// WAL segments of one timeline, with what belongs to them.
    Wal,
    /// Histories of timelines.
    History,
    /// Objects that wal_e does not know.
    Other,
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ItemKind::Backup => "base backup",
            ItemKind::IncompleteBackup => "incomplete backup",
            ItemKind::Wal => "WAL",
            ItemKind::History => "timeline history",
            ItemKind::Other => "other",
        })
    }
}

/// A line of a plan: a group of objects that have the same fate for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// A backup's name; of WAL the first and the last segment.
    pub name: String,
    /// What it is.
    pub kind: ItemKind,
    /// Its objects.
    pub tally: Tally,
    /// Whether they go.
    pub action: Action,
    /// The rule, backup or branch that keeps them, or why nothing does.
    pub reason: String,
}

/// What becomes of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// A line for each group of objects: base backups, then WAL, then the rest.
    pub items: Vec<Item>,
    /// The backups that go, in rounds: deltas before what they build on.
    pub(super) rounds: Vec<Vec<String>>,
    /// The segments that go, by timeline, ascending.
    pub(super) wal: BTreeMap<TimelineId, Vec<(SegmentNumber, SegmentNumber)>>,
    pub(super) size: SegmentSize,
    /// All that was surveyed about backups, to see whether it has changed.
    pub(super) seen: BTreeMap<String, bool>,
}

impl Plan {
    /// Decides about everything in `survey`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the request names a backup that is not there,
    /// [`ErrorKind::Conflict`] when the backup to delete may not be deleted.
    pub fn new(survey: &Survey, request: &Request) -> Result<Plan> {
        let backups = &survey.backups;
        if let Request::Before(name) | Request::Backup(name) = request
            && !backups.iter().any(|backup| backup.name == *name && backup.is_complete)
        {
            let message = format!("there is no base backup \"{name}\"");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let decisions = select(backups, &survey.branches, request, survey.now);
        if let Request::Backup(name) = request {
            refuse_to_keep(survey, &decisions, name)?;
        }
        let mut plan = Plan {
            items: Vec::new(),
            rounds: doomed(survey, &decisions),
            wal: BTreeMap::new(),
            size: survey.size,
            seen: survey.seen(),
        };
        plan.add_backups(survey, &decisions);
        plan.add_wal(survey, &decisions, request);
        plan.add_rest(survey, request);
        Ok(plan)
    }

    /// What it deletes.
    pub fn deletes(&self) -> Tally {
        let doomed = self.items.iter().filter(|item| item.action == Action::Delete);
        doomed.fold(Tally::default(), |sum, item| sum.and(item.tally))
    }

    fn add_backups(&mut self, survey: &Survey, decisions: &[Decision]) {
        let mut order: Vec<usize> = (0..survey.backups.len()).collect();
        order.sort_by_key(|index| survey.backups[*index].stored_at);
        for index in order {
            let (backup, decision) = (&survey.backups[index], &decisions[index]);
            self.items.push(Item {
                name: backup.name.clone(),
                kind: match backup.is_complete {
                    true => ItemKind::Backup,
                    false => ItemKind::IncompleteBackup,
                },
                tally: survey.groups.get(&backup.name).map(|it| it.tally).unwrap_or_default(),
                action: match decision.keeps {
                    Some(_) => Action::Keep,
                    None => Action::Delete,
                },
                reason: decision.reason.clone(),
            });
        }
    }

    fn add_wal(&mut self, survey: &Survey, decisions: &[Decision], request: &Request) {
        let needs = Needs::new(&survey.backups, decisions, &survey.branches, survey.size);
        // WAL without a backup may be all that there is of something.
        let spare = !needs.any() && *request != Request::Everything;
        for (timeline, segments) in &survey.wal {
            let need = |segment: &Segment| {
                let mut numbers = segment.number.0..=segment.last().0;
                numbers.find_map(|number| needs.of(*timeline, SegmentNumber(number)))
            };
            for run in segments.chunk_by(|one, next| need(one) == need(next)) {
                let [first, ..] = run else { continue };
                let last = run.last().unwrap_or(first);
                let (action, reason) = match need(first) {
                    Some(need) => (Action::Keep, why(need)),
                    None if *request == Request::Garbage(Garbage::Backups) => {
                        (Action::Keep, "only what is left of backups is to be deleted".to_owned())
                    }
                    None if spare => {
                        (Action::Keep, "there is no base backup that it could belong to".to_owned())
                    }
                    None => (Action::Delete, "no backup that is kept needs it".to_owned()),
                };
                if action == Action::Delete {
                    self.wal.entry(*timeline).or_default().push((first.number, last.number));
                }
                let tally = run.iter().fold(Tally::default(), |sum, segment| {
                    let (objects, bytes) = (segment.objects.into(), segment.bytes.into());
                    let own = Tally { objects, bytes };
                    sum.and(own)
                });
                let name = self.name_of(*timeline, first.number, last.number);
                self.items.push(Item { name, kind: ItemKind::Wal, tally, action, reason });
            }
        }
    }

    fn name_of(&self, timeline: TimelineId, first: SegmentNumber, last: SegmentNumber) -> String {
        let name = |number| WalFileName::segment(WalSegment { timeline, number }, self.size);
        match first == last {
            true => name(first).to_string(),
            false => format!("{} to {}", name(first), name(last)),
        }
    }

    fn add_rest(&mut self, survey: &Survey, request: &Request) {
        let mut add = |name: &str, kind, tally: Tally, reason: &str| {
            if tally.objects > 0 {
                let (name, reason) = (name.to_owned(), reason.to_owned());
                self.items.push(Item { name, kind, tally, action: Action::Keep, reason });
            }
        };
        add(
            "timeline histories",
            ItemKind::History,
            survey.histories,
            match request {
                Request::Everything => {
                    "a cluster that still archives needs to see which timelines were used"
                }
                _ => "a server that is promoted chooses a timeline that none of them has",
            },
        );
        add("other objects", ItemKind::Other, survey.foreign, "wal_e does not know what they are");
    }
}

fn why(need: WalNeed<'_>) -> String {
    let backup = need.backup;
    match need.extent {
        Extent::Onwards => format!("backup \"{backup}\" can be restored to any moment of it"),
        Extent::Itself => format!("backup \"{backup}\" needs it to be consistent"),
    }
}

/// The backups that go, in rounds: deltas before what they build on, so that none is ever there
/// whose base has gone.
fn doomed(survey: &Survey, decisions: &[Decision]) -> Vec<Vec<String>> {
    let depths = depths(&survey.backups);
    let mut rounds: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let all = survey.backups.iter().zip(decisions);
    for ((backup, decision), depth) in all.zip(depths) {
        if decision.keeps.is_none() {
            rounds.entry(depth).or_default().push(backup.name.clone());
        }
    }
    rounds.into_values().rev().collect()
}

/// How many backups each one builds on, one after the other, at most.
fn depths(backups: &[Backup]) -> Vec<usize> {
    let mut depths = vec![0; backups.len()];
    // A chain that never ends is a damaged one.
    for _ in 0..backups.len() {
        let deeper = |child: &Backup| {
            let parents = backups.iter().zip(&depths).filter(|(parent, _)| child.needs(parent));
            parents.map(|(_, depth)| depth + 1).max().unwrap_or(0)
        };
        let next: Vec<usize> = backups.iter().map(deeper).collect();
        if next == depths {
            break;
        }
        depths = next;
    }
    depths
}

/// One backup is deleted as it was asked for, or not at all.
fn refuse_to_keep(survey: &Survey, decisions: &[Decision], name: &str) -> Result<()> {
    let all = survey.backups.iter().zip(decisions);
    let Some((_, decision)) = all.clone().find(|(backup, _)| backup.name == name) else {
        return Ok(());
    };
    match decision.keeps {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Conflict,
            format!("base backup \"{name}\" cannot be deleted: {}", decision.reason),
        )),
    }
}
