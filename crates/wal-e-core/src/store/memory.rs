//! Objects in memory: the store of the tests.
//!
//! It keeps the whole contract, strictly: create-only is atomic, a multipart
//! upload with a gap or with too many parts is refused, and an upload that was neither completed nor
//! aborted can be seen with [`MemoryStore::open_uploads`].

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use time::OffsetDateTime;

use super::{
    Attributes, ListPage, ListRequest, MultipartUpload, ObjectBody, ObjectInfo, ObjectReader,
    ObjectStore, PutMode, PutOutcome,
};
use crate::config::Encryption;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;

/// As S3 does it.
const DEFAULT_PAGE_SIZE: usize = 1000;

/// S3 takes no more for one object.
const MOST_PARTS: u32 = 10_000;

/// The size of the pieces in which an object is handed out.
const CHUNK_BYTES: usize = 256 * 1024;

/// A store in memory. Clones share their objects.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    page_size: usize,
    finds_by_name: bool,
    pages_at_once: usize,
    encryption: Encryption,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<u64, OpenUpload>,
    /// Counts stores and uploads, so that no etag or upload number comes twice.
    serial: u64,
    /// Whether what is in cold storage can be read.
    restored: bool,
}

#[derive(Debug)]
struct Stored {
    info: ObjectInfo,
    content: Bytes,
}

#[derive(Debug)]
struct OpenUpload {
    key: ObjectKey,
    /// By number: offset and content.
    parts: BTreeMap<u32, (u64, Bytes)>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore {
            state: Arc::default(),
            page_size: DEFAULT_PAGE_SIZE,
            finds_by_name: false,
            pages_at_once: 1,
            encryption: Encryption::default(),
        }
    }
}

impl MemoryStore {
    /// An empty store that lists 1000 objects a page.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// An empty store with pages of `page_size` objects.
    pub fn with_page_size(page_size: usize) -> Self {
        MemoryStore { page_size: page_size.max(1), ..MemoryStore::default() }
    }

    /// The same store, which is to be asked for names as one of files is.
    #[must_use]
    pub fn that_finds_by_name(self) -> Self {
        MemoryStore { finds_by_name: true, ..self }
    }

    /// The same store, of objects that are encrypted like that.
    #[must_use]
    pub fn encrypted(self, encryption: Encryption) -> Self {
        MemoryStore { encryption, ..self }
    }

    /// The same store, which is to be asked for several pages of a listing as one in S3 is.
    #[must_use]
    pub fn that_answers_pages_at_once(self, pages_at_once: usize) -> Self {
        MemoryStore { pages_at_once, ..self }
    }

    /// The keys of the multipart uploads that were begun and neither completed
    /// nor aborted.
    pub fn open_uploads(&self) -> Vec<ObjectKey> {
        self.lock().uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// Moves an object that is there to another storage class. Out of those that are
    /// cold nothing can be read.
    pub fn set_storage_class(&self, key: &ObjectKey, class: &str) {
        if let Some(stored) = self.lock().objects.get_mut(key.as_str()) {
            stored.info.storage_class = Some(class.to_owned());
        }
    }

    /// Makes an object that is there one that was stored at another time.
    pub fn set_last_modified(&self, key: &ObjectKey, at: OffsetDateTime) {
        if let Some(stored) = self.lock().objects.get_mut(key.as_str()) {
            stored.info.last_modified = at;
        }
    }

    /// From now on everything can be read, in any storage class.
    pub fn restore_from_cold_storage(&self) {
        self.lock().restored = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn store(
        &mut self,
        key: &ObjectKey,
        content: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> PutOutcome {
        if mode == PutMode::CreateOnly && self.objects.contains_key(key.as_str()) {
            return PutOutcome::AlreadyExists;
        }
        let info = ObjectInfo {
            key: key.clone(),
            size_bytes: content.len() as u64,
            last_modified: OffsetDateTime::now_utc(),
            etag: Some(format!("\"{}\"", self.next_serial())),
            storage_class: None,
            attributes: attributes.clone(),
        };
        self.objects.insert(key.as_str().to_owned(), Stored { info, content });
        PutOutcome::Stored
    }
}

fn url(key: &str) -> String {
    format!("memory:///{key}")
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn url(&self, key: &str) -> String {
        url(key)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome> {
        Ok(self.lock().store(key, body, mode, attributes))
    }

    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        let mut state = self.lock();
        let number = state.next_serial();
        state.uploads.insert(number, OpenUpload { key: key.clone(), parts: BTreeMap::new() });
        drop(state);
        Ok(Box::new(MemoryUpload {
            store: self.clone(),
            number,
            id: number.to_string(),
            key: key.clone(),
            mode,
            attributes: attributes.clone(),
        }))
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        let state = self.lock();
        let stored = state.objects.get(key.as_str()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("object \"{}\" does not exist", url(key.as_str())),
            )
        })?;
        if if_match.is_some() && if_match != stored.info.etag.as_deref() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("object \"{}\" has changed", url(key.as_str())),
            ));
        }
        if stored.info.is_in_cold_storage() && !state.restored {
            let message = format!("object \"{}\" is in cold storage", url(key.as_str()));
            return Err(Error::new(ErrorKind::Config, message));
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if start > stored.content.len() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("object \"{}\" is shorter than {offset} bytes", url(key.as_str())),
            ));
        }
        let mut rest = stored.content.slice(start..);
        if let Some(length) = length {
            rest.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        Ok(ObjectReader { info: stored.info.clone(), body: Box::new(MemoryBody { rest }) })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        Ok(self.lock().objects.get(key.as_str()).map(|stored| stored.info.clone()))
    }

    fn encryption(&self) -> Encryption {
        self.encryption.clone()
    }

    fn pages_at_once(&self) -> usize {
        self.pages_at_once
    }

    fn finds_by_name(&self) -> bool {
        self.finds_by_name
    }

    async fn is_empty(&self, directory: &str) -> Result<bool> {
        Ok(!self.lock().objects.keys().any(|key| key.starts_with(directory)))
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        let state = self.lock();
        let after = page.max(request.start_after.clone());
        let start = match &after {
            Some(after) if *after >= request.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(request.prefix.as_str()),
        };
        let mut found = ListPage::default();
        for (key, stored) in state.objects.range::<str, _>((start, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(request.prefix.as_str()) else { break };
            if request.shallow && rest.contains('/') {
                continue;
            }
            if found.objects.len() == self.page_size {
                found.next = found.objects.last().map(|last: &ObjectInfo| last.key.to_string());
                break;
            }
            found
                .objects
                .push(ObjectInfo { attributes: Attributes::default(), ..stored.info.clone() });
        }
        Ok(found)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.lock().objects.remove(key.as_str());
        Ok(())
    }

    async fn abort_uploads(&self, directory: &str) -> Result<()> {
        self.lock().uploads.retain(|_, upload| !upload.key.as_str().starts_with(directory));
        Ok(())
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &str) -> Result<()> {
        let is_meant =
            |number: &u64, upload: &OpenUpload| number.to_string() == id && upload.key == *key;
        self.lock().uploads.retain(|number, upload| !is_meant(number, upload));
        Ok(())
    }

    async fn create_only_is_atomic(&self) -> Result<bool> {
        Ok(true)
    }
}

