//! What a base backup is told of the server when backup mode begins and when it ends.

use std::path::PathBuf;

use time::OffsetDateTime;

use crate::postgres::{Lsn, SegmentSize, SystemIdentifier, TimelineId};

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
    /// `log_directory`, as [`Cluster`](super::Cluster) has it.
    pub log_directory: Option<PathBuf>,
    /// `server_version_num`.
    pub pg_version: u32,
    /// The cluster's system identifier.
    pub system_identifier: SystemIdentifier,
    /// When `pg_backup_start` was called.
    pub start_time: OffsetDateTime,
    /// Whether pages carry checksums (`data_checksums`).
    pub data_checksums: bool,
    /// Whether each change of a page gives it a new LSN, that of a hint, too: with
    /// `data_checksums` or `wal_log_hints`.
    pub logs_hints: bool,
    /// Whether the server summarizes its WAL (`summarize_wal`).
    pub summarizes_wal: bool,
    /// When the server was started (`pg_postmaster_start_time()`).
    pub server_started_at: OffsetDateTime,
    /// Whether deletion must leave this backup.
    pub permanent: bool,
    /// Host name, for people.
    pub hostname: String,
    /// Who takes it: of each kind one backup at a time.
    pub taker: Taker,
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

/// Who takes a base backup. Of each kind one runs at a time in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// The extension's background worker.
    Server,
    /// The program `wal-e`.
    Program,
}
