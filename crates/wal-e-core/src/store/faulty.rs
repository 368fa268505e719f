//! A store that fails as it is told to, around any other store; for tests.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Ability, Attributes, ListPage, ListRequest, MultipartUpload, ObjectBody, ObjectInfo,
    ObjectReader, ObjectStore, PutMode, PutOutcome,
};
use crate::config::Encryption;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;

/// A call of [`ObjectStore`] or [`MultipartUpload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are named like the calls")]
pub enum Operation {
    Put,
    BeginMultipart,
    PutPart,
    Complete,
    Abort,
    AbortAll,
    Get,
    Head,
    List,
    Delete,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing.
    Refuse(ErrorKind),
    /// It is slow, and then it fails and does nothing.
    RefuseAfter(Duration, ErrorKind),
    /// It does its work, and then its answer is lost.
    LoseAnswer(ErrorKind),
    /// [`Operation::Put`], [`Operation::Complete`]: it does its work twice and gives
    /// the second answer, as a proxy does that sends a request again.
    Repeat,
    /// [`Operation::Get`]: the body breaks after so many bytes.
    CutBody(u64),
    /// [`Operation::Get`]: a bit of the last byte of each chunk flips on the way.
    FlipBits,
    /// It is slow.
    Delay(Duration),
    /// It never ends.
    Hang,
}

/// Which calls of an operation a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call of this number, counted from 1 for each operation.
    Call(u64),
    /// Each call from this number on.
    From(u64),
}

/// A store that fails as it is told to. Clones share faults and counters.
#[derive(Debug, Clone)]
pub struct FaultyStore<S> {
    store: Arc<S>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<(Operation, When, Fault)>,
    calls: HashMap<Operation, u64>,
    running: usize,
    most_running: usize,
}

impl<S: ObjectStore> FaultyStore<S> {
    /// Wraps `store`; without faults it only counts.
    pub fn new(store: S) -> Self {
        FaultyStore { store: Arc::new(store), plan: Arc::default() }
    }

    /// The store that it is around, which does not fail.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Adds a fault.
    #[must_use]
    pub fn with(self, operation: Operation, when: When, fault: Fault) -> Self {
        self.plan.lock().faults.push((operation, when, fault));
        self
    }

    /// How many calls of an operation there were.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.plan.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// How many calls ran at the same time at most, since this was last asked.
    pub fn take_most_at_once(&self) -> usize {
        let mut state = self.plan.lock();
        let most = state.most_running;
        state.most_running = state.running;
        most
    }

    /// How many calls run now.
    pub fn running(&self) -> usize {
        self.plan.lock().running
    }

    /// Forgets all faults: the outage is over.
    pub fn heal(&self) {
        self.plan.lock().faults.clear();
    }
}

impl Plan {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and returns its fault.
    fn next(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.lock();
        let calls = state.calls.entry(operation).or_default();
        *calls += 1;
        let number = *calls;
        let is_meant = |when: &When| match *when {
            When::Call(n) => number == n,
            When::From(n) => number >= n,
        };
        state
            .faults
            .iter()
            .find(|(of, when, _)| *of == operation && is_meant(when))
            .map(|&(_, _, fault)| fault)
    }

    async fn run<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let _running = self.running();
        apply(self.next(operation), operation, work).await
    }

    /// [`Plan::run`] for what [`Fault::Repeat`] can do twice.
    async fn run_repeatable<T, F>(
        &self,
        operation: Operation,
        work: impl Fn() -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let _running = self.running();
        let fault = self.next(operation);
        if fault == Some(Fault::Repeat) {
            work().await?;
        }
        apply(fault, operation, work()).await
    }

    /// Counts a call as running until it is dropped.
    fn running(&self) -> Running<'_> {
        let mut state = self.lock();
        state.running += 1;
        state.most_running = state.most_running.max(state.running);
        Running(self)
    }
}

struct Running<'a>(&'a Plan);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

async fn apply<T>(
    fault: Option<Fault>,
    operation: Operation,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match fault {
        None | Some(Fault::CutBody(_) | Fault::FlipBits | Fault::Repeat) => work.await,
        Some(Fault::Refuse(kind)) => Err(injected(operation, kind)),
        Some(Fault::RefuseAfter(delay, kind)) => {
            tokio::time::sleep(delay).await;
            Err(injected(operation, kind))
        }
        Some(Fault::LoseAnswer(kind)) => {
            work.await?;
            Err(injected(operation, kind))
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            work.await
        }
        Some(Fault::Hang) => std::future::pending().await,
    }
}

