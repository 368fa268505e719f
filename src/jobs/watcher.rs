//! What the main thread of a worker does while the core works.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wal_e_core::notice::{self, NoticeQueue, Notices};

use super::slot::Tenant;
use super::{Job, canceled};
use crate::error::Result;
use crate::pg::interrupts;
use crate::runtime::{Runtime, Watch};
use crate::server_log;

/// Looks for requests to stop, and logs the notices of the core.
pub struct Watcher<J: Job, P> {
    tenant: Tenant<J>,
    /// Puts into the slot how far the work is.
    publish: P,
    notices: Notices,
    queue: NoticeQueue,
    cancel: CancellationToken,
    /// When a request to stop was seen.
    stop_seen: Option<Instant>,
    /// How long the work may go on after a request to stop.
    patience: Duration,
}

impl<J: Job, P: FnMut()> Watcher<J, P> {
    /// For the work of a tenant. It is given up at once when it is to stop, until
    /// [`Watcher::let_clean_up`].
    pub fn new(tenant: Tenant<J>, publish: P) -> Self {
        let (notices, queue) = notice::channel();
        Watcher {
            tenant,
            publish,
            notices,
            queue,
            cancel: CancellationToken::new(),
            stop_seen: None,
            patience: Duration::ZERO,
        }
    }

    /// Where the core puts its notices.
    pub fn notices(&self) -> Notices {
        self.notices.clone()
    }

    /// What asks the core to stop.
    pub fn cancel(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Gives work that is to stop this long to clean up, from now on.
    pub fn let_clean_up(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Puts into the slot how far the work is.
    pub fn publish(&mut self) {
        (self.publish)();
    }

    /// Runs `work` to its end, or to a request to stop.
    ///
    /// # Errors
    /// Those of `work`, or that it was canceled.
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
        self.publish();
        let stop = interrupts::stop_requested()
            || self.tenant.is_unwanted()
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
        let failure = canceled::<J>();
        Watch::GiveUp(match self.patience {
            Duration::ZERO => failure,
            patience => failure.with_detail(format!(
                "The store did not answer within {} seconds. Uploads in parts may be left in it.",
                patience.as_secs()
            )),
        })
    }
}
