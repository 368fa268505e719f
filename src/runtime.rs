//! Asynchronous work in a process of PostgreSQL.
//!
//! The work runs on threads of its own, which are started after the fork and
//! with all signals blocked, and which never call PostgreSQL. The main thread
//! waits, and in between looks for requests to stop and for notices to log.
//! Nothing is ever run on the main thread itself, so that every thread that the
//! work starts is started by one with its signals blocked.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::task::AbortHandle;
use wal_e_core::{Error, ErrorKind};

use crate::error::{Failure, Result};
use crate::pg::signals;

/// How long the main thread waits before it looks around.
pub const TICK: Duration = Duration::from_millis(100);

/// How long an abandoned piece of work may take to be dropped.
const ABANDON_TIME: Duration = Duration::from_millis(500);

/// What the main thread wants after it has looked around.
#[derive(Debug)]
pub enum Watch {
    /// Wait on.
    Continue,
    /// Abandon the work and return this.
    GiveUp(Failure),
}

/// The threads of one process. Dropping it abandons what still runs.
#[derive(Debug)]
pub struct Runtime {
    /// `None` only while it is dropped.
    tokio: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the operating system cannot start them.
    pub fn start() -> Result<Self> {
        let built = signals::with_all_blocked(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("wal_e")
                .enable_all()
                .build()
        });
        match built {
            Ok(tokio) => Ok(Runtime { tokio: Some(tokio) }),
            Err(source) => Err(Error::io("could not start threads", &source).into()),
        }
    }

    /// Runs `work` to its end, calling `watch` every [`TICK`] on this thread.
    ///
    /// # Errors
    /// Those of `work`; what `watch` gives up with; [`ErrorKind::Bug`] when
    /// `work` panics.
    ///
    /// # Panics
    /// When `watch` does; the work is then abandoned.
    pub fn run<T, F>(&self, work: F, mut watch: impl FnMut() -> Watch) -> Result<T>
    where
        F: Future<Output = wal_e_core::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let tokio = self.tokio.as_ref().expect("present until dropped");
        let (sender, receiver) = sync_channel(1);
        let task = tokio.spawn(work);
        let abort = AbortOnDrop(task.abort_handle());
        tokio.spawn(async move {
            // When the work was abandoned, nothing listens any more.
            let _ = sender.send(task.await);
        });
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Ok(result)) => return Ok(result?),
                Ok(Err(failed)) => {
                    let message = format!("a task of wal_e ended unexpectedly: {failed}");
                    return Err(Error::new(ErrorKind::Bug, message).into());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Bug, "a task of wal_e was lost").into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Watch::GiveUp(failure) = watch() {
                drop(abort);
                // It may have ended just now, or may be inside a call that
                // cannot be abandoned; either way the answer is the failure.
                let _ = receiver.recv_timeout(ABANDON_TIME);
                return Err(failure);
            }
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(tokio) = self.tokio.take() {
            // Waiting for a hanging call would hang the process.
            tokio.shutdown_background();
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
