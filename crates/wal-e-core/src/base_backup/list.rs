//! Which base backups a prefix holds.

use time::OffsetDateTime;

use crate::error::Result;
use crate::postgres::{Lsn, SystemIdentifier, TimelineId};
use crate::store::ObjectStore;

/// A base backup as listed: one that has its sentinel.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupInfo {
    /// `base_` and the start segment.
    pub name: String,
    /// When its sentinel was stored.
    pub stored_at: OffsetDateTime,
    /// When `pg_backup_start` was called.
    pub start_time: Option<OffsetDateTime>,
    /// When the last file was stored.
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
pub async fn list(store: &dyn ObjectStore) -> Result<Vec<BackupInfo>> {
    let _ = store;
    todo!()
}
