//! A base backup into the store.
//!
//! The caller owns the session that begins and ends backup mode; this module
//! owns everything between and after: [`BackupPush::begin`] when
//! `pg_backup_start` has returned, [`BackupPush::push_files`],
//! then `pg_backup_stop`, then [`BackupPush::finish`].

use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::Progress;
use crate::error::Result;
use crate::notice::Notices;
use crate::postgres::{Lsn, SegmentSize, SystemIdentifier, TimelineId};
use crate::store::ObjectStore;

/// A tablespace outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Its OID, the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Where it is, an absolute path.
    pub location: PathBuf,
}

/// How a base backup is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOptions {
    /// Tar partitions in flight.
    pub concurrency: usize,
    /// A tar partition closes before it would pass this size in bytes.
    pub tar_size_threshold_bytes: u64,
    /// Limit for reading data files, for all partitions together; `None` is no limit.
    pub read_rate_limit_bytes_per_second: Option<u64>,
}

/// What is known once `pg_backup_start` has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStart {
    /// What `pg_backup_start` returned.
    pub start_lsn: Lsn,
    /// The timeline of the checkpoint that begins the backup.
    pub timeline: TimelineId,
    /// Size of the cluster's WAL segments.
    pub segment_size: SegmentSize,
    /// Absolute path of the data directory.
    pub data_directory: PathBuf,
    /// `server_version_num`.
    pub pg_version: u32,
    /// The cluster's system identifier.
    pub system_identifier: SystemIdentifier,
    /// When `pg_backup_start` was called.
    pub start_time: OffsetDateTime,
    /// Whether pages carry checksums (`data_checksums`).
    pub data_checksums: bool,
    /// Whether deletion must leave this backup.
    pub permanent: bool,
    /// Host name, for people.
    pub hostname: String,
}

/// What `pg_backup_stop` returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStop {
    /// Where the backup is consistent.
    pub stop_lsn: Lsn,
    /// Content of `backup_label`.
    pub backup_label: String,
    /// Content of `tablespace_map`; may be empty.
    pub tablespace_map: String,
}

/// A base backup that has begun.
#[derive(Debug)]
pub struct BackupPush {}

impl BackupPush {
    /// Checks that the name is free in the store. Nothing is written yet.
    pub async fn begin(
        store: Arc<dyn ObjectStore>,
        start: BackupStart,
        options: PushOptions,
        progress: Arc<Progress>,
        notices: Notices,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let _ = (store, start, options, progress, notices, cancel);
        todo!()
    }

    /// The backup's name: `base_` and the start segment.
    pub fn name(&self) -> &str {
        todo!()
    }

    /// Uploads the files of the cluster. Between `pg_backup_start` and `pg_backup_stop`.
    pub async fn push_files(&mut self) -> Result<()> {
        todo!()
    }

    /// After `pg_backup_stop`: label, metadata, all WAL in the archive, and last the sentinel.
    pub async fn finish(self, stop: BackupStop) -> Result<String> {
        let _ = stop;
        todo!()
    }
}
