//! Schedules over changes of the clock.

use time::OffsetDateTime;
use time::macros::datetime;

use crate::error::ErrorKind;
use crate::schedule::{Job, Role, Schedule, Slot};

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn slots(text: &str, from: OffsetDateTime, until: OffsetDateTime) -> Vec<String> {
    let schedule = schedule(text);
    let mut slots = Vec::new();
    let mut at = from;
    while let Some(slot) = schedule.next(at).filter(|slot| slot.time() <= until) {
        slots.push(slot.to_string());
        at = slot.time();
    }
    slots
}

#[test]
fn a_schedule_has_five_or_six_fields_and_perhaps_a_zone() {
    for (text, next) in [
        ("0 2 * * *", "20261130T020000Z"),
        ("0 2 * * * Europe/Berlin", "20261130T010000Z"),
        (" 30  14 * *  SUN ", "20261129T143000Z"),
        ("30 14 * * sun America/New_York", "20261129T193000Z"),
        ("0 0 1 JAN *", "20270101T000000Z"),
        ("*/5 * * * * *", "20261129T120005Z"),
        ("@daily Asia/Kolkata", "20261129T183000Z"),
        ("0 3 L * * UTC", "20261130T030000Z"),
        ("0 0 29 2 *", "20280229T000000Z"),
    ] {
        let found = schedule(text).next(datetime!(2026-11-29 12:00 UTC));
        assert_eq!(found.map(|slot| slot.to_string()).as_deref(), Some(next), "{text}");
    }
    for wrong in [
        "",
        "UTC",
        "nightly",
        "0 2 * *",
        "60 2 * * *",
        "0 24 * * *",
        "0 2 * * * Europe/Atlantis",
        "0 0 30 2 *",
        "0 0 2 * * * 2027",
        "0 2 * * *; x",
    ] {
        let error = wrong.parse::<Schedule>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        let detail = error.detail().unwrap_or_default();
        assert!(detail.ends_with('.') && !detail.ends_with(".."), "{wrong}: {detail}");
    }
}

/// In Berlin, the hour from two is missing on 2026-03-29 and comes twice on 2026-10-25.
#[test]
fn a_fixed_time_comes_once_a_day_whatever_the_clocks_do() {
    let text = "30 2 * * * Europe/Berlin";
    assert_eq!(
        slots(text, datetime!(2026-03-27 12:00 UTC), datetime!(2026-03-30 12:00 UTC)),
        ["20260328T013000Z", "20260329T010000Z", "20260330T003000Z"]
    );
    assert_eq!(
        slots(text, datetime!(2026-10-23 12:00 UTC), datetime!(2026-10-26 12:00 UTC)),
        ["20261024T003000Z", "20261025T003000Z", "20261026T013000Z"]
    );
    let hourly = slots(
        "0 * * * * Europe/Berlin",
        datetime!(2026-10-24 23:30 UTC),
        datetime!(2026-10-25 03:00 UTC),
    );
    let expected = ["20261025T000000Z", "20261025T010000Z", "20261025T020000Z", "20261025T030000Z"];
    assert_eq!(hourly, expected);
}

/// Whatever the time is, looking back finds what looking forward would have found: otherwise
/// a slot were done twice, or not at all.
#[test]
fn the_latest_slot_is_the_last_that_was_to_come() {
    for text in [
        "30 2 * * * Europe/Berlin",
        "0 2,3 * * * America/New_York",
        "*/20 * * * * Australia/Lord_Howe",
        "15 */2 * * * Asia/Tehran",
        "0 0 * * 0 America/Sao_Paulo",
        "59 23 L * * Europe/London",
        "0 2 * * *",
    ] {
        let schedule = schedule(text);
        for begin in [datetime!(2026-03-07 00:00 UTC), datetime!(2026-10-03 00:00 UTC)] {
            let mut last = None;
            let mut next = schedule.next(begin);
            for minute in 1..(32 * 24 * 60) {
                let now = begin + time::Duration::minutes(minute);
                while let Some(due) = next.filter(|slot| slot.time() <= now) {
                    last = Some(due);
                    next = schedule.next(due.time());
                }
                if last.is_some() {
                    assert_eq!(schedule.latest(now), last, "{text} at {now}");
                }
                assert_eq!(schedule.next(now), next, "{text} at {now}");
            }
        }
    }
}

#[test]
fn a_clock_that_jumps_misses_no_slot_and_repeats_none() {
    let schedule = schedule("0 2 * * *");
    let latest = |now| schedule.latest(now).map(|slot| slot.to_string());
    let tonight = Some("20261129T020000Z".to_owned());
    assert_eq!(latest(datetime!(2026-11-29 02:00 UTC)), tonight);
    assert_eq!(latest(datetime!(2026-11-29 02:00:00.9 UTC)), tonight);
    // Back by an hour: the slot before, which has its claim. Ahead by two days: one slot.
    assert_eq!(latest(datetime!(2026-11-29 01:00 UTC)), Some("20261128T020000Z".to_owned()));
    assert_eq!(latest(datetime!(2026-12-01 03:00 UTC)), Some("20261201T020000Z".to_owned()));
}

#[test]
fn slots_are_read_as_they_are_written_and_sort_as_texts() {
    let slot = Slot::at(datetime!(2026-11-29 02:00:00.5 +1));
    assert_eq!(slot.to_string(), "20261129T010000Z");
    assert_eq!("20261129T010000Z".parse(), Ok(slot));
    assert!("20261129T010000".parse::<Slot>().is_err());
    assert!(slot.to_string() < Slot::at(datetime!(2026-12-01 00:00 UTC)).to_string());
}

#[test]
fn no_role_leaves_a_cluster_without_backups() {
    for role in [Role::Primary, Role::Standby, Role::Any] {
        assert!(role.includes(Job::Backup, false) && !role.includes(Job::Backup, true));
    }
    assert!(Role::Any.includes(Job::Verification, true));
    assert!(Role::Any.includes(Job::Verification, false));
    assert!(Role::Standby.includes(Job::Verification, true));
    assert!(!Role::Standby.includes(Job::Verification, false));
    assert!(!Role::Primary.includes(Job::Verification, true));
}
