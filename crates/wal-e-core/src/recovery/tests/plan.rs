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
async fn a_time_that_no_transaction_passes_is_behind_the_end_of_the_archive() {
    let sample = sample().await;
    for at in [50, 51, 5000] {
        let refusal = sample.fixture.no_auto(time(at)).await;
        assert!(refusal.reason.contains("behind the end of the archive"), "{refusal:?}");
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
    for behind in [(7 << 20) - 8, 7 << 20, u64::MAX] {
        let refusal = sample.fixture.no_auto(lsn(Lsn(behind))).await;
        assert!(refusal.reason.contains("behind the end of the archive"), "{refusal:?}");
        let nearest = refusal.nearest[0].lsn;
        // What is offered can be had.
        sample.fixture.auto(Some(RecoveryTarget::Lsn(nearest.unwrap()))).await;
    }
}

#[tokio::test]
async fn a_restore_point_and_a_transaction_are_found_behind_the_right_backup() {
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
    // Two sentinels and their absent metadata, twice, and two headers, which tell the cluster.
    assert_eq!(fixture.store.calls(Operation::Get), 2 * 2 * 2 + 2 * 2);
}

#[tokio::test]
async fn a_hole_stops_whoever_wants_to_go_behind_it() {
    let Sample { fixture, second, mut log, .. } = sample().await;
    let (third, third_stop) = fixture.backup(&mut log, 1, 60).await;
    log.commit(706, minute(61));
    log.switch();
    fixture.archive(&log).await;
    fixture.remove(1, 5).await;

    // From 12:31 to 12:60 there is no way.
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
    // What lies behind it is not found, and that is why.
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
async fn a_backup_without_its_own_wal_is_passed_over_and_said_to_be_so() {
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
    assert!(refusal.reason.contains("behind the end of the archive"), "{refusal:?}");
}

#[tokio::test]
async fn recovery_follows_the_newest_timeline_across_the_switch() {
    let (sample, fork, on_second) = branched().await;
    let plan = sample.fixture.auto(time(65)).await;
    assert_eq!((plan.backup.name, plan.timelines.len()), (on_second.0, 1));
    let plan = sample.fixture.plan(&sample.first.0, time(65), None).await;
    let plan = sample.fixture.reached(plan);
    assert_eq!(plan.timeline, TimelineId(2));
    let parts: Vec<_> =
        plan.timelines.iter().map(|part| (part.timeline.0, part.begin, part.end)).collect();
    let start = plan.timelines[0].begin;
    assert_eq!(parts, [(1, start, Some(fork)), (2, fork, None)]);
    assert_eq!(plan.first_segment, name_of(1, 2));
    assert_eq!((plan.last_segment, plan.wal_segments), (name_of(2, 4), 3));
    // The restore point lies before the switch; the file that has it is the newer one.
    let plan = sample.fixture.auto(Some(RecoveryTarget::Name("here".to_owned()))).await;
    assert_eq!((plan.last_segment, plan.timelines.len()), (name_of(2, 3), 1));
}

#[tokio::test]
async fn a_backup_on_the_part_that_was_left_is_of_no_use() {
    let (sample, fork, _) = branched().await;
    let refusal = sample.fixture.plan(&sample.second.0, None, None).await;
    let refusal = sample.fixture.refused(refusal);
    assert!(refusal.reason.contains("not on the history of timeline 2"), "{refusal:?}");
    assert!(refusal.detail.as_ref().unwrap().contains(&fork.to_string()));
    let number = |number| Some(TargetTimeline::Number(TimelineId(number)));
    for timeline in [number(1), Some(TargetTimeline::Current)] {
        let plan = sample.fixture.plan(&sample.second.0, time(45), timeline).await;
        assert_eq!(sample.fixture.reached(plan).timeline, TimelineId(1));
    }
    let plan = sample.fixture.plan("AUTO", time(45), number(1)).await;
    assert_eq!(sample.fixture.reached(plan).backup.name, sample.second.0);
    let refusal = sample.fixture.refused(sample.fixture.plan("AUTO", None, number(7)).await);
    assert!(refusal.reason.contains("timeline 7 does not exist"), "{refusal:?}");
    assert!(refusal.hint().unwrap().contains("newest timeline is 2"));
}

#[tokio::test]
async fn a_time_on_the_part_that_was_left_is_ambiguous() {
    let (sample, fork, _) = branched().await;
    for at in [31, 45, 59] {
        let refusal = sample.fixture.no_auto(time(at)).await;
        assert!(refusal.reason.contains("on timeline 1, after timeline 2"), "{refusal:?}");
        let hint = Face::Program.speak(&refusal.hint().unwrap());
        assert!(hint.contains("--recovery-target-timeline 1"), "{hint}");
        assert!(hint.contains(&fork.to_string()), "{hint}");
    }
    // Nothing happened on timeline 1 in between: both ways lead to the same state.
    sample.fixture.auto(time(25)).await;
    let number = |number| Some(TargetTimeline::Number(TimelineId(number)));
    let plan = sample.fixture.plan("AUTO", time(45), number(2)).await;
    assert_eq!(sample.fixture.reached(plan).last_segment, name_of(2, 3));
    // Replay along timeline 2 needs nothing of what timeline 1 has there.
    let damaged = sample.fixture.spoil(&name_of(1, 3)).await;
    let plan = sample.fixture.auto(time(45)).await;
    assert!(plan.notes[0].contains("timeline 1") && plan.notes[0].contains(&damaged), "{plan:?}");
    sample.fixture.store.delete(&ObjectKey::from_listing(&damaged).unwrap()).await.unwrap();
    // What was left is not in the archive any more.
    sample.fixture.remove(1, 3).await;
    sample.fixture.auto(time(45)).await;
}

#[tokio::test]
async fn the_missing_first_segment_of_a_timeline_is_not_replaced_by_its_parent_s() {
    let (sample, fork, _) = branched().await;
    sample.fixture.remove(2, 3).await;
    for target in [None, time(65)] {
        let refusal =
            sample.fixture.refused(sample.fixture.plan(&sample.first.0, target, None).await);
        assert!(refusal.reason.contains(&name_of(2, 3)), "{refusal:?}");
    }
    // Up to the switch it does.
    let target = Some(RecoveryTarget::Lsn(sample.restore_point));
    let plan = sample.fixture.plan(&sample.first.0, target, None).await;
    assert_eq!(sample.fixture.reached(plan).last_segment, name_of(1, 3));
    let behind = Some(RecoveryTarget::Lsn(fork));
    sample.fixture.refused(sample.fixture.plan(&sample.first.0, behind, None).await);
}

#[tokio::test]
async fn the_end_of_a_timeline_that_was_left_later_is_missed() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let backup = fixture.backup(&mut log, 1, 10).await;
    for (xid, at) in [(701, 11), (702, 20), (703, 30)] {
        log.commit(xid, minute(at));
        log.switch();
    }
    log.commit(704, minute(40));
    let fork = Lsn(log.position().0.next_multiple_of(8));
    log.switch();
    fixture.archive(&log).await;
    for number in [4, 5, 6] {
        fixture.remove(1, number).await;
    }
    let plan = fixture.auto(None).await;
    assert_eq!((plan.last_segment, plan.notes.len()), (name_of(1, 3), 0));

    fixture.history(2, format!("1\t{fork}\tx\n")).await;
    let first = Some(TargetTimeline::Number(TimelineId(1)));
    for timeline in [None, Some(TargetTimeline::Current), first] {
        let refusal = fixture.refused(fixture.plan("AUTO", None, timeline).await);
        assert!(refusal.reason.contains(&name_of(1, 4)), "{refusal:?}");
        let detail = refusal.detail.as_ref().unwrap();
        for word in ["00000002.history", &fork.to_string(), "12:20:00+00"] {
            assert!(detail.contains(word), "{refusal:?}");
        }
        assert!(refusal.hint().unwrap().contains("try again later"), "{refusal:?}");
    }
    assert_eq!(fixture.auto(time(15)).await.last_segment, name_of(1, 3));
    // A target behind it is not behind the end of the archive.
    for target in [time(25), Some(RecoveryTarget::Lsn(Lsn(5 << 20)))] {
        let refusal = fixture.no_auto(target).await;
        let reason = &refusal.reason;
        assert!(reason.contains("cannot be reached") && reason.contains(&name_of(1, 4)));
        assert!(refusal.detail.as_ref().unwrap().contains("00000002.history"), "{refusal:?}");
        let hint = Face::Program.speak(&refusal.hint().unwrap());
        assert!(hint.contains("try again later") && !hint.contains("Without a target"), "{hint}");
    }
    let plan = fixture.standby().await;
    assert_eq!(plan.backup.name, backup.0);
    assert!(plan.notes[0].contains("the standby waits there"), "{plan:?}");
    // At the end of what was written of it, there is nothing to miss.
    fixture.history(2, format!("1\t{}\tx\n", Lsn(4 << 20))).await;
    assert_eq!(fixture.auto(None).await.last_segment, name_of(1, 3));
}

#[tokio::test]
async fn the_segment_in_which_a_timeline_was_left_is_missed_along_the_old_one() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    log.switch();
    log.commit(702, minute(20));
    let fork = Lsn(log.position().0.next_multiple_of(8));
    let mut second = log.fork(2);
    second.commit(703, minute(30));
    second.switch();
    log.commit(704, minute(40));
    log.switch();
    fixture.archive(&log).await;
    fixture.archive(&second).await;
    fixture.history(2, format!("1\t{fork}\tx\n")).await;
    let first = Some(TargetTimeline::Number(TimelineId(1)));
    let plan = fixture.reached(fixture.plan("AUTO", None, first).await);
    assert_eq!(plan.last_segment, name_of(1, 3));

    fixture.remove(1, 3).await;
    for target in [None, time(15)] {
        let refusal = fixture.refused(fixture.plan("AUTO", target, first).await);
        assert!(refusal.reason.contains(&name_of(1, 3)), "{refusal:?}");
        let detail = refusal.detail.as_ref().unwrap();
        assert!(detail.contains("00000002.history") && detail.contains(&name_of(2, 3)), "{detail}");
        let hint = Face::Program.speak(&refusal.hint().unwrap());
        assert!(hint.contains("--recovery-target-timeline 2"), "{hint}");
    }
    assert_eq!(fixture.auto(None).await.last_segment, name_of(2, 3));
    // Timeline 3 has archived nothing, so that the server asks for what timeline 1 had there.
    fixture.history(3, format!("1\t{fork}\tx\n")).await;
    let refusal = fixture.no_auto(None).await;
    assert!(refusal.reason.contains(&name_of(3, 3)), "{refusal:?}");
    assert!(refusal.detail.as_ref().unwrap().contains("00000002.history"), "{refusal:?}");
    // It ends where it was left, if nobody has more of it.
    fixture.remove(2, 3).await;
    assert_eq!(fixture.auto(None).await.last_segment, name_of(1, 2));
    let plan = fixture.reached(fixture.plan("AUTO", None, first).await);
    assert_eq!(plan.last_segment, name_of(1, 2));
}

