//! Which base backup and which WAL lead to a target, on one timeline.

use super::*;
use crate::config::Face;

#[tokio::test]
async fn auto_takes_the_newest_backup_that_ended_before_a_time() {
    let sample = sample().await;
    for (at, backup, last, reached) in [
        (10, &sample.first.0, 2, None),
        (15, &sample.first.0, 3, None),
        (25, &sample.first.0, 4, None),
        (30, &sample.second.0, 4, None),
        (31, &sample.second.0, 5, None),
        (49, &sample.second.0, 6, None::<OffsetDateTime>),
    ] {
        let plan = sample.fixture.auto(time(at)).await;
        assert_eq!(&plan.backup.name, backup, "{at}");
        assert_eq!(plan.last_segment, name_of(1, last), "{at}");
        assert_eq!(plan.reached_time, reached, "{at}");
        assert!(plan.notes.is_empty());
    }
    let plan = sample.fixture.auto(time(25)).await;
    assert_eq!((plan.wal_segments, plan.wal_bytes), (3, 3 << 20));
    assert_eq!(plan.first_segment, name_of(1, 2));
    assert_eq!(plan.backup_bytes, Some(1000));
    assert_eq!(plan.consistent_lsn, sample.first.1);
    assert_eq!(plan.reached_lsn, Some(sample.commits[2]));
    assert_eq!((plan.timeline, plan.timelines.len()), (TimelineId(1), 1));
}

