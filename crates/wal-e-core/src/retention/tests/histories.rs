//! Retention on made-up histories of clusters: what could be restored before, and is to be
//! kept, can be restored after.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::super::*;
use crate::postgres::{
    Lsn, SegmentNumber, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId,
};

const SIZE: SegmentSize = SegmentSize::DEFAULT;
const BEGIN: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// What happens to a cluster and its archive.
#[derive(Debug, Clone)]
enum Event {
    /// So many segments are written, one an hour.
    Write(u8),
    /// Nothing is written for so many hours.
    Rest(u8),
    FullBackup,
    DeltaBackup,
    /// The latest backup, if it is a delta, becomes a full one an hour later.
    Merge,
    /// A promotion, perhaps of a server that lacked the last segments.
    Promote {
        lacks: u8,
    },
    /// A server of an older timeline writes again.
    SplitBrain(u8),
    /// The cluster is replaced by one with another identifier, on timeline 1.
    Upgrade,
    /// A host's clock is wrong by so many hours from now on.
    Clock(i16),
    Pin(u8),
    /// A backup cannot be restored any more.
    Damage(u8),
    /// A segment is lost.
    Lose(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..40u8).prop_map(Event::Write),
        1 => (1..200u8).prop_map(Event::Rest),
        5 => Just(Event::FullBackup),
        3 => Just(Event::DeltaBackup),
        2 => Just(Event::Merge),
        2 => (0..6u8).prop_map(|lacks| Event::Promote { lacks }),
        1 => any::<u8>().prop_map(Event::SplitBrain),
        1 => Just(Event::Upgrade),
        1 => (-50..50i16).prop_map(Event::Clock),
        1 => any::<u8>().prop_map(Event::Pin),
        1 => any::<u8>().prop_map(Event::Damage),
        1 => any::<u8>().prop_map(Event::Lose),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let window = prop::option::of((0..300i64).prop_map(Duration::hours));
    let calendar = (0..4u32, 0..3u32, 0..3u32, 0..2u32)
        .prop_map(|(daily, weekly, monthly, yearly)| Calendar { daily, weekly, monthly, yearly });
    (0..4u32, window, calendar).prop_map(|(full_backups, window, calendar)| Policy {
        full_backups,
        window,
        calendar,
    })
}

/// An archive, and what has been written into it.
#[derive(Clone)]
struct World {
    now: OffsetDateTime,
    /// What the hosts' clocks are ahead.
    ahead: Duration,
    cluster: u64,
    timeline: TimelineId,
    histories: BTreeMap<TimelineId, TimelineHistory>,
    /// The next segment of each timeline.
    next: BTreeMap<TimelineId, u64>,
    /// When each segment was stored, and by which cluster.
    segments: BTreeMap<(TimelineId, u64), (OffsetDateTime, u64)>,
    backups: Vec<Backup>,
}

impl World {
    fn after(events: &[Event]) -> World {
        let mut world = World {
            now: BEGIN,
            ahead: Duration::ZERO,
            cluster: 1,
            timeline: TimelineId(1),
            histories: BTreeMap::new(),
            next: BTreeMap::from([(TimelineId(1), 1)]),
            segments: BTreeMap::new(),
            backups: Vec::new(),
        };
        world.begin(TimelineHistory::without_ancestors(TimelineId(1)));
        events.iter().for_each(|event| world.happen(event));
        world
    }

    fn begin(&mut self, history: TimelineHistory) {
        self.timeline = history.timeline();
        self.histories.insert(self.timeline, history);
    }

