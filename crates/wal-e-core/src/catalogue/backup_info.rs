//! What is known of each base backup: its sentinel in a listing, and what that and
//! `metadata.json` say, as far as they can be read.

use std::fmt;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use time::OffsetDateTime;

use crate::encryption::Form;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::Notices;
use crate::postgres::{Lsn, SystemIdentifier, TimelineId};
use crate::sentinel::{self, Metadata, Sentinel};
use crate::store::{ListRequest, ObjectInfo, ObjectStore, list_all};

/// Sentinels that are read at the same time.
const READ_AT_ONCE: usize = 8;

/// Sentinels and metadata are small, but WAL-G 1 kept the list of files in the
/// sentinel: of the largest clusters, a gigabyte.
const LARGEST_JSON_BYTES: u64 = 1024 * 1024 * 1024;

/// A base backup as listed: one that has its sentinel.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupInfo {
    /// `base_` and the start segment.
    pub name: String,
    /// When its sentinel was stored.
    pub stored_at: OffsetDateTime,
    /// The backup that this one is a delta of; `None` for a full backup.
    pub delta_from: Option<String>,
    /// When `pg_backup_start` was called.
    pub start_time: Option<OffsetDateTime>,
    /// When `pg_backup_stop` had returned: what is in the backup is older.
    pub finish_time: Option<OffsetDateTime>,
    /// From the name.
    pub timeline: TimelineId,
    /// Where replay begins.
    pub start_lsn: Option<Lsn>,
    /// Where the backup is consistent.
    pub stop_lsn: Option<Lsn>,
    /// `server_version_num`.
    pub pg_version: Option<u32>,
    /// The cluster that it was taken of.
    pub system_identifier: Option<SystemIdentifier>,
    /// Bytes of the files.
    pub uncompressed_bytes: Option<u64>,
    /// Bytes of the tar partitions as stored.
    pub compressed_bytes: Option<u64>,
    /// Bytes of all files of the cluster: of a delta also of those, and of the parts of those,
    /// that it does not have.
    pub cluster_bytes: Option<u64>,
    /// Whether deletion must leave it.
    pub permanent: bool,
    /// Host that it was taken on.
    pub hostname: Option<String>,
    /// Data directory that it was taken of.
    pub data_directory: Option<String>,
    /// How it is encrypted; `None` where that is not known, as of what others stored.
    pub encryption: Option<Form>,
    /// The fingerprint of the key with which it is.
    pub encryption_key: Option<String>,
    /// Why its sentinel cannot be read, without which it cannot be restored; what is told
    /// of it then comes from its name and from `metadata.json`.
    pub unreadable: Option<Error>,
    /// Why `metadata.json` cannot be read. It is not needed to restore; that the backup is
    /// permanent may stand there alone.
    pub metadata_unreadable: Option<Error>,
}

/// What a base backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupKind {
    /// It has all files.
    Full,
    /// It has what changed since another one.
    Delta,
    /// Its sentinel cannot be read.
    Damaged,
}

impl BackupKind {
    /// The word for it in every list.
    pub fn as_str(self) -> &'static str {
        match self {
            BackupKind::Full => "full",
            BackupKind::Delta => "delta",
            BackupKind::Damaged => "damaged",
        }
    }
}

impl fmt::Display for BackupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl BackupInfo {
    /// What it is.
    pub fn kind(&self) -> BackupKind {
        match (&self.unreadable, &self.delta_from) {
            (Some(_), _) => BackupKind::Damaged,
            (None, Some(_)) => BackupKind::Delta,
            (None, None) => BackupKind::Full,
        }
    }

    /// What of its sentinel or `metadata.json` cannot be read, and why.
    pub fn damage(&self) -> Option<&str> {
        self.unreadable.as_ref().or(self.metadata_unreadable.as_ref()).map(Error::message)
    }
}

/// A sentinel in a listing.
#[derive(Debug, Clone)]
pub(crate) struct StoredSentinel {
    /// The backup's name.
    pub(crate) name: String,
    /// From the name.
    pub(crate) timeline: TimelineId,
    /// The object.
    pub(crate) object: ObjectInfo,
}

/// The sentinels of all backups, in the order in which they were stored.
pub(crate) async fn sentinels(store: &dyn ObjectStore) -> Result<Vec<StoredSentinel>> {
    let request =
        ListRequest { prefix: layout::base_backups(), shallow: true, ..ListRequest::default() };
    let mut sentinels: Vec<StoredSentinel> = list_all(store, &request)
        .await?
        .into_iter()
        .filter_map(|object| {
            let name = layout::backup_of_sentinel(&object.key)?.to_owned();
            let timeline = layout::timeline_of_backup(&name)?;
            Some(StoredSentinel { name, timeline, object })
        })
        .collect();
    sentinels
        .sort_by(|a, b| (a.object.last_modified, &a.name).cmp(&(b.object.last_modified, &b.name)));
    Ok(sentinels)
}

/// The sentinel of the backup `name`, or of `LATEST`; they are in the order of
/// [`sentinels`].
pub(crate) fn named<'a>(sentinels: &'a [StoredSentinel], name: &str) -> Option<&'a StoredSentinel> {
    match name {
        "LATEST" => sentinels.last(),
        _ => sentinels.iter().find(|sentinel| sentinel.name == name),
    }
}