fn injected(operation: Operation, kind: ErrorKind) -> Error {
    Error::new(kind, format!("injected failure of {operation:?}"))
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for FaultyStore<S> {
    fn url(&self, key: &str) -> String {
        self.store.url(key)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome> {
        let put = || self.store.put(key, body.clone(), mode, attributes);
        self.plan.run_repeatable(Operation::Put, put).await
    }

    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = self.store.begin_multipart(key, mode, attributes);
        let upload = self.plan.run(Operation::BeginMultipart, begin).await?;
        Ok(Box::new(FaultyUpload { upload, plan: Arc::clone(&self.plan) }))
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        let _running = self.plan.running();
        let fault = self.plan.next(Operation::Get);
        let get = self.store.get_range(key, offset, length, if_match);
        let mut reader = apply(fault, Operation::Get, get).await?;
        if let Some(Fault::CutBody(left)) = fault {
            reader.body = Box::new(CutBody { body: reader.body, left });
        }
        if let Some(Fault::FlipBits) = fault {
            reader.body = Box::new(FlippedBody(reader.body));
        }
        Ok(reader)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        self.plan.run(Operation::Head, self.store.head(key)).await
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        self.plan.run(Operation::List, self.store.list(request, page)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.plan.run(Operation::Delete, self.store.delete(key)).await
    }

    async fn delete_all(&self, keys: &[ObjectKey]) -> Result<()> {
        for key in keys {
            self.delete(key).await?;
        }
        Ok(())
    }

    async fn abort_uploads(&self, directory: &str) -> Result<()> {
        self.plan.run(Operation::AbortAll, self.store.abort_uploads(directory)).await
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &str) -> Result<()> {
        self.plan.run(Operation::Abort, self.store.abort_upload(key, id)).await
    }

    async fn create_only_is_atomic(&self) -> Result<bool> {
        self.store.create_only_is_atomic().await
    }

    async fn abilities(&self) -> Result<Vec<Ability>> {
        self.store.abilities().await
    }

    fn gains_by_ranges(&self) -> bool {
        self.store.gains_by_ranges()
    }

    fn pages_at_once(&self) -> usize {
        self.store.pages_at_once()
    }

    fn finds_by_name(&self) -> bool {
        self.store.finds_by_name()
    }

    async fn is_empty(&self, directory: &str) -> Result<bool> {
        self.store.is_empty(directory).await
    }

    fn require(&self, key: &ObjectKey) {
        self.store.require(key);
    }

    fn directory(&self) -> Option<&Path> {
        self.store.directory()
    }

    fn way(&self) -> Vec<Ability> {
        self.store.way()
    }

    fn encryption(&self) -> Encryption {
        self.store.encryption()
    }

    fn server(&self) -> Option<&str> {
        self.store.server()
    }

    fn credentials_source(&self) -> Option<String> {
        self.store.credentials_source()
    }
}

struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    plan: Arc<Plan>,
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upload.fmt(f)
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn id(&self) -> Option<&str> {
        self.upload.id()
    }

    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<()> {
        self.plan.run(Operation::PutPart, self.upload.put_part(number, offset, body)).await
    }

    async fn complete(&self) -> Result<PutOutcome> {
        self.plan.run_repeatable(Operation::Complete, || self.upload.complete()).await
    }

    async fn abort(&self) -> Result<()> {
        self.plan.run(Operation::Abort, self.upload.abort()).await
    }
}

struct CutBody {
    body: Box<dyn ObjectBody>,
    left: u64,
}

#[async_trait]
impl ObjectBody for CutBody {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "injected break of a body"));
        }
        let Some(mut chunk) = self.body.next_chunk().await? else { return Ok(None) };
        chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= chunk.len() as u64;
        Ok(Some(chunk))
    }
}

struct FlippedBody(Box<dyn ObjectBody>);

#[async_trait]
impl ObjectBody for FlippedBody {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        let Some(chunk) = self.0.next_chunk().await? else { return Ok(None) };
        let mut bytes = chunk.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        Ok(Some(bytes.into()))
    }
}
