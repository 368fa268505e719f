//! Waiting in a backend for a worker that it has started.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};

use crate::error::{Failure, Result};
use crate::pg::interrupts;
use crate::runtime::TICK;

/// How long a canceled caller waits for the worker to clean up.
const CLEANUP_TIME: Duration = Duration::from_secs(10);

/// A worker that this backend has started for a generation of a slot.
pub struct StartedWorker {
    /// The process.
    pub worker: DynamicBackgroundWorker,
    /// The generation.
    pub generation: u64,
    /// Whether the slot is still that generation's, and the work not over.
    pub is_active: fn(u64) -> bool,
    /// Asks the worker to stop.
    pub request_cancel: fn(u64),
    /// Ends the slot when no process works on it any more.
    pub end_abandoned: fn(u64, Failure),
    /// What the slot fails with when the caller was canceled.
    pub canceled: fn() -> Failure,
    /// What it fails with when the worker is gone.
    pub lost: fn() -> Failure,
}

impl StartedWorker {
    /// Waits until `look` has a result. When the caller is canceled, so is the work.
    pub fn wait<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let generation = self.generation;
        loop {
            if let Some(result) = look()? {
                return Ok(result);
            }
            if interrupts::stop_requested() {
                (self.request_cancel)(generation);
                wait_for_end(|| (self.is_active)(generation), || Ok(()))?;
                (self.end_abandoned)(generation, (self.canceled)());
                // The request to stop, in PostgreSQL's own words.
                interrupts::check()?;
                return Err((self.canceled)());
            }
            if let Err(failure) = interrupts::check() {
                // A request that came just now, after the look above.
                (self.request_cancel)(generation);
                return Err(failure);
            }
            if has_ended(&self.worker) {
                // Without an outcome, unless it came in the meantime.
                (self.end_abandoned)(generation, (self.lost)());
            } else {
                interrupts::wait_on_latch(TICK);
            }
        }
    }
}

/// Waits until the work is over, at most [`CLEANUP_TIME`].
pub fn wait_for_end(is_active: impl Fn() -> bool, check: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + CLEANUP_TIME;
    while is_active() && Instant::now() < deadline {
        check()?;
        interrupts::wait_on_latch(TICK);
    }
    Ok(())
}

fn has_ended(worker: &DynamicBackgroundWorker) -> bool {
    matches!(
        worker.pid(),
        Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied)
    )
}
