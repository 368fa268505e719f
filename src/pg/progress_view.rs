//! The entry of a base backup in `pg_stat_progress_basebackup`.
//!
//! What is said here lies in the process's own entry among the processes of the server, from
//! which PostgreSQL makes the view (src/include/utils/backend_progress.h). It is gone when the
//! process ends, and says nothing when `track_activities` is off. The numbers of columns and
//! phases come from the server's own headers (src/include/commands/progress.h).

use std::ffi::c_int;

use pgrx::pg_sys;
use wal_e_core::base_backup::Phase;

/// This process begins a base backup.
pub fn begin() {
    // SAFETY: on the main thread of a process that has joined the server.
    unsafe {
        pg_sys::pgstat_progress_start_command(
            pg_sys::ProgressCommandType::PROGRESS_COMMAND_BASEBACKUP,
            pg_sys::InvalidOid,
        );
    }
}

/// How far it is. The total is 0 while it is not known.
pub fn show(phase: Phase, bytes_total: u64, bytes_read: u64) {
    let phase = match phase {
        Phase::Starting => pg_sys::PROGRESS_BASEBACKUP_PHASE_WAIT_CHECKPOINT,
        Phase::Uploading => pg_sys::PROGRESS_BASEBACKUP_PHASE_STREAM_BACKUP,
        // PostgreSQL has no phase for the metadata, which takes a moment.
        Phase::WaitingForWal | Phase::Finishing => {
            pg_sys::PROGRESS_BASEBACKUP_PHASE_WAIT_WAL_ARCHIVE
        }
    };
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    // The view shows -1 as null. A file that grew may have been read meanwhile.
    let total = if bytes_total == 0 { -1 } else { number(bytes_total.max(bytes_read)) };
    let columns = [
        pg_sys::PROGRESS_BASEBACKUP_PHASE as c_int,
        pg_sys::PROGRESS_BASEBACKUP_BACKUP_TOTAL as c_int,
        pg_sys::PROGRESS_BASEBACKUP_BACKUP_STREAMED as c_int,
    ];
    let values = [i64::from(phase), total, number(bytes_read)];
    // SAFETY: as many columns as values, which are copied.
    unsafe {
        pg_sys::pgstat_progress_update_multi_param(
            columns.len() as c_int,
            columns.as_ptr(),
            values.as_ptr(),
        );
    }
}
