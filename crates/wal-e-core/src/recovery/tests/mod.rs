//! Archives that are planned on, and what is used to make them.
//!
//! The tests draw them with a column for each segment and a row for each timeline:
//!
//! ```text
//!    2   3   4   5
//! 1  B───●───○───x     B archived, and a base backup begins in it; ● archived; ○ missing;
//!                      x damaged, or not what it should be
//! 2      └●──●         left timeline 1 within segment 3, which it has as a file of its own
//! 3          └●        left timeline 2 within segment 4
//! 4         └●         left timeline 1 where segment 4 begins
//! ```
//!
//! A timeline that left another stands under it, and left the nearest above that has the
//! segment, where nothing else is said.

use std::sync::Arc;

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::error::{ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice;
use crate::postgres::wal_sample::{SEGMENT_SIZE, WalWriter};
use crate::postgres::{Lsn, SegmentNumber, TimelineId, WalSegment};
use crate::sentinel::{self, Sentinel};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ObjectStore, PutMode};

mod backups;
mod damage;
mod exclusive;
mod scan;
mod sides;
mod targets;
mod timelines;

pub(super) const NOON: OffsetDateTime = datetime!(2026-11-23 12:00:00 UTC);

pub(super) fn minute(minute: i64) -> OffsetDateTime {
    NOON + Duration::minutes(minute)
}

pub(super) fn time(at: i64) -> Option<RecoveryTarget> {
    Some(RecoveryTarget::Time(minute(at).into()))
}

pub(super) fn name_of(timeline: u32, number: u64) -> String {
    let timeline = TimelineId(timeline);
    WalSegment { timeline, number: SegmentNumber(number) }.file_name(SEGMENT_SIZE)
}

