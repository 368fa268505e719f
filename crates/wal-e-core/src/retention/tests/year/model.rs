//! What docs/retention.md says of an archive, in the simplest words: what must stay, and what
//! may. It looks at what really happened, and asks nothing of the code that it is compared with.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::servers::{Moment, segment_of};
use super::world::{State, Taken, World};
use crate::layout;
use crate::postgres::wal_sample::SEGMENT_SIZE;
use crate::postgres::{Lsn, SegmentNumber, TimelineId, WalSegment};
use crate::retention::Policy;

pub fn segment_name(timeline: TimelineId, number: u64) -> String {
    WalSegment { timeline, number: SegmentNumber(number) }.file_name(SEGMENT_SIZE)
}

/// The rules, at one moment.
pub struct Model<'a> {
    world: &'a World,
    policy: Policy,
    /// All objects before the deletion, and when each was stored.
    keys: &'a BTreeMap<String, OffsetDateTime>,
    /// What is there of backups, in the order in which they were stored.
    backups: Vec<&'a Taken>,
    /// Those of them that count as backups that can be restored.
    usable: Vec<&'a Taken>,
    /// The policy keeps every moment after this.
    since: Option<OffsetDateTime>,
}

/// What may stay.
#[derive(Debug, Default)]
pub struct Allowed {
    /// With every moment after them.
    pub onwards: BTreeSet<String>,
    /// For their own sake.
    pub themselves: BTreeSet<String>,
}

