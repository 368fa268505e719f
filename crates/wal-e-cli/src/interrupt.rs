//! Ctrl-C, SIGTERM and SIGHUP during work that must not be left half-done.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wal_e_core::{Error, ErrorKind, Result};

use crate::report::Report;

/// The signal that ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// The terminal went away.
    HangUp,
    /// Ctrl-C.
    Interrupt,
    /// `kill`, a service manager.
    Terminate,
}

impl Interrupted {
    /// The exit code of a command that it ended: what a shell reports for it.
    pub fn exit_code(self) -> u8 {
        128 + self.number()
    }

    /// The signal's number on Linux.
    pub fn number(self) -> u8 {
        match self {
            Interrupted::HangUp => 1,
            Interrupted::Interrupt => 2,
            Interrupted::Terminate => 15,
        }
    }
}

/// Turns the first signal into a cancellation; the second ends the process at once.
#[derive(Debug, Clone)]
pub struct Interrupt {
    cancel: CancellationToken,
    received: Arc<OnceLock<Interrupted>>,
}

impl Interrupt {
    /// Begins to listen. Call it within the runtime.
    pub fn listen(report: &Arc<Report>) -> Result<Self> {
        let failed = |source| Error::io("could not listen for signals", &source);
        let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let listening =
            Interrupt { cancel: CancellationToken::new(), received: Arc::new(OnceLock::new()) };
        let (this, report) = (listening.clone(), Arc::clone(report));
        tokio::spawn(async move {
            loop {
                let received = tokio::select! {
                    _ = hang_up.recv() => Interrupted::HangUp,
                    _ = interrupt.recv() => Interrupted::Interrupt,
                    _ = terminate.recv() => Interrupted::Terminate,
                };
                if this.received.set(received).is_err() {
                    report.warning("ended before everything was cleaned up");
                    std::process::exit(i32::from(received.exit_code()));
                }
                report.log("canceling and cleaning up; a second signal ends this at once");
                this.cancel.cancel();
            }
        });
        Ok(listening)
    }

    /// Cancelled by the first signal, or by [`Interrupt::give_up`].
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs `work`, which can be dropped anywhere without harm, until it ends or
    /// a signal comes.
    pub async fn or_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            output = work => output,
            () = self.cancel.cancelled() => Err(Error::cancelled()),
        }
    }

    /// Cancels the work for another reason than a signal.
    pub fn give_up(&self) {
        self.cancel.cancel();
    }

    /// The signal that came, if one did.
    pub fn received(&self) -> Option<Interrupted> {
        self.received.get().copied()
    }

    /// `error`, unless a signal was the reason for it.
    pub fn failure(&self, error: Error) -> Failure {
        match self.received() {
            Some(signal) if error.kind() == ErrorKind::Cancelled => Failure::Signal(signal),
            _ => Failure::Error(error),
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// It did not work.
    Error(Error),
    /// It was stopped by a signal, and has cleaned up.
    Signal(Interrupted),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}
