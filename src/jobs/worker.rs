//! The background worker that does a job, from its start to its end. It is not
//! connected to a database: see [`worker_process::join_server`].

use std::cell::Cell;

use pgrx::PgSqlErrorCode;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::datum::IntoDatum;
use wal_e_core::event::Event;

use super::slot::{self, Tenant};
use super::{Job, canceled};
use crate::error::{Failure, Result};
use crate::events;
use crate::pg::{server, signals, worker_process};
use crate::server_log;

thread_local! {
    /// Writes the outcome into the slot when the process ends, unless that was done.
    static AT_EXIT: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// Asks the postmaster for a worker for this generation of the job's slot.
///
/// # Errors
/// `configuration_limit_exceeded` when no more background workers can be started.
pub fn start<J: Job>(generation: u64) -> Result<DynamicBackgroundWorker> {
    BackgroundWorkerBuilder::new(J::WORDS.process)
        .set_type(J::WORDS.process)
        .set_library("wal_e")
        .set_function(worker_process::MAIN)
        // A worker without it has no entry among the processes of the server.
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(None)
        .set_argument((generation as i64).into_datum())
        // Which job it is.
        .set_extra(J::WORDS.process)
        .set_notify_pid(server::current_pid())
        .load_dynamic()
        .map_err(|_| {
            Failure::new(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                format!("could not start a background worker for {}", J::WORDS.purpose),
            )
            .with_hint("You might need to increase \"max_worker_processes\".")
        })
}

/// Does the work of a generation of the job's slot.
pub fn work<J: Job>(generation: u64) {
    signals::install_worker_handlers();
    let Some((tenant, request)) = Tenant::<J>::attach(generation) else { return };
    publish_at_exit(move || {
        let failure = match tenant.is_unwanted() {
            true => canceled::<J>(),
            false => ended_unexpectedly::<J>(),
        };
        end(tenant, generation, &Err(failure));
    });
    worker_process::join_server();
    worker_process::show_activity(J::WORDS.activity);

    let outcome = J::run(&request, tenant).map_err(in_one_wording::<J>);
    if let Err(failure) = &outcome {
        log_failure::<J>(failure);
    }
    publish_at_exit(move || end(tenant, generation, &outcome));
}

/// Ends the slot, and announces a failure.
fn end<J: Job>(tenant: Tenant<J>, generation: u64, outcome: &Result<J::Outcome>) {
    let object = slot::view_of::<J>(generation).as_ref().and_then(J::object);
    tenant.end(outcome);
    if let (Err(failure), Some(kind)) = (outcome, J::WORDS.failure_event)
        && !failure.is_canceled()
    {
        events::send(&Event::new(kind).of(object).saying(failure.summary()));
    }
}

/// Writes the outcome into the slot, where a caller that waits finds it. Called when
/// the process ends.
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

/// The message about a request to stop is the same wherever it was noticed.
fn in_one_wording<J: Job>(failure: Failure) -> Failure {
    match failure.is_canceled() {
        true => Failure { detail: failure.detail, ..canceled::<J>() },
        false => failure,
    }
}

fn log_failure<J: Job>(failure: &Failure) {
    if failure.is_canceled() {
        server_log::log(&failure.message, failure.detail.as_deref());
    } else {
        let message = format!("{}: {}", J::WORDS.failed, failure.message);
        server_log::warn(&Failure { message, ..failure.clone() });
    }
}

fn ended_unexpectedly<J: Job>() -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
        format!("the background worker of {} ended unexpectedly", J::WORDS.purpose),
    )
    .with_hint("See the server log for the reason.")
}
