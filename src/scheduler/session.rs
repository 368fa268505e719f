//! The threads and the store, while something is due.

use std::sync::Arc;

use time::Duration;
use wal_e_core::config::StoreConfig;
use wal_e_core::notice::{self, NoticeQueue, Notices};
use wal_e_core::owner;
use wal_e_core::schedule::{Clock, Node};
use wal_e_core::store::{self, ObjectStore, retry::Patience};

use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::{interrupts, server};
use crate::runtime::{Runtime, Watch};
use crate::server_log;

/// What the lanes share.
pub struct Session {
    /// This server.
    pub node: Node,
    /// The store's clock, as it was when it was looked at last.
    pub clock: Clock,
    notices: Notices,
    queue: NoticeQueue,
    runtime: Option<Runtime>,
    store: Option<(StoreConfig, Arc<dyn ObjectStore>)>,
    /// By how much the clocks differed when that was said last.
    said: Duration,
}

impl Session {
    /// Nothing is open yet.
    pub fn new(node: Node) -> Self {
        let (notices, queue) = notice::channel();
        let clock = Clock::OWN;
        Session { node, clock, notices, queue, runtime: None, store: None, said: Duration::ZERO }
    }

    /// Where the core puts its notices.
    pub fn notices(&self) -> Notices {
        self.notices.clone()
    }

    /// Opens the store that is configured now, when it belongs to this cluster, and looks at
    /// its clock.
    ///
    /// # Errors
    /// Those of the store, and of the settings.
    pub fn open(&mut self) -> Result<Arc<dyn ObjectStore>> {
        let config = gucs::store_config()?;
        let known = self.store.as_ref().filter(|(known, _)| *known == config);
        let store = match known {
            Some((_, store)) => Arc::clone(store),
            None => {
                let (notices, claimant) = (self.notices.clone(), server::claimant());
                let wanted = config.clone();
                let store = self.run(async move {
                    let store = store::open(&wanted, Patience::command(), notices.clone()).await?;
                    owner::claim(&*store, &claimant, &notices).await?;
                    Ok(store)
                })?;
                self.store = Some((config, Arc::clone(&store)));
                store
            }
        };
        let timed = Arc::clone(&store);
        self.clock = self.run(async move { Clock::measure(&*timed).await })?;
        self.say_difference();
        Ok(store)
    }

    /// Ends the threads and the connections.
    pub fn close(&mut self) {
        self.store = None;
        self.runtime = None;
    }

    /// Runs `work` of the core to its end.
    ///
    /// # Errors
    /// Those of `work`, and a request to end this process.
    pub fn run<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = wal_e_core::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Runtime::start()?,
        };
        let done = runtime.run(work, || {
            server_log::emit(&self.queue);
            interrupts::absorb_barrier();
            match interrupts::end_requested() || !interrupts::postmaster_is_alive() {
                true => Watch::GiveUp(ending()),
                false => Watch::Continue,
            }
        });
        server_log::emit(&self.queue);
        self.runtime = Some(runtime);
        done
    }

    fn say_difference(&mut self) {
        let ahead = self.clock.ahead();
        if (ahead - self.said).abs() <= Duration::minutes(1) {
            return;
        }
        self.said = ahead;
        if ahead.is_zero() {
            return;
        }
        let seconds = ahead.whole_seconds();
        let (number, side) = (seconds.abs(), if seconds > 0 { "behind" } else { "ahead of" });
        server_log::warn(
            &Failure::new(
                pgrx::PgSqlErrorCode::ERRCODE_WARNING,
                format!("the clock of this host is {number} seconds {side} the store's"),
            )
            .with_detail("Schedules go by the clock of the store.")
            .with_hint("Set the clock of this host."),
        );
    }
}

/// Never shown: the process ends.
fn ending() -> Failure {
    Failure::new(pgrx::PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN, "the server stops")
}
