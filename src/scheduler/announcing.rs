//! Has notifiers announce the events that wait.

use std::time::Duration;

use pgrx::PgSqlErrorCode;
use pgrx::bgworkers::DynamicBackgroundWorker;

use super::SLEEP_WITHOUT_SCHEDULE;
use crate::error::Failure;
use crate::events::{self, notifier};
use crate::gucs;
use crate::pg::server;
use crate::pg::worker_process::has_ended;
use crate::server_log;

/// The latch is set when a notifier ends; this is for what the latch has missed.
const POLL: Duration = Duration::from_secs(1);

/// At most one notifier is on its way.
#[derive(Default)]
pub struct Announcing {
    running: Option<Running>,
}

struct Running {
    worker: DynamicBackgroundWorker,
    /// The number after the newest event that it was started for.
    next: u64,
}

impl Announcing {
    /// Does what is due, and says for how long nothing is.
    pub fn step(&mut self) -> Duration {
        if let Some(running) = self.running.take() {
            if !has_ended(&running.worker) {
                self.running = Some(running);
                return POLL;
            }
            self.note_end(running.next);
        }
        let waiting = events::waiting();
        if waiting.is_empty() {
            return SLEEP_WITHOUT_SCHEDULE;
        }
        // A standby cannot notify. What happens there is in its log.
        if gucs::events_database().is_none() || server::in_recovery() {
            events::drop_before(waiting.end);
            return SLEEP_WITHOUT_SCHEDULE;
        }
        match notifier::start() {
            Ok(worker) => {
                self.running = Some(Running { worker, next: waiting.end });
                POLL
            }
            Err(failure) => {
                drop_before(waiting.end, failure);
                SLEEP_WITHOUT_SCHEDULE
            }
        }
    }

    fn note_end(&self, next: u64) {
        if events::waiting().start < next {
            let code = PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE;
            let failure = Failure::new(code, "events could not be announced");
            drop_before(next, failure.with_hint("The server log says why, just before."));
        }
    }
}

/// What cannot be announced now is not kept until it is old.
fn drop_before(next: u64, failure: Failure) {
    events::drop_before(next);
    server_log::warn(&failure.with_detail("Those that waited are dropped."));
}
