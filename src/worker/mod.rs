//! The background workers: one takes a base backup, one verifies a backup.
//!
//! The former is the process that is in backup mode, so that its end, however it
//! comes, ends backup mode. Neither is connected to a database: see
//! [`worker_process::join_server`].

mod backup;
mod verify;
mod watcher;

use std::cell::Cell;

use pgrx::PgSqlErrorCode;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::datum::IntoDatum;

use crate::error::{Failure, Result};
use crate::pg::{server, signals, worker_process};
use crate::server_log;
use crate::{backup_slot, verify_slot};

/// A kind of worker.
#[derive(Debug)]
pub struct Kind {
    /// Its name and type, as `pg_stat_activity` shows it.
    name: &'static str,
    /// Where its process begins.
    function: &'static str,
    /// What it is there for, in messages.
    purpose: &'static str,
}

/// Takes one base backup.
pub const BACKUP: Kind = Kind {
    name: "wal_e base backup",
    function: "wale_backup_worker_main",
    purpose: "the base backup",
};

/// Verifies one base backup.
pub const VERIFICATION: Kind = Kind {
    name: "wal_e verification",
    function: "wale_verify_worker_main",
    purpose: "the verification of a base backup",
};

thread_local! {
    /// Writes the outcome into the slot when the process ends, if nobody has yet.
    static AT_EXIT: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// Asks the postmaster for a worker for this generation of its slot.
///
/// # Errors
/// `configuration_limit_exceeded` when all places for workers are taken.
pub fn start(kind: &Kind, generation: u64) -> Result<DynamicBackgroundWorker> {
    BackgroundWorkerBuilder::new(kind.name)
        .set_type(kind.name)
        .set_library("wal_e")
        .set_function(kind.function)
        // Without it there is no place for it among the processes of the server.
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(None)
        .set_argument((generation as i64).into_datum())
        .set_notify_pid(server::current_pid())
        .load_dynamic()
        .map_err(|_| {
            Failure::new(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                format!("could not start a background worker for {}", kind.purpose),
            )
            .with_hint("You might need to increase \"max_worker_processes\".")
        })
}

/// The worker that takes a backup, from its start to its end.
pub fn take_backup(generation: u64) {
    signals::install_worker_handlers();
    let Some(request) = backup_slot::attach(generation) else { return };
    publish_at_exit(move || {
        let failure = match backup_slot::is_unwanted(generation) {
            true => Failure::canceled(),
            false => ended_unexpectedly(&BACKUP),
        };
        backup_slot::end(generation, &Err(failure));
    });
    worker_process::join_server();
    worker_process::show_activity(c"taking a base backup");

    let outcome = in_one_wording(backup::take(generation, &request), Failure::canceled());
    log_failure("base backup failed", &outcome);
    publish_at_exit(move || backup_slot::end(generation, &outcome));
}

/// The worker that verifies a backup, from its start to its end.
pub fn verify_backup(generation: u64) {
    signals::install_worker_handlers();
    let Some(request) = verify_slot::attach(generation) else { return };
    publish_at_exit(move || {
        let failure = match verify_slot::is_unwanted(generation) {
            true => Failure::verification_canceled(),
            false => ended_unexpectedly(&VERIFICATION),
        };
        verify_slot::end(generation, &Err(failure));
    });
    worker_process::join_server();
    worker_process::show_activity(c"verifying a base backup");

    let outcome =
        in_one_wording(verify::verify(generation, &request), Failure::verification_canceled());
    log_failure("verification of a base backup failed", &outcome);
    publish_at_exit(move || verify_slot::end(generation, &outcome));
}

/// Writes the outcome into the slot, where whoever waits finds it. When the process
/// ends.
pub fn publish_outcome() {
    if let Some(publish) = AT_EXIT.take() {
        publish();
    }
}

/// Replaces what the process does at its end.
fn publish_at_exit(publish: impl FnOnce() + 'static) {
    if AT_EXIT.replace(Some(Box::new(publish))).is_none() {
        worker_process::publish_outcome_at_exit();
    }
}

/// A request to stop reads the same wherever it was noticed.
fn in_one_wording<T>(outcome: Result<T>, canceled: Failure) -> Result<T> {
    outcome.map_err(|failure| match failure.is_canceled() {
        true => Failure { detail: failure.detail, ..canceled },
        false => failure,
    })
}

fn log_failure<T>(what: &str, outcome: &Result<T>) {
    match outcome {
        Ok(_) => {}
        Err(failure) if failure.is_canceled() => {
            server_log::log(&failure.message, failure.detail.as_deref());
        }
        Err(failure) => server_log::warn(&Failure {
            message: format!("{what}: {}", failure.message),
            ..failure.clone()
        }),
    }
}

fn ended_unexpectedly(kind: &Kind) -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
        format!("the background worker of {} ended unexpectedly", kind.purpose),
    )
    .with_hint("See the server log for the reason.")
}