    fn write(&mut self) -> u64 {
        self.now += Duration::hours(1);
        let next = self.next.get_mut(&self.timeline).unwrap();
        let number = *next;
        *next += 1;
        self.segments.insert((self.timeline, number), (self.now, self.cluster));
        number
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Write(segments) => (0..*segments).for_each(|_| {
                self.write();
            }),
            Event::Rest(hours) => self.now += Duration::hours(i64::from(*hours)),
            Event::FullBackup => self.back_up(None),
            Event::DeltaBackup => {
                let cluster = Some(SystemIdentifier(self.cluster));
                let mut own = self.backups.iter().rev();
                let parent =
                    own.find(|it| it.system_identifier == cluster && it.timeline == self.timeline);
                self.back_up(parent.map(|parent| parent.name.clone()));
            }
            Event::Merge => {
                let Some(delta) = self.backups.last().filter(|it| it.parent.is_some()) else {
                    return;
                };
                self.now += Duration::hours(1);
                let (name, stored_at) = (format!("{}_merged", delta.name), self.now);
                let merged =
                    Backup { name, stored_at, parent: None, pinned: None, ..delta.clone() };
                self.backups.push(merged);
            }
            Event::Promote { lacks } => {
                let last = self.next[&self.timeline];
                let first = last.saturating_sub(u64::from(*lacks)).max(1);
                let ancestors = self.histories[&self.timeline].ranges();
                let begin = ancestors.last().unwrap().begin;
                let switch = begin.max(SegmentNumber(first).start_lsn(SIZE));
                let text: String = ancestors
                    .iter()
                    .map(|range| {
                        let end = range.end.unwrap_or(switch);
                        format!("{}\t{}\tpromoted\n", range.timeline.0, end)
                    })
                    .collect();
                let newest = TimelineId(self.histories.keys().last().unwrap().0 + 1);
                let history = TimelineHistory::parse("a history", newest, text.as_bytes());
                self.next.insert(newest, SegmentNumber::containing(switch, SIZE).0);
                self.begin(history.unwrap());
            }
            Event::SplitBrain(which) => {
                let timelines: Vec<_> = self.histories.keys().copied().collect();
                self.timeline = timelines[usize::from(*which) % timelines.len()];
            }
            Event::Upgrade => {
                self.cluster += 1;
                let next = *self.next.values().max().unwrap() + 3;
                self.timeline = TimelineId(1);
                self.next.insert(self.timeline, next);
            }
            Event::Clock(hours) => self.ahead = Duration::hours(i64::from(*hours)),
            Event::Pin(which) => {
                if let Some(backup) = self.one_of_backups(*which) {
                    backup.pinned = Some("it is permanent".to_owned());
                }
            }
            Event::Damage(which) => {
                if let Some(backup) = self.one_of_backups(*which) {
                    backup.unusable = Some("it is damaged".to_owned());
                }
            }
            Event::Lose(which) => {
                let keys: Vec<_> = self.segments.keys().copied().collect();
                if !keys.is_empty() {
                    self.segments.remove(&keys[usize::from(*which) * keys.len() / 256]);
                }
            }
        }
    }

    fn one_of_backups(&mut self, which: u8) -> Option<&mut Backup> {
        let count = self.backups.len();
        self.backups.get_mut(usize::from(which) * count / 256)
    }

    fn back_up(&mut self, parent: Option<String>) {
        let first = self.write();
        let last = self.write();
        let name = format!("base_{}_{}_{first}", self.cluster, self.timeline.0);
        self.backups.push(Backup {
            name,
            complete_at: self.now + self.ahead,
            stored_at: self.now,
            system_identifier: Some(SystemIdentifier(self.cluster)),
            timeline: self.timeline,
            start: Lsn(SegmentNumber(first).start_lsn(SIZE).0 + 40),
            stop: Some(Lsn(SegmentNumber(last).start_lsn(SIZE).0 + 500)),
            parent,
            perhaps_parents: Vec::new(),
            pinned: None,
            unusable: None,
            is_complete: true,
        });
    }

    fn branches(&self) -> Branches {
        let mut branches = Branches::default();
        for (timeline, history) in &self.histories {
            let own = self.segments.iter().filter(|((it, _), _)| it == timeline);
            let newest = own.clone().map(|(_, (stored, _))| *stored).max();
            let last = own.map(|((_, number), _)| SegmentNumber(*number).end_lsn(SIZE)).next_back();
            let newest = last.zip(newest);
            branches.add(*timeline, Some(history.clone()), newest);
        }
        branches
    }

    /// The backups as a survey of the archive finds them.
    fn surveyed(&self) -> Vec<Backup> {
        let mut backups = self.backups.clone();
        for backup in &mut backups {
            if !self.has_own_wal(backup) {
                backup.unusable.get_or_insert("its WAL has a hole".to_owned());
            }
        }
        backups
    }

    fn has_own_wal(&self, backup: &Backup) -> bool {
        let (first, last) = own_segments(backup);
        (first..=last).all(|number| self.is_there(backup, backup.timeline, number))
    }

    fn is_there(&self, backup: &Backup, timeline: TimelineId, number: u64) -> bool {
        let cluster = backup.system_identifier.unwrap().0;
        self.segments.get(&(timeline, number)).is_some_and(|(_, of)| *of == cluster)
    }

    fn is_sound(&self, backup: &Backup) -> bool {
        let mut link = Some(backup);
        while let Some(it) = link {
            if it.unusable.is_some() || !self.has_own_wal(it) {
                return false;
            }
            link = match &it.parent {
                None => return true,
                Some(parent) => self.backups.iter().find(|other| other.name == *parent),
            };
        }
        false
    }

    /// The moments that can be restored: the ends of these segments.
    fn moments(&self) -> BTreeSet<(u64, TimelineId, u64)> {
        let mut moments = BTreeSet::new();
        for backup in self.backups.iter().filter(|backup| self.is_sound(backup)) {
            let (first, consistent) = own_segments(backup);
            for history in self.histories.values() {
                let at = |number| history.timeline_at(SegmentNumber(number).start_lsn(SIZE));
                for number in first.. {
                    if !self.is_there(backup, at(number), number) {
                        break;
                    }
                    if number < consistent {
                        // The whole backup has to be on this history.
                        if at(number) != backup.timeline {
                            break;
                        }
                    } else if number == consistent && at(number) != backup.timeline {
                        break;
                    } else {
                        let cluster = backup.system_identifier.unwrap().0;
                        moments.insert((cluster, at(number), number));
                    }
                }
            }
        }
        moments
    }

    /// What is left of it.
    fn cleaned(&self, request: &Request) -> (World, Vec<(Backup, Decision)>) {
        let (backups, branches) = (self.surveyed(), self.branches());
        let decisions = select(&backups, &branches, request, self.now);
        let needs = Needs::new(&backups, &decisions, &branches, SIZE);
        let mut left = self.clone();
        left.segments
            .retain(|(timeline, number), _| needs.of(*timeline, SegmentNumber(*number)).is_some());
        let kept: BTreeSet<&str> = backups
            .iter()
            .zip(&decisions)
            .filter(|(_, decision)| decision.keeps.is_some())
            .map(|(backup, _)| backup.name.as_str())
            .collect();
        left.backups.retain(|backup| kept.contains(backup.name.as_str()));
        let decided = backups.clone().into_iter().zip(decisions).collect();
        (left, decided)
    }
}

