//! Who does what is due, on a store in memory.

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use crate::error::ErrorKind;
use crate::layout::{self, RunMark};
use crate::schedule::{
    Claim, Clock, Decision, Hold, Job, Node, Outcome, Schedule, Slot, history, inspect, look,
    prune, skip,
};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{ListRequest, ObjectStore, list_all};

const JOB: Job = Job::Backup;

fn node(hostname: &str, instance: u64) -> Node {
    Node { hostname: hostname.to_owned(), data_directory: "/data".to_owned(), instance }
}

/// Today at midnight.
fn slot() -> Slot {
    Slot::at(OffsetDateTime::now_utc().replace_time(time::Time::MIDNIGHT))
}

fn done() -> Outcome {
    Outcome { ok: true, again: false, summary: "took it".to_owned(), bytes: Some(7) }
}

fn failed() -> Outcome {
    Outcome { ok: false, again: true, summary: "could not".to_owned(), bytes: None }
}

/// `retake` is whether the server may have its own claims of before its start back.
async fn decision(store: &dyn ObjectStore, node: &Node, retake: bool) -> Decision {
    let retaken = (!retake).then(slot);
    inspect(store, (JOB, slot()), Clock::OWN, node, retaken).await.unwrap()
}

async fn create(store: &dyn ObjectStore, node: &Node) -> Option<Claim> {
    match decision(store, node, false).await {
        Decision::Claim { attempt, abandoned } => {
            Claim::create(store, JOB, slot(), (attempt, abandoned), Clock::OWN, node).await.unwrap()
        }
        _ => None,
    }
}

/// Makes all objects of an attempt as old as that.
fn age(store: &MemoryStore, attempt: u32, by: Duration) {
    for mark in [RunMark::Claim, RunMark::Alive, RunMark::Done, RunMark::Failed] {
        let key = layout::run_mark(JOB.as_str(), slot(), attempt, mark);
        store.set_last_modified(&key, OffsetDateTime::now_utc() - by);
    }
}

fn claim(attempt: u32, abandoned: Option<u32>) -> Decision {
    Decision::Claim { attempt, abandoned }
}

#[tokio::test]
async fn of_many_servers_one_takes_each_slot() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut store = FaultyStore::new(MemoryStore::new());
        for call in 1..=12 {
            let delay = std::time::Duration::from_micros(random.u64(0..2000));
            for operation in [Operation::Put, Operation::List, Operation::Get] {
                store = store.with(operation, When::Call(call), Fault::Delay(delay));
            }
        }
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let servers = (0..4).map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let node = node(&format!("db{number}"), number);
                let Some(claim) = create(&*store, &node).await else { return 0 };
                claim.end(&*store, &done(), OffsetDateTime::now_utc()).await.unwrap();
                1
            })
        });
        let mut taken = 0;
        for server in servers.collect::<Vec<_>>() {
            taken += server.await.unwrap();
        }
        assert_eq!(taken, 1, "seed {seed}");
        assert_eq!(decision(&*store, &node("db9", 9), true).await, Decision::Done);
    }
}

#[tokio::test]
async fn a_failure_is_tried_again_after_a_growing_pause() {
    let store = MemoryStore::new();
    let node = node("db1", 1);
    for attempt in 1..=3 {
        let claim = create(&store, &node).await.unwrap();
        assert_eq!(claim.attempt, attempt);
        claim.end(&store, &failed(), OffsetDateTime::now_utc()).await.unwrap();
        let pause = Duration::minutes(1 << (attempt - 1));
        assert!(matches!(decision(&store, &node, true).await, Decision::LookAgain(_)));
        age(&store, attempt, pause - Duration::seconds(5));
        assert!(matches!(decision(&store, &node, true).await, Decision::LookAgain(_)));
        age(&store, attempt, pause + Duration::seconds(5));
    }
    assert_eq!(decision(&store, &node, false).await, claim(4, None));
}

