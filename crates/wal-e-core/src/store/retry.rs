//! Tries again what failed for a passing reason, without doing it twice.
//!
//! [`RetryingStore`] wraps a store whose every call is one attempt. An attempt
//! that failed may have done its work all the same: the answer was lost. So
//! each upload carries a random number of its own, and one that finds the object
//! there already looks at that number before it says so. This is done after a
//! first attempt, too: a proxy on the way may have repeated the request by itself.
//!
//! When the store asks for fewer requests, fewer attempts run at the same time:
//! [`congestion`].

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Ability, Attributes, ListPage, ListRequest, MultipartUpload, ObjectBody, ObjectInfo,
    ObjectReader, ObjectStore, PutMode, PutOutcome,
};
use crate::config::Encryption;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::notice::Notices;

mod congestion;
mod patience;

use congestion::Congestion;
pub use patience::Patience;
use patience::{Attempts, Speaker};

/// A store that tries again. See the [module](self).
#[derive(Debug)]
pub struct RetryingStore<S> {
    shared: Arc<Shared<S>>,
}

/// What the store shares with its uploads and bodies.
#[derive(Debug)]
struct Shared<S> {
    store: S,
    patience: Patience,
    speaker: Speaker,
    congestion: Arc<Congestion>,
    /// Whether any call has succeeded.
    has_worked: AtomicBool,
}

impl<S: ObjectStore> RetryingStore<S> {
    /// Wraps `store`. That something is tried again, and that the store asks for
    /// fewer requests, is said on `notices`, each at most once a minute.
    pub fn new(store: S, patience: Patience, notices: Notices) -> Self {
        let congestion = Congestion::new(notices.clone());
        let place = store.server().map_or_else(|| store.url(""), str::to_owned);
        let speaker = Speaker::new(notices, place);
        let has_worked = AtomicBool::new(false);
        let shared = Shared { store, patience, speaker, congestion, has_worked };
        RetryingStore { shared: Arc::new(shared) }
    }
}

