//! The frame of a worker's process: its entry, its connection, its end.

use std::panic::AssertUnwindSafe;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::{PgTryBuilder, pg_guard, pg_sys};

use crate::error::Failure;
use crate::worker;

/// The function that the postmaster starts a backup worker with; the argument
/// is the generation of the slot that it was started for.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn wale_backup_worker_main(argument: pg_sys::Datum) {
    worker::take_backup(argument.value() as u64);
}

/// The same for a worker that verifies a backup.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn wale_verify_worker_main(argument: pg_sys::Datum) {
    worker::verify_backup(argument.value() as u64);
}

/// Calls [`worker::publish_outcome`] when this process ends in whatever orderly
/// way: by return, by ERROR, by FATAL. Registered before the process connects
/// to a database, it runs after PostgreSQL has ended backup mode, because such
/// functions are called in reverse order (src/backend/storage/ipc/ipc.c).
pub fn publish_outcome_at_exit() {
    #[pg_guard]
    extern "C-unwind" fn at_exit(_code: i32, _argument: pg_sys::Datum) {
        worker::publish_outcome();
    }
    // SAFETY: a function of the signature asked for, valid for the life of the process.
    unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::from(0)) };
}

/// Connects this worker to a database as the bootstrap superuser. Ends the
/// process when the database is not there any more.
pub fn connect(database: pg_sys::Oid) {
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
}

/// Shows in `pg_stat_activity` what this process does.
pub fn show_activity(text: &std::ffi::CStr) {
    // SAFETY: copies the text into the process's own entry.
    unsafe {
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr());
    }
}

/// Runs `body` in a transaction of its own.
///
/// # Errors
/// What `body` returns, or the ERROR that PostgreSQL raised; the transaction is
/// then aborted.
pub fn in_transaction<R>(body: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        BackgroundWorker::transaction(AssertUnwindSafe(body))
    }))
    .catch_others(|cause| Err(Failure::from(cause)))
    .execute();
    if result.is_err() {
        // SAFETY: ends whatever transaction there is; does nothing without one.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
    }
    result
}
