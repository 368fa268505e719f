//! Names and files that PostgreSQL made: pure parsing and formatting, with no
//! server, no store and no clock.

//TODO control_file
//TODO data_directory
pub mod lsn;
//TODO page
//TODO tablespace_map
pub mod wal_file;

pub use lsn::{Lsn, SystemIdentifier, TimelineId};
pub use wal_file::{SegmentNumber, SegmentSize, WalFileKind, WalFileName, WalSegment};

/// The block size of tables and indexes that this build reads, in bytes
/// (PostgreSQL's default; `BLCKSZ`).
pub const BLOCK_SIZE: usize = 8192;
