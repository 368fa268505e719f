use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Upload, Uploaded, download, upload};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{ObjectStore, PutMode, PutOutcome};

/// Small parts, so that a few hundred kilobytes make many.
const PART: usize = 64 * 1024;

fn key() -> ObjectKey {
    ObjectKey::from_listing("tests/object").unwrap()
}

fn request(cancel: &CancellationToken) -> Upload {
    Upload { part_size_bytes: PART, ..Upload::create_only(key(), cancel.clone()) }
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

async fn store_bytes(store: Arc<dyn ObjectStore>, data: Vec<u8>) -> Result<Uploaded<usize>> {
    upload(store, request(&CancellationToken::new()), move |writer| {
        // Pieces that fit neither parts nor one another.
        for piece in data.chunks(10_007) {
            writer.write_all(piece).map_err(|error| Error::from_io("write", error))?;
        }
        Ok(data.len())
    })
    .await
}

async fn read_back(store: &dyn ObjectStore) -> Vec<u8> {
    let mut reader = download(store.get(&key(), 0, None).await.unwrap());
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn objects_of_every_size_around_a_part_come_back() {
    for length in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 5 * PART + 17] {
        let memory = FaultyStore::new(MemoryStore::new());
        let store: Arc<dyn ObjectStore> = Arc::new(memory.clone());
        let uploaded = store_bytes(Arc::clone(&store), sample(length)).await.unwrap();
        assert_eq!(uploaded.outcome, PutOutcome::Stored);
        assert_eq!((uploaded.bytes, uploaded.value), (length as u64, length));
        assert_eq!(read_back(&*store).await, sample(length), "{length} bytes");
        let requests = memory.calls(Operation::Put);
        assert_eq!(requests, u64::from(length <= PART), "one request for one part");
    }
}

#[tokio::test]
async fn an_object_that_exists_is_left_as_it_was() {
    for length in [10, 3 * PART] {
        let memory = MemoryStore::new();
        let store: Arc<dyn ObjectStore> = Arc::new(memory.clone());
        let _ = store_bytes(Arc::clone(&store), b"first".to_vec()).await.unwrap();
        let uploaded = store_bytes(Arc::clone(&store), sample(length)).await.unwrap();
        assert_eq!(uploaded.outcome, PutOutcome::AlreadyExists);
        assert_eq!(read_back(&*store).await, b"first");
        assert!(memory.open_uploads().is_empty());
    }
}

#[tokio::test]
async fn a_producer_that_fails_leaves_nothing() {
    for length in [10, 6 * PART] {
        let memory = MemoryStore::new();
        let store: Arc<dyn ObjectStore> = Arc::new(memory.clone());
        let result = upload(store, request(&CancellationToken::new()), move |writer| {
            writer.write_all(&sample(length)).map_err(|error| Error::from_io("write", error))?;
            Err::<(), _>(Error::new(ErrorKind::Corrupt, "the source is damaged"))
        })
        .await;
        assert_eq!(result.unwrap_err().message(), "the source is damaged");
        assert!(memory.head(&key()).await.unwrap().is_none());
        assert!(memory.open_uploads().is_empty());
    }
}

#[tokio::test]
async fn a_store_that_fails_ends_the_producer_and_leaves_nothing() {
    let refuse = Fault::Refuse(ErrorKind::Denied);
    for (operation, when) in [
        (Operation::Put, When::Call(1)),
        (Operation::BeginMultipart, When::Call(1)),
        (Operation::PutPart, When::Call(1)),
        (Operation::PutPart, When::Call(4)),
        (Operation::Complete, When::Call(1)),
    ] {
        let memory = MemoryStore::new();
        let faulty = FaultyStore::new(memory.clone()).with(operation, when, refuse);
        let length = if operation == Operation::Put { 10 } else { 50 * PART };
        let error = store_bytes(Arc::new(faulty), sample(length)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{operation:?}");
        assert!(memory.head(&key()).await.unwrap().is_none(), "{operation:?}");
        assert!(memory.open_uploads().is_empty(), "{operation:?}");
    }
}

#[tokio::test]
async fn a_cancelled_upload_ends_at_once_also_when_the_store_hangs() {
    for operation in [Operation::Put, Operation::PutPart] {
        let memory = MemoryStore::new();
        let faulty = FaultyStore::new(memory.clone()).with(operation, When::From(1), Fault::Hang);
        let cancel = CancellationToken::new();
        let length = if operation == Operation::Put { 10 } else { 50 * PART };
        let task =
            tokio::spawn(upload(Arc::new(faulty.clone()), request(&cancel), move |writer| {
                writer.write_all(&sample(length)).map_err(|error| Error::from_io("write", error))
            }));
        while faulty.calls(operation) == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        let result = tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(memory.head(&key()).await.unwrap().is_none());
        assert!(memory.open_uploads().is_empty(), "{operation:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
    let faulty = FaultyStore::new(MemoryStore::new());
    let store: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
    let _ = store_bytes(Arc::clone(&store), sample(3 * PART)).await.unwrap();
    let _ = faulty.clone().with(Operation::Get, When::From(1), Fault::CutBody(100_000));
    let mut reader = download(store.get(&key(), 0, None).await.unwrap());
    let result = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
    assert!(result.await.unwrap().is_err());
}

#[test]
fn an_object_whose_size_is_foreseen_has_parts_of_one_size() {
    let small = request(&CancellationToken::new()).sized_for(1 << 20);
    assert_eq!((small.part_size_bytes, small.mode), (PART, PutMode::CreateOnly));
    let large = request(&CancellationToken::new()).sized_for(1 << 40);
    assert!((1 << 40) / large.part_size_bytes as u64 <= 8_000);
}

#[tokio::test]
async fn an_object_that_is_much_larger_than_foreseen_fits_into_ten_thousand_parts() {
    let (part, length) = (16, 16 * 400_000);
    let faulty = FaultyStore::new(MemoryStore::new());
    let store: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
    let request = Upload { part_size_bytes: part, ..request(&CancellationToken::new()) };
    let uploaded = upload(Arc::clone(&store), request.sized_for(1000), move |writer| {
        writer.write_all(&sample(length)).map_err(|error| Error::from_io("write", error))
    });
    assert_eq!(uploaded.await.unwrap().bytes, length as u64);
    assert!(faulty.calls(Operation::PutPart) <= 10_000);
    assert_eq!(read_back(&*store).await, sample(length));
}
