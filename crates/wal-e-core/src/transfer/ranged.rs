//! An object as a blocking stream, fetched by several requests at once.
//!
//! One connection to an object store gives some tens of megabytes a second, far
//! less than a disk takes. So the ranges that come next are under way while one
//! is read. They are handed out in order, and a range that has come waits in
//! memory: what is held never exceeds the ranges in flight.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::cancellable::cancellable;
use super::chunks::{Chunks, channel, give, pump};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::{ObjectReader, ObjectStore};
use crate::tasks::or_cancelled;

/// Bytes that one request asks for.
const RANGE_BYTES: u64 = 8 * 1024 * 1024;

/// Ranges of one object in flight, the one that is read included.
const RANGES_AT_ONCE: usize = 4;

/// Chunks that may wait: all of a range, or it would come only when it is read.
const CHUNKS_AHEAD: usize = Semaphore::MAX_PERMITS;

/// The bytes of an object, for a thread that may block.
pub struct RangedReader {
    source: Source,
    ranges: VecDeque<Chunks>,
    current: Bytes,
    /// Where the next range begins that was not asked for yet.
    next: u64,
}

/// What all requests for an object have in common.
#[derive(Clone)]
struct Source {
    store: Arc<dyn ObjectStore>,
    runtime: tokio::runtime::Handle,
    key: ObjectKey,
    size_bytes: u64,
    etag: Option<String>,
    range_bytes: u64,
    ranges_at_once: usize,
    cancel: CancellationToken,
}

/// Opens an object. Must be called on a tokio runtime; the reader must be used off
/// it, while the runtime lives.
///
/// # Errors
/// Those of [`ObjectStore::get`]. An object that is replaced by another one while
/// it is read is [`ErrorKind::Conflict`] in the reader. Once `cancel` is cancelled,
/// both end with [`ErrorKind::Cancelled`].
pub async fn download_ranges(
    store: Arc<dyn ObjectStore>,
    key: &ObjectKey,
    cancel: CancellationToken,
) -> Result<RangedReader> {
    open(store, key, RANGE_BYTES, RANGES_AT_ONCE, cancel).await
}

async fn open(
    store: Arc<dyn ObjectStore>,
    key: &ObjectKey,
    range_bytes: u64,
    ranges_at_once: usize,
    cancel: CancellationToken,
) -> Result<RangedReader> {
    let opening = store.get_range(key, 0, Some(range_bytes), None);
    let first = or_cancelled(&cancel, opening).await?;
    let source = Source {
        store,
        runtime: tokio::runtime::Handle::current(),
        key: key.clone(),
        size_bytes: first.info.size_bytes,
        etag: first.info.etag.clone(),
        range_bytes,
        ranges_at_once,
        cancel,
    };
    let mut reader = RangedReader {
        ranges: VecDeque::from([source.pass_on(first)]),
        source,
        current: Bytes::new(),
        next: range_bytes,
    };
    reader.ask_for_more();
    Ok(reader)
}

impl Source {
    /// Hands on the chunks of a range that is open.
    fn pass_on(&self, range: ObjectReader) -> Chunks {
        let (sender, chunks) = channel(CHUNKS_AHEAD);
        self.runtime.spawn(pump(cancellable(range, self.cancel.clone()).body, sender));
        chunks
    }

    /// Opens the range at `offset` and hands on its chunks.
    fn begin(&self, offset: u64) -> Chunks {
        let (sender, chunks) = channel(CHUNKS_AHEAD);
        let this = self.clone();
        self.runtime.spawn(async move {
            let opened = tokio::select! {
                opened = or_cancelled(&this.cancel, this.open(offset)) => opened,
                () = sender.closed() => return,
            };
            match opened {
                Ok(range) => pump(cancellable(range, this.cancel).body, sender).await,
                Err(error) => drop(sender.send(Err(error)).await),
            }
        });
        chunks
    }

