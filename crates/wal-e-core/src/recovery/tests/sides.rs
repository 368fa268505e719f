use super::*;
use crate::config::Face;
use crate::layout::ObjectKey;
use crate::postgres::wal_sample::WalWriter;
use crate::postgres::{Lsn, SystemIdentifier, TimelineId};
use crate::store::ObjectStore;
use crate::store::faulty::{FaultyStore, Operation};
use crate::store::memory::MemoryStore;

fn number(timeline: u32) -> Option<TargetTimeline> {
    Some(TargetTimeline::Number(TimelineId(timeline)))
}

fn position(log: &WalWriter) -> Lsn {
    Lsn(log.position().0.next_multiple_of(8))
}

/// A copy was recovered to `fork` and promoted; the original went on, and has a newer base
/// backup.
struct Beside {
    fixture: Fixture,
    fork: Lsn,
    before: String,
    after: String,
}

async fn beside() -> Beside {
    //    2   3   4
    // 1  B───●───B
    // 2  └●
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let before = fixture.backup(&mut log, 1, 10).await.0;
    log.commit(701, minute(11));
    let fork = position(&log);
    let mut copy = log.fork(2);
    copy.commit(702, minute(20));
    copy.switch();
    log.switch();
    log.commit(702, minute(30));
    log.switch();
    let after = fixture.backup(&mut log, 1, 40).await.0;
    log.commit(703, minute(50));
    log.switch();
    fixture.archive(&log).await;
    fixture.archive(&copy).await;
    fixture.history(2, format!("1\t{fork}\tx\n")).await;
    Beside { fixture, fork, before, after }
}

#[tokio::test]
async fn a_timeline_that_went_on_beside_the_newest_is_shown_and_has_to_be_named() {
    let Beside { fixture, fork, before, after } = beside().await;
    for backup in ["AUTO", "LATEST", &before, &after] {
        let refusal = fixture.refused(fixture.plan(backup, None, None).await);
        assert!(refusal.reason.contains("could be meant: 1 and 2"), "{refusal:?}");
        let hint = Face::Program.speak(&refusal.hint().unwrap());
        for timeline in [1, 2] {
            let option = format!("--recovery-target-timeline {timeline}");
            assert!(hint.contains(&option), "{hint}");
        }
        let [first, second] = refusal.timelines.as_slice() else { panic!("{refusal:?}") };
        assert_eq!((first.timeline, second.timeline), (TimelineId(1), TimelineId(2)));
        assert_eq!((first.parent, second.parent), (None, Some(TimelineId(1))));
        assert_eq!(second.forked_at, Some(fork));
        assert_eq!(second.forked_time, Some(minute(20)));
        assert_eq!(first.last_transaction, Some(minute(50)));
        assert_eq!(second.last_transaction, Some(minute(20)));
        assert_eq!(first.last_segment, Some(name_of(1, 4)));
        assert_eq!(second.last_segment, Some(name_of(2, 2)));
        assert_eq!(first.newest_backup, Some((after.clone(), minute(40))));
        let detail = refusal.detail.unwrap();
        let lines: Vec<&str> = detail.lines().collect();
        assert_eq!(lines.len(), 4, "{detail}");
        assert!(lines[1].starts_with("timeline  parent  forked at LSN  forked at time"));
        assert!(lines[3].starts_with("2         1       "), "{detail}");
        assert!(lines[3].contains("2026-11-23 12:20:00+00"), "{detail}");
    }
    assert_eq!(fixture.refused(fixture.plan_standby().await).timelines.len(), 2);

    let first = fixture.reached(fixture.plan("AUTO", None, number(1)).await);
    assert_eq!((first.backup.name, first.reached_time), (after.clone(), Some(minute(50))));
    for timeline in [number(2), Some(TargetTimeline::Latest)] {
        let second = fixture.reached(fixture.plan("AUTO", None, timeline).await);
        assert_eq!((second.backup.name, second.timeline), (before.clone(), TimelineId(2)));
        assert_eq!(second.reached_time, Some(minute(20)));
    }
}

/// What retention leaves of a timeline of which it keeps nothing is its history.
#[tokio::test]
async fn a_timeline_that_is_nothing_but_a_history_file_does_not_have_to_be_ruled_out() {
    let Beside { fixture, before, after, .. } = beside().await;
    fixture.remove(2, 2).await;
    // A base backup leads there, so its WAL may be on its way.
    let refusal = fixture.no_auto(None).await;
    assert!(refusal.reason.contains("would leave timeline 2"), "{refusal:?}");

    let memory = fixture.store.inner();
    memory.delete(&crate::layout::sentinel(&before)).await.unwrap();
    for backup in ["AUTO", "LATEST", &after] {
        let plan = fixture.reached(fixture.plan(backup, None, None).await);
        assert_eq!((&plan.backup.name, plan.timeline), (&after, TimelineId(1)));
        assert!(plan.timeline_must_be_told);
        assert_eq!(plan.reached_time, Some(minute(50)));
        assert!(plan.notes.iter().any(|note| note.starts_with("Timeline 2 ")), "{plan:?}");
    }
}

