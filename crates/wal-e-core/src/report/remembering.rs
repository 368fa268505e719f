//! A store that reads no small object twice.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::layout::{self, ObjectKey};
use crate::store::{
    Ability, Attributes, ListPage, ListRequest, MultipartUpload, ObjectBody, ObjectInfo,
    ObjectReader, ObjectStore, PutMode, PutOutcome,
};

/// Larger objects are read each time.
const LARGEST_BYTES: u64 = 256 * 1024;

/// As much is remembered; more is read each time.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Remembers the small objects of base backups (sentinels and metadata) that are read as a
/// whole. For as long as one report is made: it would not notice that they change.
#[derive(Debug)]
pub(super) struct Remembering {
    store: Arc<dyn ObjectStore>,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    objects: HashMap<ObjectKey, (ObjectInfo, Bytes)>,
    bytes: usize,
}

impl Remembering {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Remembering { store, read: Mutex::default() }
    }

    fn recall(&self, key: &ObjectKey) -> Option<ObjectReader> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (info, bytes) = read.objects.get(key)?.clone();
        Some(ObjectReader { info, body: Box::new(Remembered(Some(bytes))) })
    }

    fn remember(&self, key: &ObjectKey, info: &ObjectInfo, bytes: &Bytes) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.bytes + bytes.len() <= MOST_BYTES {
            read.bytes += bytes.len();
            read.objects.insert(key.clone(), (info.clone(), bytes.clone()));
        }
    }
}

/// A body that was read before.
struct Remembered(Option<Bytes>);

#[async_trait]
impl ObjectBody for Remembered {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.take())
    }
}

#[async_trait]
impl ObjectStore for Remembering {
    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        let is_whole = offset == 0 && length.is_none() && if_match.is_none();
        if !is_whole || !key.as_str().starts_with(&layout::base_backups()) {
            return self.store.get_range(key, offset, length, if_match).await;
        }
        if let Some(remembered) = self.recall(key) {
            return Ok(remembered);
        }
        let reader = self.store.get(key, 0, None).await?;
        if reader.info.size_bytes > LARGEST_BYTES {
            return Ok(reader);
        }
        let info = reader.info.clone();
        let bytes = reader.into_bytes(LARGEST_BYTES).await?;
        self.remember(key, &info, &bytes);
        Ok(ObjectReader { info, body: Box::new(Remembered(Some(bytes))) })
    }

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
        self.store.put(key, body, mode, attributes).await
    }

    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.begin_multipart(key, mode, attributes).await
    }

    fn gains_by_ranges(&self) -> bool {
        self.store.gains_by_ranges()
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        self.store.head(key).await
    }

    fn finds_by_name(&self) -> bool {
        self.store.finds_by_name()
    }

    async fn find(&self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>> {
        self.store.find(keys).await
    }

    async fn is_empty(&self, directory: &str) -> Result<bool> {
        self.store.is_empty(directory).await
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        self.store.list(request, page).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.store.delete(key).await
    }

    async fn delete_all(&self, keys: &[ObjectKey]) -> Result<()> {
        self.store.delete_all(keys).await
    }

    fn activity(&self) -> u64 {
        self.store.activity()
    }

    fn require(&self, key: &ObjectKey) {
        self.store.require(key);
    }

    fn directory(&self) -> Option<&Path> {
        self.store.directory()
    }

    fn server(&self) -> Option<&str> {
        self.store.server()
    }

    async fn abort_uploads(&self, directory: &str) -> Result<()> {
        self.store.abort_uploads(directory).await
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &str) -> Result<()> {
        self.store.abort_upload(key, id).await
    }

    async fn create_only_is_atomic(&self) -> Result<bool> {
        self.store.create_only_is_atomic().await
    }

    async fn abilities(&self) -> Result<Vec<Ability>> {
        self.store.abilities().await
    }

    fn way(&self) -> Vec<Ability> {
        self.store.way()
    }

    fn credentials_source(&self) -> Option<String> {
        self.store.credentials_source()
    }
}
