use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;
use crate::error::Error;
use crate::layout::ObjectKey;
use crate::notice::{self, NoticeQueue};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::retry::{Patience, RetryingStore};
use crate::store::{Attributes, MultipartUpload, ObjectStore, PutMode, PutOutcome};

use ErrorKind::Throttled;

/// Nothing here takes longer, unless something waits without end.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the store of these tests takes for a request.
const WORK: Duration = Duration::from_millis(10);

const PATIENT: Patience = Patience {
    give_up_after: Duration::from_secs(600),
    without_answer: Duration::from_secs(600),
    first_delay: Duration::from_millis(1),
    longest_delay: Duration::from_millis(2),
};

type Faulty = FaultyStore<MemoryStore>;

fn retrying(faulty: &Faulty) -> (Arc<RetryingStore<Faulty>>, NoticeQueue) {
    let (notices, queue) = notice::channel();
    (Arc::new(RetryingStore::new(faulty.clone(), PATIENT, notices)), queue)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(name).unwrap()
}

async fn put(store: &dyn ObjectStore, name: &str) -> Result<PutOutcome> {
    let content = Bytes::copy_from_slice(name.as_bytes());
    store.put(&key(name), content, PutMode::CreateOnly, &Attributes::default()).await
}

/// So many uploads at the same time, all of which must succeed.
async fn put_together(store: &dyn ObjectStore, round: usize, count: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("{round}-{n}")).collect();
    let puts = join_all(names.iter().map(|name| put(store, name)));
    for outcome in tokio::time::timeout(DEADLINE, puts).await.expect("uploads wait without end") {
        assert_eq!(outcome.unwrap(), PutOutcome::Stored);
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn the_bound_halves_once_for_a_burst_and_grows_by_one() {
    let start = Instant::now();
    let mut bound = Bound::default();
    assert!(bound.allows(1_000_000));
    bound.asked_for(20);
    assert_eq!(bound.throttled(20, 20, start), Some(10));
    assert_eq!(bound.throttled(19, 20, start + ms(1)), None);
    assert_eq!(bound.throttled(10, 20, start + ms(999)), None);
    assert!(bound.allows(9) && !bound.allows(10));

    for _ in 0..10 {
        assert!(!bound.allows(10));
        bound.succeeded();
    }
    assert!(bound.allows(10) && !bound.allows(11));
    assert_eq!(bound.throttled(11, 20, start + ms(1000)), Some(5));
    assert_eq!(bound.throttled(16, 20, start + ms(2000)), Some(5), "never up");
    assert_eq!(bound.throttled(1, 20, start + ms(3000)), Some(1));
    assert_eq!(bound.throttled(1, 20, start + ms(4000)), Some(1), "never none at all");
}

#[test]
fn the_bound_is_lifted_past_the_most_that_was_asked_for() {
    let mut bound = Bound::default();
    assert_eq!(bound.throttled(4, 4, Instant::now()), Some(2));
    bound.asked_for(5);
    bound.asked_for(3);
    for limit in 2..=5 {
        assert_eq!(bound.limit, Some(limit));
        (0..limit).for_each(|_| bound.succeeded());
    }
    assert_eq!(bound.limit, None);
}

#[tokio::test]
async fn a_burst_lowers_what_runs_at_once_until_the_store_has_recovered() {
    let mut faulty = FaultyStore::new(MemoryStore::new());
    for call in 1..=16 {
        let refusal = Fault::RefuseAfter(WORK, Throttled);
        faulty = faulty.with(Operation::Put, When::Call(call), refusal);
    }
    let faulty = faulty.with(Operation::Put, When::From(1), Fault::Delay(WORK));
    let (store, queue) = retrying(&faulty);
    put_together(&*store, 0, 16).await;
    assert_eq!(faulty.take_most_at_once(), 16, "no bound before the store asks for one");
    assert_eq!(faulty.calls(Operation::Put), 32, "the whole burst, and each once more");
    let said: Vec<String> = queue.drain().into_iter().map(|notice| notice.message).collect();
    let slow_down = "the store asks to slow down: at most 8 requests at a time";
    assert!(said.iter().any(|message| message == slow_down), "{said:?}");

    // 16 uploads let the bound of 8 grow to 9; the next 16 to 11 at most.
    put_together(&*store, 1, 16).await;
    let most = faulty.take_most_at_once();
    assert!((8..=11).contains(&most), "{most} at once");
    let mut most = Vec::new();
    for round in 2..12 {
        put_together(&*store, round, 16).await;
        most.push(faulty.take_most_at_once());
    }
    assert!(most.is_sorted(), "{most:?}");
    assert_eq!(most.last(), Some(&16), "{most:?}");
    assert_eq!(store.shared.congestion.lock().bound.limit, None);
}

/// A store whose bound is 1.
async fn bounded_to_one(faulty: Faulty) -> (Arc<RetryingStore<Faulty>>, Faulty) {
    let first = faulty.calls(Operation::Head) + 1;
    let faulty = faulty.with(Operation::Head, When::Call(first), Fault::Refuse(Throttled));
    let (store, _queue) = retrying(&faulty);
    assert_eq!(store.head(&key("none")).await.unwrap(), None);
    let mut state = store.shared.congestion.lock();
    // It has grown by the success already; that is undone.
    state.bound.limit = Some(1);
    state.bound.most_asked = usize::MAX;
    drop(state);
    faulty.take_most_at_once();
    (store, faulty)
}

#[tokio::test]
async fn nothing_is_lost_when_those_who_wait_or_run_are_dropped() {
    let faulty =
        FaultyStore::new(MemoryStore::new()).with(Operation::Put, When::Call(1), Fault::Hang);
    let (store, faulty) = bounded_to_one(faulty).await;
    let spawn = |name: &'static str| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { put(&*store, name).await })
    };
    let queued = |count: usize| {
        let store = Arc::clone(&store);
        let until = async move {
            while store.shared.congestion.lock().asked() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, until)
    };
    let hangs = spawn("hangs");
    queued(1).await.unwrap();
    let mut waiting = Vec::new();
    for (name, count) in [("a", 2), ("b", 3), ("c", 4), ("d", 5)] {
        waiting.push(spawn(name));
        queued(count).await.unwrap();
    }
    // The first and a middle one of the queue go away, then the one that runs.
    waiting[0].abort();
    waiting[2].abort();
    queued(3).await.unwrap();
    hangs.abort();
    for (name, task) in ["a", "b", "c", "d"].into_iter().zip(waiting) {
        let ended = tokio::time::timeout(DEADLINE, task).await.expect("a place was lost");
        assert_eq!(ended.is_ok(), name == "b" || name == "d", "{name}");
    }
    assert_eq!(faulty.take_most_at_once(), 1);
    let state = store.shared.congestion.lock();
    assert_eq!((state.in_flight, state.asked()), (0, 0));
}

