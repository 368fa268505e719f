//! The short-lived process that announces events: it connects to the database of the
//! listeners, notifies them, and ends. So no `DROP DATABASE` and no copy of the database is
//! kept waiting. See [`worker_process::join_database`] for what it is safe from.

use std::ffi::CStr;

use pgrx::PgSqlErrorCode;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};

use crate::error::{Failure, Result};
use crate::pg::{notify, server, signals, worker_process};
use crate::{gucs, server_log};

/// Its name and type, as `pg_stat_activity` shows them.
const PROCESS: &str = "wal_e notifier";

/// Where listeners listen.
const CHANNEL: &CStr = c"wal_e";

/// Starts one. The latch of this process is set when it ends.
///
/// # Errors
/// `configuration_limit_exceeded` when no more background workers can be started.
pub fn start() -> Result<DynamicBackgroundWorker> {
    BackgroundWorkerBuilder::new(PROCESS)
        .set_type(PROCESS)
        .set_library("wal_e")
        .set_function(worker_process::NOTIFIER_MAIN)
        // A worker without it cannot connect to a database.
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_notify_pid(server::current_pid())
        .load_dynamic()
        .map_err(|_| {
            Failure::new(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                "could not start a background worker to announce events",
            )
            .with_hint("You might need to increase \"max_worker_processes\".")
        })
}

/// The process.
pub fn run() {
    signals::install_worker_handlers();
    let Some(database) = gucs::events_database() else { return };
    worker_process::join_database(&database);
    let (events, next) = super::copy();
    let host = server::claimant().hostname;
    let announced = worker_process::in_transaction(|| {
        events.iter().for_each(|event| notify::notify(CHANNEL, &event.payload(&host)));
        Ok(())
    });
    match announced {
        Ok(()) => super::drop_before(next),
        Err(failure) => server_log::warn(&failure),
    }
}