    async fn open(&self, offset: u64) -> Result<ObjectReader> {
        let (store, etag) = (&self.store, self.etag.as_deref());
        let range = store.get_range(&self.key, offset, Some(self.range_bytes), etag).await?;
        // Says little where there is an etag, and all there is without one.
        if range.info.size_bytes != self.size_bytes {
            let url = store.url(self.key.as_str());
            let message = format!("object \"{url}\" changed while it was read");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(range)
    }
}

impl RangedReader {
    fn ask_for_more(&mut self) {
        while self.ranges.len() < self.source.ranges_at_once && self.next < self.source.size_bytes {
            let range = self.source.begin(self.next);
            self.ranges.push_back(range);
            self.next = self.next.saturating_add(self.source.range_bytes);
        }
    }
}

impl Read for RangedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(range) = self.ranges.front_mut() else { return Ok(0) };
            if let Some(chunk) = range.next()? {
                self.current = chunk;
            } else {
                self.ranges.pop_front();
                self.ask_for_more();
            }
        }
        Ok(give(&mut self.current, buffer))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::faulty::{Fault, FaultyStore, Operation, When};
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode, PutOutcome};
    use crate::tasks::blocking;

    fn key() -> ObjectKey {
        ObjectKey::from_listing("object").unwrap()
    }

    async fn put(store: &MemoryStore, content: Vec<u8>) {
        let attributes = Attributes::default();
        let put = store.put(&key(), content.into(), PutMode::Replace, &attributes).await;
        assert_eq!(put.unwrap(), PutOutcome::Stored);
    }

    async fn read(store: &FaultyStore<MemoryStore>, range_bytes: u64) -> Result<Vec<u8>> {
        let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let mut reader = open(store, &key(), range_bytes, 3, CancellationToken::new()).await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map(|_| content)
        });
        read.await.unwrap().map_err(|error| Error::from_io("could not read", error))
    }

    #[tokio::test]
    async fn ranges_come_in_order_whichever_arrives_first() {
        let memory = MemoryStore::new();
        for (size, range) in [(0, 10), (1, 10), (9, 10), (10, 10), (11, 10), (1000, 7), (64, 64)] {
            let content: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
            put(&memory, content.clone()).await;
            let slow = Fault::Delay(Duration::from_millis(30));
            let store = FaultyStore::new(memory.clone()).with(Operation::Get, When::Call(2), slow);
            assert_eq!(read(&store, range).await.unwrap(), content, "{size} by {range}");
            let most = store.take_most_at_once();
            assert!(most <= 3, "{most} requests at once");
        }
    }

    #[tokio::test]
    async fn an_object_that_is_replaced_is_told() {
        let memory = MemoryStore::new();
        put(&memory, vec![1; 1000]).await;
        let store: Arc<dyn ObjectStore> = Arc::new(memory.clone());
        let mut reader = open(store, &key(), 10, 2, CancellationToken::new()).await.unwrap();
        put(&memory, vec![2; 1000]).await;
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        let error = Error::from_io("could not read", read.await.unwrap().unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn the_error_of_a_range_is_that_of_the_reader() {
        let memory = MemoryStore::new();
        put(&memory, vec![1; 1000]).await;
        for fault in [Fault::Refuse(ErrorKind::Denied), Fault::CutBody(3)] {
            let store = FaultyStore::new(memory.clone()).with(Operation::Get, When::Call(5), fault);
            assert!(read(&store, 10).await.is_err(), "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_leaves_no_request_behind() {
        let memory = MemoryStore::new();
        put(&memory, vec![1; 1000]).await;
        let store = FaultyStore::new(memory).with(Operation::Get, When::From(2), Fault::Hang);
        let cancel = CancellationToken::new();
        let reader = open(Arc::new(store.clone()), &key(), 10, 3, cancel).await.unwrap();
        while store.calls(Operation::Get) < 3 {
            tokio::task::yield_now().await;
        }
        drop(reader);
        while store.running() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_cancelled_comes_back_from_a_store_that_hangs() {
        let memory = MemoryStore::new();
        put(&memory, vec![1; 1000]).await;
        for first_to_hang in [1, 2, 4] {
            let hang = When::From(first_to_hang);
            let store = FaultyStore::new(memory.clone()).with(Operation::Get, hang, Fault::Hang);
            let cancel = CancellationToken::new();
            let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
            let (key, ends) = (key(), cancel.clone());
            let reading = tokio::spawn(async move {
                let mut reader = open(shared, &key, 10, 3, ends).await?;
                let read = blocking("reading", move || {
                    let read = reader.read_to_end(&mut Vec::new());
                    read.map_err(|error| Error::from_io("could not read", error))
                });
                read.await
            });
            while store.calls(Operation::Get) < first_to_hang {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
            let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
            assert_eq!(read.unwrap().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        }
    }
}