/// A place may be on its way to a request that is dropped before it is polled.
#[tokio::test]
async fn a_place_that_is_handed_to_a_dropped_request_is_free_again() {
    let (notices, _queue) = notice::channel();
    let congestion = Congestion::new(notices);
    let refused: Result<()> =
        congestion.run(async { Err(Error::new(Throttled, "slow down")) }).await;
    assert!(refused.is_err());
    let first = congestion.enter().await;
    let mut second = Box::pin(congestion.enter());
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert_eq!(congestion.lock().in_flight, 1, "the place is the second one's");
    drop(second);
    assert_eq!(congestion.lock().in_flight, 0);
    assert!(tokio::time::timeout(DEADLINE, congestion.enter()).await.is_ok());
}

#[tokio::test]
async fn uploads_in_parts_get_through_one_at_a_time() {
    let mut faulty = FaultyStore::new(MemoryStore::new());
    use Operation::{Abort, BeginMultipart, Complete, Get, PutPart};
    for operation in [BeginMultipart, PutPart, Complete, Abort, Get] {
        faulty = faulty.with(operation, When::Call(1), Fault::Refuse(Throttled)).with(
            operation,
            When::From(2),
            Fault::Delay(ms(1)),
        );
    }
    let (store, faulty) = bounded_to_one(faulty).await;
    let upload = |name: String, aborts: bool| {
        let store = Arc::clone(&store);
        async move {
            let (key, attributes) = (key(&name), Attributes::default());
            let begun = store.begin_multipart(&key, PutMode::CreateOnly, &attributes).await;
            let upload: Box<dyn MultipartUpload> = begun.unwrap();
            let part = |number: u32| {
                let body = Bytes::from(vec![number as u8; 4]);
                upload.put_part(number, u64::from(number - 1) * 4, body)
            };
            join_all((1..=4).map(part)).await.into_iter().collect::<Result<()>>().unwrap();
            if aborts {
                return upload.abort().await.unwrap();
            }
            assert_eq!(upload.complete().await.unwrap(), PutOutcome::Stored);
            // The body is read while others wait for the only place.
            let reader = store.get(&key, 0, None).await.unwrap();
            let content = reader.into_bytes(100).await.unwrap();
            assert_eq!(content[..], [[1; 4], [2; 4], [3; 4], [4; 4]].concat());
        }
    };
    let all = join_all((0..6).map(|n| upload(format!("m{n}"), n % 3 == 2)));
    tokio::time::timeout(DEADLINE, all).await.expect("uploads wait for one another");
    let state = store.shared.congestion.lock();
    assert_eq!((state.in_flight, state.asked()), (0, 0));
    drop(state);
    assert!(faulty.take_most_at_once() < 24, "there was a bound");
}