#[tokio::test]
async fn timelines_are_counted_as_the_server_counts_them() {
    let (sample, fork, _) = branched().await;
    // Timeline 4 is not found, because there is no 3.
    sample.fixture.history(4, format!("1\t{fork}\tx\n")).await;
    assert_eq!(sample.fixture.auto(None).await.timeline, TimelineId(2));
    // The server takes 4 now, and finds nothing of timeline 2 on it.
    sample.fixture.history(3, format!("1\t{fork}\tx\n")).await;
    let refusal = sample.fixture.refused(sample.fixture.plan("LATEST", None, None).await);
    assert!(refusal.reason.contains("not on the history of timeline 4"), "{refusal:?}");
    sample.fixture.history(3, "nonsense".to_owned()).await;
    let error = sample.fixture.plan("LATEST", None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("00000003.history"), "{error}");
}

#[tokio::test]
async fn two_switches_are_followed() {
    let (sample, first_fork, _) = branched().await;
    let mut second = sample.log.clone();
    second.commit(800, minute(80));
    let fork = Lsn(second.position().0.next_multiple_of(8));
    let mut third = second.fork(3);
    third.commit(801, minute(90));
    third.switch();
    third.commit(802, minute(100));
    third.switch();
    sample.fixture.archive(&third).await;
    sample.fixture.history(3, format!("1\t{first_fork}\tx\n2\t{fork}\ty\n")).await;
    let plan = sample.fixture.plan(&sample.first.0, time(95), None).await;
    let plan = sample.fixture.reached(plan);
    let timelines: Vec<u32> = plan.timelines.iter().map(|range| range.timeline.0).collect();
    assert_eq!(timelines, [1, 2, 3]);
    assert_eq!((plan.last_segment, plan.wal_segments), (name_of(3, 6), 5));
}

