//! What the main thread of a worker does while the core works.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wal_e_core::notice::NoticeQueue;

use crate::error::{Failure, Result};
use crate::pg::interrupts;
use crate::runtime::{Runtime, Watch};
use crate::server_log;

/// Looks around for requests to stop, and hands on what the core has to say.
pub struct Watcher<P, U> {
    /// Tells others how far the work is.
    pub publish: P,
    /// Whether nobody wants the work any more.
    pub is_unwanted: U,
    /// What the core has to say.
    pub queue: NoticeQueue,
    /// Tells the core to stop.
    pub cancel: CancellationToken,
    /// When a request to stop was seen.
    pub stop_seen: Option<Instant>,
    /// How long the work may go on after a request to stop.
    pub patience: Duration,
}

impl<P: FnMut(), U: Fn() -> bool> Watcher<P, U> {
    /// Runs `work` to its end, or to a request to stop.
    pub fn run<T: Send + 'static>(
        &mut self,
        runtime: &Runtime,
        work: impl Future<Output = wal_e_core::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let result = runtime.run(work, || self.look_around());
        server_log::emit(&self.queue);
        result
    }

    fn look_around(&mut self) -> Watch {
        server_log::emit(&self.queue);
        (self.publish)();
        let stop = interrupts::stop_requested()
            || (self.is_unwanted)()
            || !interrupts::postmaster_is_alive();
        if !stop && self.stop_seen.is_none() {
            return match interrupts::check() {
                Ok(()) => Watch::Continue,
                // A request that came just now, after the look above.
                Err(_) => {
                    self.stop_seen = Some(Instant::now());
                    self.cancel.cancel();
                    Watch::Continue
                }
            };
        }
        let since = *self.stop_seen.get_or_insert_with(Instant::now);
        self.cancel.cancel();
        if since.elapsed() < self.patience {
            return Watch::Continue;
        }
        let failure = Failure::canceled();
        Watch::GiveUp(match self.patience {
            Duration::ZERO => failure,
            patience => failure.with_detail(format!(
                "The store did not answer within {} seconds. Uploads in parts may be left in it.",
                patience.as_secs()
            )),
        })
    }
}
