//! Where objects live.
//!
//! One trait, [`ObjectStore`], with what the flows need and no more; one file
//! for each kind of store. All keep the same contract, written down as the
//! functions of [`conformance`] and run on each of them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::config::{Encryption, StoreConfig, StorePlace};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::notice::Notices;
use crate::rate_limit::RateLimit;
use crate::tasks::Work;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(any(test, feature = "conformance"))]
pub mod faulty;
pub mod file;
pub mod memory;
mod object;
pub mod retry;
pub mod s3;

pub use object::{Attributes, ObjectBody, ObjectInfo, ObjectReader};

/// Whether an upload may replace an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Never replaces: of several writers exactly one creates the object.
    CreateOnly,
    /// Replaces what is there.
    Replace,
}

/// What one server can do that not all of its kind can, and what is used where it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// A name for it.
    pub name: &'static str,
    /// Whether it is as it should be; `None` where something is less safe or needs a setting.
    pub ok: Option<bool>,
    /// What was found, and what is used.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Ability {
    /// It is as it should be, or what is used instead is as good.
    pub fn used(name: &'static str, detail: impl Into<String>) -> Self {
        Ability { name, ok: Some(true), detail: detail.into(), hint: None }
    }
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PutOutcome {
    /// The whole object is stored and confirmed.
    Stored,
    /// [`PutMode::CreateOnly`] found an object of that name; it was left as it was.
    AlreadyExists,
}

/// Which objects [`ObjectStore::list`] should name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that begin with this; a plain string prefix.
    pub prefix: String,
    /// Only keys that sort after this one.
    pub start_after: Option<String>,
    /// Only keys with no `/` after the prefix: the objects of one "directory".
    pub shallow: bool,
}

/// One page of a listing, in the order of the keys' bytes.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// The objects.
    pub objects: Vec<ObjectInfo>,
    /// Pass it to the next call; `None` when this was the last page.
    pub next: Option<String>,
}

/// A place that keeps objects under names.
///
/// Errors name the object by its [`url`](ObjectStore::url), the status of the
/// server's answer, and where credentials came from, as far as the store has these.
///
/// # Cancel safety
/// Dropping a future of `put` or of a part's upload leaves either the whole
/// object or none; which one is unknown. Nothing of a multipart upload is
/// visible before `complete`.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// The object's full name for messages: `s3://bucket/path/key`.
    fn url(&self, key: &str) -> String;

    /// Stores a whole object in one request.
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome>;

    /// Begins a multipart upload, for objects too large to hold in memory.
    /// The caller must `complete` or `abort` it.
    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>>;

    /// Opens an object from `offset` (in bytes) to its end; at its end the rest
    /// is empty.
    ///
    /// # Errors
    /// As [`ObjectStore::get_range`].
    async fn get(
        &self,
        key: &ObjectKey,
        offset: u64,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        self.get_range(key, offset, None, if_match).await
    }

    /// Opens `length` bytes of an object from `offset`, fewer where it ends; without
    /// a length, all to its end.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such object,
    /// [`crate::ErrorKind::Conflict`] when it is shorter than `offset` or, with
    /// `if_match`, no longer the one of that etag.
    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader>;

    /// Whether several requests for the ranges of one object are faster than one
    /// for all of it: where each connection has a speed of its own.
    fn gains_by_ranges(&self) -> bool {
        false
    }

    /// What the store knows of an object; `None` when there is none.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>>;

    /// Whether asking for names is cheaper than listing: where a listing reads a whole
    /// directory, however little of it is asked for.
    fn finds_by_name(&self) -> bool {
        false
    }

    /// How many pages of listings may be asked for at the same time: more than one where each
    /// page is answered by itself, and names come in their order from page to page.
    fn pages_at_once(&self) -> usize {
        1
    }

    /// Which of these objects there are.
    async fn find(&self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>> {
        let mut found = Vec::new();
        for key in keys {
            if self.head(key).await?.is_some() {
                found.push(key.clone());
            }
        }
        Ok(found)
    }

    /// Whether there is no object whose key begins with `directory`, which ends with `/`.
    async fn is_empty(&self, directory: &str) -> Result<bool> {
        let request = ListRequest { prefix: directory.to_owned(), ..ListRequest::default() };
        Ok(self.list(&request, None).await?.objects.is_empty())
    }

    /// A page of a listing; `page` is the `next` of the page before.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] when a page has names that belong on an earlier one. The
    /// listing comes in order when it is begun anew.
    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage>;

    /// Removes an object; one that does not exist is not an error.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Removes many objects, in as few requests as the store allows; those that do not exist
    /// are not errors.
    ///
    /// # Errors
    /// Of the first that could not be removed. Others may have been.
    async fn delete_all(&self, keys: &[ObjectKey]) -> Result<()> {
        for key in keys {
            self.delete(key).await?;
        }
        Ok(())
    }

    /// A number that grows as long as the bytes of uploads move, for a caller that
    /// has to know whether a store is slow or hangs. Zero where it is not known.
    fn activity(&self) -> u64 {
        0
    }

    /// From now on nothing is stored while this object is not there, which it is now.
    /// Only of a directory, whose disk may be unmounted while it is used: there it
    /// costs no request.
    fn require(&self, _key: &ObjectKey) {}

    /// How what is archived in it is encrypted: [`crate::archived`] does that. The store itself
    /// keeps the bytes that it is given.
    fn encryption(&self) -> Encryption {
        Encryption::default()
    }

    /// The directory that it is, where it is one.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// The server that it is on, where the URLs of objects do not name it.
    fn server(&self) -> Option<&str> {
        None
    }

    /// Ends the multipart uploads that were begun for keys below `directory` (a
    /// key's beginning that ends with `/`) and neither completed nor aborted:
    /// those of a process that was killed. The caller must know that no process
    /// uses them.
    async fn abort_uploads(&self, directory: &str) -> Result<()>;

    /// Ends the one multipart upload with this [`MultipartUpload::id`], of this process or
    /// another. One that has ended is not an error.
    async fn abort_upload(&self, key: &ObjectKey, id: &str) -> Result<()>;

    /// Whether of several writers with [`PutMode::CreateOnly`] exactly one
    /// creates the object. Where not, the store looks before it writes, which is
    /// safe for one writer at a time. To find out may write an object of its own
    /// ([`crate::layout::create_only_probe`]).
    async fn create_only_is_atomic(&self) -> Result<bool>;

    /// What the server can do, where servers of a kind differ. May write an object of its own
    /// ([`crate::layout::create_only_probe`]).
    async fn abilities(&self) -> Result<Vec<Ability>> {
        Ok(Vec::new())
    }

    /// What is on the way to the server, as far as the settings say it: nothing is asked.
    fn way(&self) -> Vec<Ability> {
        Vec::new()
    }

    /// Where the credentials in use were found, as a phrase that fits after
    /// "from". `None` for a store without, or before the first request.
    fn credentials_source(&self) -> Option<String> {
        None
    }
}

