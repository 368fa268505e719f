//! Which base backups a prefix holds.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::Notices;
use crate::postgres::{Lsn, SystemIdentifier, TimelineId};
use crate::sentinel::{self, Metadata, Sentinel};
use crate::store::{ListRequest, ObjectInfo, ObjectStore, list_all};

/// Sentinels that are read at the same time.
const READ_AT_ONCE: usize = 8;

/// Sentinels and metadata are small, but WAL-G 1 kept the list of files in the
/// sentinel; what is larger is not one.
const LARGEST_JSON_BYTES: u64 = 256 * 1024 * 1024;

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
    /// Whether deletion must leave it.
    pub permanent: bool,
    /// Host that it was taken on.
    pub hostname: Option<String>,
    /// Data directory that it was taken of.
    pub data_directory: Option<String>,
}

/// All base backups of the prefix, oldest first.
///
/// # Errors
/// Those of the store, and [`ErrorKind::Corrupt`] for a sentinel that cannot be read.
pub async fn list(store: &dyn ObjectStore) -> Result<Vec<BackupInfo>> {
    let sentinels = sentinels(store).await?;
    let mut backups: Vec<BackupInfo> = stream::iter(sentinels)
        .map(|(name, timeline, object)| describe(store, name, timeline, object))
        .buffer_unordered(READ_AT_ONCE)
        .try_filter_map(async |backup| Ok(backup))
        .try_collect()
        .await?;
    backups.sort_by(|a, b| (a.stored_at, &a.name).cmp(&(b.stored_at, &b.name)));
    Ok(backups)
}

/// All base backups whose sentinel can be read, oldest first. One that is damaged, or
/// lies in a storage class that cannot be read from, is said to be so, and does not
/// keep anybody from restoring another.
pub(crate) async fn list_sound(
    store: &dyn ObjectStore,
    notices: &Notices,
) -> Result<Vec<BackupInfo>> {
    let sentinels = sentinels(store).await?;
    let mut described = stream::iter(sentinels)
        .map(|(name, timeline, object)| describe(store, name, timeline, object))
        .buffer_unordered(READ_AT_ONCE);
    let mut backups = Vec::new();
    while let Some(backup) = described.next().await {
        match backup {
            Ok(backup) => backups.extend(backup),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Config) => {
                notices.warning(format!("a base backup is left out: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    backups.sort_by(|a, b| (a.stored_at, &a.name).cmp(&(b.stored_at, &b.name)));
    Ok(backups)
}

/// The name of the backup that `name` asks for: itself, or with `LATEST` the one
/// whose sentinel was stored last.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is none.
pub(super) async fn resolve(store: &dyn ObjectStore, name: &str) -> Result<String> {
    let mut sentinels = sentinels(store).await?;
    sentinels.sort_by(|(a, _, object_a), (b, _, object_b)| {
        (object_a.last_modified, a).cmp(&(object_b.last_modified, b))
    });
    let found = match name {
        "LATEST" => sentinels.last(),
        _ => sentinels.iter().find(|(backup, ..)| backup == name),
    };
    if let Some((backup, ..)) = found {
        return Ok(backup.clone());
    }
    let url = store.url(&layout::base_backups());
    let error = match name {
        "LATEST" => {
            Error::new(ErrorKind::NotFound, format!("there is no base backup in \"{url}\""))
        }
        _ => Error::new(
            ErrorKind::NotFound,
            format!("there is no base backup \"{name}\" in \"{url}\""),
        ),
    };
    Err(match sentinels.last() {
        Some((latest, ..)) => error.with_hint(format!(
            "The latest base backup is \"{latest}\"; \"wal-e backup-list\" shows all.",
        )),
        None => error.with_hint(
            "Check that the prefix is the one that the cluster archives to. A backup is there once it is complete.",
        ),
    })
}

/// Reads the sentinel of a backup.
pub(super) async fn read_sentinel(store: &dyn ObjectStore, backup: &str) -> Result<Sentinel> {
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

/// Names of the complete base backups and when their sentinels were stored,
/// oldest first. One listing, whatever their number.
pub(crate) async fn stored(store: &dyn ObjectStore) -> Result<Vec<(String, OffsetDateTime)>> {
    let sentinels = sentinels(store).await?.into_iter();
    let mut backups: Vec<_> =
        sentinels.map(|(name, _, object)| (name, object.last_modified)).collect();
    backups.sort_by(|(a, stored_a), (b, stored_b)| (stored_a, a).cmp(&(stored_b, b)));
    Ok(backups)
}

/// The newest base backup that tells which cluster it was taken of; damaged
/// sentinels are passed over. `None` when no backup tells.
pub(crate) async fn newest_identified(store: &dyn ObjectStore) -> Result<Option<BackupInfo>> {
    let mut sentinels = sentinels(store).await?;
    sentinels.sort_by_key(|(name, _, object)| (object.last_modified, name.clone()));
    for (name, timeline, object) in sentinels.into_iter().rev() {
        match describe(store, name, timeline, object).await {
            Ok(Some(backup)) if backup.system_identifier.is_some() => return Ok(Some(backup)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn sentinels(store: &dyn ObjectStore) -> Result<Vec<(String, TimelineId, ObjectInfo)>> {
    let request =
        ListRequest { prefix: layout::base_backups(), shallow: true, ..ListRequest::default() };
    let objects = list_all(store, &request).await?;
    Ok(objects
        .into_iter()
        .filter_map(|object| {
            let name = layout::backup_of_sentinel(&object.key)?.to_owned();
            let timeline = layout::timeline_of_backup(&name)?;
            Some((name, timeline, object))
        })
        .collect())
}

/// `None` when the backup was deleted since it was listed.
async fn describe(
    store: &dyn ObjectStore,
    name: String,
    timeline: TimelineId,
    object: ObjectInfo,
) -> Result<Option<BackupInfo>> {
    let sentinel = match read_sentinel(store, &name).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let key = layout::metadata(&name);
    let metadata = match read(store, &key).await {
        Err(error) if error.kind() == ErrorKind::NotFound => sentinel.metadata(),
        result => sentinel::parse::<Metadata>(&store.url(key.as_str()), &result?)?,
    };
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
        permanent: metadata.is_permanent,
        hostname: metadata.hostname.or(sentinel.hostname),
        data_directory: metadata.data_dir.or(sentinel.data_dir),
    }))
}

async fn read(store: &dyn ObjectStore, key: &ObjectKey) -> Result<bytes::Bytes> {
    store.get(key, 0, None).await?.into_bytes(LARGEST_JSON_BYTES).await
}
