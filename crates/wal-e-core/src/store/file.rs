//! Objects as files below a directory that exists already.
//!
//! An upload writes a temporary file next to its target, syncs it, gives it its
//! name with `link` (which cannot replace; `naming` has what is done without it) or
//! `rename`, and syncs the directory. So an object is either whole and durable, or not there.
//!
//! The work is blocking and runs on tokio's blocking threads. Such a piece of
//! work, once begun, ends by itself even when its future is dropped.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Ability, Attributes, ListPage, ListRequest, MultipartUpload, ObjectInfo, ObjectReader,
    ObjectStore, PutMode, PutOutcome,
};
use crate::config::Encryption;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::notice::{self, Notices};
use crate::rate_limit::RateLimit;
use crate::tasks;

mod body;
mod facts;
mod listing;
mod names;
mod naming;
mod root;
mod temporary;
mod upload;

use body::FileBody;
use facts::is_missing;
use listing::Rest;
use root::Root;
use upload::FileUpload;

/// As S3's. Threads by turns make the pages, and each holds on to the memory of one.
const DEFAULT_PAGE_SIZE: usize = 1000;

/// A store whose objects are the files below one directory.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: Arc<Root>,
    page_size: usize,
    /// Of the listing that ended a page last.
    rest: Arc<Mutex<Option<Rest>>>,
    upload_rate_limit: Option<Arc<RateLimit>>,
    encryption: Encryption,
}

impl FileStore {
    /// The store of `directory`. It is never created here: the mount point of a
    /// disk that is not mounted must not be filled.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it does not exist or is not a directory.
    pub async fn open(directory: &Path, notices: Notices) -> Result<FileStore> {
        let directory = directory.to_owned();
        blocking(move || FileStore::telling(&directory, notices)).await
    }

    /// [`FileStore::open`] where it may block, and says nothing of the file system.
    pub fn new(directory: &Path) -> Result<FileStore> {
        FileStore::telling(directory, notice::channel().0)
    }

    fn telling(directory: &Path, notices: Notices) -> Result<FileStore> {
        let root = Root::open(directory, notices)?;
        Ok(FileStore {
            root: Arc::new(root),
            page_size: DEFAULT_PAGE_SIZE,
            rest: Arc::default(),
            upload_rate_limit: None,
            encryption: Encryption::default(),
        })
    }

    /// A store that uploads no faster than that.
    pub(super) fn limited_to(self, upload_rate_limit: Option<Arc<RateLimit>>) -> FileStore {
        FileStore { upload_rate_limit, ..self }
    }

    /// A store of objects that are encrypted like that.
    pub(super) fn encrypted(self, encryption: Encryption) -> FileStore {
        FileStore { encryption, ..self }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tasks::blocking("work on a file", work).await
}

#[async_trait]
impl ObjectStore for FileStore {
    fn url(&self, key: &str) -> String {
        self.root.url(key)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome> {
        let is_limited = self.upload_rate_limit.as_ref().is_some_and(|limit| limit.is_in_force());
        if is_limited && (mode == PutMode::Replace || self.head(key).await?.is_none()) {
            let upload = self.begin_multipart(key, mode, attributes).await?;
            upload.put_part(1, 0, body).await?;
            return upload.complete().await;
        }
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || root.write_object(&key, &body, mode)).await
    }

    fn encryption(&self) -> Encryption {
        self.encryption.clone()
    }

    fn activity(&self) -> u64 {
        self.root.activity.load(Ordering::Relaxed)
    }

    fn require(&self, key: &ObjectKey) {
        // Of a store only one object is required.
        let _ = self.root.required.set(key.clone());
    }

    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        _attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        let rate_limit = self.upload_rate_limit.clone();
        let upload = blocking(move || {
            let temporary = root.create_temporary(&key)?;
            Ok(FileUpload::new(root, key, mode, temporary, rate_limit))
        })
        .await?;
        Ok(Box::new(upload))
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        let (root, wanted) = (Arc::clone(&self.root), key.clone());
        let if_match = if_match.map(str::to_owned);
        let (file, info) = blocking(move || root.open_object(&wanted, if_match.as_deref())).await?;
        if offset > info.size_bytes {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("object \"{}\" is shorter than {offset} bytes", self.url(key.as_str())),
            ));
        }
        let body = FileBody {
            root: Arc::clone(&self.root),
            key: key.clone(),
            file: Arc::new(file),
            offset,
            end: length.map_or(info.size_bytes, |length| {
                info.size_bytes.min(offset.saturating_add(length))
            }),
            size_bytes: info.size_bytes,
        };
        Ok(ObjectReader { info, body: Box::new(body) })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || {
            let found = root.examine(&key)?;
            if found.is_none() {
                root.check()?;
            }
            Ok(found)
        })
        .await
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.root.path)
    }

    fn finds_by_name(&self) -> bool {
        true
    }

    async fn find(&self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>> {
        let (root, keys) = (Arc::clone(&self.root), keys.to_owned());
        blocking(move || {
            let mut found = Vec::new();
            for key in keys {
                if root.examine(&key)?.is_some() {
                    found.push(key);
                }
            }
            if found.is_empty() {
                root.check()?;
            }
            Ok(found)
        })
        .await
    }

    async fn is_empty(&self, directory: &str) -> Result<bool> {
        let (root, path) = (Arc::clone(&self.root), directory.to_owned());
        if blocking(move || listing::has_file(&root, &path)).await? {
            return Ok(false);
        }
        // There may be some in directories below.
        let request = ListRequest { prefix: directory.to_owned(), ..ListRequest::default() };
        Ok(self.list(&request, None).await?.objects.is_empty())
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        let (root, request, page_size) = (Arc::clone(&self.root), request.clone(), self.page_size);
        let place = Arc::clone(&self.rest);
        blocking(move || {
            let lock = || place.lock().unwrap_or_else(PoisonError::into_inner);
            let before = lock().take();
            let (page, rest) = listing::list(&root, &request, page, page_size, before)?;
            *lock() = rest;
            Ok(page)
        })
        .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || {
            let path = root.file(&key);
            match std::fs::remove_file(&path) {
                Ok(()) => Ok(()),
                Err(error) if is_missing(&error) => root.check(),
                Err(error) => Err(root.refused("delete", &key, &path, &error)),
            }
        })
        .await
    }

    async fn abort_uploads(&self, directory: &str) -> Result<()> {
        let path = self.root.path.join(directory);
        blocking(move || {
            for entry in walkdir::WalkDir::new(path).into_iter().flatten() {
                if entry.file_type().is_dir() {
                    temporary::remove_older_than(entry.path(), Duration::ZERO);
                }
            }
            Ok(())
        })
        .await
    }

    async fn abort_upload(&self, _key: &ObjectKey, _id: &str) -> Result<()> {
        // None has a number. Temporary files that are left are removed by their age.
        Ok(())
    }

    async fn create_only_is_atomic(&self) -> Result<bool> {
        let root = Arc::clone(&self.root);
        blocking(move || root.create_only_is_atomic()).await
    }

    async fn abilities(&self) -> Result<Vec<Ability>> {
        let root = Arc::clone(&self.root);
        blocking(move || root.abilities()).await
    }
}

#[cfg(test)]
mod tests;
