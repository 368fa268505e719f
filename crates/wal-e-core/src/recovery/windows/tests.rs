//! The drawings are explained in `recovery/tests/mod.rs`.

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use super::super::tests::{Fixture, branched, minute, name_of, sample};
use super::super::{Outcome, RecoveryTarget, TargetTimeline, prepare_all};
use super::*;
use crate::catalogue;
use crate::error::ErrorKind;
use crate::notice;
use crate::postgres::wal_sample::WalWriter;

async fn windows_of(fixture: &Fixture) -> Vec<Window> {
    let (notices, _queue) = notice::channel();
    let store: Arc<dyn ObjectStore> = Arc::new(fixture.store.clone());
    let backups = catalogue::list_sound(&*store, "AUTO", &notices).await.unwrap();
    let prepared = prepare_all(&store, &backups).await.unwrap();
    let candidates = prepared.into_iter().flatten().collect();
    windows(store, backups, candidates, None, notices).await.unwrap()
}

/// Timeline, first and last minute, backup.
fn in_minutes(windows: &[Window]) -> Vec<(u32, i64, Option<i64>, &str)> {
    let minutes = |time: OffsetDateTime| (time - minute(0)).whole_minutes();
    windows
        .iter()
        .map(|it| {
            // The last one is just before a transaction ended.
            let last = it.to_time.map(|time| minutes(time + RESOLUTION));
            (it.timeline.0, minutes(it.from_time), last, it.backup_name.as_str())
        })
        .collect()
}

async fn is_reached(fixture: &Fixture, window: &Window, target: RecoveryTarget) -> bool {
    is_reached_along(fixture, window.timeline, target).await
}