/// Reads the sentinel of a backup.
pub(crate) async fn read_sentinel(store: &dyn ObjectStore, backup: &str) -> Result<Sentinel> {
    let key = layout::sentinel(backup);
    let mut sentinel: Sentinel =
        sentinel::parse(&store.url(key.as_str()), &read(store, &key).await?)?;
    // WAL-E says in the name where the backup begins.
    if let (None, Some((segment, offset))) = (sentinel.lsn, layout::wal_e_start_of_backup(backup)) {
        sentinel.is_wal_e = true;
        sentinel.lsn = sentinel::lsn_of_wal_e(segment, offset);
    }
    Ok(sentinel)
}

/// What is known of a backup. `None` when it was deleted since it was listed.
///
/// # Errors
/// Those of the store that are not about one of the two objects.
pub(super) async fn describe(
    store: &dyn ObjectStore,
    listed: StoredSentinel,
) -> Result<Option<BackupInfo>> {
    let StoredSentinel { name, timeline, object } = listed;
    let (sentinel, unreadable) = match read_sentinel(store, &name).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.is_unusable_object() => (None, Some(error)),
        result => (Some(result?), None),
    };
    let (metadata, metadata_unreadable) = match read_metadata(store, &name).await {
        Err(error) if error.kind() == ErrorKind::NotFound => (None, None),
        Err(error) if error.is_unusable_object() => (None, Some(error)),
        result => (Some(result?), None),
    };
    let sentinel = sentinel.unwrap_or_else(|| like(metadata.as_ref()));
    let metadata = metadata.unwrap_or_else(|| sentinel.metadata());
    // A full backup has them all.
    let full_size = sentinel.uncompressed_size.filter(|_| sentinel.delta_from.is_none());
    Ok(Some(BackupInfo {
        name,
        stored_at: object.last_modified,
        delta_from: sentinel.delta_from,
        start_time: metadata.start_time.or(sentinel.start_time),
        finish_time: metadata.finish_time.or(sentinel.finish_time),
        timeline,
        start_lsn: sentinel.lsn,
        stop_lsn: sentinel.finish_lsn,
        pg_version: sentinel.pg_version,
        system_identifier: sentinel.system_identifier,
        uncompressed_bytes: sentinel.uncompressed_size,
        compressed_bytes: sentinel.compressed_size,
        cluster_bytes: sentinel.data_catalog_size.max(full_size),
        permanent: metadata.is_permanent,
        hostname: metadata.hostname.or(sentinel.hostname),
        data_directory: metadata.data_dir.or(sentinel.data_dir),
        encryption: sentinel.encryption.and_then(|form| form.parse().ok()),
        encryption_key: sentinel.encryption_key,
        unreadable,
        metadata_unreadable,
    }))
}

async fn read_metadata(store: &dyn ObjectStore, backup: &str) -> Result<Metadata> {
    let key = layout::metadata(backup);
    sentinel::parse(&store.url(key.as_str()), &read(store, &key).await?)
}

/// What the name and `metadata.json` say in a sentinel's place.
fn like(metadata: Option<&Metadata>) -> Sentinel {
    let Some(metadata) = metadata else { return Sentinel::default() };
    Sentinel {
        lsn: metadata.start_lsn,
        finish_lsn: metadata.finish_lsn,
        pg_version: metadata.pg_version,
        system_identifier: metadata.system_identifier,
        uncompressed_size: metadata.uncompressed_size,
        compressed_size: metadata.compressed_size,
        ..Sentinel::default()
    }
}

async fn read(store: &dyn ObjectStore, key: &ObjectKey) -> Result<bytes::Bytes> {
    store.get(key, 0, None).await?.into_bytes(LARGEST_JSON_BYTES).await
}

/// All base backups of the prefix, oldest first. Those whose sentinel or metadata cannot be
/// read are among them, each with a warning.
///
/// # Errors
/// Those of the store.
pub async fn list(store: &dyn ObjectStore, notices: &Notices) -> Result<Vec<BackupInfo>> {
    let backups = describe_all(store).await?;
    for backup in &backups {
        if let Some(error) = &backup.unreadable {
            notices.warning(format!(
                "base backup \"{}\" cannot be restored as it is: {error}",
                backup.name
            ));
        }
        if let Some(error) = &backup.metadata_unreadable {
            notices.warning(format!(
                "metadata.json of base backup \"{}\" is ignored, so the backup may be permanent although it is not listed as such: {error}",
                backup.name
            ));
        }
    }
    Ok(backups)
}

/// What is known of each backup, oldest first.
pub(super) async fn describe_all(store: &dyn ObjectStore) -> Result<Vec<BackupInfo>> {
    let mut backups: Vec<BackupInfo> = stream::iter(sentinels(store).await?)
        .map(|sentinel| describe(store, sentinel))
        .buffer_unordered(READ_AT_ONCE)
        .try_filter_map(async |backup| Ok(backup))
        .try_collect()
        .await?;
    backups.sort_by(|a, b| stored_order(a).cmp(&stored_order(b)));
    let is_denied = |error: &&Error| error.kind() == ErrorKind::Denied;
    let denied = |backup: &BackupInfo| backup.unreadable.as_ref().filter(is_denied).cloned();
    let mut refusals: Vec<Error> = backups.iter().filter_map(denied).collect();
    match refusals.pop() {
        // When none can be read, the fault is not in the objects.
        Some(error) if refusals.len() + 1 == backups.len() => Err(error),
        _ => Ok(backups),
    }
}

/// `LATEST` is the last in this order.
pub(super) fn stored_order(backup: &BackupInfo) -> (OffsetDateTime, &str) {
    (backup.stored_at, &backup.name)
}
