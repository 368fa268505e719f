use std::sync::Arc;

use super::*;
use crate::notice;
use crate::postgres::wal_sample::WalWriter;
use crate::postgres::{Lsn, RecordKind, WalReader};
use crate::store::ObjectStore;
use crate::store::faulty::Operation;

impl Fixture {
    async fn plan_reading(&self, read_wal: ReadWal) -> RestorePlan {
        let (notices, _queue) = notice::channel();
        let request = PlanRequest {
            backup: BackupChoice::Auto,
            target: None,
            timeline: None,
            standby: false,
            read_end: false,
            read_wal,
        };
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        self.reached(plan(store, &request, notices).await)
    }
}

#[tokio::test]
async fn damage_between_backup_and_target_is_noticed() {
    //    2   3   4   5   6
    // 1  B───●───B───x───●
    let Sample { fixture, second, commits, log, .. } = sample().await;
    let segment = name_of(1, 5);
    let sound = log.segments().into_iter().find(|(name, _)| *name == segment).unwrap().1;
    let mut torn = sound.clone();
    torn[100] ^= 1;
    let mut stale = WalWriter::new(1, 5);
    stale.noise(3000);
    stale.switch();
    for content in [torn, stale.segments().remove(0).1, b"no WAL".to_vec()] {
        fixture.put(&format!("wal_005/{segment}"), content).await;
        for target in [None, Some(RecoveryTarget::Lsn(commits[4]))] {
            let refusal = fixture.no_auto(target).await;
            assert!(refusal.reason.contains(&segment), "{refusal:?}");
            let nearest = refusal.nearest[0].lsn.unwrap();
            assert!(nearest >= second.1 && nearest < Lsn(6 << 20), "{refusal:?}");
            fixture.auto(Some(RecoveryTarget::Lsn(nearest))).await;
        }
        // What lies before it can be had, and a standby may get it elsewhere.
        let plan = fixture.auto(Some(RecoveryTarget::Lsn(commits[2]))).await;
        assert_eq!(plan.last_segment, name_of(1, 4));
        let plan = fixture.standby().await;
        assert!(plan.notes.iter().any(|note| note.contains("the standby waits")), "{plan:?}");
    }
}

#[tokio::test]
async fn what_replay_needs_beyond_the_data_directory_is_in_the_plan() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 10).await;
    log.parameter_change(300, 1);
    let created = log.create_tablespace(16_385, "/mnt/fast");
    log.create_tablespace(16_386, "/mnt/slow");
    log.commit(701, minute(11));
    log.switch();
    log.parameter_change(200, 1);
    let dropped = log.drop_tablespace(16_386);
    log.commit(702, minute(20));
    log.create_tablespace(16_387, "/mnt/late");
    log.switch();
    fixture.archive(&log).await;
    let plan = fixture.auto(None).await;
    assert_eq!(plan.raised_settings.unwrap().max_connections, 300);
    let found: Vec<_> =
        plan.new_tablespaces.iter().map(|space| (space.oid, space.dropped)).collect();
    assert_eq!(found, [(16_385, None), (16_386, Some(dropped)), (16_387, None)]);
    assert_eq!(plan.new_tablespaces[0].created, created);
    assert!(plan.notes.iter().any(|note| note.contains("\"/mnt/fast\"")), "{:?}", plan.notes);
    assert!(plan.notes.iter().any(|note| note.contains("max_connections = 300")));
    // Only what is replayed counts.
    let plan = fixture.auto(Some(RecoveryTarget::Xid(702))).await;
    assert_eq!(plan.new_tablespaces.len(), 2);
    // What was not read is unknown, and said to be.
    let plan = fixture.plan_reading(ReadWal::AtMost(1)).await;
    assert_eq!((plan.wal_segments_read, plan.wal_segments), (1, 2));
    assert_eq!(plan.raised_settings.unwrap().max_connections, 300);
    assert!(plan.notes.iter().any(|note| note.contains("of the other 1")), "{:?}", plan.notes);
    let plan = fixture.plan_reading(ReadWal::AtMost(0)).await;
    assert_eq!((plan.wal_segments_read, plan.raised_settings), (0, None));
    assert!(plan.notes[0].contains("was not read"), "{:?}", plan.notes);
}

#[tokio::test]
async fn recovery_ends_where_wal_level_was_minimal() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let (_, stop) = fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    log.parameter_change(100, 0);
    log.commit(702, minute(12));
    log.switch();
    let later = fixture.backup(&mut log, 1, 20).await;
    log.switch();
    fixture.archive(&log).await;
    let refusal = fixture.no_auto(Some(RecoveryTarget::Xid(702))).await;
    assert!(refusal.reason.contains("wal_level=minimal"), "{refusal:?}");
    let nearest: Vec<_> = refusal.nearest.iter().filter_map(|nearest| nearest.lsn).collect();
    assert!(nearest[0] >= stop && nearest[1] == later.1, "{refusal:?}");
    fixture.auto(Some(RecoveryTarget::Xid(701))).await;
    fixture.auto(None).await;
}