#[tokio::test]
async fn a_target_that_lies_on_two_timelines_is_refused_and_one_before_both_is_not() {
    let Beside { fixture, fork, before, .. } = beside().await;
    for target in [time(10), time(15), Some(RecoveryTarget::Lsn(Lsn(fork.0 - 8)))] {
        let plan = fixture.auto(target.clone()).await;
        assert_eq!(plan.backup.name, before, "{target:?}");
    }
    let later = [time(20), time(25), time(30), time(45), Some(RecoveryTarget::Lsn(fork))];
    let later = later
        .into_iter()
        .chain([Some(RecoveryTarget::Lsn(Lsn(4 << 20))), Some(RecoveryTarget::Xid(702))]);
    for target in later {
        let refusal = fixture.no_auto(target.clone()).await;
        assert_eq!(refusal.timelines.len(), 2, "{target:?}: {refusal:?}");
        assert!(
            Face::Program.speak(&refusal.hint().unwrap()).contains("--recovery-target-timeline 1"),
            "{refusal:?}"
        );
    }
    let plan = fixture.reached(fixture.plan("AUTO", time(45), number(1)).await);
    assert_eq!(plan.timeline, TimelineId(1));
}

#[tokio::test]
async fn what_a_failover_left_on_the_old_timeline_is_a_note() {
    //    2   3
    // 1  B
    // 2  └●──●
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    let fork = position(&log);
    let mut promoted = log.fork(2);
    promoted.commit(702, minute(20));
    promoted.switch();
    promoted.commit(703, minute(40));
    promoted.switch();
    log.commit(702, minute(19));
    log.switch();
    fixture.archive(&log).await;
    fixture.archive(&promoted).await;
    fixture.history(2, format!("1\t{fork}\tx\n")).await;
    for target in [None, time(20), time(30)] {
        let plan = fixture.auto(target).await;
        assert_eq!((plan.timeline, plan.notes.len()), (TimelineId(2), 1), "{plan:?}");
        for word in ["timeline 1", &fork.to_string(), "1 WAL segment", "12:19:00+00"] {
            assert!(plan.notes[0].contains(word), "{word}: {plan:?}");
        }
    }
    assert!(fixture.auto(time(10)).await.notes.is_empty());
    // That moment is only there.
    let refusal = fixture.no_auto(time(19)).await;
    assert!(refusal.reason.contains("on timeline 1, after timeline 2"), "{refusal:?}");
    assert_eq!(refusal.timelines.len(), 2);
}

#[tokio::test]
async fn a_timeline_that_no_server_counts_to_is_named_with_the_missing_history() {
    //    2   3
    // 1  B───●
    // 3     └●   its ancestor 2 has no history file
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    log.switch();
    let fork = position(&log);
    log.noise(10);
    let mut third = log.fork(3);
    third.commit(702, minute(20));
    third.switch();
    fixture.archive(&third).await;
    log.switch();
    fixture.archive(&log).await;
    fixture.history(3, format!("1\t{fork}\tx\n2\t{fork}\tx\n")).await;
    for target in [None, time(15)] {
        let refusal = fixture.no_auto(target).await;
        assert!(refusal.reason.contains("1 and 3"), "{refusal:?}");
        assert!(refusal.detail.as_ref().unwrap().contains("\"00000002.history\""), "{refusal:?}");
        assert!(
            Face::Program.speak(&refusal.hint().unwrap()).contains("--recovery-target-timeline 3"),
            "{refusal:?}"
        );
    }
    let plan = fixture.reached(fixture.plan("AUTO", None, number(3)).await);
    assert_eq!(plan.reached_time, Some(minute(20)));
    let plan = fixture.reached(fixture.plan("AUTO", None, Some(TargetTimeline::Latest)).await);
    assert_eq!(plan.timeline, TimelineId(1));
    assert!(plan.notes[0].contains("\"00000002.history\""), "{plan:?}");
}

#[tokio::test]
async fn a_timeline_without_history_file_is_in_the_table() {
    let Beside { fixture, .. } = beside().await;
    let key = ObjectKey::from_listing("wal_005/00000002.history").unwrap();
    fixture.store.delete(&key).await.unwrap();
    let refusal = fixture.no_auto(None).await;
    assert!(refusal.timelines[1].lacks_history, "{refusal:?}");
    let detail = refusal.detail.as_ref().unwrap();
    assert!(detail.contains("\"00000002.history\"") && detail.contains("unknown"), "{detail}");
    let hint = Face::Program.speak(&refusal.hint().unwrap());
    assert!(!hint.contains("--recovery-target-timeline 2"), "{hint}");
    let plan = fixture.reached(fixture.plan("AUTO", None, number(1)).await);
    assert_eq!(plan.reached_time, Some(minute(50)));
}

