//! The side of a process that wants a job done: it starts a worker and waits for it.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use super::slot::{self, Status, View};
use super::{Job, canceled, worker};
use crate::error::{Failure, Result};
use crate::pg::interrupts;
use crate::pg::timeouts::WithoutLimits;
use crate::pg::worker_process::has_ended;
use crate::runtime::TICK;

/// How long a canceled caller waits for the worker to clean up.
const CLEANUP_TIME: Duration = Duration::from_secs(10);

/// Has a job done in a worker, and waits until `look`, which sees it on its way and
/// when it is done, has a result. `waits` says whether `look` waits for the end. When
/// the caller is canceled, so is the work. The limits of time of the caller's statement and
/// transaction do not count meanwhile: such work takes as long as it takes.
///
/// # Errors
/// When such work is running already, or no worker can be started; what the work
/// failed with; what `look` returns; the request to stop, in PostgreSQL's words.
pub fn run<J: Job, T>(
    request: &J::Request,
    waits: bool,
    mut look: impl FnMut(&View<J>) -> Result<Option<T>>,
) -> Result<T> {
    let _without_limits = WithoutLimits::new();
    let generation = slot::reserve::<J>(request, waits)?;
    let worker = worker::start::<J>(generation).inspect_err(|failure| {
        slot::end_abandoned::<J>(generation, failure.clone());
    })?;
    loop {
        let view = slot::view_of::<J>(generation).ok_or_else(lost::<J>)?;
        if let Status::Failed(failure) = view.status {
            return Err(failure);
        }
        if let Some(result) = look(&view)? {
            return Ok(result);
        }
        if interrupts::stop_requested() {
            slot::request_cancel::<J>(Some(generation));
            wait_for_end::<J>(generation, || Ok(()))?;
            slot::end_abandoned::<J>(generation, canceled::<J>());
            // The request to stop, in PostgreSQL's own words.
            interrupts::check()?;
            return Err(canceled::<J>());
        }
        if let Err(failure) = interrupts::check() {
            // A request that came just now, after the look above.
            slot::request_cancel::<J>(Some(generation));
            return Err(failure);
        }
        if has_ended(&worker) {
            // Without an outcome, unless it came in the meantime.
            slot::end_abandoned::<J>(generation, lost::<J>());
        } else {
            interrupts::wait_on_latch(TICK);
        }
    }
}

/// The outcome of a request to stop the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// There was no work to stop.
    NoneRuns,
    /// It has ended before it was done.
    Stopped,
    /// It was done before it could be stopped.
    WasDone,
    /// It takes longer to clean up than a caller waits.
    StillActive,
}

/// Stops the work that runs, no matter which session asked for it, and waits until it has
/// cleaned up.
///
/// # Errors
/// A request to stop the caller.
pub fn stop<J: Job>() -> Result<Stop> {
    let Some(generation) = slot::request_cancel::<J>(None) else { return Ok(Stop::NoneRuns) };
    wait_for_end::<J>(generation, interrupts::check)?;
    Ok(match slot::view_of::<J>(generation).map(|view| view.status) {
        Some(Status::Active) => Stop::StillActive,
        Some(Status::Done(_)) => Stop::WasDone,
        Some(Status::Failed(_)) | None => Stop::Stopped,
    })
}

/// Waits until the work is over, at most [`CLEANUP_TIME`].
fn wait_for_end<J: Job>(generation: u64, check: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + CLEANUP_TIME;
    while slot::is_active::<J>(generation) && Instant::now() < deadline {
        check()?;
        interrupts::wait_on_latch(TICK);
    }
    Ok(())
}

/// The worker is gone, or its slot another's, without an outcome.
pub fn lost<J: Job>() -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        format!("the background worker of {} ended without a result", J::WORDS.short),
    )
    .with_hint("See the server log for the reason.")
}
