//! What the objects beside a backup's tars say of it, as far as they can be read.

use crate::catalogue::BackupInfo;
use crate::catalogue::sentinels::StoredSentinel;
use crate::error::{ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::sentinel::{self, Metadata, Sentinel};
use crate::store::ObjectStore;

/// Sentinels and metadata are small, but WAL-G 1 kept the list of files in the
/// sentinel: of the largest clusters, a gigabyte.
const LARGEST_JSON_BYTES: u64 = 1024 * 1024 * 1024;

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
/// Those of the store that say nothing of the two objects.
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
        unreadable,
        metadata_unreadable,
    }))
}

async fn read_metadata(store: &dyn ObjectStore, backup: &str) -> Result<Metadata> {
    let key = layout::metadata(backup);
    sentinel::parse(&store.url(key.as_str()), &read(store, &key).await?)
}

/// What a sentinel that cannot be read says as well as these.
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
