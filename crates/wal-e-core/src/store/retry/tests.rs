use std::time::Duration;

use super::*;
use crate::notice::{self, NoticeQueue};
use crate::store::conformance;
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;

use ErrorKind::{Denied, NotFound, Unavailable};
use Fault::{CutBody, LoseAnswer, Refuse};
use Operation::{BeginMultipart, Complete, Get, Head, List, Put, PutPart};

/// Long enough to never end in a test, and quick.
const PATIENT: Patience = Patience {
    give_up_after: Duration::from_secs(600),
    without_answer: Duration::from_secs(600),
    first_delay: Duration::from_millis(1),
    longest_delay: Duration::from_millis(2),
};

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(name).unwrap()
}

type Faulty = FaultyStore<MemoryStore>;

fn retrying(faulty: &Faulty, patience: Patience) -> (RetryingStore<Faulty>, NoticeQueue) {
    let (notices, queue) = notice::channel();
    (RetryingStore::new(faulty.clone(), patience, notices), queue)
}

async fn put(store: &dyn ObjectStore, name: &str, content: &'static str) -> Result<PutOutcome> {
    let body = Bytes::from_static(content.as_bytes());
    store.put(&key(name), body, PutMode::CreateOnly, &Attributes::default()).await
}

async fn read(store: &dyn ObjectStore, name: &str) -> Result<Bytes> {
    store.get(&key(name), 0, None).await?.into_bytes(u64::MAX).await
}

#[tokio::test]
async fn keeps_the_contract() {
    let (store, _queue) = retrying(&FaultyStore::new(MemoryStore::new()), PATIENT);
    conformance::run_all(Arc::new(store)).await;
}

#[tokio::test]
async fn keeps_the_contract_while_calls_fail() {
    let mut faulty = FaultyStore::new(MemoryStore::new());
    for operation in [Put, BeginMultipart, PutPart, Complete, Get, Head, List] {
        for call in 0..300 {
            let fault = match call % 3 {
                0 => LoseAnswer(Unavailable),
                1 => Refuse(Unavailable),
                _ => continue,
            };
            // An answer lost here leaves an upload open: only the server knows it.
            if operation == BeginMultipart && fault == LoseAnswer(Unavailable) {
                continue;
            }
            faulty = faulty.with(operation, When::Call(call), fault);
        }
    }
    let (store, _queue) = retrying(&faulty, PATIENT);
    conformance::run_all(Arc::new(store)).await;
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_known_again() {
    let memory = MemoryStore::new();
    let faulty = FaultyStore::new(memory.clone()).with(Put, When::Call(1), LoseAnswer(Unavailable));
    let (store, queue) = retrying(&faulty, PATIENT);
    assert_eq!(put(&store, "a", "ours").await.unwrap(), PutOutcome::Stored);
    assert_eq!(faulty.calls(Put), 2);
    assert_eq!(put(&store, "a", "ours").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(read(&store, "a").await.unwrap(), "ours");

    let said = queue.drain();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].message, "injected failure of Put; trying again for up to 600 s");
}

