//! What the objects of runs by schedule hold.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::sentinel;
use crate::store::ObjectStore;

/// Claims and what says how a run ended are far smaller.
const LARGEST_MARK_BYTES: u64 = 64 * 1024;

/// What the object of a claim says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimContent {
    #[serde(default)]
    pub(super) host: String,
    #[serde(default)]
    pub(super) data_directory: String,
    #[serde(default)]
    pub(super) instance: u64,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(super) started: Option<OffsetDateTime>,
}

/// A run by schedule; stored when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// [`Job::as_str`].
    pub job: String,
    /// For which slot it was.
    #[serde(with = "time::serde::rfc3339::option")]
    pub slot: Option<OffsetDateTime>,
    /// Counts the attempts for that slot, from 1.
    pub attempt: u32,
    /// Where it ran.
    pub host: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started: Option<OffsetDateTime>,
    /// When it ended. `None` while it runs, or when its server is gone.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished: Option<OffsetDateTime>,
    /// Whether it did what it was to do, and found all well. `None` as for [`Entry::finished`].
    pub ok: Option<bool>,
    /// What it did, or why not.
    pub detail: Option<String>,
    /// How much it stored, read or deleted.
    pub bytes: Option<u64>,
}

/// `None` when there is no such claim, or nothing that can be read as one.
pub(super) async fn read_claim(
    store: &dyn ObjectStore,
    key: &ObjectKey,
) -> Result<Option<ClaimContent>> {
    read(store, key).await
}

/// What an object says of a run that has ended. `None` as for [`read_claim`].
pub(super) async fn read_entry(store: &dyn ObjectStore, key: &ObjectKey) -> Result<Option<Entry>> {
    read(store, key).await
}

async fn read<T: for<'de> Deserialize<'de>>(
    store: &dyn ObjectStore,
    key: &ObjectKey,
) -> Result<Option<T>> {
    match store.get(key, 0, None).await {
        Ok(found) => {
            let json = found.into_bytes(LARGEST_MARK_BYTES).await?;
            Ok(sentinel::parse(&store.url(key.as_str()), &json).ok())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
