//! Base backups that cannot be used, or say little of themselves.

use super::*;

#[tokio::test]
async fn a_backup_without_its_own_wal_is_passed_over_and_said_to_be_so() {
    //    2   3   4   5   6   7   8
    // 1  B───●───B───●───●───B───○   the last base backup ends in 8
    let Sample { fixture, first, mut log, .. } = sample().await;
    let start = log.noise(10);
    log.switch();
    log.noise(10);
    let (third, stop) = begun(&mut log, 1, start);
    fixture.sentinel(&third, start, Some(stop), 60).await;
    log.commit(706, minute(61));
    log.switch();
    fixture.archive(&log).await;
    fixture.remove(1, 8).await;
    let refusal = fixture.refused(fixture.plan("LATEST", None, None).await);
    for word in [&third, &name_of(1, 8), "cannot be used"] {
        assert!(refusal.reason.contains(word), "{refusal:?}");
    }
    let plan = fixture.auto(None).await;
    assert!(plan.notes[0].contains(&third), "{plan:?}");
    assert_eq!(plan.last_segment, name_of(1, 7));
    // The first one, too, once its start segment is gone; the rest is still of use.
    fixture.remove(1, 2).await;
    let refusal = fixture.no_auto(time(15)).await;
    assert!(refusal.reason.contains(&first.0) && refusal.reason.contains(&name_of(1, 2)));
    fixture.auto(time(45)).await;
}

#[tokio::test]
async fn a_newer_backup_that_cannot_be_used_is_named_with_the_reason() {
    //    2   3   4   5   6
    // 1  B───●───x───●───●   a base backup begins in 4, too
    let Sample { fixture, first, second, .. } = sample().await;
    let damaged = fixture.spoil(&name_of(1, 4)).await;
    let start = Lsn(4 * SEGMENT_SIZE.bytes() + 40);
    // Its end, and its segment size, are to be found in the segment.
    for lsn in [Some(start), None] {
        let sentinel = Sentinel { lsn, finish_time: Some(minute(30)), ..Sentinel::full() };
        let json = sentinel::to_json(&sentinel);
        fixture.put(layout::sentinel(&second.0).as_str(), json).await;
        // The older one has a way to what comes before the damage, and no other.
        let refusal = fixture.no_auto(None).await;
        assert!(refusal.reason.contains(&damaged), "{refusal:?}");
        let plan = fixture.auto(Some(RecoveryTarget::Xid(702))).await;
        assert_eq!(plan.backup.name, first.0);
        let beginning =
            format!("A newer base backup \"{}\" cannot be used: archived object \"", second.0);
        assert!(plan.notes[0].starts_with(&beginning), "{plan:?}");
        assert!(plan.notes[0].contains(&damaged), "{plan:?}");
        let refusal = fixture.refused(fixture.plan("LATEST", None, None).await);
        assert!(refusal.reason.starts_with(&beginning[8..]), "{refusal:?}");
        assert_eq!(crate::Error::from(refusal).kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_backup_that_does_not_say_where_it_ended_is_asked_for_its_wal() {
    let Sample { fixture, first, .. } = sample().await;
    fixture.sentinel(&first.0, first.1, None, 10).await;
    let refusal = fixture.refused(fixture.plan(&first.0, time(15), None).await);
    assert!(refusal.reason.contains("cannot be used"), "another start LSN: {refusal:?}");
    let start = Lsn(2 * SEGMENT_SIZE.bytes() + 40);
    fixture.sentinel(&first.0, start, None, 10).await;
    let plan = fixture.reached(fixture.plan(&first.0, time(15), None).await);
    assert_eq!(plan.consistent_lsn, first.1);
}

#[tokio::test]
async fn a_backup_that_does_not_say_when_it_ended_is_compared_with_its_wal() {
    // Long before its sentinel is stored.
    let at = |minute| datetime!(2001-02-03 04:00 UTC) + Duration::minutes(minute);
    let target = |minute| Some(RecoveryTarget::Time(at(minute).into()));
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let start = log.noise(50);
    log.commit(700, at(5));
    let (name, stop) = begun(&mut log, 1, start);
    let first = log.commit(701, at(10));
    log.switch();
    let second = log.commit(702, at(20));
    log.switch();
    fixture.archive(&log).await;
    let sentinel = Sentinel { lsn: Some(start), finish_lsn: Some(stop), ..Sentinel::full() };
    fixture.put(layout::sentinel(&name).as_str(), sentinel::to_json(&sentinel)).await;
    for (minute, reached) in [(5, first), (9, first), (10, second), (19, second)] {
        assert_eq!(fixture.auto(target(minute)).await.reached_lsn, Some(reached), "{minute}");
    }
    let refusal = fixture.no_auto(target(4)).await;
    assert!(refusal.reason.contains("before the end of base backup"), "{refusal:?}");
    assert!(!refusal.detail.unwrap().contains("complete at"));
    let refusal = fixture.no_auto(target(20)).await;
    assert!(refusal.reason.contains("past the end of the archive"), "{refusal:?}");
}

#[tokio::test]
async fn an_archive_without_the_backup_says_so() {
    let fixture = Fixture::new();
    for name in ["AUTO", "LATEST", "base_x"] {
        let error = fixture.plan(name, None, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    let sample = sample().await;
    let error = sample.fixture.plan("base_x", None, None).await.unwrap_err();
    assert!(error.hint().unwrap().contains(&sample.second.0));
    // A damaged sentinel does not keep others from use.
    let damaged = layout::sentinel("base_000000010000000000000009");
    sample.fixture.put(damaged.as_str(), "{").await;
    assert_eq!(sample.fixture.auto(None).await.backup.name, sample.second.0);
}

#[tokio::test]
async fn a_sentinel_in_the_wrong_storage_class_keeps_no_other_backup_from_use() {
    let Sample { fixture, first, second, .. } = sample().await;
    let archived = Fault::Refuse(ErrorKind::Config);
    let store = fixture.store.with(Operation::Get, When::Call(1), archived);
    let fixture = Fixture { store };
    let name = fixture.auto(None).await.backup.name;
    assert!(name == first.0 || name == second.0);
    // What may pass is no reason to choose another.
    let away = Fault::Refuse(ErrorKind::Unavailable);
    let store = fixture.store.with(Operation::Get, When::From(2), away);
    let error = Fixture { store }.plan("AUTO", None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
