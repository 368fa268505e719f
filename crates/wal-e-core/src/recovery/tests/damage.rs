//! WAL that is missing or damaged on the way to a target.

use super::*;

#[tokio::test]
async fn a_hole_stops_recovery_to_what_comes_after_it() {
    //    2   3   4   5   6   7
    // 1  B───●───B───○───●───B
    let Sample { fixture, second, mut log, .. } = sample().await;
    let (third, third_stop) = fixture.backup(&mut log, 1, 60).await;
    log.commit(706, minute(61));
    log.switch();
    fixture.archive(&log).await;
    fixture.remove(1, 5).await;

    // No target from 12:31 to 13:00 can be reached.
    let later_than_31 = [time(31), time(45), time(59)];
    for target in later_than_31.into_iter().chain([Some(RecoveryTarget::Lsn(Lsn(6 << 20)))]) {
        let refusal = fixture.no_auto(target.clone()).await;
        assert!(refusal.reason.contains(&name_of(1, 5)), "{refusal:?}");
        assert!(refusal.detail.as_ref().unwrap().contains("12:31:00+00"), "{refusal:?}");
        assert_eq!(refusal.nearest.len(), 2, "{target:?}: {refusal:?}");
        assert_eq!(refusal.nearest[1].lsn, Some(third_stop));
        assert!(refusal.hint().unwrap().contains(&third), "{refusal:?}");
    }
    let before = RecoveryTarget::Time((minute(31) - Duration::microseconds(1)).into());
    assert_eq!(fixture.auto(Some(before)).await.backup.name, second.0);
    assert_eq!(fixture.auto(time(60)).await.backup.name, third);
    assert_eq!(fixture.auto(Some(RecoveryTarget::Lsn(third_stop))).await.backup.name, third);
    // To the end there is, from the newest backup; from another one there is not.
    assert_eq!(fixture.auto(None).await.backup.name, third);
    let refusal = fixture.refused(fixture.plan(&second.0, None, None).await);
    assert!(refusal.reason.contains(&name_of(1, 5)), "{refusal:?}");
    // What comes after it is not found, and the detail says why.
    let refusal = fixture.plan(&second.0, Some(RecoveryTarget::Xid(705)), None).await;
    assert!(fixture.refused(refusal).detail.unwrap().contains(&name_of(1, 5)));
    // A standby waits.
    let (notices, _queue) = notice::channel();
    let request = PlanRequest {
        backup: BackupChoice::Named(second.0.clone()),
        target: None,
        timeline: None,
        standby: true,
        read_end: true,
        read_wal: ReadWal::AtMost(0),
    };
    let plan = plan(Arc::new(fixture.store.clone()), &request, notices).await;
    let plan = fixture.reached(plan);
    assert_eq!(plan.last_segment, name_of(1, 4));
    assert!(plan.notes[0].contains(&name_of(1, 5)), "{plan:?}");
}

#[tokio::test]
async fn a_partial_segment_is_not_replayed() {
    //    2   3   4   5   6
    // 1  B───●───B───●───○   6 only as a .partial file
    let Sample { fixture, log, .. } = sample().await;
    let last = log.segments().pop().unwrap();
    fixture.remove(1, 6).await;
    fixture.put(&format!("wal_005/{}.partial", last.0), last.1).await;
    let refusal = fixture.no_auto(time(45)).await;
    assert!(refusal.detail.as_ref().unwrap().contains(&format!("{}.partial", last.0)));
    let plan = fixture.auto(None).await;
    assert!(plan.notes[0].contains(&format!("{}.partial", last.0)), "{plan:?}");
}

