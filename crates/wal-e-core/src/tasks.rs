//! Work that blocks, and tasks that may panic, with one kind of error; work as a value.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
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

/// Runs `jobs`, at most `slots` at the same time, and hands on what each returns, in the order in
/// which they end. One that fails cancels the others by `cancel`. All are awaited, so that nothing
/// is written once the caller cleans up. `what` names one if it panics.
///
/// # Errors
/// The first one of any of them.
pub(crate) async fn in_slots<T: Send + 'static>(
    what: &str,
    slots: usize,
    cancel: &CancellationToken,
    jobs: impl IntoIterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
    mut take: impl FnMut(T),
) -> Result<()> {
    let slots = Arc::new(Semaphore::new(slots.max(1)));
    let mut tasks = JoinSet::new();
    for job in jobs {
        let slots = Arc::clone(&slots);
        tasks.spawn(async move {
            let _slot = slots.acquire_owned().await.expect("the semaphore is never closed");
            job.await
        });
    }
    let mut failure = None;
    while let Some(result) = tasks.join_next().await {
        match joined(what, result) {
            Ok(value) => take(value),
            Err(error) => {
                cancel.cancel();
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(()), Err)
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
