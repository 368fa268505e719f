//! A year of servers that archive to one store, day by day.

use std::collections::BTreeSet;
use std::sync::Arc;

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::servers::{Lines, Moment, Server, segment_of};
use crate::layout::{self, ObjectKey};
use crate::postgres::wal_sample::{SEGMENT_SIZE, WalWriter};
use crate::postgres::{
    Lsn, SegmentNumber, SystemIdentifier, TimelineHistory, TimelineId, WalSegment,
};
use crate::retention::mark;
use crate::sentinel::{self, Begun, Sentinel};
use crate::store::faulty::FaultyStore;
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, list_all};

pub const BEGIN: OffsetDateTime = datetime!(2027-01-01 00:00 UTC);

/// What is known of a base backup that was begun.
#[derive(Debug, Clone)]
pub struct Taken {
    pub name: String,
    pub cluster: u64,
    pub timeline: TimelineId,
    pub start: Lsn,
    pub stop: Lsn,
    pub parent: Option<String>,
    /// By the clock of its host.
    pub complete_at: OffsetDateTime,
    /// When its last object was stored, which is its sentinel if it has one.
    pub stored_at: OffsetDateTime,
    pub state: State,
    pub is_permanent: bool,
    pub is_damaged: bool,
}

/// What became of a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Complete,
    /// Its sentinel is there, and cannot be read.
    Spoiled,
    /// It has no sentinel, or none any more.
    Incomplete {
        /// Whether it has said so.
        is_given_up: bool,
    },
}

/// The servers and their archive.
pub struct World {
    pub store: FaultyStore<MemoryStore>,
    pub random: fastrand::Rng,
    pub now: OffsetDateTime,
    /// What the clocks of the hosts are ahead.
    pub ahead: Duration,
    pub lines: Lines,
    pub moments: Vec<Moment>,
    /// In the order in which they were begun.
    pub taken: Vec<Taken>,
    primary: Server,
    /// A standby's log: it lacks what was written since.
    standby: WalWriter,
    /// Former primaries that go on, for so many days.
    former: Vec<(Server, u32)>,
    pub xid: u32,
}

impl World {
    pub async fn new(seed: u64) -> World {
        let primary = Server::initialized(7_000, 1);
        let mut world = World {
            store: FaultyStore::new(MemoryStore::with_page_size(40)),
            random: fastrand::Rng::with_seed(seed),
            now: BEGIN,
            ahead: Duration::ZERO,
            lines: Lines::default(),
            moments: Vec::new(),
            taken: Vec::new(),
            standby: primary.log.clone(),
            primary,
            former: Vec::new(),
            xid: 700,
        };
        let line = TimelineHistory::without_ancestors(TimelineId(1));
        world.lines.begin(world.primary.cluster(), line);
        world.put("wal_e/owner.json", "{}").await;
        world.put("basebackups_005/README", "not ours").await;
        world
    }