#[tokio::test]
async fn an_object_that_a_proxy_stored_by_a_request_that_it_repeated_is_ours() {
    let memory = MemoryStore::new();
    let faulty = FaultyStore::new(memory).with(Put, When::Call(1), Fault::Repeat);
    let (store, _queue) = retrying(&faulty, PATIENT);
    assert_eq!(put(&store, "a", "ours").await.unwrap(), PutOutcome::Stored);
    assert_eq!(put(&store, "a", "ours").await.unwrap(), PutOutcome::AlreadyExists);
    for mode in [PutMode::CreateOnly, PutMode::Replace] {
        let faulty = FaultyStore::new(MemoryStore::new());
        let faulty = faulty.with(Complete, When::Call(1), Fault::Repeat);
        let (outcome, store) = upload(&faulty, mode).await;
        assert_eq!(outcome.unwrap(), PutOutcome::Stored);
        assert_eq!(read(&store, "m").await.unwrap(), "ours");
    }
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_taken_for_ours() {
    let memory = MemoryStore::new();
    assert_eq!(put(&memory, "a", "theirs").await.unwrap(), PutOutcome::Stored);
    let faulty = FaultyStore::new(memory).with(Put, When::Call(1), Refuse(Unavailable));
    let (store, _queue) = retrying(&faulty, PATIENT);
    assert_eq!(put(&store, "a", "ours").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(read(&store, "a").await.unwrap(), "theirs");
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again() {
    let faulty = FaultyStore::new(MemoryStore::new()).with(Put, When::From(1), Refuse(Denied));
    let (store, queue) = retrying(&faulty, PATIENT);
    assert_eq!(put(&store, "a", "x").await.unwrap_err().kind(), Denied);
    assert_eq!(faulty.calls(Put), 1);
    assert!(queue.drain().is_empty());
}

#[tokio::test]
async fn patience_ends() {
    let faulty = FaultyStore::new(MemoryStore::new()).with(Put, When::From(1), Refuse(Unavailable));
    let patience = Patience {
        give_up_after: Duration::from_millis(30),
        without_answer: Duration::from_millis(30),
        ..PATIENT
    };
    let (store, queue) = retrying(&faulty, patience);
    let error = put(&store, "a", "x").await.unwrap_err();
    assert_eq!(error.kind(), Unavailable);
    let calls = faulty.calls(Put);
    assert!(calls > 2, "{calls} calls");
    assert_eq!(error.detail(), Some(format!("It was tried {calls} times in 0 s.").as_str()));
    assert_eq!(queue.drain().len(), 1, "one notice for the whole outage");

    let (store, _queue) = retrying(&faulty, Patience::none());
    assert!(put(&store, "a", "x").await.is_err());
    assert_eq!(faulty.calls(Put), calls + 1);
    faulty.heal();
    assert_eq!(put(&store, "a", "x").await.unwrap(), PutOutcome::Stored);
}

/// An upload of one part, with the store that fails as planned.
async fn upload(faulty: &Faulty, mode: PutMode) -> (Result<PutOutcome>, RetryingStore<Faulty>) {
    let (store, _queue) = retrying(faulty, PATIENT);
    let upload = store.begin_multipart(&key("m"), mode, &Attributes::default()).await.unwrap();
    upload.put_part(1, 0, Bytes::from_static(b"ours")).await.unwrap();
    (upload.complete().await, store)
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_known_again() {
    // The repeat finds that the upload has ended, as servers say in several ways.
    for kind in [NotFound, Denied] {
        for mode in [PutMode::CreateOnly, PutMode::Replace] {
            let faulty = FaultyStore::new(MemoryStore::new())
                .with(Complete, When::Call(1), LoseAnswer(Unavailable))
                .with(Complete, When::Call(2), Refuse(kind));
            let (outcome, store) = upload(&faulty, mode).await;
            assert_eq!(outcome.unwrap(), PutOutcome::Stored);
            assert_eq!(read(&store, "m").await.unwrap(), "ours");
        }
    }
}

#[tokio::test]
async fn a_completion_that_never_happened_is_not_made_up() {
    let faulty = FaultyStore::new(MemoryStore::new())
        .with(Complete, When::Call(1), Refuse(Unavailable))
        .with(Complete, When::Call(2), Refuse(NotFound));
    let (outcome, store) = upload(&faulty, PutMode::CreateOnly).await;
    assert_eq!(outcome.unwrap_err().kind(), NotFound);
    assert!(store.head(&key("m")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_completion_after_somebody_else_says_so() {
    let memory = MemoryStore::new();
    assert_eq!(put(&memory, "m", "theirs").await.unwrap(), PutOutcome::Stored);
    let faulty =
        FaultyStore::new(memory.clone()).with(Complete, When::Call(1), Refuse(Unavailable));
    let (outcome, store) = upload(&faulty, PutMode::CreateOnly).await;
    assert_eq!(outcome.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(read(&store, "m").await.unwrap(), "theirs");
    assert!(memory.open_uploads().is_empty());
}

#[tokio::test]
async fn parts_and_listings_are_tried_again() {
    let faulty = FaultyStore::new(MemoryStore::new())
        .with(BeginMultipart, When::Call(1), Refuse(Unavailable))
        .with(PutPart, When::Call(1), LoseAnswer(Unavailable))
        .with(PutPart, When::Call(2), Refuse(Unavailable))
        .with(List, When::Call(1), Refuse(Unavailable));
    let (outcome, store) = upload(&faulty, PutMode::CreateOnly).await;
    assert_eq!(outcome.unwrap(), PutOutcome::Stored);
    assert_eq!(faulty.calls(PutPart), 3);
    let listed = crate::store::list_all(&store, &ListRequest::default()).await.unwrap();
    assert_eq!(listed.len(), 1);
}

const LONG: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

#[tokio::test]
async fn a_broken_body_goes_on_where_it_broke() {
    for at in [0, 1, 17, 36] {
        let faulty = FaultyStore::new(MemoryStore::new())
            .with(Get, When::Call(1), CutBody(at))
            .with(Get, When::Call(2), Refuse(Unavailable))
            .with(Get, When::Call(3), CutBody(5));
        let (store, _queue) = retrying(&faulty, PATIENT);
        assert_eq!(put(&store, "a", LONG).await.unwrap(), PutOutcome::Stored);
        assert_eq!(read(&store, "a").await.unwrap(), LONG, "broke after {at}");
        assert_eq!(faulty.calls(Get), if at == 36 { 1 } else { 4 }, "broke after {at}");
    }
}

#[tokio::test]
async fn a_body_does_not_go_on_with_another_object() {
    let memory = MemoryStore::new();
    let faulty = FaultyStore::new(memory.clone()).with(Get, When::Call(1), CutBody(10));
    let (store, _queue) = retrying(&faulty, PATIENT);
    assert_eq!(put(&store, "a", LONG).await.unwrap(), PutOutcome::Stored);
    let mut reader = store.get(&key("a"), 0, None).await.unwrap();
    assert_eq!(reader.body.next_chunk().await.unwrap().unwrap(), &LONG[..10]);
    let other = Bytes::from(LONG.to_uppercase());
    let outcome = memory.put(&key("a"), other, PutMode::Replace, &Attributes::default()).await;
    assert_eq!(outcome.unwrap(), PutOutcome::Stored);
    let error = reader.body.next_chunk().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn patience_with_a_body_ends() {
    let faulty = FaultyStore::new(MemoryStore::new()).with(Get, When::From(2), Refuse(Unavailable));
    let faulty = faulty.with(Get, When::Call(1), CutBody(10));
    let patience = Patience {
        give_up_after: Duration::from_millis(20),
        without_answer: Duration::from_millis(20),
        ..PATIENT
    };
    let (store, _queue) = retrying(&faulty, patience);
    assert_eq!(put(&store, "a", LONG).await.unwrap(), PutOutcome::Stored);
    assert_eq!(read(&store, "a").await.unwrap_err().kind(), Unavailable);
}

#[tokio::test]
async fn a_call_that_hangs_can_be_dropped() {
    let faulty = FaultyStore::new(MemoryStore::new()).with(Put, When::Call(1), Fault::Hang);
    let (store, _queue) = retrying(&faulty, PATIENT);
    let hanging = tokio::time::timeout(Duration::from_millis(20), put(&store, "a", "x"));
    assert!(hanging.await.is_err());
    assert_eq!(put(&store, "a", "x").await.unwrap(), PutOutcome::Stored);
}