impl<'a> Model<'a> {
    pub fn new(
        world: &'a World,
        policy: Policy,
        keys: &'a BTreeMap<String, OffsetDateTime>,
    ) -> Model<'a> {
        let is_there = |backup: &&Taken| {
            let directory = layout::backup_directory(&backup.name);
            keys.contains_key(layout::sentinel(&backup.name).as_str())
                || keys.keys().any(|key| key.starts_with(&directory))
        };
        let mut backups: Vec<&Taken> = world.taken.iter().filter(is_there).collect();
        backups.sort_by_key(|backup| backup.stored_at);
        let mut model = Model { world, policy, keys, backups, usable: Vec::new(), since: None };
        let usable = model.backups.iter().copied().filter(|backup| model.is_usable(backup));
        model.usable = usable.collect();
        let newest = model.usable.last().map(|backup| backup.stored_at);
        let window = policy.window.map(|window| world.now - window);
        model.since = [model.oldest_full(), newest, window].into_iter().flatten().min();
        model
    }

    fn is_complete(&self, backup: &Taken) -> bool {
        self.keys.contains_key(layout::sentinel(&backup.name).as_str())
    }

    fn find(&self, name: &str) -> Option<&'a Taken> {
        self.backups.iter().copied().find(|backup| backup.name == name)
    }

    fn with_parents(&self, backup: &'a Taken) -> Vec<&'a Taken> {
        let parent = |child: &&'a Taken| self.find(child.parent.as_ref()?);
        std::iter::successors(Some(backup), parent).collect()
    }

    fn is_usable(&self, backup: &'a Taken) -> bool {
        let chain = self.with_parents(backup);
        chain.last().is_some_and(|root| root.parent.is_none())
            && chain.iter().all(|link| {
                let mut wal = segment_of(link.start)..=segment_of(Lsn(link.stop.0 - 1));
                self.is_complete(link)
                    && link.state == State::Complete
                    && !link.is_damaged
                    && wal.all(|number| {
                        let name = segment_name(link.timeline, number);
                        self.keys.contains_key(&format!("wal_005/{name}.lz4"))
                    })
            })
    }

    /// Those that count, in the order in which they were stored.
    pub fn usable(&self) -> &[&'a Taken] {
        &self.usable
    }

    /// When the newest of what is there of a backup was stored.
    fn newest(&self, backup: &Taken) -> OffsetDateTime {
        let directory = layout::backup_directory(&backup.name);
        let own = self.keys.iter().filter(|(key, _)| key.starts_with(&directory));
        own.map(|(_, stored)| *stored).max().unwrap_or(backup.stored_at)
    }

    /// Whether it may still be under way at a time.
    pub fn is_under_way(&self, backup: &Taken, now: OffsetDateTime) -> bool {
        !self.is_complete(backup)
            && backup.state != (State::Incomplete { is_given_up: true })
            && self.newest(backup) >= now - Duration::days(1)
    }

    /// When the oldest of the full backups was stored that the policy asks for.
    fn oldest_full(&self) -> Option<OffsetDateTime> {
        let full = self.usable.iter().rev().filter(|backup| backup.parent.is_none());
        let wanted = self.policy.full_backups as usize;
        full.take(wanted).last().map(|backup| backup.stored_at)
    }

    /// Whether the policy keeps a moment.
    pub fn keeps(&self, moment: &Moment) -> bool {
        self.since.is_some_and(|since| moment.at > since)
    }

    /// The backups that must stay, those that they are deltas of included.
    pub fn kept(&self) -> BTreeSet<String> {
        let usable = &self.usable;
        let full = usable.iter().rev().filter(|backup| backup.parent.is_none());
        let mut kept: Vec<&Taken> = full.take(self.policy.full_backups as usize).copied().collect();
        kept.extend(usable.last());
        // A sentinel that was stored again makes younger what is later in the WAL: then it is
        // not certain of which period a backup is.
        let by_time = |time_of: &dyn Fn(&Taken) -> OffsetDateTime| {
            let mut order = usable.clone();
            order.sort_by_key(|backup| time_of(backup));
            let moments: Vec<OffsetDateTime> = order.iter().map(|it| time_of(it)).collect();
            self.of_calendar(&order, &moments)
        };
        let younger = by_time(&|backup| self.time_of(backup, |it| it.stored_at));
        let is_certain = |backup: &&Taken| younger.iter().any(|it| it.name == backup.name);
        kept.extend(by_time(&|backup| backup.stored_at).into_iter().filter(is_certain));
        let pinned = |backup: &&&Taken| backup.is_permanent && self.is_complete(backup);
        kept.extend(self.backups.iter().filter(pinned));
        let now = self.world.now;
        kept.extend(self.backups.iter().filter(|backup| self.is_under_way(backup, now)));
        let all = kept.into_iter().flat_map(|backup| self.with_parents(backup));
        all.map(|backup| backup.name.clone()).collect()
    }

    /// The last backup of each of the newest periods. `backups` are the oldest first.
    fn of_calendar(&self, backups: &[&'a Taken], moments: &[OffsetDateTime]) -> Vec<&'a Taken> {
        let calendar = self.policy.calendar;
        let monday = |at: OffsetDateTime| {
            at.to_julian_day() - i32::from(at.weekday().number_days_from_monday())
        };
        let month = |at: OffsetDateTime| at.year() * 12 + i32::from(u8::from(at.month()));
        let mut kept = Vec::new();
        for (wanted, period) in [
            (calendar.daily, &OffsetDateTime::to_julian_day as &dyn Fn(OffsetDateTime) -> i32),
            (calendar.weekly, &monday),
            (calendar.monthly, &month),
            (calendar.yearly, &OffsetDateTime::year),
        ] {
            let mut periods: Vec<i32> = Vec::new();
            for (backup, moment) in backups.iter().zip(moments).rev() {
                let period = period(*moment);
                if !periods.contains(&period) && periods.len() < wanted as usize {
                    periods.push(period);
                    kept.push(*backup);
                }
            }
        }
        kept
    }

    /// When a backup was complete, by a clock: on one timeline, what is later in the WAL is later.
    fn time_of(&self, backup: &Taken, clock: fn(&Taken) -> OffsetDateTime) -> OffsetDateTime {
        let line = |it: &Taken| (self.is_complete(it), it.cluster, it.timeline);
        let before = self
            .backups
            .iter()
            .filter(|other| line(other) == line(backup) && other.start <= backup.start);
        before.map(|other| clock(other)).max().unwrap()
    }

    /// What may stay for those who take `now` for the time: by the clock of the store, which a
    /// sentinel that was stored again has later, and by those of the hosts.
    pub fn allowed(&self, now: OffsetDateTime) -> Allowed {
        let mut allowed = Allowed::default();
        let edge = self.policy.window.map(|window| now - window);
        let clocks: [fn(&Taken) -> OffsetDateTime; 2] =
            [|backup| backup.stored_at, |backup| backup.complete_at.min(backup.stored_at)];
        for clock in clocks {
            let mut order = self.backups.clone();
            order.sort_by_key(|backup| self.time_of(backup, clock));
            self.allow(order, |backup| self.time_of(backup, clock), edge, &mut allowed);
        }
        for backup in &self.backups {
            if self.is_under_way(backup, now) {
                allowed.onwards.insert(backup.name.clone());
            }
            if backup.is_permanent && self.is_complete(backup) {
                allowed.themselves.insert(backup.name.clone());
            }
        }
        let all: Vec<String> = allowed.onwards.union(&allowed.themselves).cloned().collect();
        let parents = all.iter().filter_map(|name| self.find(name));
        let parents = parents.flat_map(|backup| self.with_parents(backup));
        allowed.themselves.extend(parents.map(|backup| backup.name.clone()));
        allowed
    }

    fn allow(
        &self,
        order: Vec<&'a Taken>,
        clock: impl Fn(&Taken) -> OffsetDateTime,
        edge: Option<OffsetDateTime>,
        allowed: &mut Allowed,
    ) {
        let is_usable = |backup: &Taken| self.usable.iter().any(|it| it.name == backup.name);
        let usable: Vec<usize> =
            (0..order.len()).filter(|index| is_usable(order[*index])).collect();
        let mut first = order.len();
        let full = usable.iter().rev().filter(|index| order[**index].parent.is_none());
        if let Some(last) = (self.policy.full_backups as usize).checked_sub(1) {
            let base = full.clone().nth(last).copied();
            let since = base.map(|index| order[index].stored_at);
            first = first.min(self.oldest_needed(&order, &usable, base, since));
        }
        if let Some(edge) = edge {
            let base = usable.iter().rfind(|index| order[**index].stored_at <= edge).copied();
            first = first.min(self.oldest_needed(&order, &usable, base, Some(edge)));
        }
        let mut onwards: BTreeSet<usize> = (first..order.len()).collect();
        if let Some(newest) = usable.last() {
            onwards.insert(*newest);
            let since = order[*newest].stored_at;
            onwards.extend(self.live_since(since).filter_map(|(cluster, timeline)| {
                let leads = |index: &&usize| self.leads(order[**index], cluster, timeline);
                usable.iter().rfind(leads)
            }));
        } else {
            onwards.extend(0..order.len());
        }
        // What does not count is not deleted while older ones are kept.
        let oldest = onwards.first().copied().unwrap_or(order.len());
        let complete = |index: &usize| self.is_complete(order[*index]);
        let name = |index: usize| order[index].name.clone();
        allowed.onwards.extend(onwards.into_iter().filter(complete).map(name));
        allowed.themselves.extend((oldest..order.len()).filter(complete).map(name));
        let in_order: Vec<&Taken> = usable.iter().map(|index| order[*index]).collect();
        let moments: Vec<OffsetDateTime> = in_order.iter().map(|backup| clock(backup)).collect();
        let of_calendar = self.of_calendar(&in_order, &moments);
        allowed.themselves.extend(of_calendar.into_iter().map(|backup| backup.name.clone()));
    }

    /// The oldest backup that is needed for every moment after `since`; `base` is the newest
    /// that was there before.
    fn oldest_needed(
        &self,
        order: &[&'a Taken],
        usable: &[usize],
        base: Option<usize>,
        since: Option<OffsetDateTime>,
    ) -> usize {
        let (Some(base), Some(since)) = (base, since) else { return 0 };
        let mut first = base;
        for (cluster, timeline) in self.live_since(since) {
            let leading: Vec<usize> = usable
                .iter()
                .copied()
                .filter(|index| self.leads(order[*index], cluster, timeline))
                .collect();
            let older = leading.iter().rfind(|index| order[**index].stored_at <= since);
            first = first.min(older.or(leading.first()).copied().unwrap_or(first));
        }
        first
    }

    /// The timelines that have been written to.
    fn live_since(&self, since: OffsetDateTime) -> impl Iterator<Item = (u64, TimelineId)> {
        // A segment is stored a while after its last transaction.
        let since = since - Duration::hours(2);
        let moments = self.world.moments.iter().filter(move |moment| moment.at > since);
        let live: BTreeSet<_> = moments.map(|it| (it.cluster, it.timeline)).collect();
        live.into_iter()
    }

    /// Whether a backup leads to a timeline by its name: that does not say of which cluster it
    /// is, so that one of an older cluster may stay for a while.
    fn leads(&self, backup: &Taken, cluster: u64, timeline: TimelineId) -> bool {
        self.world.lines.leads(cluster, backup.timeline, backup.stop, timeline)
    }

    /// Whether one of the backups may keep a segment. Names do not say of which cluster it is.
    pub fn may_keep_wal(&self, allowed: &Allowed, timeline: TimelineId, number: u64) -> bool {
        let lines = &self.world.lines;
        self.backups.iter().any(|backup| {
            let (first, last) = (segment_of(backup.start), segment_of(Lsn(backup.stop.0 - 1)));
            let own = backup.timeline == timeline && number >= first;
            let later = || {
                lines
                    .clusters()
                    .into_iter()
                    .any(|cluster| lines.leads(cluster, backup.timeline, backup.start, timeline))
            };
            let is_onwards = allowed.onwards.contains(&backup.name);
            let is_kept = is_onwards || allowed.themselves.contains(&backup.name);
            is_kept && own && (number <= last || is_onwards || backup.state == State::Spoiled)
                || is_onwards && backup.timeline != timeline && later()
        })
    }

    /// The backups of which something is there.
    pub fn backups(&self) -> &[&'a Taken] {
        &self.backups
    }
}
