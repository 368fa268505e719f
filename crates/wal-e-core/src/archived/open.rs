//! Archived objects, read.

use std::io::{self, Read};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::checksum::is_plain_checksum;
use crate::codec::{Decompressor, Encoding, looks_plain, named};
use crate::encryption::{BEGINNING_BYTES, Form, Keyring, form_of, open};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::ObjectStore;
use crate::tasks::{blocking, or_cancelled};
use crate::transfer::{Counted, cancellable, download, download_ranges};

/// An object of the archive that is being read.
pub struct ArchivedObject {
    url: String,
    encoding: Encoding,
    keyring: Keyring,
    kept_checksum: Option<String>,
    stored: Box<dyn Read + Send>,
}

impl ArchivedObject {
    /// Asks for the object `key`, which has this encoding. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(
        store: &dyn ObjectStore,
        key: &ObjectKey,
        encoding: Encoding,
    ) -> Result<Self> {
        Self::open_until(store, key, encoding, &CancellationToken::new()).await
    }

    /// [`ArchivedObject::open`] until `cancel` is set, which also ends a read.
    pub async fn open_until(
        store: &dyn ObjectStore,
        key: &ObjectKey,
        encoding: Encoding,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let object = or_cancelled(cancel, store.get(key, 0, None)).await?;
        Ok(ArchivedObject {
            url: store.url(key.as_str()),
            encoding,
            keyring: store.encryption().keyring,
            kept_checksum: object.info.attributes.content_xxh128.clone(),
            stored: Box::new(download(cancellable(object, cancel.clone()))),
        })
    }

    /// [`ArchivedObject::open_until`] by several requests at a time, from stores that
    /// gain by it. The checksum of the content is not known then.
    pub async fn open_large(
        store: &Arc<dyn ObjectStore>,
        key: &ObjectKey,
        encoding: Encoding,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        if !store.gains_by_ranges() {
            return Self::open_until(&**store, key, encoding, cancel).await;
        }
        let url = store.url(key.as_str());
        let ranges = download_ranges(Arc::clone(store), key, cancel.clone()).await?;
        let keyring = store.encryption().keyring;
        let stored = Box::new(ranges);
        Ok(ArchivedObject { url, encoding, keyring, kept_checksum: None, stored })
    }

    /// An object of these stored bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn made_up(stored: impl Read + Send + 'static, encoding: Encoding) -> Self {
        let url = "memory:made-up".to_owned();
        let (keyring, stored) = (Keyring::empty(), Box::new(stored));
        ArchivedObject { url, encoding, keyring, kept_checksum: None, stored }
    }

    /// Reports to `count` how many stored bytes have come, again and again.
    #[must_use]
    pub fn counted(self, count: impl Fn(u64) + Send + 'static) -> Self {
        ArchivedObject { stored: Box::new(Counted::new(self.stored, count)), ..self }
    }

    /// The URL of the object.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The checksum of the content that is kept with the object. `None` where it is a code that
    /// needs a key: what is encrypted proves itself.
    pub fn content_xxh128(&self) -> Option<&str> {
        self.kept_checksum.as_deref().filter(|kept| is_plain_checksum(kept))
    }

    /// Its content, decrypted and decoded, for a thread that may block. A truncated object is an
    /// error at its end ([`ErrorKind::Corrupt`] inside the `io::Error`); only the end proves a
    /// checksum.
    ///
    /// # Errors
    /// Those of an object that no key opens or that cannot be decoded, as when it is read.
    pub fn content(self) -> io::Result<Decompressor<Box<dyn Read + Send>>> {
        let encoding = self.encoding;
        let opened = open(self.stored, &self.keyring, |head| looks_plain(head, encoding))?;
        Decompressor::new(Box::new(opened), encoding)
    }

    /// The first `limit` bytes of its content. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Those of the store, and of an object that is damaged or cannot be decoded; they name
    /// it.
    pub async fn read_at_most(self, limit: u64) -> Result<Vec<u8>> {
        blocking("reading an archived object", move || {
            let url = self.url.clone();
            let mut bytes = Vec::new();
            self.content()
                .and_then(|content| content.take(limit).read_to_end(&mut bytes))
                .map_err(|source| read_failed(&url, source))?;
            Ok(bytes)
        })
        .await
    }
}

/// How the object `key` is encrypted, by its first few KiB. `None` when that cannot be told:
/// it is empty, or no configured key opens it, and it does not look as if it were not encrypted.
///
/// # Errors
/// Those of the store.
pub(crate) async fn form(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    encoding: Encoding,
) -> Result<Option<Form>> {
    let length = BEGINNING_BYTES as u64;
    let beginning = store.get_range(key, 0, Some(length), None).await?.into_bytes(length).await?;
    let keyring = store.encryption().keyring;
    Ok(form_of(&beginning, &keyring, |head| looks_plain(head, encoding)))
}

/// What can be done about damage.
pub const RESTORE_IT: &str =
    "Restore it from a copy of the archive, or recover to a moment before it.";

/// The error for the object `url`, whose content could not be read because of `source`.
pub fn read_failed(url: &str, source: io::Error) -> Error {
    let error = Error::from_io(format!("could not read object \"{url}\""), source);
    if error.kind() != ErrorKind::Corrupt {
        return named(url, error);
    }
    let damaged = damaged(url, error.message());
    match error.hint() {
        Some(hint) => damaged.with_hint(hint),
        None => damaged,
    }
}

/// The error for the object `url`, whose content is not what it should be.
pub fn damaged(url: &str, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("archived object \"{url}\" is damaged: {why}"))
        .with_hint(RESTORE_IT)
}
