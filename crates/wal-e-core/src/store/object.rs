//! An object of a store: what is known of it, and its bytes.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;

/// What is kept with an object besides its bytes. A store that has no place for
/// it (files) keeps none, and [`ObjectInfo::attributes`] is empty there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Checksum of the content before compression: XXH3, 128 bits, 32 hex digits.
    pub content_xxh128: Option<String>,
    /// Identifies the upload, so that a writer whose answer was lost
    /// recognizes its own object. Set by [`retry::RetryingStore`].
    pub upload_id: Option<String>,
}

/// What a store knows of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name below the prefix.
    pub key: ObjectKey,
    /// Stored size in bytes.
    pub size_bytes: u64,
    /// When it was stored.
    pub last_modified: OffsetDateTime,
    /// Changes when the object does; empty where the store has none.
    pub etag: Option<String>,
    /// As the store names it; `None` where it does not, as S3 does for `STANDARD`.
    pub storage_class: Option<String>,
    /// Filled by [`ObjectStore::head`] and [`ObjectStore::get`], empty in a listing.
    pub attributes: Attributes,
}

impl ObjectInfo {
    /// Whether its storage class is one from which objects have to be restored before they
    /// can be read. Some can be read all the same: of those that were restored for some
    /// days a listing does not say so, and other servers than Amazon's have classes of
    /// these names that are like any other. [`refusal_to_read`] finds out.
    pub fn is_in_cold_storage(&self) -> bool {
        matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }
}

/// The bytes of an object, in order.
#[async_trait]
pub trait ObjectBody: Send {
    /// The next bytes, or `None` at the end. An early end is an error.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>>;
}

/// An object that is being read.
pub struct ObjectReader {
    /// What is known of it. `size_bytes` is the size of the whole object.
    pub info: ObjectInfo,
    /// Its bytes from the offset asked for, as many as were asked for.
    pub body: Box<dyn ObjectBody>,
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").field("info", &self.info).finish_non_exhaustive()
    }
}

impl ObjectReader {
    /// Reads the rest into memory; for small objects.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when it is larger than `limit_bytes`.
    pub async fn into_bytes(mut self, limit_bytes: u64) -> Result<Bytes> {
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = self.body.next_chunk().await? {
            all.extend_from_slice(&chunk);
            if all.len() as u64 > limit_bytes {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("object \"{}\" is larger than {limit_bytes} bytes", self.info.key),
                ));
            }
        }
        Ok(all.freeze())
    }
}
