//! A limit on bytes per second that many threads share.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How much may be used at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// The longest that a thread sleeps before it checks whether it should stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Hands out bytes at a steady rate to all threads that share it.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: u64,
    /// When the bytes handed out so far are paid for.
    paid_until: Mutex<Instant>,
}

impl RateLimit {
    /// A limit in bytes per second, at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        RateLimit {
            bytes_per_second: bytes_per_second.max(1),
            paid_until: Mutex::new(Instant::now()),
        }
    }

    /// Waits until `bytes` may be used; returns early when `cancel` is set.
    pub fn take(&self, bytes: u64, cancel: &CancellationToken) {
        let until = {
            let mut paid_until =
                self.paid_until.lock().unwrap_or_else(|poison| poison.into_inner());
            let start = (*paid_until).max(Instant::now() - BURST);
            *paid_until =
                start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            *paid_until
        };
        while !cancel.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LONGEST_SLEEP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_rate() {
        let limit = RateLimit::new(1_000_000);
        let cancel = CancellationToken::new();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| limit.take(15_000, &cancel)));
            }
        });
        // 600,000 bytes at 1,000,000 a second, less what a burst gives.
        assert!(begin.elapsed() >= Duration::from_millis(450), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_cancelled_task_does_not_wait() {
        let limit = RateLimit::new(1);
        let cancel = CancellationToken::new();
        cancel.cancel();
        limit.take(1_000_000, &cancel);
    }
}