fn own_segments(backup: &Backup) -> (u64, u64) {
    let number = |lsn| SegmentNumber::containing(lsn, SIZE).0;
    (number(backup.start), number(backup.stop.unwrap()))
}

/// What `left` lacks of the moments that could be restored before, among those that were
/// stored at `since` or later.
fn lost_since(world: &World, left: &World, since: OffsetDateTime) -> Vec<(u64, TimelineId, u64)> {
    let after = left.moments();
    let stored =
        |(_, timeline, number): &(u64, TimelineId, u64)| world.segments[&(*timeline, *number)].0;
    let wanted = world.moments().into_iter().filter(|moment| stored(moment) >= since);
    wanted.filter(|moment| !after.contains(moment)).collect()
}

fn newest_sound(world: &World) -> Option<Backup> {
    world.surveyed().into_iter().rfind(|backup| world.is_sound(backup))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_moment_of_the_recovery_window_can_still_be_restored(
        events in prop::collection::vec(event(), 1..40),
        policy in policy(),
    ) {
        let world = World::after(&events);
        let (left, decided) = world.cleaned(&Request::Retain(policy));
        if let Some(window) = policy.window {
            let lost = lost_since(&world, &left, world.now - window);
            prop_assert!(lost.is_empty(), "{lost:?} of {decided:#?}");
        }
    }

    #[test]
    fn from_the_oldest_of_the_newest_full_backups_on_every_moment_can_still_be_restored(
        events in prop::collection::vec(event(), 1..40),
        policy in policy(),
    ) {
        let world = World::after(&events);
        let (left, decided) = world.cleaned(&Request::Retain(policy));
        let full: Vec<Backup> = world
            .surveyed()
            .into_iter()
            .filter(|backup| backup.parent.is_none() && world.is_sound(backup))
            .collect();
        let wanted = policy.full_backups as usize;
        let kept = full.iter().filter(|it| left.backups.iter().any(|other| other.name == it.name));
        prop_assert!(kept.count() >= wanted.min(full.len()), "{decided:#?}");
        if wanted > 0 {
            let oldest = full.iter().rev().nth(wanted - 1);
            let lost = lost_since(&world, &left, oldest.map_or(BEGIN, |it| it.stored_at));
            prop_assert!(lost.is_empty(), "{lost:?} of {decided:#?}");
        }
    }

    #[test]
    fn what_is_kept_can_be_restored_as_before(
        events in prop::collection::vec(event(), 1..40),
        policy in policy(),
    ) {
        let world = World::after(&events);
        let (left, decided) = world.cleaned(&Request::Retain(policy));
        for backup in &left.backups {
            prop_assert_eq!(left.is_sound(backup), world.is_sound(backup), "{}", backup.name);
        }
        for (backup, decision) in &decided {
            prop_assert!(backup.pinned.is_none() || decision.keeps.is_some(), "{}", backup.name);
        }
        if let Some(newest) = newest_sound(&world) {
            prop_assert!(left.backups.iter().any(|it| it.name == newest.name));
            let lost = lost_since(&world, &left, newest.stored_at);
            prop_assert!(lost.is_empty(), "{lost:?} of {decided:#?}");
        }
        // Where nothing can be restored, nothing is deleted.
        if newest_sound(&world).is_none() {
            prop_assert_eq!(left.backups.len(), world.backups.len());
        }
    }

    #[test]
    fn a_second_run_deletes_nothing(
        events in prop::collection::vec(event(), 1..40),
        policy in policy(),
    ) {
        let request = Request::Retain(policy);
        let (left, _) = World::after(&events).cleaned(&request);
        let (again, decided) = left.cleaned(&request);
        prop_assert_eq!(again.backups.len(), left.backups.len(), "{:#?}", decided);
        prop_assert_eq!(again.segments.len(), left.segments.len(), "{:#?}", decided);
    }

    #[test]
    fn what_is_older_than_all_that_a_policy_keeps_goes(
        hours in 1..400i64,
        backups in 2..8usize,
    ) {
        let mut events = Vec::new();
        for _ in 0..backups {
            events.extend([Event::FullBackup, Event::Write(20)]);
        }
        let world = World::after(&events);
        let window = Policy { window: Some(Duration::hours(hours)), ..Policy::default() };
        let (left, _) = world.cleaned(&Request::Retain(window));
        let edge = world.now - Duration::hours(hours);
        let before = world.backups.iter().filter(|it| it.stored_at <= edge).count();
        prop_assert_eq!(left.backups.len(), backups - before.saturating_sub(1));
        let first = own_segments(&left.backups[0]).0;
        prop_assert!(left.segments.keys().all(|(_, number)| *number >= first));
    }
}

