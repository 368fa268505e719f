//! The background worker that takes one base backup.
//!
//! It holds the session that `pg_backup_start` needs, so that ending its
//! process, however it ends, ends backup mode.

mod backup;
mod session;

use std::cell::RefCell;

use pgrx::PgSqlErrorCode;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::datum::IntoDatum;

use crate::backup_slot;
use crate::error::{Failure, Result};
use crate::pg::{server, signals, worker_process};
use crate::server_log;

thread_local! {
    /// What [`publish_outcome`] writes into the slot when the process ends.
    static OUTCOME: RefCell<Option<Result<String>>> = const { RefCell::new(None) };
}

/// Asks the postmaster for a worker for this generation of the slot.
///
/// # Errors
/// `configuration_limit_exceeded` when all places for workers are taken.
pub fn start(generation: u64) -> Result<DynamicBackgroundWorker> {
    BackgroundWorkerBuilder::new("wal_e base backup")
        .set_type("wal_e base backup")
        .set_library("wal_e")
        .set_function("wale_backup_worker_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(None)
        .set_argument((generation as i64).into_datum())
        .set_notify_pid(server::current_pid())
        .load_dynamic()
        .map_err(|_| {
            Failure::new(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                "could not start a background worker for the base backup",
            )
            .with_hint("You might need to increase \"max_worker_processes\".")
        })
}

/// The worker, from its start to its end.
pub fn main(generation: u64) {
    signals::install_worker_handlers();
    let Some(request) = backup_slot::attach(generation) else { return };
    worker_process::publish_outcome_at_exit();
    worker_process::connect(request.database);
    worker_process::show_activity(c"taking a base backup");

    let outcome = backup::take(&request).map_err(|failure| match failure.is_canceled() {
        // In one wording, wherever the request was noticed.
        true => Failure { detail: failure.detail, ..Failure::canceled() },
        false => failure,
    });
    match &outcome {
        Ok(_) => {}
        Err(failure) if failure.is_canceled() => {
            server_log::log(&failure.message, failure.detail.as_deref());
        }
        Err(failure) => server_log::warn(&Failure {
            message: format!("base backup failed: {}", failure.message),
            ..failure.clone()
        }),
    }
    OUTCOME.set(Some(outcome));
}

/// Writes the outcome into the slot, where whoever waits finds it.
pub fn publish_outcome() {
    let outcome = OUTCOME.take().unwrap_or_else(|| {
        Err(if backup_slot::is_unwanted() {
            Failure::canceled()
        } else {
            Failure::new(
                PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
                "the background worker of the base backup ended unexpectedly",
            )
            .with_hint("See the server log for the reason.")
        })
    });
    backup_slot::end(&outcome);
}
