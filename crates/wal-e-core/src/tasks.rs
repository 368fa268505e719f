//! Work that blocks, and tasks that may panic, with one kind of error; work as a value.

use std::pin::Pin;

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};

/// What an asynchronous function of a room's border returns.
///
/// It is boxed so that the machine of the function, and of all that it calls, is
/// compiled with the core, once. The machine of an `async fn` is compiled where it
/// is awaited: in the extension, in the program and in each test again
/// (docs/building.md).
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs blocking work on tokio's threads for it. `what` names it if it panics.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    joined(what, tokio::task::spawn_blocking(work).await)
}

/// What a task returned; a panic in it is [`ErrorKind::Bug`], its end with the
/// runtime [`ErrorKind::Cancelled`].
pub(crate) fn joined<T>(what: &str, result: Result<Result<T>, JoinError>) -> Result<T> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(Error::cancelled()),
        Err(error) => Err(Error::new(ErrorKind::Bug, format!("{what} ended in a panic"))
            .with_detail(format!("The panic was: {error}."))),
    }
}

/// What `work` returns, or [`ErrorKind::Cancelled`] as soon as `cancel` is.
pub(crate) async fn or_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled()),
        output = work => output,
    }
}
