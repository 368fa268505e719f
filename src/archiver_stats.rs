//! What the archiver has done since the server was started, as its processes
//! share it. The archiver writes, all others read. It survives the end of the
//! archiver, but not of the server.
//!
//! If the library was not preloaded, the functions that write do nothing.

use std::path::Path;
use std::time::SystemTime;

use time::OffsetDateTime;
use wal_e_core::archiving::{self, Archived, Lag, Throughput};
use wal_e_core::postgres::archive_status::ReadyQueue;
use wal_e_core::postgres::{Lsn, SegmentSize, WalFileName};

use crate::error::{Failure, Result};
use crate::pg::server::{self, PG_WAL};
use crate::pg::shared_memory;
use crate::shared_values::{FixedText, SharedFailure, SharedTime};

/// The longest name of a file that PostgreSQL hands to the archiver is 40.
type FileName = FixedText<64>;

/// The statistics, as they lie in shared memory: plain bytes, valid in every
/// process.
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    since: SharedTime,
    archived_count: u64,
    failed_count: u64,
    bytes_read: u64,
    bytes_stored: u64,
    throughput: Throughput,
    in_flight: u32,
    last_archived_file: FileName,
    last_archived_time: SharedTime,
    /// 0 until a segment was archived.
    last_archived_lsn: u64,
    last_segment_complete_at: SharedTime,
    last_failed_file: FileName,
    last_failed_time: SharedTime,
    last_failure: SharedFailure,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            since: SharedTime::now(),
            archived_count: 0,
            failed_count: 0,
            bytes_read: 0,
            bytes_stored: 0,
            throughput: Throughput::default(),
            in_flight: 0,
            last_archived_file: FixedText::EMPTY,
            last_archived_time: SharedTime::NONE,
            last_archived_lsn: 0,
            last_segment_complete_at: SharedTime::NONE,
            last_failed_file: FixedText::EMPTY,
            last_failed_time: SharedTime::NONE,
            last_failure: SharedFailure::NONE,
        }
    }
}

/// Counts a file that was reported to PostgreSQL as archived: when it was complete (the
/// modification time of its mark), where it ends when it is a segment, how
/// large it is and how much of it was sent to the store.
pub fn note_archived(
    file: &WalFileName,
    finished_at: Option<SystemTime>,
    end_lsn: Option<Lsn>,
    bytes_read: u64,
    bytes_stored: u64,
) {
    let (now, name) = (SharedTime::now(), FixedText::new(file.as_str()));
    let finished_at = finished_at.map_or(SharedTime::NONE, |at| SharedTime::new(at.into()));
    update(|stats| {
        stats.archived_count += 1;
        stats.bytes_read += bytes_read;
        stats.bytes_stored += bytes_stored;
        stats.throughput.add(SystemTime::now(), bytes_read);
        stats.last_archived_file = name;
        stats.last_archived_time = now;
        // A file that was handed over late does not set this back.
        if let Some(end_lsn) = end_lsn.filter(|end_lsn| end_lsn.0 > stats.last_archived_lsn) {
            stats.last_archived_lsn = end_lsn.0;
            stats.last_segment_complete_at = finished_at;
        }
    });
}

/// Counts an attempt to archive a file that failed.
pub fn note_failed(file: &str, failure: &Failure) {
    let (now, name) = (SharedTime::now(), FixedText::new(file));
    let failure = SharedFailure::new(failure);
    update(|stats| {
        stats.failed_count += 1;
        stats.last_failed_file = name;
        stats.last_failed_time = now;
        stats.last_failure = failure;
    });
}

/// Says how many files are on their way to the store now.
pub fn set_in_flight(files: usize) {
    let files = u32::try_from(files).unwrap_or(u32::MAX);
    update(|stats| stats.in_flight = files);
}

fn update(change: impl FnOnce(&mut Stats)) {
    if shared_memory::is_available() {
        shared_memory::update_stats(change);
    }
}

/// The statistics as they are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Files archived.
    pub archived_count: u64,
    /// Attempts that failed.
    pub failed_count: u64,
    /// Bytes of the files archived.
    pub bytes_read: u64,
    /// Bytes sent to the store for them.
    pub bytes_stored: u64,
    /// Bytes of files archived, mean of the last minute.
    pub bytes_per_second: u64,
    /// Files on their way.
    pub in_flight: u32,
    /// The last file archived.
    pub last_archived_file: Option<String>,
    /// When it was.
    pub last_archived_time: Option<OffsetDateTime>,
    /// End of the last segment archived, and when it was complete.
    pub archived: Archived,
    /// The file of the last failure.
    pub last_failed_file: Option<String>,
    /// When that was.
    pub last_failed_time: Option<OffsetDateTime>,
    /// The last failure.
    pub last_failure: Option<Failure>,
    /// Since when all this is counted.
    pub since: Option<OffsetDateTime>,
}

/// The statistics now. Only when the library was preloaded.
pub fn view() -> View {
    let stats = shared_memory::read_stats();
    let now = SystemTime::now();
    let since = stats.since.get();
    View {
        archived_count: stats.archived_count,
        failed_count: stats.failed_count,
        bytes_read: stats.bytes_read,
        bytes_stored: stats.bytes_stored,
        bytes_per_second: stats.throughput.bytes_per_second(now, since.map_or(now, Into::into)),
        in_flight: stats.in_flight,
        last_archived_file: stats.last_archived_file.get(),
        last_archived_time: stats.last_archived_time.get(),
        archived: Archived {
            lsn: (stats.last_archived_lsn != 0).then_some(Lsn(stats.last_archived_lsn)),
            complete_at: stats.last_segment_complete_at.get().map(Into::into),
        },
        last_failed_file: stats.last_failed_file.get(),
        last_failed_time: stats.last_failed_time.get(),
        last_failure: stats.last_failed_time.get().map(|_| stats.last_failure.get()),
        since,
    }
}

/// The files that wait to be archived, as `pg_wal` says.
pub fn queue() -> Result<ReadyQueue> {
    Ok(ReadyQueue::read(Path::new(PG_WAL), segment_size())?)
}

/// Whether this server archives.
pub fn archives() -> bool {
    match server::setting(c"archive_mode").as_str() {
        "always" => true,
        "on" => !server::in_recovery(),
        _ => false,
    }
}

/// How far the archive lags; `None` when this server does not archive, or
/// has no position in the WAL yet.
pub fn lag(archived: Archived, queue: &ReadyQueue) -> Option<Lag> {
    let position = server::wal_position().filter(|_| archives())?;
    Some(archiving::lag(archived, queue, position, segment_size(), SystemTime::now()))
}

fn segment_size() -> SegmentSize {
    server::segment_size().unwrap_or(SegmentSize::DEFAULT)
}
