//! Recovery along one timeline after another.

use super::*;
use crate::config::Face;

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

/// As pg_resetwal begins one.
#[tokio::test]
async fn a_timeline_without_history_is_had_as_the_current_one() {
    //    2   3   4
    // 1  B───●
    // 3          B───●
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 0).await;
    log.switch();
    log.commit(7, minute(1));
    log.switch();
    fixture.archive(&log).await;
    let mut anew = WalWriter::new(3, 4);
    let (later, _) = fixture.backup(&mut anew, 3, 5).await;
    anew.switch();
    fixture.archive(&anew).await;

    let said = |refusal: crate::recovery::Refusal| Face::Program.speak(&refusal.hint().unwrap());
    let hint = said(fixture.no_auto(None).await);
    assert!(hint.contains("timeline 1 or --recovery-target-timeline current"), "{hint}");
    let three = Some(TargetTimeline::Number(TimelineId(3)));
    let hint = said(fixture.refused(fixture.plan("AUTO", None, three).await));
    assert!(hint.contains("--recovery-target-timeline current"), "{hint}");
    let current = fixture.plan("AUTO", None, Some(TargetTimeline::Current)).await;
    assert_eq!(fixture.reached(current).backup.name, later);
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
    //    2   3   4   5   6
    // 1  B───●───B───●───●
    // 2      └○──B
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
    let past = Some(RecoveryTarget::Lsn(fork));
    sample.fixture.refused(sample.fixture.plan(&sample.first.0, past, None).await);
}

#[tokio::test]
async fn the_end_of_a_timeline_that_was_left_later_is_missed() {
    //    2   3   4   5
    // 1  B───●───○───○
    // 2              └   only its history file, and that later
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
    // A target after it is not past the end of the archive.
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
    //    2   3
    // 1  B───○
    // 2      └●
    // 3      └   left timeline 1, too; only its history file, and that later
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
    // It ends where it was left, if no timeline has more of it.
    fixture.remove(2, 3).await;
    assert_eq!(fixture.auto(None).await.last_segment, name_of(1, 2));
    let plan = fixture.reached(fixture.plan("AUTO", None, first).await);
    assert_eq!(plan.last_segment, name_of(1, 2));
}

#[tokio::test]
async fn timelines_are_counted_as_the_server_counts_them() {
    //    2   3   4   5   6
    // 1  B───●───B───●───●
    // 2      └●──B
    // 4      └   left timeline 1, too; only history files, first that of 4, then that of 3
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
    //    2   3   4   5   6
    // 1  B───●───B───●───●
    // 2      └●──B───○
    // 3              └●──●
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
    //    2   3   4
    // 1  B───●───●
    // 2          └●
    // 3      └●   left timeline 2 before that one's own beginning
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
    //    2
    // 1  B
    // 2  └○
    // 3  └●   left timeline 2 in the same segment
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
