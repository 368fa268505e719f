//! Waiting for a fact instead of sleeping.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long the tests wait for something that has to happen, on a machine that
/// may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much slower than usual a server is: valgrind runs each of its instructions as many.
pub fn slowness() -> u32 {
    if valgrind_logs().is_some() { 30 } else { 1 }
}

/// The directory for the findings of valgrind, where servers are to run under it.
pub(crate) fn valgrind_logs() -> Option<PathBuf> {
    std::env::var_os("WALE_TEST_VALGRIND_LOGS").map(PathBuf::from)
}

/// Asks `probe` until it answers, and hands out its answer.
///
/// # Panics
///
/// When there is no value after `limit`; `what` says in the message what was
/// waited for.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let limit = limit * slowness();
    let deadline = Instant::now() + limit;
    loop {
        // The time is read first, so that a slow probe has one full chance.
        let late = Instant::now() >= deadline;
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(!late, "waited {limit:?} in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `probe` is true, at most [`PATIENCE`].
#[track_caller]
pub fn wait_for(what: &str, mut probe: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, || probe().then_some(()));
}