async fn is_reached_along(fixture: &Fixture, timeline: TimelineId, target: RecoveryTarget) -> bool {
    let timeline = Some(TargetTimeline::Number(timeline));
    match fixture.plan("AUTO", Some(target), timeline).await {
        Ok(outcome) => matches!(outcome, Outcome::Reachable(_)),
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Both ends can be reached, and neither what is just before the one nor just after the other.
async fn assert_ends(fixture: &Fixture, window: &Window) {
    let at = |time: OffsetDateTime| RecoveryTarget::Time(time.into());
    if let Some(to_time) = window.to_time {
        for time in [window.from_time, to_time] {
            assert!(is_reached(fixture, window, at(time)).await, "{time} {window:?}");
        }
        assert!(!is_reached(fixture, window, at(to_time + RESOLUTION)).await, "{window:?}");
    }
    if let Some(to_lsn) = window.to_lsn {
        for lsn in [window.from_lsn, to_lsn] {
            assert!(
                is_reached(fixture, window, RecoveryTarget::Lsn(lsn)).await,
                "{lsn} {window:?}"
            );
        }
        let next = RecoveryTarget::Lsn(Lsn(to_lsn.0 + 1));
        assert!(!is_reached(fixture, window, next).await, "{window:?}");
    }
}

#[tokio::test]
async fn without_a_hole_there_is_one_stretch_from_the_oldest_backup_on() {
    let sample = sample().await;
    let windows = windows_of(&sample.fixture).await;
    assert_eq!(in_minutes(&windows), [(1, 10, Some(50), sample.first.0.as_str())]);
    assert_eq!(windows[0].from_lsn, sample.first.1);
    assert!(windows[0].to_lsn.unwrap() > sample.commits[4]);
    assert_eq!(windows[0].ends, "the archive has no more of timeline 1");
    assert_ends(&sample.fixture, &windows[0]).await;
    let before = RecoveryTarget::Time((minute(10) - RESOLUTION).into());
    assert!(!is_reached(&sample.fixture, &windows[0], before).await);
}

#[tokio::test]
async fn a_hole_breaks_the_stretch_up_to_the_next_backup() {
    //    2   3   4   5   6
    // 1  B───○───B───●───●
    let sample = sample().await;
    let fixture = &sample.fixture;
    fixture.remove(1, 3).await;
    let windows = windows_of(fixture).await;
    let (first, second) = (sample.first.0.as_str(), sample.second.0.as_str());
    assert_eq!(in_minutes(&windows), [(1, 10, Some(11), first), (1, 30, Some(50), second)]);
    let missing = format!("WAL segment \"{}\" is not in the archive", name_of(1, 3));
    assert_eq!(windows[0].ends, missing);
    for window in &windows {
        assert_ends(fixture, window).await;
    }
    // A backup that lacks its own WAL is no place to begin.
    fixture.remove(1, 4).await;
    assert_eq!(in_minutes(&windows_of(fixture).await), [(1, 10, Some(11), first)]);
    fixture.remove(1, 2).await;
    assert_eq!(windows_of(fixture).await, []);
}

#[tokio::test]
async fn damage_at_the_end_ends_it_earlier() {
    let sample = sample().await;
    let fixture = &sample.fixture;
    fixture.spoil(&name_of(1, 6)).await;
    let windows = windows_of(fixture).await;
    assert_eq!(in_minutes(&windows), [(1, 10, Some(40), sample.first.0.as_str())]);
    assert!(windows[0].ends.contains(&name_of(1, 6)), "{windows:?}");
    assert_ends(fixture, &windows[0]).await;
}

#[tokio::test]
async fn damage_that_is_met_breaks_the_stretch_as_a_hole_does() {
    //    2   3   4   5
    // 1  B───x───B───●
    // No transaction ends after the second backup, so that its end is looked for before it.
    let fixture = Fixture::new();
    let mut log = WalWriter::new(1, 2);
    let (first, _) = fixture.backup(&mut log, 1, 10).await;
    log.commit(701, minute(11));
    log.switch();
    log.commit(702, minute(12));
    log.switch();
    let (second, _) = fixture.backup(&mut log, 1, 30).await;
    log.switch();
    log.noise(100);
    log.switch();
    fixture.archive(&log).await;
    let expected = [(1, 10, Some(12), first.as_str())];
    assert_eq!(in_minutes(&windows_of(&fixture).await), expected);
    fixture.spoil(&name_of(1, 3)).await;
    let windows = windows_of(&fixture).await;
    let expected = [(1, 10, Some(11), first.as_str()), (1, 30, None, second.as_str())];
    assert_eq!(in_minutes(&windows), expected);
    for window in &windows {
        assert_ends(&fixture, window).await;
    }
    // In the WAL of the second backup there is no place to begin.
    fixture.spoil(&name_of(1, 4)).await;
    assert_eq!(in_minutes(&windows_of(&fixture).await), expected[..1]);
}

#[tokio::test]
async fn what_a_newer_timeline_has_as_well_is_in_one_row_only() {
    //    2   3   4   5   6
    // 1  B───●───B───●───●
    // 2      └●──B
    let (sample, fork, _) = branched().await;
    let fixture = &sample.fixture;
    let windows = windows_of(fixture).await;
    let first = sample.first.0.as_str();
    assert_eq!(
        in_minutes(&windows),
        [(2, 10, Some(70), first), (1, 31, Some(50), first)],
        "{windows:?}"
    );
    assert_eq!(windows[1].from_lsn, fork);
    for window in &windows {
        assert_ends(fixture, window).await;
    }
    // With a hole of its own the newer timeline has less, and the older one as much as before.
    fixture.remove(2, 3).await;
    let windows = windows_of(fixture).await;
    assert!(windows.iter().any(|it| it.timeline.0 == 1 && it.to_time > Some(minute(45))));
    for window in &windows {
        assert_ends(fixture, window).await;
    }
}

#[test]
fn a_backup_s_time_is_rounded_up_to_one_that_can_be_a_target() {
    for (nanoseconds, rounded) in [(0, 0), (1, 1000), (999, 1000), (1000, 1000)] {
        let time = minute(0) + Duration::nanoseconds(nanoseconds);
        assert_eq!(to_microseconds(time), minute(0) + Duration::nanoseconds(rounded));
    }
}

#[test]
fn only_what_no_newer_timeline_passes_is_left() {
    let line = |timeline, text: &str| {
        TimelineHistory::parse("x", TimelineId(timeline), text.as_bytes()).unwrap()
    };
    let first = TimelineHistory::without_ancestors(TimelineId(1));
    let passed = |from, to, is_damaged: bool| {
        let line = line(2, "1\t0/500\n");
        let damaged_until = is_damaged.then_some(Lsn(to + 0x80));
        [Passed { line, from: Lsn(from), to: Lsn(to), damaged_until }]
    };
    let left = |from, to, passed: &[Passed]| left_of(&first, Lsn(from), Lsn(to), passed);
    assert_eq!(left(0x100, 0x900, &[]), Left::All);
    assert_eq!(left(0x100, 0x900, &passed(0x100, 0x800, false)), Left::From(Lsn(0x500)));
    assert_eq!(left(0x100, 0x400, &passed(0x100, 0x800, false)), Left::Nothing);
    // The newer one begins later, or has a hole before it parts.
    assert_eq!(left(0x100, 0x900, &passed(0x200, 0x800, false)), Left::All);
    assert_eq!(left(0x100, 0x900, &passed(0x100, 0x300, false)), Left::From(Lsn(0x300)));
    // Damage on the common way ends both.
    assert_eq!(left(0x100, 0x900, &passed(0x100, 0x300, true)), Left::After(Lsn(0x380)));
    assert_eq!(left(0x380, 0x900, &passed(0x100, 0x300, true)), Left::All);
    assert_eq!(left(0x600, 0x900, &passed(0x100, 0x800, false)), Left::All);
}

/// Archives of up to three timelines with backups and holes: whatever a row claims, a plan
/// confirms, and what a plan reaches along the newest timeline is in a row of it.
#[tokio::test]
async fn rows_and_plans_say_the_same() {
    let (mut claimed, mut reached) = (0, 0);
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let fixture = Fixture::new();
        let mut log = WalWriter::new(1, 2);
        let mut at = 0;
        let mut timeline = 1;
        let mut history = String::new();
        write(&fixture, &mut random, &mut log, 1, &mut at).await;
        for next in 2..=3 {
            if random.bool() {
                continue;
            }
            let fork = Lsn(log.position().0.next_multiple_of(8));
            history.push_str(&format!("{timeline}\t{fork}\tx\n"));
            let newer = log.fork(next);
            if random.bool() {
                // The older one goes on.
                write(&fixture, &mut random, &mut log, timeline, &mut at).await;
            }
            fixture.archive(&log).await;
            (log, timeline) = (newer, next);
            fixture.history(next, history.clone()).await;
            at += 1;
            write(&fixture, &mut random, &mut log, next, &mut at).await;
        }
        log.switch();
        fixture.archive(&log).await;
        for (timeline, number) in (1..=3).flat_map(|timeline| (2..12).map(move |n| (timeline, n))) {
            if random.u8(0..12) == 0 {
                fixture.remove(timeline, number).await;
            }
        }
        let windows = windows_of(&fixture).await;
        for minutes in 0..=at {
            let (newest, time) = (TimelineId(timeline), minute(minutes));
            let target = RecoveryTarget::Time(time.into());
            let claims = |it: &Window| it.from_time <= time && it.to_time >= Some(time);
            if is_reached_along(&fixture, newest, target).await {
                reached += 1;
                let own = windows.iter().filter(|window| window.timeline == newest);
                assert!(own.clone().any(claims), "{seed} {time} {windows:?}");
            }
        }
        for window in windows {
            claimed += 1;
            assert_ends(&fixture, &window).await;
            let Some(to_time) = window.to_time else { continue };
            let seconds = (to_time - window.from_time).whole_seconds();
            for _ in 0..3 {
                let time = window.from_time + Duration::seconds(random.i64(0..=seconds));
                let target = RecoveryTarget::Time(time.into());
                assert!(is_reached(&fixture, &window, target).await, "{seed} {time} {window:?}");
            }
        }
    }
    assert!(claimed >= 50 && reached >= 50, "{claimed} {reached}");
}

/// A few segments with transactions and base backups.
async fn write(
    fixture: &Fixture,
    random: &mut fastrand::Rng,
    log: &mut WalWriter,
    timeline: u32,
    at: &mut i64,
) {
    for _ in 0..random.u8(1..5) {
        *at += 2;
        match random.u8(0..4) {
            0 => {
                fixture.backup(log, timeline, *at).await;
            }
            1 => {
                log.noise(100);
            }
            _ => {
                log.commit(700, minute(*at));
            }
        }
        *at += 1;
        if random.bool() {
            log.commit(701, minute(*at));
        }
        if random.bool() {
            log.switch();
        }
    }
}