/// A multipart upload that has begun.
#[async_trait]
pub trait MultipartUpload: fmt::Debug + Send + Sync {
    /// What the store knows it by, so that another process can end it; `None` where
    /// what a killed process left goes away by itself.
    fn id(&self) -> Option<&str>;

    /// Stores one part: `number` counts from 1, `offset` is where it begins in
    /// the object. Parts may be sent at the same time and in any order; none but the
    /// last is smaller than one before it.
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<()>;

    /// Makes the object visible. There must be at least one part, which may be
    /// empty. After any [`PutOutcome`] the upload has ended and what its parts
    /// occupied is free; after an error it must still be aborted.
    async fn complete(&self) -> Result<PutOutcome>;

    /// Ends the upload without an object and frees what the parts occupied. One
    /// that has ended already is not an error. No part may still be under way.
    async fn abort(&self) -> Result<()>;
}

/// All pages of a listing.
///
/// # Errors
/// Those of [`ObjectStore::list`], but for a listing that turns out to be out of order: that
/// is read once more.
pub async fn list_all(store: &dyn ObjectStore, request: &ListRequest) -> Result<Vec<ObjectInfo>> {
    let mut objects = Vec::new();
    let mut page = None;
    let mut begun_anew = false;
    loop {
        let answer = match store.list(request, page.clone()).await {
            Err(error) if error.kind() == ErrorKind::Conflict && page.is_some() && !begun_anew => {
                begun_anew = true;
                objects.clear();
                page = None;
                continue;
            }
            answer => answer?,
        };
        objects.extend(answer.objects);
        page = answer.next;
        if page.is_none() {
            return Ok(objects);
        }
    }
}

/// Asks for a byte of an object: `Some` is the store's refusal, for the reason that the
/// object has to be restored from its storage class first.
///
/// # Errors
/// Those of [`ObjectStore::get_range`] that say nothing of the object's storage class.
pub async fn refusal_to_read(store: &dyn ObjectStore, key: &ObjectKey) -> Result<Option<Error>> {
    match store.get_range(key, 0, Some(1), None).await {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Config => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Opens the store of a prefix. Requests that fail for a passing reason are
/// tried again within `patience`.
///
/// # Errors
/// [`crate::ErrorKind::Config`] when the settings cannot work: a directory that
/// is not there, an unreadable CA file.
pub fn open(
    config: &StoreConfig,
    patience: retry::Patience,
    notices: Notices,
) -> Work<'_, Result<Arc<dyn ObjectStore>>> {
    Box::pin(async move { open_limited(config, patience, notices, None).await })
}

/// [`open`], for uploads that are no faster than `upload_rate_limit`. It counts the content of
/// objects as it is sent: what is sent again counts again, and requests without content do not.
///
/// # Errors
/// As [`open`].
pub fn open_limited(
    config: &StoreConfig,
    patience: retry::Patience,
    notices: Notices,
    upload_rate_limit: Option<Arc<RateLimit>>,
) -> Work<'_, Result<Arc<dyn ObjectStore>>> {
    Box::pin(async move {
        let encryption = config.encryption.clone();
        let store: Arc<dyn ObjectStore> = match &config.place {
            StorePlace::S3(config) => {
                let store = s3::S3Store::new(config, notices.clone()).await?;
                let store = store.limited_to(upload_rate_limit).encrypted(encryption);
                Arc::new(retry::RetryingStore::new(store, patience, notices))
            }
            StorePlace::File(config) => {
                let store = file::FileStore::open(&config.directory, notices).await?;
                Arc::new(store.limited_to(upload_rate_limit).encrypted(encryption))
            }
        };
        Ok(store)
    })
}