#[tokio::test]
async fn a_server_that_was_killed_is_succeeded_when_it_was_silent_for_long() {
    let store = MemoryStore::new();
    let (killed, other) = (node("db1", 1), node("db2", 2));
    let first = create(&store, &killed).await.unwrap();
    age(&store, 1, Duration::minutes(20));
    assert_eq!(first.renew(&store).await.unwrap(), Hold::Held);
    assert!(matches!(decision(&store, &other, true).await, Decision::LookAgain(_)));
    age(&store, 1, Duration::minutes(20));
    let second = create(&store, &other).await.unwrap();
    assert_eq!(second.attempt, 2);
    // It was not killed, only frozen: it finds that it has been succeeded.
    assert_eq!(first.renew(&store).await.unwrap(), Hold::TakenOver);
    assert_eq!(second.renew(&store).await.unwrap(), Hold::Held);
    let entries = history(&store).await.unwrap();
    let seen: Vec<_> = entries.iter().map(|it| (it.attempt, it.host.as_str(), it.ok)).collect();
    assert_eq!(seen, [(2, "db2", None), (1, "db1", Some(false))]);
    second.end(&store, &done(), OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(decision(&store, &killed, true).await, Decision::Done);
}

#[tokio::test]
async fn a_server_that_was_restarted_goes_on_at_once_and_only_once() {
    let store = MemoryStore::new();
    create(&store, &node("db1", 1)).await.unwrap();
    let restarted = node("db1", 2);
    assert_eq!(decision(&store, &restarted, true).await, claim(2, Some(1)));
    assert!(matches!(decision(&store, &restarted, false).await, Decision::LookAgain(_)));
    assert!(matches!(decision(&store, &node("db2", 2), true).await, Decision::LookAgain(_)));
    let elsewhere = Node { data_directory: "/other".to_owned(), ..restarted };
    assert!(matches!(decision(&store, &elsewhere, true).await, Decision::LookAgain(_)));
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_and_used() {
    let store = FaultyStore::new(MemoryStore::new()).with(
        Operation::Put,
        When::Call(1),
        Fault::LoseAnswer(ErrorKind::Unavailable),
    );
    let node = node("db1", 1);
    let lost = Claim::create(&store, JOB, slot(), (1, None), Clock::OWN, &node).await;
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(decision(&store, &node, false).await, Decision::Resume(1));
    let claim = Claim::resumed(JOB, slot(), 1, Clock::OWN, &node);
    assert_eq!(claim.renew(&store).await.unwrap(), Hold::Held);
    claim.end(&store, &done(), OffsetDateTime::now_utc()).await.unwrap();
    claim.end(&store, &done(), OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(decision(&store, &node, false).await, Decision::Done);
}

/// What one server does until the slot is done; how often it has begun to work.
async fn serve(store: &dyn ObjectStore, node: &Node) -> u32 {
    let mut begun = 0;
    loop {
        tokio::task::yield_now().await;
        let decision = match inspect(store, (JOB, slot()), Clock::OWN, node, None).await {
            Ok(Decision::Done) => return begun,
            Ok(decision) => decision,
            Err(_) => continue,
        };
        let claim = match decision {
            Decision::Claim { attempt, abandoned } => {
                let number = (attempt, abandoned);
                Claim::create(store, JOB, slot(), number, Clock::OWN, node).await.ok().flatten()
            }
            Decision::Resume(attempt) => {
                Some(Claim::resumed(JOB, slot(), attempt, Clock::OWN, node))
            }
            Decision::LookAgain(_) | Decision::Done => None,
        };
        let Some(claim) = claim else { continue };
        begun += 1;
        while claim.end(store, &done(), OffsetDateTime::now_utc()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_in_between_leads_to_no_second_run() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut store = FaultyStore::new(MemoryStore::new());
        for call in 1..=20 {
            for operation in [Operation::Put, Operation::List, Operation::Get] {
                let fault = match random.u32(0..4) {
                    0 => Fault::Refuse(ErrorKind::Unavailable),
                    1 => Fault::LoseAnswer(ErrorKind::Unavailable),
                    2 => Fault::Delay(std::time::Duration::from_micros(random.u64(0..500))),
                    _ => continue,
                };
                store = store.with(operation, When::Call(call), fault);
            }
        }
        let store = &store;
        let serve = |name, instance| async move { serve(store, &node(name, instance)).await };
        let begun = tokio::join!(serve("db1", 1), serve("db2", 2), serve("db3", 3));
        assert_eq!(begun.0 + begun.1 + begun.2, 1, "seed {seed}: {begun:?}");
        store.heal();
        let entries = history(store).await.unwrap();
        assert_eq!(entries.len(), 1, "seed {seed}");
        assert_eq!(entries[0].ok, Some(true));
    }
}

#[tokio::test]
async fn slots_before_a_schedule_was_first_seen_do_not_count_and_missed_ones_do() {
    let store = MemoryStore::new();
    let schedule: Schedule = "* * * * *".parse().unwrap();
    let node = node("db1", 1);
    let due = || schedule.latest(OffsetDateTime::now_utc()).unwrap();
    let look = |slot| look(&store, (JOB, slot), &schedule, Clock::OWN, &node, None);
    assert_eq!(look(due()).await.unwrap(), None);
    let seen = layout::schedule(JOB.as_str(), &schedule.fingerprint());
    store.set_last_modified(&seen, OffsetDateTime::now_utc() - Duration::hours(5));
    // Of those that were missed the last counts.
    assert_eq!(look(due()).await.unwrap(), Some(claim(1, None)));
    // A clock was years ahead when it was first seen.
    store.set_last_modified(&seen, OffsetDateTime::now_utc() + Duration::days(999));
    assert_eq!(look(due()).await.unwrap(), Some(claim(1, None)));
}

#[tokio::test]
async fn a_slot_waits_while_another_server_works_on_another_one() {
    let store = MemoryStore::new();
    let (one, other) = (node("db1", 1), node("db2", 2));
    let claim = create(&store, &one).await.unwrap();
    let next = Slot::at(OffsetDateTime::now_utc());
    let of_next = |node: Node| {
        let store = store.clone();
        async move { inspect(&store, (JOB, next), Clock::OWN, &node, None).await.unwrap() }
    };
    assert!(matches!(of_next(other.clone()).await, Decision::LookAgain(_)));
    // After a restart the same server knows that it does not work any more.
    assert_eq!(of_next(node("db1", 3)).await, self::claim(1, None));
    claim.end(&store, &failed(), OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(of_next(other).await, self::claim(1, None));
}

#[tokio::test]
async fn a_run_that_found_something_wrong_is_done_all_the_same() {
    let store = MemoryStore::new();
    let node = node("db1", 1);
    let claim = create(&store, &node).await.unwrap();
    let damaged = Outcome { again: false, ..failed() };
    claim.end(&store, &damaged, OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(decision(&store, &node, true).await, Decision::Done);
    assert_eq!(history(&store).await.unwrap()[0].ok, Some(false));
}

#[tokio::test]
async fn the_store_s_clock_counts() {
    let now = OffsetDateTime::now_utc();
    let clock = |ahead| Clock::compare(now + ahead, now, now);
    assert_eq!(clock(Duration::seconds(40)), Clock::OWN);
    for ahead in [Duration::days(-1), Duration::hours(2)] {
        let difference = clock(ahead).now() - OffsetDateTime::now_utc() - ahead;
        assert!(difference.abs() < Duration::seconds(10), "{difference}");
    }
    let measured = Clock::measure(&MemoryStore::new()).await.unwrap();
    assert_eq!(measured, Clock::OWN);
}

#[tokio::test]
async fn old_runs_are_removed_and_the_newest_kept() {
    let store = MemoryStore::new();
    let node = node("db1", 1);
    let slot_of = |day| Slot::at(slot().time() + Duration::days(day));
    for day in 0..405 {
        let claim = Claim::create(&store, JOB, slot_of(day), (1, None), Clock::OWN, &node);
        let claim = claim.await.unwrap().unwrap();
        claim.end(&store, &done(), OffsetDateTime::now_utc()).await.unwrap();
    }
    for attempt in 1..=60 {
        let claim = Claim::resumed(JOB, slot_of(405), attempt, Clock::OWN, &node);
        claim.end(&store, &failed(), OffsetDateTime::now_utc()).await.unwrap();
    }
    prune(&store, Job::Verification).await.unwrap();
    assert_eq!(history(&store).await.unwrap().len(), 465);
    prune(&store, JOB).await.unwrap();
    let entries = history(&store).await.unwrap();
    assert_eq!(entries.len(), 399 + 50);
    assert_eq!((entries[0].slot, entries[0].attempt), (Some(slot_of(405).time()), 60));
    assert_eq!(entries[0].detail.as_deref(), Some("could not"));
    assert_eq!(entries[50].bytes, Some(7));
    let left = list_all(&store, &ListRequest::default()).await.unwrap();
    assert_eq!(left.len(), 2 * 399 + 50);
}

#[tokio::test]
async fn a_slot_that_was_not_begun_says_why_and_is_done_with() {
    let store = MemoryStore::new();
    let (own, other) = (node("db1", 1), node("db2", 2));
    let reason = "was not begun: it waited";
    let skipped = skip(&store, (JOB, slot()), reason, Clock::OWN, &own, None).await.unwrap();
    assert!(skipped);
    let entries = history(&store).await.unwrap();
    let seen: Vec<_> = entries.iter().map(|it| (it.attempt, it.ok, it.detail.as_deref())).collect();
    assert_eq!(seen, [(1, Some(false), Some(reason))]);
    assert_eq!(decision(&store, &other, true).await, Decision::Done);
    assert!(!skip(&store, (JOB, slot()), reason, Clock::OWN, &own, None).await.unwrap());
}

#[tokio::test]
async fn a_slot_that_another_server_has_begun_is_not_said_to_be_skipped() {
    let store = MemoryStore::new();
    create(&store, &node("db2", 2)).await.unwrap();
    let own = node("db1", 1);
    assert!(!skip(&store, (JOB, slot()), "waited", Clock::OWN, &own, None).await.unwrap());
    assert_eq!(history(&store).await.unwrap().len(), 1);
}
