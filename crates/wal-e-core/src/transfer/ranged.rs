//! An object as a blocking stream, fetched by several requests at once.
//!
//! One connection to an object store gives some tens of megabytes a second, far
//! less than a disk takes. So the ranges that come next are under way while one
//! is read. They are handed out in order, and a range that has come waits in
//! memory: what is held never exceeds the ranges in flight.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::{ObjectReader, ObjectStore};

/// Bytes that one request asks for.
const RANGE_BYTES: u64 = 8 * 1024 * 1024;

/// Ranges of one object in flight, the one that is read included.
const RANGES_AT_ONCE: usize = 4;

/// The bytes of an object, for a thread that may block.
pub struct RangedReader {
    source: Source,
    ranges: VecDeque<Range>,
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
}

/// One range that is on its way. `None` is its end; a channel that closes
/// without it was cut.
struct Range {
    chunks: mpsc::UnboundedReceiver<Result<Option<Bytes>>>,
}

/// Opens an object. Must be called on a tokio runtime; the reader must be used off
/// it, while the runtime lives.
///
/// # Errors
/// Those of [`ObjectStore::get`]. An object that is replaced by another one while
/// it is read is [`ErrorKind::Conflict`] in the reader.
pub async fn download_ranges(store: Arc<dyn ObjectStore>, key: &ObjectKey) -> Result<RangedReader> {
    open(store, key, RANGE_BYTES, RANGES_AT_ONCE).await
}

async fn open(
    store: Arc<dyn ObjectStore>,
    key: &ObjectKey,
    range_bytes: u64,
    ranges_at_once: usize,
) -> Result<RangedReader> {
    let first = store.get_range(key, 0, Some(range_bytes), None).await?;
    let source = Source {
        store,
        runtime: tokio::runtime::Handle::current(),
        key: key.clone(),
        size_bytes: first.info.size_bytes,
        etag: first.info.etag.clone(),
        range_bytes,
        ranges_at_once,
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
    fn pass_on(&self, range: ObjectReader) -> Range {
        let (sender, chunks) = mpsc::unbounded_channel();
        self.runtime.spawn(pump(range, sender));
        Range { chunks }
    }

    /// Opens the range at `offset` and hands on its chunks.
    fn begin(&self, offset: u64) -> Range {
        let (sender, chunks) = mpsc::unbounded_channel();
        let this = self.clone();
        self.runtime.spawn(async move {
            let etag = this.etag.as_deref();
            let get = this.store.get_range(&this.key, offset, Some(this.range_bytes), etag);
            let opened = tokio::select! {
                opened = get => opened,
                () = sender.closed() => return,
            };
            match opened {
                Ok(range) if range.info.size_bytes == this.size_bytes => pump(range, sender).await,
                // Says little where there is an etag, and all there is without one.
                Ok(_) => {
                    let url = this.store.url(this.key.as_str());
                    let message = format!("object \"{url}\" changed while it was read");
                    drop(sender.send(Err(Error::new(ErrorKind::Conflict, message))));
                }
                Err(error) => drop(sender.send(Err(error))),
            }
        });
        Range { chunks }
    }
}

async fn pump(mut range: ObjectReader, sender: mpsc::UnboundedSender<Result<Option<Bytes>>>) {
    loop {
        let chunk = tokio::select! {
            chunk = range.body.next_chunk() => chunk,
            () = sender.closed() => return,
        };
        let last = !matches!(chunk, Ok(Some(_)));
        if sender.send(chunk).is_err() || last {
            return;
        }
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
        while !self.current.has_remaining() {
            let Some(range) = self.ranges.front_mut() else { return Ok(0) };
            match range.chunks.blocking_recv() {
                Some(Ok(Some(chunk))) => self.current = chunk,
                Some(Ok(None)) => {
                    self.ranges.pop_front();
                    self.ask_for_more();
                }
                Some(Err(error)) => return Err(error.into()),
                None => {
                    return Err(Error::new(
                        ErrorKind::Cancelled,
                        "the download ended before the object did",
                    )
                    .into());
                }
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::faulty::{Fault, FaultyStore, Operation, When};
    use crate::store::memory::MemoryStore;
    use crate::store::{Attributes, PutMode, PutOutcome};

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
        let mut reader = open(store, &key(), range_bytes, 3).await?;
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
        let mut reader = open(store, &key(), 10, 2).await.unwrap();
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
        let reader = open(Arc::new(store.clone()), &key(), 10, 3).await.unwrap();
        while store.calls(Operation::Get) < 3 {
            tokio::task::yield_now().await;
        }
        drop(reader);
        while store.running() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