#[tokio::test]
async fn wal_that_breaks_off_before_the_target_is_refused() {
    //    2   3   4   5   6
    // 1  B───x───B───●───●
    let Sample { fixture, first, log, .. } = sample().await;
    let (name, mut content) = log.segments().swap_remove(1);
    content[200..].fill(0);
    fixture.put(&format!("wal_005/{name}"), content).await;
    for target in [Some(RecoveryTarget::Xid(704)), Some(RecoveryTarget::Lsn(Lsn((4 << 20) - 8)))] {
        let refusal = fixture.refused(fixture.plan(&first.0, target, None).await);
        assert!(refusal.reason.contains(&name), "{refusal:?}");
    }
    fixture.spoil(&name).await;
    let refusal =
        fixture.refused(fixture.plan(&first.0, Some(RecoveryTarget::Xid(704)), None).await);
    assert!(refusal.reason.contains(&name), "{refusal:?}");
    assert_eq!(crate::Error::from(refusal).kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn wal_that_begins_anew_is_no_damage_and_no_hole() {
    //    2   3   4   5   6          6   7   8
    // 1  B───●───●           and        B───●   of a log that pg_resetwal began with 4, or later
    for first in [4, 6] {
        let fixture = Fixture::new();
        let mut log = WalWriter::new(1, 2);
        let (name, _) = fixture.backup(&mut log, 1, 0).await;
        log.switch();
        log.commit(7, minute(1));
        log.commit(8, minute(2));
        log.switch();
        fixture.archive(&log).await;
        let mut anew = WalWriter::new(1, first);
        anew.shutdown_checkpoint();
        anew.switch();
        let (later, _) = fixture.backup(&mut anew, 1, 5).await;
        anew.switch();
        fixture.archive(&anew).await;

        let refusal = fixture.refused(fixture.plan(&name, None, None).await);
        assert_eq!(
            refusal
                .reason
                .trim_start_matches("recovery to the end of the archive would end early: "),
            format!(
                "the WAL of the cluster begins anew with segment \"{}\", as after pg_resetwal",
                name_of(1, first)
            )
        );
        let hint = refusal.hint().unwrap();
        assert!(hint.contains(&later) && !hint.contains("sound copy"), "{hint}");
        assert_eq!(fixture.auto(None).await.backup.name, later);
        fixture.reached(fixture.plan(&name, time(1), None).await);
    }
}

#[tokio::test]
async fn damage_after_a_target_time_does_not_matter() {
    const SEGMENTS: u64 = 9;
    for (damaged, unreadable) in (3..3 + SEGMENTS).flat_map(|at| [(at, false), (at, true)]) {
        let fixture = Fixture::new();
        let mut log = WalWriter::new(1, 2);
        fixture.backup(&mut log, 1, 0).await;
        log.switch();
        for number in 3..3 + SEGMENTS {
            log.commit(7, minute(i64::try_from(number).unwrap()));
            log.switch();
        }
        fixture.archive(&log).await;
        let name = name_of(1, damaged);
        if unreadable {
            fixture.spoil(&name).await;
        } else {
            let content = log.segments().into_iter().find(|(segment, _)| *segment == name);
            let mut content = content.unwrap().1;
            content[48..].fill(0);
            fixture.put(&format!("wal_005/{name}"), content).await;
        }
        for last in 3..3 + SEGMENTS {
            let target = time(i64::try_from(last).unwrap() - 1);
            let outcome = fixture.plan("AUTO", target, None).await;
            if last < damaged {
                let plan = fixture.reached(outcome);
                assert_eq!(plan.last_segment, name_of(1, last), "{damaged}");
            } else if last == damaged {
                let refusal = fixture.refused(outcome);
                // The last segment may end anywhere.
                let is_end = !unreadable && damaged == 2 + SEGMENTS;
                assert!(is_end || refusal.reason.contains(&name), "{damaged}: {refusal:?}");
                let kind = if unreadable { ErrorKind::Corrupt } else { ErrorKind::Config };
                assert_eq!(crate::Error::from(refusal).kind(), kind);
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_before_the_wal_breaks_off_is_stopped_at() {
    //    2   3   4
    // 1  B───x───x   3 is damaged past its transaction; 4 comes later
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 0).await;
    log.switch();
    log.commit(7, minute(10));
    log.switch();
    fixture.archive(&log).await;
    let (name, mut content) = log.segments().pop().unwrap();
    content[80..].fill(0xFF);
    fixture.put(&format!("wal_005/{name}"), content).await;
    log.commit(8, minute(20));
    log.switch();
    let (next, _) = log.segments().pop().unwrap();
    fixture.spoil(&next).await;
    assert_eq!(fixture.auto(time(5)).await.last_segment, name);
    let refusal = fixture.no_auto(time(15)).await;
    assert!(refusal.reason.contains(&name), "{refusal:?}");
    // Recovery would end there as if the log had no more.
    let refusal = fixture.no_auto(None).await;
    assert!(refusal.reason.contains(&format!("breaks off in segment \"{name}\"")), "{refusal:?}");
    // A standby asks again; what it will stumble over is said.
    let plan = fixture.standby().await;
    assert_eq!(plan.reached_time, Some(minute(10)));
    assert!(plan.notes[0].contains(&name), "{plan:?}");
}

#[tokio::test]
async fn damage_at_the_end_of_the_archive_is_refused_without_a_target() {
    //    2   3   4   5   6
    // 1  B───●───B───●───x
    let Sample { fixture, second, .. } = sample().await;
    let key = format!("wal_005/{}.lz4", name_of(1, 6));
    fixture.put(&key, "no frame").await;
    // The server would get the sound one, too.
    assert_eq!(fixture.auto(None).await.last_segment, name_of(1, 6));
    fixture.remove(1, 6).await;
    for backup in ["AUTO", "LATEST", second.0.as_str()] {
        let refusal = fixture.refused(fixture.plan(backup, None, None).await);
        assert!(refusal.reason.contains(&key), "{refusal:?}");
        assert_eq!(crate::Error::from(refusal).kind(), ErrorKind::Corrupt);
    }
    assert!(fixture.standby().await.notes[0].contains(&key));
}

#[tokio::test]
async fn damage_after_a_name_or_a_transaction_lets_older_backups_be_tried() {
    //    2   3   4   5   6
    // 1  B───●───B───x───●
    let Sample { fixture, first, second, log, .. } = sample().await;
    let (name, mut content) = log.segments().swap_remove(3);
    content[48..].fill(0);
    fixture.put(&format!("wal_005/{name}"), content).await;
    for kind in [ErrorKind::Config, ErrorKind::Corrupt] {
        let here = fixture.auto(Some(RecoveryTarget::Name("here".to_owned()))).await;
        assert_eq!(here.backup.name, first.0);
        let third = fixture.auto(Some(RecoveryTarget::Xid(703))).await;
        assert_eq!(third.backup.name, second.0);
        for backup in ["AUTO", "LATEST", first.0.as_str()] {
            let target = Some(RecoveryTarget::Xid(705));
            let refusal = fixture.refused(fixture.plan(backup, target, None).await);
            assert!(refusal.reason.contains(&name), "{refusal:?}");
            assert_eq!(crate::Error::from(refusal).kind(), kind);
        }
        fixture.spoil(&name).await;
    }
}