#[tokio::test]
async fn a_time_before_all_backups_is_refused_with_the_oldest_end() {
    let sample = sample().await;
    let refusal = sample.fixture.no_auto(time(9)).await;
    assert!(refusal.reason.contains(&sample.first.0), "{refusal:?}");
    assert_eq!(refusal.nearest[0].lsn, Some(sample.first.1));
    assert_eq!(refusal.nearest[0].time, Some(minute(10)));
    assert!(refusal.hint().unwrap().contains("12:10:00+00"), "{refusal:?}");
    let error = crate::Error::from(refusal);
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_named_backup_that_ended_too_late_is_refused_with_the_name_of_the_right_one() {
    let sample = sample().await;
    for backup in ["LATEST", sample.second.0.as_str()] {
        for target in [time(25), Some(RecoveryTarget::Lsn(sample.commits[1]))] {
            let refusal = sample.fixture.refused(sample.fixture.plan(backup, target, None).await);
            let hint = Face::Program.speak(&refusal.hint().unwrap());
            assert!(hint.contains(&sample.first.0) && hint.contains("AUTO"), "{hint}");
        }
    }
    let plan = sample.fixture.plan(&sample.first.0, time(45), None).await;
    assert_eq!(sample.fixture.reached(plan).wal_segments, 5);
}

#[tokio::test]
async fn a_time_that_no_transaction_passes_is_past_the_end_of_the_archive() {
    let sample = sample().await;
    for at in [50, 51, 5000] {
        let refusal = sample.fixture.no_auto(time(at)).await;
        assert!(refusal.reason.contains("past the end of the archive"), "{refusal:?}");
        assert!(refusal.detail.as_ref().unwrap().contains("12:50:00+00"), "{refusal:?}");
        assert_eq!(refusal.nearest[0].description, "any time before 2026-11-23 12:50:00+00");
    }
}

#[tokio::test]
async fn an_lsn_must_lie_between_the_backup_and_the_last_record() {
    let sample = sample().await;
    let lsn = |lsn| Some(RecoveryTarget::Lsn(lsn));
    for (target, backup, last) in [
        (sample.first.1, &sample.first.0, 2),
        (sample.commits[1], &sample.first.0, 3),
        (sample.commits[2], &sample.second.0, 4),
        // In the empty rest of segment 5: recovery stops after the first record of 6.
        (Lsn((6 << 20) - 8), &sample.second.0, 6),
        (sample.commits[4], &sample.second.0, 6),
    ] {
        let plan = sample.fixture.auto(lsn(target)).await;
        assert_eq!((&plan.backup.name, plan.last_segment), (backup, name_of(1, last)), "{target}");
        assert_eq!(plan.reached_lsn, Some(target));
    }
    let refusal = sample.fixture.no_auto(lsn(Lsn(sample.first.1.0 - 1))).await;
    assert!(refusal.reason.contains("before the end of base backup"), "{refusal:?}");
    for past in [(7 << 20) - 8, 7 << 20, u64::MAX] {
        let refusal = sample.fixture.no_auto(lsn(Lsn(past))).await;
        assert!(refusal.reason.contains("past the end of the archive"), "{refusal:?}");
        let nearest = refusal.nearest[0].lsn;
        // What is offered can be had.
        sample.fixture.auto(Some(RecoveryTarget::Lsn(nearest.unwrap()))).await;
    }
}

#[tokio::test]
async fn a_restore_point_and_a_transaction_are_found_after_the_right_backup() {
    let sample = sample().await;
    let name = |name: &str| Some(RecoveryTarget::Name(name.to_owned()));
    let plan = sample.fixture.auto(name("here")).await;
    assert_eq!((&plan.backup.name, plan.last_segment), (&sample.first.0, name_of(1, 3)));
    assert_eq!(
        (plan.reached_lsn, plan.reached_time),
        (Some(sample.restore_point), Some(minute(21)))
    );
    for (xid, backup, last) in [
        (701, &sample.first.0, 2),
        (702, &sample.first.0, 3),
        (703, &sample.second.0, 4),
        (705, &sample.second.0, 6),
    ] {
        let plan = sample.fixture.auto(Some(RecoveryTarget::Xid(xid))).await;
        assert_eq!((&plan.backup.name, plan.last_segment), (backup, name_of(1, last)), "{xid}");
    }
    for target in [name("there"), Some(RecoveryTarget::Xid(700))] {
        let refusal = sample.fixture.no_auto(target).await;
        assert!(refusal.reason.contains("was not found"), "{refusal:?}");
        assert!(refusal.detail.unwrap().contains("to LSN 0/700000"));
    }
    let latest = sample.fixture.plan("LATEST", name("here"), None).await;
    assert!(sample.fixture.refused(latest).reason.contains("was not found"));
}

#[tokio::test]
async fn older_wal_is_not_read_twice_in_a_search() {
    let sample = sample().await;
    sample.fixture.no_auto(Some(RecoveryTarget::Xid(99))).await;
    // 2 sentinels and their absent metadata, the headers of the last segment and of both
    // backups' first ones, segments 4 to 6, then 2 to 4.
    assert_eq!(sample.fixture.store.calls(Operation::Get), 2 * 2 + 3 + 3 + 3);
}

#[tokio::test]
async fn a_restore_point_within_a_backup_needs_the_one_before() {
    //    2   3
    // 1  B───B   the restore point is in 3, before the end of the base backup
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let first = fixture.backup(&mut log, 1, 10).await;
    log.switch();
    let start = log.noise(10);
    log.restore_point("within", minute(15));
    let (name, stop) = begun(&mut log, 1, start);
    fixture.sentinel(&name, start, Some(stop), 20).await;
    log.switch();
    fixture.archive(&log).await;
    let target = Some(RecoveryTarget::Name("within".to_owned()));
    let plan = fixture.auto(target.clone()).await;
    assert_eq!((plan.backup.name, plan.last_segment), (first.0.clone(), name_of(1, 3)));
    let refusal = fixture.refused(fixture.plan("LATEST", target, None).await);
    assert!(refusal.hint().unwrap().contains(&first.0), "{refusal:?}");
}

#[tokio::test]
async fn without_a_target_recovery_goes_to_the_end_of_the_archive() {
    let sample = sample().await;
    let plan = sample.fixture.auto(None).await;
    assert_eq!((&plan.backup.name, plan.last_segment), (&sample.second.0, name_of(1, 6)));
    assert_eq!(plan.reached_time, Some(minute(50)));
    let plan = sample.fixture.plan(&sample.first.0, None, None).await;
    assert_eq!(sample.fixture.reached(plan).wal_segments, 5);
}

#[tokio::test]
async fn no_wal_is_read_that_only_says_what_the_last_transaction_was() {
    let Sample { fixture, .. } = sample().await;
    let request = PlanRequest {
        backup: BackupChoice::Latest,
        target: None,
        timeline: None,
        standby: false,
        read_end: false,
        read_wal: ReadWal::AtMost(0),
    };
    let ask = || {
        let (notices, _queue) = notice::channel();
        plan(Arc::new(fixture.store.clone()), &request, notices)
    };
    let reached = fixture.reached(ask().await);
    assert_eq!((reached.last_segment, reached.reached_time), (name_of(1, 6), None));
    fixture.remove(1, 5).await;
    let refusal = fixture.refused(ask().await);
    assert!(refusal.reason.contains(&name_of(1, 5)), "{refusal:?}");
    // Two sentinels and their absent metadata, twice, and two headers, which name the cluster.
    assert_eq!(fixture.store.calls(Operation::Get), 2 * 2 * 2 + 2 * 2);
}

#[tokio::test]
async fn a_long_archive_is_searched_by_halves() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 0).await;
    log.switch();
    for number in 0..200_u32 {
        // Every third segment has no transaction.
        if number % 3 != 0 {
            log.commit(number, minute(i64::from(number)));
        } else {
            log.noise(10);
        }
        log.switch();
    }
    fixture.archive(&log).await;
    let request = PlanRequest {
        backup: BackupChoice::Auto,
        target: time(100),
        timeline: None,
        standby: false,
        read_end: true,
        read_wal: ReadWal::AtMost(0),
    };
    let (notices, _queue) = notice::channel();
    let plan = plan(Arc::new(fixture.store.clone()), &request, notices).await;
    assert_eq!(fixture.reached(plan).last_segment, name_of(1, 3 + 101));
    assert!(fixture.store.calls(Operation::Get) < 20, "{}", fixture.store.calls(Operation::Get));
}