    /// Once in `times`.
    pub fn once_in(&mut self, times: u32) -> bool {
        self.random.u32(0..times) == 0
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    /// What a host's clock says.
    pub fn host_now(&self) -> OffsetDateTime {
        self.now + self.ahead
    }

    pub async fn keys(&self) -> BTreeSet<String> {
        let all = list_all(self.store.inner(), &ListRequest::default()).await.unwrap();
        all.into_iter().map(|object| object.key.as_str().to_owned()).collect()
    }

    async fn put(&self, key: &str, body: impl Into<bytes::Bytes>) {
        let key = ObjectKey::from_listing(key).unwrap();
        let (store, attributes) = (self.store.inner(), Attributes::default());
        let _ = store.put(&key, body.into(), PutMode::Replace, &attributes).await.unwrap();
        store.set_last_modified(&key, self.now);
    }

    fn pass(&mut self, hours: i64) {
        self.now += Duration::minutes(self.random.i64(30..=60) * hours);
    }

    /// A day: WAL, perhaps misfortune, and a base backup.
    pub async fn day(&mut self) {
        let end = self.now + Duration::days(1);
        if self.once_in(12) {
            self.ahead = match self.random.bool() {
                true => Duration::ZERO,
                false => Duration::hours(self.random.i64(-60..=60)),
            };
        }
        for _ in 0..self.random.u8(1..=3) {
            self.write().await;
            self.write_former().await;
        }
        if self.once_in(15) {
            self.standby = self.primary.log.clone();
        }
        match self.random.u8(0..100) {
            0..=2 => self.fail_over().await,
            3 => self.upgrade().await,
            _ => {}
        }
        if self.once_in(6) {
            self.misfortune().await;
        }
        if self.once_in(8) {
            self.mark().await;
        }
        if self.once_in(5) {
            self.verify().await;
        }
        match self.random.u8(0..20) {
            // There are days without.
            0 => {}
            1 | 2 => self.begin_backup().await,
            _ => self.back_up().await,
        }
        self.write().await;
        self.now = end;
    }

    /// A transaction or two, and the segment ends.
    async fn write(&mut self) {
        for _ in 0..self.random.u8(1..=2) {
            self.pass(1);
            self.commit();
        }
        self.pass(1);
        self.switch().await;
    }

    fn commit(&mut self) {
        self.xid += 1;
        let (cluster, timeline) = (self.primary.cluster(), self.primary.timeline);
        let lsn = self.primary.log.commit(self.xid, self.host_now());
        self.moments.push(Moment { cluster, timeline, lsn, at: self.now });
    }

    async fn switch(&mut self) {
        for (name, content) in self.primary.switch() {
            self.put(&format!("wal_005/{name}.lz4"), content).await;
        }
    }

    /// Former primaries that are still alive write, too.
    async fn write_former(&mut self) {
        let mut former = std::mem::take(&mut self.former);
        former.retain(|(_, left)| *left > 0);
        for (server, left) in &mut former {
            *left -= 1;
            std::mem::swap(server, &mut self.primary);
            self.write().await;
            std::mem::swap(server, &mut self.primary);
        }
        self.former.append(&mut former);
    }

    /// A standby is promoted, which may lack what was written last.
    async fn fail_over(&mut self) {
        if self.random.bool() {
            self.commit();
        }
        let (cluster, parent) = (self.primary.cluster(), self.primary.timeline);
        let lags = self.random.bool() && self.standby_is_of(cluster, parent);
        let source = if lags { &self.standby } else { &self.primary.log };
        let switch = Lsn(source.position().0.next_multiple_of(8));
        let next = self.lines.next();
        let log = source.fork(next.0);
        let mut text = String::new();
        for range in self.lines.get(cluster, parent).ranges() {
            let end = range.end.unwrap_or(switch);
            text.push_str(&format!("{}\t{end}\tpromoted\n", range.timeline.0));
        }
        let line = TimelineHistory::parse("a history", next, text.as_bytes()).unwrap();
        self.lines.begin(cluster, line);
        let days = self.random.u32(0..=6);
        self.former.push((self.primary.clone(), days));
        self.primary = Server { log, timeline: next };
        self.standby = self.primary.log.clone();
        self.put(&format!("wal_005/{:08X}.history", next.0), text).await;
        self.write().await;
    }

    fn standby_is_of(&self, cluster: u64, timeline: TimelineId) -> bool {
        let begin = self.lines.get(cluster, timeline).begin().unwrap_or_default();
        self.standby.cluster.0 == cluster && self.standby.position() >= begin
    }

    /// The cluster is replaced by one that `pg_upgrade` made of it: its WAL goes on a little
    /// later, on timeline 1.
    async fn upgrade(&mut self) {
        self.commit();
        self.switch().await;
        self.former.clear();
        let cluster = self.primary.cluster() + 1;
        let newest = self.moments.iter().map(|moment| segment_of(moment.lsn)).max();
        let segment = newest.unwrap_or(0) + self.random.u64(2..=9);
        self.primary = Server::initialized(cluster, segment);
        self.standby = self.primary.log.clone();
        self.lines.begin(cluster, TimelineHistory::without_ancestors(TimelineId(1)));
        self.write().await;
    }

    /// Something is lost.
    async fn misfortune(&mut self) {
        let keys: Vec<String> = self.keys().await.into_iter().collect();
        let newest = self.taken.len().saturating_sub(8);
        match self.random.u8(0..4) {
            0 => {
                let is_segment = |key: &&String| key.ends_with(".lz4") && key.starts_with("wal");
                let segments: Vec<&String> = keys.iter().filter(is_segment).collect();
                if let Some(key) = self.random.choice(segments) {
                    self.delete(key).await;
                }
            }
            // Someone has deleted a part of a backup.
            1 => {
                let which = self.random.usize(newest..=self.taken.len());
                if let Some(backup) = self.taken.get_mut(which)
                    && backup.state == State::Complete
                    && keys.contains(&layout::sentinel(&backup.name).as_str().to_owned())
                {
                    backup.state = State::Incomplete { is_given_up: false };
                    let name = backup.name.clone();
                    self.delete(layout::sentinel(&name).as_str()).await;
                }
            }
            2 => {
                let which = self.random.usize(newest..=self.taken.len());
                if let Some(backup) = self.taken.get_mut(which)
                    && backup.state == State::Complete
                    && keys.contains(&layout::sentinel(&backup.name).as_str().to_owned())
                {
                    (backup.state, backup.stored_at) = (State::Spoiled, self.now);
                    let name = backup.name.clone();
                    self.put(layout::sentinel(&name).as_str(), "{").await;
                }
            }
            _ => self.put(&format!("wal_005/note.{}", self.xid), "not ours").await,
        }
    }

    async fn delete(&self, key: &str) {
        let key = ObjectKey::from_listing(key).unwrap();
        self.store.inner().delete(&key).await.unwrap();
    }

    /// The complete backups that are there, by their places in `taken`.
    async fn complete(&self) -> Vec<usize> {
        let keys = self.keys().await;
        let is_there = |backup: &Taken| keys.contains(layout::sentinel(&backup.name).as_str());
        let complete = |backup: &Taken| backup.state == State::Complete && is_there(backup);
        (0..self.taken.len()).filter(|index| complete(&self.taken[*index])).collect()
    }

    /// A user makes a backup permanent, or an ordinary one again.
    async fn mark(&mut self) {
        let permanent = self.random.u8(0..3) == 0;
        let mut candidates = self.complete().await;
        candidates.retain(|index| self.taken[*index].is_permanent != permanent);
        let Some(index) = self.random.choice(candidates) else { return };
        let name = self.taken[index].name.clone();
        mark(self.store.inner(), &name, permanent).await.unwrap();
        self.store.inner().set_last_modified(&layout::metadata(&name), self.now);
        self.taken[index].is_permanent = permanent;
    }

    /// A backup is verified, and what was found is recorded.
    async fn verify(&mut self) {
        let complete = self.complete().await;
        let Some(index) = self.random.choice(complete) else { return };
        let is_sound = self.random.u8(0..3) > 0;
        let record = format!(
            r#"{{"verified_at": "2027-01-01T00:00:00Z", "failures": {}}}"#,
            u8::from(!is_sound)
        );
        let key = layout::verification(&self.taken[index].name, is_sound);
        self.put(key.as_str(), record).await;
        self.taken[index].is_damaged = !is_sound;
    }

    /// Takes a base backup, a delta of an earlier one perhaps, in wal_e's form or in WAL-G's.
    async fn back_up(&mut self) {
        let parent = match self.random.u8(0..3) {
            0 => self.parent().await,
            _ => None,
        };
        let mut backup = self.begin(parent);
        let is_wal_g = self.once_in(4);
        if !is_wal_g {
            self.put_begun(&backup.name, None).await;
        }
        self.put_tar(&backup.name, 1).await;
        let _ = self.primary.log.checkpoint(backup.start);
        if self.random.bool() {
            self.write().await;
            self.put_tar(&backup.name, 2).await;
        }
        self.primary.log.backup_end(backup.start);
        backup.stop = Lsn(self.primary.log.position().0.next_multiple_of(8));
        backup.complete_at = self.host_now();
        self.pass(1);
        self.commit();
        self.switch().await;
        backup.stored_at = self.now;
        backup.state = State::Complete;
        let sentinel = Sentinel {
            lsn: Some(backup.start),
            finish_lsn: Some(backup.stop),
            finish_time: Some(backup.complete_at),
            system_identifier: Some(SystemIdentifier(backup.cluster)),
            delta_from: backup.parent.clone(),
            ..Sentinel::full()
        };
        let metadata = sentinel::to_json(&sentinel.metadata());
        self.put(layout::metadata(&backup.name).as_str(), metadata).await;
        self.put(layout::sentinel(&backup.name).as_str(), sentinel::to_json(&sentinel)).await;
        self.taken.push(backup);
    }

    /// The newest complete backup that the server's next one can be a delta of.
    async fn parent(&self) -> Option<String> {
        let complete = self.complete().await;
        let mut newest_first = complete.into_iter().rev().map(|index| &self.taken[index]);
        let line = self.lines.get(self.primary.cluster(), self.primary.timeline);
        newest_first
            .find(|backup| {
                let on_line = line.range_of(backup.timeline);
                backup.cluster == self.primary.cluster()
                    && on_line.is_some_and(|it| it.end.is_none_or(|end| backup.stop <= end))
            })
            .map(|backup| backup.name.clone())
    }

    /// A base backup that fails, or is still under way when the day ends.
    async fn begin_backup(&mut self) {
        let mut backup = self.begin(None);
        let is_given_up = self.random.bool();
        self.put_begun(&backup.name, is_given_up.then(|| self.host_now())).await;
        self.put_tar(&backup.name, 1).await;
        backup.stored_at = self.now;
        backup.state = State::Incomplete { is_given_up };
        self.taken.push(backup);
        self.write().await;
    }

    fn begin(&mut self, parent: Option<String>) -> Taken {
        let (cluster, timeline) = (self.primary.cluster(), self.primary.timeline);
        let start = self.primary.log.noise(50);
        let number = SegmentNumber(segment_of(start));
        let mut name = format!("base_{}", WalSegment { timeline, number }.file_name(SEGMENT_SIZE));
        if let Some(parent) = &parent {
            name.push_str(&format!("_D_{}", &parent[5..29]));
        }
        Taken {
            name,
            cluster,
            timeline,
            start,
            stop: start,
            parent,
            complete_at: self.host_now(),
            stored_at: self.now,
            state: State::Incomplete { is_given_up: false },
            is_permanent: false,
            is_damaged: false,
        }
    }

    async fn put_begun(&self, backup: &str, ended_at: Option<OffsetDateTime>) {
        let begun = Begun {
            hostname: "another".to_owned(),
            data_directory: "/data".to_owned(),
            started_at: self.host_now(),
            ended_at,
            process: None,
        };
        self.put(layout::begun(backup).as_str(), sentinel::to_json(&begun)).await;
    }

    async fn put_tar(&self, backup: &str, number: u32) {
        let key = layout::tar_partition(backup, &format!("part_{number:03}.tar.lz4"));
        self.put(key.as_str(), vec![0; 100]).await;
    }
}