#[tokio::test]
async fn a_second_recovery_to_an_earlier_moment_can_be_recovered_from() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let backup = fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    log.switch();
    let mut third = log.fork(3);
    let earlier = third.commit(702, minute(60));
    third.switch();
    log.commit(702, minute(20));
    log.switch();
    let mut second = log.fork(2);
    let later = second.commit(703, minute(40));
    second.switch();
    log.commit(703, minute(30));
    log.switch();
    fixture.archive(&log).await;
    fixture.archive(&second).await;
    fixture.archive(&third).await;
    assert!(earlier < later);
    fixture.history(2, format!("1\t{later}\tx\n")).await;
    fixture.history(3, format!("1\t{later}\tx\n2\t{earlier}\ty\n")).await;
    let plan = fixture.auto(None).await;
    assert_eq!((plan.backup.name, plan.timeline), (backup.0, TimelineId(3)));
    let timelines: Vec<_> = plan.timelines.iter().map(|range| range.timeline.0).collect();
    assert_eq!((timelines, plan.last_segment), (vec![1, 3], name_of(3, 3)));
    let refusal = fixture.no_auto(time(25)).await;
    assert!(refusal.reason.contains("on timeline 1, after timeline 3"), "{refusal:?}");
    assert_eq!(fixture.auto(time(15)).await.reached_lsn, Some(earlier));
}

#[tokio::test]
async fn a_timeline_without_transactions_hides_no_part_that_was_left() {
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    let aligned = |log: &WalWriter| Lsn(log.position().0.next_multiple_of(8));
    let first_fork = aligned(&log);
    let mut second = log.fork(2);
    second.noise(10);
    let second_fork = aligned(&second);
    let mut third = second.fork(3);
    log.commit(702, minute(20));
    log.switch();
    third.commit(703, minute(60));
    third.switch();
    fixture.archive(&log).await;
    fixture.archive(&third).await;
    fixture.history(2, format!("1\t{first_fork}\tx\n")).await;
    fixture.history(3, format!("1\t{first_fork}\tx\n2\t{second_fork}\ty\n")).await;
    let refusal = fixture.no_auto(time(30)).await;
    assert!(refusal.reason.contains("on timeline 1, after timeline 2"), "{refusal:?}");
    assert_eq!(fixture.auto(time(15)).await.timeline, TimelineId(3));
}

#[tokio::test]
async fn a_partial_segment_is_not_replayed() {
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
async fn damage_behind_a_target_time_does_not_matter() {
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
async fn damage_behind_a_name_or_a_transaction_lets_older_backups_be_tried() {
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
