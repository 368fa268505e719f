//! What keeps a job from being done, in the log.

use std::time::{Duration, Instant};

use wal_e_core::schedule::Job;

use crate::error::Failure;
use crate::pg::interrupts;
use crate::server_log;

/// The same complaint is logged again after so long.
const REPEAT: Duration = Duration::from_secs(60 * 60);

/// What was said last, and when.
#[derive(Default)]
pub struct Complaints {
    last: Option<(String, Instant)>,
}

impl Complaints {
    /// Says what is wrong, and the same not again at once.
    pub fn say(&mut self, job: Job, failure: Failure) {
        if interrupts::end_requested() {
            return;
        }
        let repeated = self
            .last
            .as_ref()
            .is_some_and(|(said, at)| *said == failure.message && at.elapsed() < REPEAT);
        if repeated {
            return;
        }
        self.last = Some((failure.message.clone(), Instant::now()));
        let message = format!("{job} by schedule has to wait: {}", failure.message);
        server_log::warn(&Failure { message, ..failure });
    }

    /// All is well, or may be: the next one is said.
    pub fn forget(&mut self) {
        self.last = None;
    }
}
