//! The frame of a worker's process: its entry, its connection, its end, and whether it has ended.

use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::{PgTryBuilder, pg_guard, pg_sys};

use crate::error::Failure;
use crate::events::notifier;
use crate::jobs::{self, worker};
use crate::scheduler;

/// The name of [`wale_worker_main`].
pub const MAIN: &str = "wale_worker_main";

/// The function that the postmaster starts each worker with. What the worker was
/// registered with says which job it does; the argument is the generation of the
/// job's slot that it was started for.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn wale_worker_main(argument: pg_sys::Datum) {
    jobs::work(BackgroundWorker::get_extra(), argument.value() as u64);
}

/// The name of [`wale_scheduler_main`].
pub const SCHEDULER_MAIN: &str = "wale_scheduler_main";

/// The function that the postmaster starts the scheduler with.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn wale_scheduler_main(_argument: pg_sys::Datum) {
    scheduler::run();
}

/// The name of [`wale_notifier_main`].
pub const NOTIFIER_MAIN: &str = "wale_notifier_main";

/// The function that the postmaster starts a notifier with.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn wale_notifier_main(_argument: pg_sys::Datum) {
    notifier::run();
}

/// Ends this process, as PostgreSQL's own launchers do when they are asked to: the postmaster
/// starts it again, unless the server stops.
pub fn end() -> ! {
    // src/include/storage/ipc.h. pgrx knows only for some versions that it does not return.
    unsafe extern "C-unwind" {
        fn proc_exit(code: std::ffi::c_int) -> !;
    }
    // SAFETY: on the main thread. It does not return, so nothing here is dropped; the process's
    // threads end with it.
    unsafe { proc_exit(1) }
}

/// Reads the configuration files anew.
pub fn reload_settings() {
    // SAFETY: this process is in no transaction, and between two pieces of work.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
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

/// Makes this worker a process of the server that has no database.
///
/// It acts as the bootstrap superuser, so nothing may reach it that a user can
/// define. Settings of databases and roles, libraries that they preload and
/// login triggers are looked at after the point where `InitPostgres` leaves a
/// worker without a database (src/backend/utils/init/postinit.c), and without
/// one there are no functions and operators but PostgreSQL's own. Nor does it keep
/// `DROP DATABASE` waiting.
pub fn join_server() {
    BackgroundWorker::connect_worker_to_spi(None, None);
    lift_transaction_limit();
}

/// The limit in postgresql.conf is meant for sessions of people: it would end the wait for a
/// checkpoint.
fn lift_transaction_limit() {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    override_setting(c"transaction_timeout", c"0");
}

/// Sets a setting of this process, against what files, databases and roles say of it.
fn override_setting(name: &CStr, value: &CStr) {
    // SAFETY: both are C strings.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Connects this worker to a database, as a superuser: the only one that is, because the
/// listeners of a channel are those of one database. Ends the process when that is impossible;
/// the log then says why.
///
/// Nothing that a user can define is run by it:
///
/// * It runs no SQL and looks no function or operator up by name.
/// * Workers load no `session_preload_libraries` and no `local_preload_libraries`
///   (`BackgroundWorkerInitializeConnection` in src/backend/postmaster/bgworker.c).
/// * Login triggers belong to sessions with a client (`PostgresMain`).
/// * Settings of the database and of the role do take effect here. Those that could matter are
///   overridden before, and an override is stronger: how long to wait for a lock or a commit,
///   and how long a transaction may take; where names are looked up; and the encoding of the
///   client, for which a conversion might be looked up that a user has defined. Any other
///   that its owner may set (`role`, for one) only changes what SQL would do.
/// * A collation, or a type, is used for no value.
///
/// While the database is being dropped, renamed or copied, this waits for the lock on it, at
/// most ten seconds, and is not counted among its sessions before.
pub fn join_database(database: &str) {
    lift_transaction_limit();
    override_setting(c"lock_timeout", c"10s");
    override_setting(c"synchronous_commit", c"off");
    override_setting(c"search_path", c"pg_catalog");
    override_setting(c"client_encoding", c"SQL_ASCII");
    BackgroundWorker::connect_worker_to_spi(Some(database), None);
}

/// Whether a worker that this process has started is gone.
pub fn has_ended(worker: &DynamicBackgroundWorker) -> bool {
    matches!(
        worker.pid(),
        Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied)
    )
}

/// Shows in `pg_stat_activity` what this process does.
pub fn show_activity(text: &CStr) {
    // SAFETY: copies the text into the process's own entry.
    unsafe {
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr());
    }
}

/// Runs `body` in a transaction of its own, which has no snapshot and so keeps no
/// row from being vacuumed. It is there for what an ERROR leaves to be released.
///
/// # Errors
/// What `body` returns, or the ERROR that PostgreSQL raised; the transaction is
/// then aborted.
pub fn in_transaction<R>(body: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: this process is in no transaction: nothing but this begins one.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        let done = body()?;
        // SAFETY: the one that was begun above.
        unsafe { pg_sys::CommitTransactionCommand() };
        Ok(done)
    }))
    .catch_others(|cause| Err(Failure::from(cause)))
    .execute();
    if result.is_err() {
        // SAFETY: ends whatever transaction there is; does nothing without one.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
    }
    result
}