pub(super) struct Fixture {
    pub(super) store: FaultyStore<MemoryStore>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Fixture { store: FaultyStore::new(MemoryStore::with_page_size(2)) }
    }

    pub(super) async fn put(&self, key: &str, body: impl Into<bytes::Bytes>) {
        let key = ObjectKey::from_listing(key).unwrap();
        let attributes = Attributes::default();
        let put = self.store.put(&key, body.into(), PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
    }

    /// Leaves of a segment nothing but a damaged object; returns its key.
    pub(super) async fn spoil(&self, name: &str) -> String {
        let key = format!("wal_005/{name}.lz4");
        self.put(&key, "no frame").await;
        self.store
            .delete(&ObjectKey::from_listing(&format!("wal_005/{name}")).unwrap())
            .await
            .unwrap();
        key
    }

    pub(super) async fn remove(&self, timeline: u32, number: u64) {
        let key = format!("wal_005/{}", name_of(timeline, number));
        self.store.delete(&ObjectKey::from_listing(&key).unwrap()).await.unwrap();
    }

    pub(super) async fn archive(&self, log: &WalWriter) {
        for (name, content) in log.segments() {
            self.put(&format!("wal_005/{name}"), content).await;
        }
    }

    pub(super) async fn history(&self, timeline: u32, content: String) {
        self.put(&format!("wal_005/{timeline:08X}.history"), content).await;
    }

    /// Takes a base backup that is through at a minute.
    pub(super) async fn backup(
        &self,
        log: &mut WalWriter,
        timeline: u32,
        finished: i64,
    ) -> (String, Lsn) {
        let start = log.noise(50);
        let (name, stop) = begun(log, timeline, start);
        self.sentinel(&name, start, Some(stop), finished).await;
        (name, stop)
    }

    pub(super) async fn sentinel(&self, name: &str, start: Lsn, stop: Option<Lsn>, finished: i64) {
        let sentinel = Sentinel {
            lsn: Some(start),
            finish_lsn: stop,
            compressed_size: Some(1000),
            finish_time: Some(minute(finished)),
            ..Sentinel::full()
        };
        self.put(layout::sentinel(name).as_str(), sentinel::to_json(&sentinel)).await;
    }

    pub(super) async fn plan(
        &self,
        backup: &str,
        target: Option<RecoveryTarget>,
        timeline: Option<TargetTimeline>,
    ) -> Result<Outcome> {
        let (notices, _queue) = notice::channel();
        let request = PlanRequest {
            backup: backup.into(),
            target,
            timeline,
            standby: false,
            read_end: true,
            read_wal: ReadWal::All,
        };
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        plan(store, &request, notices).await
    }

    /// The plan of a standby from AUTO.
    pub(super) async fn standby(&self) -> RestorePlan {
        self.reached(self.plan_standby().await)
    }

    /// The answer to a standby from AUTO.
    pub(super) async fn plan_standby(&self) -> Result<Outcome> {
        let (notices, _queue) = notice::channel();
        let request = PlanRequest {
            backup: BackupChoice::Auto,
            target: None,
            timeline: None,
            standby: true,
            read_end: true,
            read_wal: ReadWal::All,
        };
        plan(Arc::new(self.store.clone()), &request, notices).await
    }

    #[track_caller]
    pub(super) fn reached(&self, outcome: Result<Outcome>) -> RestorePlan {
        match outcome.unwrap() {
            Outcome::Reachable(plan) => *plan,
            Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    #[track_caller]
    pub(super) fn refused(&self, outcome: Result<Outcome>) -> Refusal {
        match outcome.unwrap() {
            Outcome::Refused(refusal) => refusal,
            Outcome::Reachable(plan) => panic!("a plan: {plan:?}"),
        }
    }

    /// The plan of AUTO.
    pub(super) async fn auto(&self, target: Option<RecoveryTarget>) -> RestorePlan {
        self.reached(self.plan("AUTO", target, None).await)
    }

    /// The refusal of AUTO.
    pub(super) async fn no_auto(&self, target: Option<RecoveryTarget>) -> Refusal {
        self.refused(self.plan("AUTO", target, None).await)
    }
}

/// Ends the backup that began at `start`: its name and stop LSN.
pub(super) fn begun(log: &mut WalWriter, timeline: u32, start: Lsn) -> (String, Lsn) {
    log.checkpoint(start);
    log.backup_end(start);
    let stop = Lsn(log.position().0.next_multiple_of(8));
    (format!("base_{}", name_of(timeline, start.0 >> 20)), stop)
}

/// Timeline 1: a backup in segment 2 and one in segment 4, transactions in each.
pub(super) struct Sample {
    pub(super) fixture: Fixture,
    pub(super) first: (String, Lsn),
    pub(super) second: (String, Lsn),
    /// Ends of the transactions 701 to 705.
    pub(super) commits: Vec<Lsn>,
    pub(super) restore_point: Lsn,
    pub(super) log: WalWriter,
}

pub(super) async fn sample() -> Sample {
    //    2   3   4   5   6
    // 1  B───●───B───●───●
    // Transactions 701 to 705 end at the minutes 11, 20, 31, 40 and 50.
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let first = fixture.backup(&mut log, 1, 10).await;
    let mut commits = vec![log.commit(701, minute(11))];
    log.switch();
    commits.push(log.commit(702, minute(20)));
    let restore_point = log.restore_point("here", minute(21));
    log.switch();
    let second = fixture.backup(&mut log, 1, 30).await;
    commits.push(log.commit(703, minute(31)));
    log.switch();
    commits.push(log.commit(704, minute(40)));
    log.switch();
    commits.push(log.abort(705, minute(50)));
    log.switch();
    fixture.archive(&log).await;
    Sample { fixture, first, second, commits, restore_point, log }
}

/// Timeline 2 leaves the sample's timeline 1 in segment 3, past its restore point, at
/// minute 60.
pub(super) async fn branched() -> (Sample, Lsn, (String, Lsn)) {
    //    2   3   4   5   6
    // 1  B───●───B───●───●
    // 2      └●──B
    let mut sample = sample().await;
    let fixture = &sample.fixture;
    let mut log = WalWriter::new(1, 2);
    // As `sample` wrote it.
    let start = log.noise(50);
    begun(&mut log, 1, start);
    log.commit(701, minute(11));
    log.switch();
    log.commit(702, minute(20));
    log.restore_point("here", minute(21));
    let fork = Lsn(log.position().0.next_multiple_of(8));
    assert!(fork > sample.restore_point && fork.0 < 4 << 20);
    let mut second = log.fork(2);
    second.commit(702, minute(60));
    second.switch();
    let backup = fixture.backup(&mut second, 2, 65).await;
    second.commit(703, minute(70));
    second.switch();
    fixture.archive(&second).await;
    fixture.history(2, format!("1\t{fork}\tbefore 2026\n")).await;
    sample.log = second;
    (sample, fork, backup)
}
