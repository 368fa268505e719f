//! Facts about the running server.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgrx::pg_sys;
use wal_e_core::archiving::{Attempts, Way};
use wal_e_core::owner::Claimant;
use wal_e_core::postgres::{Lsn, SegmentSize, SystemIdentifier, TimelineId};

/// Where `pg_wal` is for a process of the server, whose directory is the data directory.
pub const PG_WAL: &str = "pg_wal";

/// What does not change while the server runs, and the timeline, which does not
/// change while it is a primary.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// The timeline that WAL is written to.
    pub timeline: TimelineId,
    /// Size of the WAL segments; `None` when PostgreSQL does not allow it.
    pub segment_size: Option<SegmentSize>,
    /// The cluster's system identifier.
    pub system_identifier: SystemIdentifier,
    /// Absolute path of the data directory.
    pub data_directory: PathBuf,
    /// `server_version_num`.
    pub version: u32,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Whether each change of a page gives it a new LSN, that of a hint, too
    /// (`XLogHintBitIsNeeded`).
    pub logs_hints: bool,
    /// When the server was started.
    pub started_at: SystemTime,
}

/// The facts about this server. Only on a primary.
pub fn facts() -> ServerFacts {
    // SAFETY: plain reads of control data in shared memory.
    let (timeline, data_checksums, wal_log_hints, started_at) = unsafe {
        (
            pg_sys::GetWALInsertionTimeLine(),
            pg_sys::DataChecksumsEnabled(),
            pg_sys::wal_log_hints,
            pg_sys::PgStartTime,
        )
    };
    ServerFacts {
        timeline: TimelineId(timeline),
        segment_size: segment_size(),
        system_identifier: system_identifier(),
        data_directory: data_directory(),
        version: version(),
        data_checksums,
        logs_hints: data_checksums || wal_log_hints,
        // Nothing is taken for certain of a time that cannot be.
        started_at: system_time(started_at).unwrap_or_else(SystemTime::now),
    }
}

/// Size of the WAL segments; `None` when PostgreSQL does not allow it.
pub fn segment_size() -> Option<SegmentSize> {
    // SAFETY: a variable that is set before the first child is forked.
    let bytes = unsafe { pg_sys::wal_segment_size };
    SegmentSize::new(u64::try_from(bytes).ok()?)
}

/// This cluster, as it claims a prefix. Also on a standby.
pub fn claimant() -> Claimant {
    let directory = data_directory();
    Claimant::on_this_host(system_identifier(), directory.to_string_lossy())
        .with_segment_size(segment_size())
        .remembering(&directory)
}

/// The cluster's system identifier.
fn system_identifier() -> SystemIdentifier {
    // SAFETY: a plain read of control data in shared memory.
    SystemIdentifier(unsafe { pg_sys::GetSystemIdentifier() })
}

/// `server_version_num`.
pub fn version() -> u32 {
    setting(c"server_version_num").parse().unwrap_or(pg_sys::PG_VERSION_NUM)
}

/// Absolute path of the data directory.
pub fn data_directory() -> PathBuf {
    // SAFETY: a C string that is set before the first child is forked.
    let path = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    PathBuf::from(OsStr::from_bytes(path.to_bytes()))
}

/// Where the server writes its own log, as its setting says it.
pub fn log_directory() -> PathBuf {
    PathBuf::from(setting(c"log_directory"))
}

/// Up to where this server has its WAL on disk: flushed on a primary, received
/// (or, from an archive, replayed) on a standby. `None` before there is any.
pub fn wal_position() -> Option<Lsn> {
    let nowhere = std::ptr::null_mut();
    // SAFETY: both read positions in shared memory; null pointers say that the
    // timeline is not wanted.
    let position = unsafe {
        if in_recovery() {
            let received = pg_sys::GetWalRcvFlushRecPtr(std::ptr::null_mut(), nowhere);
            received.max(pg_sys::GetXLogReplayRecPtr(nowhere))
        } else {
            pg_sys::GetFlushRecPtr(nowhere)
        }
    };
    (position != 0).then_some(Lsn(position))
}

/// Where this server writes WAL: its timeline, and up to where it has it on disk. On a standby
/// what it has replayed. `None` before there is any.
pub fn wal_timeline_and_position() -> Option<(TimelineId, Lsn)> {
    let mut timeline = 0;
    // SAFETY: both read a position and its timeline in shared memory.
    let position = unsafe {
        match in_recovery() {
            true => pg_sys::GetXLogReplayRecPtr(&mut timeline),
            false => pg_sys::GetFlushRecPtr(&mut timeline),
        }
    };
    (position != 0 && timeline != 0).then_some((TimelineId(timeline), Lsn(position)))
}

/// Whether the server is a standby, or replays WAL for another reason.
pub fn in_recovery() -> bool {
    // SAFETY: reads a flag in shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// The value of a setting as text; empty when there is no such setting.
pub fn setting(name: &CStr) -> String {
    // SAFETY: the name is a C string; the answer is valid until the setting
    // changes or the function is called again, and is copied before that.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return String::new();
        }
        CStr::from_ptr(value).to_string_lossy().into_owned()
    }
}

/// How this server archives, as far as its settings say.
pub fn way_of_archiving() -> Way {
    Way::of(&setting(c"archive_library"), &setting(c"archive_command"))
}

/// When the archiver has archived and failed last, whatever it archives with.
pub fn archiver_attempts() -> Attempts {
    // SAFETY: a copy of statistics in shared memory, in this process's own memory; what
    // it saw before is forgotten first.
    let stats = unsafe {
        pg_sys::pgstat_clear_snapshot();
        *pg_sys::pgstat_fetch_stat_archiver()
    };
    Attempts {
        archived: system_time(stats.last_archived_timestamp),
        failed: system_time(stats.last_failed_timestamp),
    }
}

/// A time of PostgreSQL, in microseconds since 2000; 0 is none.
fn system_time(timestamp: pg_sys::TimestampTz) -> Option<SystemTime> {
    const SECONDS_TO_2000: u64 = 946_684_800;
    let since_2000 = u64::try_from(timestamp).ok().filter(|microseconds| *microseconds > 0)?;
    Some(UNIX_EPOCH + Duration::from_secs(SECONDS_TO_2000) + Duration::from_micros(since_2000))
}

/// The pid of this process.
pub fn current_pid() -> i32 {
    // SAFETY: set at the start of each process.
    unsafe { pg_sys::MyProcPid }
}

/// Whether pg_upgrade runs this server: then it is a cluster that is not finished yet, or the
/// one that is upgraded.
pub fn is_in_pg_upgrade() -> bool {
    // SAFETY: a bool that is set from the command line, before any child is forked.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Whether this process is the archiver.
pub fn is_archiver() -> bool {
    // SAFETY: set at the start of each process.
    unsafe { pg_sys::MyBackendType == pg_sys::BackendType::B_ARCHIVER }
}

/// Whether this process is the postmaster, or will be: it has not been forked by one.
pub fn is_postmaster() -> bool {
    // SAFETY: a bool of this process, set once when it is forked.
    unsafe { !pg_sys::IsUnderPostmaster }
}