/// Runs `$call` until it succeeds, fails for good, or patience ends. Each attempt
/// waits for its place; between two of them it holds none.
macro_rules! retry {
    ($shared:expr, $call:expr) => {{
        let mut attempts = $shared.attempts();
        loop {
            match $shared.congestion.run(attempts.attempt($call)).await {
                Ok(value) => break Ok(value),
                Err(error) => {
                    if let Err(error) = attempts.wait_after(error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}

impl<S: ObjectStore> Shared<S> {
    fn attempts(&self) -> Attempts<'_> {
        self.patience.attempts(&self.speaker, &self.has_worked)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        retry!(self, self.store.head(key))
    }

    /// What an upload found in its place: its own object, or that of another one.
    async fn outcome_for(&self, key: &ObjectKey, upload_id: &str) -> Result<PutOutcome> {
        let found = self.head(key).await?.and_then(|info| info.attributes.upload_id);
        Ok(match found.as_deref() == Some(upload_id) {
            true => PutOutcome::Stored,
            false => PutOutcome::AlreadyExists,
        })
    }
}

/// A number that no other upload has.
fn fresh_upload_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn with_upload_id(attributes: &Attributes, upload_id: &str) -> Attributes {
    Attributes { upload_id: Some(upload_id.to_owned()), ..attributes.clone() }
}

#[async_trait]
impl<S: ObjectStore + 'static> ObjectStore for RetryingStore<S> {
    fn url(&self, key: &str) -> String {
        self.shared.store.url(key)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome> {
        let upload_id = fresh_upload_id();
        let attributes = with_upload_id(attributes, &upload_id);
        let mut attempts = self.shared.attempts();
        loop {
            let put = self.shared.store.put(key, body.clone(), mode, &attributes);
            match self.shared.congestion.run(attempts.attempt(put)).await {
                Ok(PutOutcome::AlreadyExists) => {
                    return self.shared.outcome_for(key, &upload_id).await;
                }
                Ok(outcome) => return Ok(outcome),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload_id = fresh_upload_id();
        let attributes = with_upload_id(attributes, &upload_id);
        let upload =
            retry!(self.shared, self.shared.store.begin_multipart(key, mode, &attributes))?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(RetryingUpload { shared, upload, key: key.clone(), mode, upload_id }))
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        let store = &self.shared.store;
        let reader = retry!(self.shared, store.get_range(key, offset, length, if_match))?;
        let size_bytes = reader.info.size_bytes;
        let end = length.map_or(size_bytes, |length| size_bytes.min(offset.saturating_add(length)));
        let body = ResumingBody {
            end,
            shared: Arc::clone(&self.shared),
            info: reader.info.clone(),
            body: Some(reader.body),
            offset,
        };
        Ok(ObjectReader { info: reader.info, body: Box::new(body) })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        self.shared.head(key).await
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        retry!(self.shared, self.shared.store.list(request, page.clone()))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        retry!(self.shared, self.shared.store.delete(key))
    }

    async fn delete_all(&self, keys: &[ObjectKey]) -> Result<()> {
        retry!(self.shared, self.shared.store.delete_all(keys))
    }

    fn activity(&self) -> u64 {
        self.shared.store.activity()
    }

    fn require(&self, key: &ObjectKey) {
        self.shared.store.require(key);
    }

    fn directory(&self) -> Option<&Path> {
        self.shared.store.directory()
    }

    fn way(&self) -> Vec<Ability> {
        self.shared.store.way()
    }

    fn encryption(&self) -> Encryption {
        self.shared.store.encryption()
    }

    fn server(&self) -> Option<&str> {
        self.shared.store.server()
    }

    async fn abort_uploads(&self, directory: &str) -> Result<()> {
        retry!(self.shared, self.shared.store.abort_uploads(directory))
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &str) -> Result<()> {
        retry!(self.shared, self.shared.store.abort_upload(key, id))
    }

    async fn create_only_is_atomic(&self) -> Result<bool> {
        retry!(self.shared, self.shared.store.create_only_is_atomic())
    }

    async fn abilities(&self) -> Result<Vec<Ability>> {
        retry!(self.shared, self.shared.store.abilities())
    }

    fn gains_by_ranges(&self) -> bool {
        self.shared.store.gains_by_ranges()
    }

    fn pages_at_once(&self) -> usize {
        self.shared.store.pages_at_once()
    }

    fn finds_by_name(&self) -> bool {
        self.shared.store.finds_by_name()
    }

    fn credentials_source(&self) -> Option<String> {
        self.shared.store.credentials_source()
    }
}

struct RetryingUpload<S> {
    shared: Arc<Shared<S>>,
    upload: Box<dyn MultipartUpload>,
    key: ObjectKey,
    mode: PutMode,
    upload_id: String,
}

impl<S> fmt::Debug for RetryingUpload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryingUpload").field("upload", &self.upload).finish_non_exhaustive()
    }
}

impl<S: ObjectStore> RetryingUpload<S> {
    /// What became of an upload that the server says, with `error`, has ended.
    async fn outcome_after_end(&self, error: Error) -> Result<PutOutcome> {
        let Ok(Some(info)) = self.shared.head(&self.key).await else { return Err(error) };
        if info.attributes.upload_id.as_deref() == Some(&self.upload_id) {
            return Ok(PutOutcome::Stored);
        }
        match self.mode {
            PutMode::CreateOnly => {
                // If it is open after all, nothing else would end it.
                self.abort().await?;
                Ok(PutOutcome::AlreadyExists)
            }
            PutMode::Replace => Err(error),
        }
    }
}

#[async_trait]
impl<S: ObjectStore> MultipartUpload for RetryingUpload<S> {
    fn id(&self) -> Option<&str> {
        self.upload.id()
    }

    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<()> {
        retry!(self.shared, self.upload.put_part(number, offset, body.clone()))
    }

    async fn complete(&self) -> Result<PutOutcome> {
        let mut attempts = self.shared.attempts();
        loop {
            match self.shared.congestion.run(attempts.attempt(self.upload.complete())).await {
                Ok(PutOutcome::AlreadyExists) => {
                    return self.shared.outcome_for(&self.key, &self.upload_id).await;
                }
                Ok(outcome) => return Ok(outcome),
                // The same request may have ended the upload before. Servers say
                // that in their own ways: Garage answers 404, s3s-fs 403.
                Err(error) if !error.is_transient() && !error.needs_new_keys() => {
                    return self.outcome_after_end(error).await;
                }
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    async fn abort(&self) -> Result<()> {
        retry!(self.shared, self.upload.abort())
    }
}

/// A body that goes on where it broke.
struct ResumingBody<S> {
    shared: Arc<Shared<S>>,
    info: ObjectInfo,
    /// `None` after it broke, until it is opened again.
    body: Option<Box<dyn ObjectBody>>,
    /// Where the next chunk begins in the object.
    offset: u64,
    /// Where to stop, at the latest at the object's end.
    end: u64,
}

impl<S: ObjectStore> ResumingBody<S> {
    async fn attempt(&mut self) -> Result<Option<Bytes>> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let etag = self.info.etag.as_deref();
                let store = &self.shared.store;
                let left = (self.end < self.info.size_bytes).then(|| self.end - self.offset);
                let get = store.get_range(&self.info.key, self.offset, left, etag);
                let reader = self.shared.congestion.run(get).await?;
                // Says little where there is an etag, and all there is without one.
                if reader.info.size_bytes != self.info.size_bytes {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!(
                            "object \"{}\" changed while it was read",
                            self.shared.store.url(self.info.key.as_str())
                        ),
                    ));
                }
                self.body.insert(reader.body)
            }
        };
        let chunk = body.next_chunk().await?;
        if chunk.is_none() && self.offset < self.end {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "could not get object \"{}\": it ended after {} of {} bytes",
                    self.shared.store.url(self.info.key.as_str()),
                    self.offset,
                    self.info.size_bytes
                ),
            ));
        }
        Ok(chunk)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectBody for ResumingBody<S> {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let shared = Arc::clone(&self.shared);
        // Patience starts again with each chunk that came.
        let mut attempts = shared.attempts();
        loop {
            match self.attempt().await {
                Ok(chunk) => {
                    self.offset += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    return Ok(chunk);
                }
                Err(error) => {
                    self.body = None;
                    attempts.wait_after(error).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