fn world(events: &[Event]) -> World {
    World::after(events)
}

/// The names of what is left, and why the rest goes or stays.
fn told(world: &World, request: &Request) -> Vec<String> {
    let (_, decided) = world.cleaned(request);
    decided
        .into_iter()
        .map(|(backup, decision)| {
            let mark = match decision.keeps {
                None => "-",
                Some(Extent::Itself) => "o",
                Some(Extent::Onwards) => "+",
            };
            format!("{mark} {}: {}", backup.name, decision.reason)
        })
        .collect()
}

#[test]
fn each_decision_names_its_rule() {
    use Event::*;
    let events = [
        FullBackup,
        Pin(0),
        Write(30),
        FullBackup,
        Write(30),
        DeltaBackup,
        Write(30),
        FullBackup,
        Write(30),
        FullBackup,
    ];
    let world = world(&events);
    let two = Policy { full_backups: 2, ..Policy::default() };
    assert_eq!(
        told(&world, &Request::Retain(two)),
        [
            "o base_1_1_1: it is permanent",
            "- base_1_1_33: no rule keeps it",
            "- base_1_1_65: no rule keeps it",
            "+ base_1_1_97: the 2 newest full backups are kept, from \"base_1_1_97\" on",
            "+ base_1_1_129: the 2 newest full backups are kept, from \"base_1_1_97\" on",
        ]
    );
    let window = Policy { window: Some(Duration::hours(64)), ..Policy::default() };
    assert_eq!(
        told(&world, &Request::Retain(window))[1..3],
        [
            "o base_1_1_33: delta \"base_1_1_65\" needs it",
            "+ base_1_1_65: the recovery window begins after \"base_1_1_65\" was complete",
        ]
    );
    assert_eq!(
        told(&world, &Request::Backup("base_1_1_33".to_owned()))[1..4],
        [
            "- base_1_1_33: it is the one to delete",
            "- base_1_1_65: it is a delta of \"base_1_1_33\"",
            "+ base_1_1_97: it is not the one to delete",
        ]
    );
    assert_eq!(
        told(&world, &Request::Everything)[..2],
        ["o base_1_1_1: it is permanent", "- base_1_1_33: no rule keeps it"]
    );
}