struct MemoryBody {
    rest: Bytes,
}

#[async_trait]
impl ObjectBody for MemoryBody {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let length = self.rest.len().min(CHUNK_BYTES);
        Ok(Some(self.rest.split_to(length)))
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    number: u64,
    id: String,
    key: ObjectKey,
    mode: PutMode,
    attributes: Attributes,
}

impl MemoryUpload {
    fn gone(&self) -> Error {
        Error::new(
            ErrorKind::NotFound,
            format!("the multipart upload of \"{}\" does not exist", url(self.key.as_str())),
        )
    }
}

#[async_trait]
impl MultipartUpload for MemoryUpload {
    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<()> {
        if number > MOST_PARTS {
            let message = format!("part {number} of \"{}\" is too many", url(self.key.as_str()));
            return Err(Error::new(ErrorKind::Config, message));
        }
        let mut state = self.store.lock();
        let upload = state.uploads.get_mut(&self.number).ok_or_else(|| self.gone())?;
        upload.parts.insert(number, (offset, body));
        Ok(())
    }

    async fn complete(&self) -> Result<PutOutcome> {
        let mut state = self.store.lock();
        let upload = state.uploads.get(&self.number).ok_or_else(|| self.gone())?;
        let mut content = BytesMut::new();
        for (expected, (&number, (offset, part))) in (1..).zip(&upload.parts) {
            if number != expected || *offset != content.len() as u64 {
                return Err(Error::new(
                    ErrorKind::Bug,
                    format!("the parts of \"{}\" leave a gap", url(self.key.as_str())),
                )
                .with_detail(format!("Part {number} was sent for offset {offset}.")));
            }
            content.extend_from_slice(part);
        }
        state.uploads.remove(&self.number);
        Ok(state.store(&self.key, content.freeze(), self.mode, &self.attributes))
    }

    async fn abort(&self) -> Result<()> {
        self.store.lock().uploads.remove(&self.number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keeps_the_contract() {
        conformance::run_all(Arc::new(MemoryStore::new())).await;
    }

    #[tokio::test]
    async fn keeps_the_contract_in_small_pages() {
        conformance::run_all(Arc::new(MemoryStore::with_page_size(2))).await;
    }

    #[tokio::test]
    async fn open_uploads_are_seen_until_they_end() {
        let store = MemoryStore::new();
        let key = ObjectKey::from_listing("some/object").unwrap();
        let attributes = Attributes::default();
        let first = store.begin_multipart(&key, PutMode::CreateOnly, &attributes).await.unwrap();
        let second = store.begin_multipart(&key, PutMode::CreateOnly, &attributes).await.unwrap();
        assert_eq!(store.open_uploads(), [key.clone(), key.clone()]);
        first.abort().await.unwrap();
        assert_eq!(store.open_uploads(), std::slice::from_ref(&key));
        second.put_part(1, 0, Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(second.complete().await.unwrap(), PutOutcome::Stored);
        assert!(store.open_uploads().is_empty());
        assert_eq!(second.complete().await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn parts_with_a_gap_are_refused() {
        let store = MemoryStore::new();
        let key = ObjectKey::from_listing("gap").unwrap();
        let upload =
            store.begin_multipart(&key, PutMode::Replace, &Attributes::default()).await.unwrap();
        upload.put_part(1, 0, Bytes::from_static(b"abc")).await.unwrap();
        upload.put_part(2, 4, Bytes::from_static(b"def")).await.unwrap();
        assert_eq!(upload.complete().await.unwrap_err().kind(), ErrorKind::Bug);
        assert!(store.head(&key).await.unwrap().is_none());
    }
}