#[tokio::test]
async fn a_backup_whose_wal_is_of_another_history_is_not_used() {
    let Sample { fixture, second, log, .. } = sample().await;
    // The copy began its backup where the original has some record, or none.
    let mut reader = WalReader::new(Lsn(2 << 20), crate::postgres::wal_sample::SEGMENT_SIZE);
    let mut starts = Vec::new();
    for (_, content) in log.segments() {
        reader.feed(&content, &mut |record| {
            if record.start > Lsn(5 << 20)
                && matches!(record.kind, RecordKind::TransactionEnd { .. })
            {
                starts.push(record.start);
            }
        });
    }
    for start in [starts[0], Lsn(starts[0].0 + 8)] {
        let name = format!("base_{}", name_of(1, 5));
        fixture.sentinel(&name, start, Some(Lsn(start.0 + 64)), 45).await;
        let plan = fixture.auto(None).await;
        assert_eq!(plan.backup.name, second.0);
        assert!(plan.notes[0].contains(&name), "{:?}", plan.notes);
        let refusal = fixture.refused(fixture.plan(&name, None, None).await);
        assert!(refusal.reason.contains("cannot be used"), "{refusal:?}");
    }
}

#[tokio::test]
async fn records_are_followed_onto_a_newer_timeline_and_past_a_broken_one() {
    let fixture = Fixture::new();
    let mut first = WalWriter::new(1, 2);
    fixture.backup(&mut first, 1, 10).await;
    first.broken_record();
    first.commit(700, minute(11));
    first.noise(2_000_000);
    let fork = first.position();
    let mut second = first.fork(2);
    first.commit(701, minute(12));
    second.commit(702, minute(13));
    second.noise(1_500_000);
    second.switch();
    fixture.archive(&first).await;
    fixture.archive(&second).await;
    fixture.history(2, format!("1\t{fork}\tno recovery target specified\n")).await;
    let plan = fixture.auto(None).await;
    assert_eq!((plan.timeline.0, plan.wal_segments_read), (2, plan.wal_segments));
    // A segment of the new timeline that does not go on where the old one was left.
    let mut stranger = WalWriter::new(2, 4);
    stranger.noise(900_000);
    stranger.noise(900_000);
    let (name, content) = stranger.segments().remove(0);
    fixture.put(&format!("wal_005/{name}"), content).await;
    let refusal = fixture.no_auto(None).await;
    assert!(refusal.reason.contains(&name), "{refusal:?}");
}

#[tokio::test]
async fn a_search_takes_one_request_a_segment() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let start = log.noise(50);
    let (name, stop) = begun(&mut log, 1, start);
    fixture.sentinel(&name, start, Some(stop), 10).await;
    log.noise(20 << 20);
    log.restore_point("far", minute(20));
    log.switch();
    fixture.archive(&log).await;
    let gets = || fixture.store.calls(Operation::Get);
    let target = Some(RecoveryTarget::Name("far".to_owned()));
    let plan = fixture.auto(target).await;
    // The sentinel and its absent metadata, and two headers, which name the cluster; each
    // segment for the search, and for the rest; the last one for what follows the target.
    assert_eq!((plan.wal_segments, gets()), (21, 2 + 2 + 2 * 21 + 1));
    assert!(fixture.store.calls(Operation::List) < 40, "{}", fixture.store.calls(Operation::List));
}

#[tokio::test]
async fn a_server_does_not_read_ahead_where_something_is_wrong_after_its_target() {
    //    2   3   4   5   6
    // 1  B───●───B───x───●   then without 5
    let Sample { fixture, commits, .. } = sample().await;
    // In segment 4, of which the rest is a switch.
    let target = Some(RecoveryTarget::Lsn(commits[2]));
    let plan = fixture.auto(target.clone()).await;
    assert!(!plan.must_not_read_ahead && plan.last_segment == name_of(1, 4), "{plan:?}");
    let name = name_of(1, 5);
    let damaged = fixture.spoil(&name).await;
    for what in [damaged.as_str(), &name] {
        let plan = fixture.auto(target.clone()).await;
        assert!(plan.must_not_read_ahead, "{plan:?}");
        let note = plan.notes.iter().find(|note| note.contains("recovery_prefetch = off"));
        assert!(note.is_some_and(|note| note.contains(what)), "{:?}", plan.notes);
        // Now a hole, before segment 6.
        let key = crate::layout::ObjectKey::from_listing(&damaged).unwrap();
        fixture.store.delete(&key).await.unwrap();
    }
    // The mere end of the archive is in no server's way.
    fixture.remove(1, 6).await;
    let plan = fixture.auto(target).await;
    assert!(!plan.must_not_read_ahead && plan.notes.is_empty(), "{plan:?}");
}

#[tokio::test]
async fn what_a_server_does_not_read_ahead_is_not_looked_at() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 10).await;
    let target = log.commit(701, minute(11));
    for _ in 0..700 {
        log.noise(1000);
    }
    log.switch();
    log.switch();
    fixture.archive(&log).await;
    fixture.spoil(&name_of(1, 3)).await;
    let plan = fixture.auto(Some(RecoveryTarget::Lsn(target))).await;
    assert!(!plan.must_not_read_ahead, "{plan:?}");
}
