//! Names and files that PostgreSQL made: pure parsing and formatting, with no
//! server, no store and no clock.

pub mod archive_status;
pub mod backup_label;
pub mod backup_manifest;
pub mod configuration;
pub mod control_file;
pub mod data_directory;
pub mod lock_file;
pub mod lsn;
pub mod page;
pub mod relation;
pub mod required_settings;
pub mod tablespace_map;
pub mod tablespace_record;
pub mod timeline_history;
pub mod wal_blocks;
pub mod wal_file;
pub mod wal_page;
pub mod wal_reader;
pub mod wal_record;
#[cfg(test)]
pub(crate) mod wal_sample;
pub mod wal_summary;

pub use backup_label::BackupLabel;
pub use backup_manifest::{BackupManifest, ManifestFile, WalRange};
pub use configuration::Configuration;
pub use control_file::{ControlFile, PageLayout};
pub use lock_file::{LOCK_FILE, ServerStart};
pub use lsn::{Lsn, SystemIdentifier, TimelineId};
pub use relation::RelationId;
pub use required_settings::RequiredSettings;
pub use timeline_history::{TimelineHistory, TimelineRange};
pub use wal_file::{SegmentNumber, SegmentSize, WalFileKind, WalFileName, WalSegment};
pub use wal_page::WalPageHeader;
pub use wal_reader::{WalEnd, WalReader};
pub use wal_record::{ParameterChange, RecordKind, WalRecord};
pub use wal_summary::WalSummaryName;

/// The block size of tables and indexes that this build reads, in bytes
/// (PostgreSQL's default; `BLCKSZ`).
pub const BLOCK_SIZE: usize = 8192;