/// Recoveries one after the other: each timeline ends before the next one begins.
#[tokio::test]
async fn timelines_that_ended_before_the_newest_began_are_notes() {
    //    2
    // 1  B
    // 2  └●
    // 4  └●   left timeline 2, and is archived last
    // 3  └●   left timeline 1
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    let fork = position(&log);
    let mut second = log.fork(2);
    second.commit(702, minute(20));
    let second_fork = position(&second);
    // The fourth goes on from the second.
    let mut fourth = second.fork(4);
    second.commit(703, minute(21));
    let mut third = log.fork(3);
    third.commit(702, minute(30));
    log.commit(702, minute(12));
    log.switch();
    second.switch();
    third.switch();
    for log in [&log, &second, &third] {
        fixture.archive(log).await;
    }
    fixture.history(2, format!("1\t{fork}\tx\n")).await;
    fixture.history(3, format!("1\t{fork}\tx\n")).await;
    let plan = fixture.auto(None).await;
    assert_eq!((plan.timeline, plan.notes.len()), (TimelineId(3), 2), "{plan:?}");
    fourth.commit(704, minute(40));
    fourth.switch();
    fixture.archive(&fourth).await;
    fixture.history(4, format!("1\t{fork}\tx\n2\t{second_fork}\tx\n")).await;
    let plan = fixture.auto(None).await;
    assert_eq!((plan.timeline, plan.notes.len()), (TimelineId(4), 3), "{plan:?}");
}

#[tokio::test]
async fn a_plan_lists_the_archive_once_for_all_base_backups_and_timelines() {
    let fixture = Fixture { store: FaultyStore::new(MemoryStore::new()) };
    let mut log = WalWriter::new(1, 2);
    for at in 0..20 {
        fixture.backup(&mut log, 1, at).await;
        log.switch();
    }
    fixture.archive(&log).await;
    let names = 200_000;
    for number in 22..22 + names {
        fixture.put(&format!("wal_005/{}", name_of(1, number)), "x").await;
    }
    // Each base backup is tried, and none reaches the name.
    let nowhere = Some(RecoveryTarget::Name("nowhere".to_owned()));
    let before = fixture.store.calls(Operation::List);
    let _ = fixture.no_auto(nowhere).await;
    // Beside these, one for each segment that is read.
    let lists = fixture.store.calls(Operation::List) - before;
    assert!(lists < names / 1000 + 100, "{lists}");
}

#[tokio::test]
async fn an_empty_segment_is_as_good_as_none_and_said_to_be_empty() {
    let Beside { fixture, after, .. } = beside().await;
    let empty = name_of(1, 4);
    fixture.put(&format!("wal_005/{empty}"), "").await;
    for target in [None, time(45)] {
        let refusal = fixture.refused(fixture.plan(&after, target, number(1)).await);
        assert!(refusal.reason.contains(&empty), "{refusal:?}");
        assert!(refusal.reason.contains("an empty object"), "{refusal:?}");
    }
    for target in [None, time(45)] {
        let refusal = fixture.refused(fixture.plan("AUTO", target.clone(), number(1)).await);
        let words = refusal.explanation();
        assert!(words.contains(&empty) && words.contains("empty object"), "{refusal:?}");
    }
    fixture.reached(fixture.plan("AUTO", time(15), number(1)).await);
}

#[tokio::test]
async fn a_segment_in_cold_storage_counts_once_it_can_be_read() {
    let Beside { fixture, before, .. } = beside().await;
    let memory = fixture.store.inner();
    let cold = name_of(1, 3);
    let key = ObjectKey::from_listing(&format!("wal_005/{cold}")).unwrap();
    memory.set_storage_class(&key, "DEEP_ARCHIVE");
    let refusal = fixture.refused(fixture.plan(&before, None, number(1)).await);
    assert!(refusal.reason.contains(&cold), "{refusal:?}");
    assert!(refusal.reason.contains("storage class"), "{refusal:?}");
    memory.restore_from_cold_storage();
    let plan = fixture.reached(fixture.plan(&before, None, number(1)).await);
    assert_eq!(plan.last_segment, name_of(1, 4));
}

/// The log of a cluster, and after it that of another one, as `pg_upgrade` leaves it.
#[tokio::test]
async fn a_base_backup_is_not_combined_with_the_wal_of_another_cluster() {
    //    2   3   4   5
    // 1  B───●───●───●   4 and 5 are of the new cluster
    let fixture = Fixture::new();
    let mut old = WalWriter::new(1, 2);
    let backup = fixture.backup(&mut old, 1, 10).await;
    old.commit(701, minute(11));
    old.switch();
    old.commit(702, minute(20));
    old.switch();
    let mut new = WalWriter::new(1, 4);
    new.cluster = SystemIdentifier(8);
    new.commit(3, minute(30));
    new.switch();
    new.commit(4, minute(40));
    new.switch();
    fixture.archive(&old).await;
    fixture.archive(&new).await;
    for gap in [false, true] {
        for target in [None, time(25), time(35)] {
            let refusal = fixture.no_auto(target.clone()).await;
            assert!(refusal.reason.contains("another cluster"), "{target:?}: {refusal:?}");
            assert!(refusal.explanation().contains("system identifier 8"), "{refusal:?}");
        }
        let plan = fixture.auto(time(15)).await;
        assert_eq!(
            (plan.backup.name.as_str(), plan.last_segment),
            (backup.0.as_str(), name_of(1, 3))
        );
        if !gap {
            fixture.remove(1, 4).await;
        }
    }
}
