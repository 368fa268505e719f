//! A limit on bytes per second that tasks, threads and processes share.
//!
//! Bytes are handed out in pieces of a small part of a second, so that a small limit holds
//! for small objects, too, and a new limit takes effect at once. Those who wait in one
//! process take turns, and only one of them at a time waits for its piece where all processes
//! meet ([`Meter`]). So processes share a limit evenly, however many tasks each of them has.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How much may be used at once after a pause, in time.
const BURST_NANOS: u64 = NANOS_PER_SECOND / 10;

/// No sleep is longer, before it is looked again whether there is still a limit and a wish.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// A second's bytes are handed out in at least so many pieces.
const PIECES_PER_SECOND: u64 = 32;

/// What is not divided any more: a smaller piece costs more than it is worth.
const SMALLEST_PIECE_BYTES: u64 = 64;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What all who share a limit have in common.
pub trait Meter: fmt::Debug + Send + Sync {
    /// The limit that is in force now, in bytes per second; 0 means none.
    fn bytes_per_second(&self) -> u64;

    /// Nanoseconds of a clock that they all see, and that never goes back.
    fn now(&self) -> u64;

    /// When the bytes handed out so far are paid for, by that clock. It begins at 0, and
    /// nothing but [`RateLimit`] changes it.
    fn paid_until(&self) -> &AtomicU64;
}

/// Hands out bytes at a steady rate.
#[derive(Debug)]
pub struct RateLimit {
    meter: Box<dyn Meter>,
    /// Held by the one that waits for its piece; the others get it in their order.
    turn: Mutex<()>,
}

/// A piece that is handed out, once it is paid for.
#[derive(Debug, Clone, Copy)]
struct Piece {
    bytes: u64,
    paid_at: u64,
}

impl RateLimit {
    /// What `meter` measures. A process needs one of these for each meter, since turns are
    /// taken here.
    pub fn new(meter: impl Meter + 'static) -> Self {
        RateLimit { meter: Box::new(meter), turn: Mutex::new(()) }
    }

    /// A limit in bytes per second, at least 1, for this process alone.
    pub fn fixed(bytes_per_second: u64) -> Self {
        RateLimit::new(Fixed {
            bytes_per_second: bytes_per_second.max(1),
            began: Instant::now(),
            paid_until: AtomicU64::new(0),
        })
    }

    /// Waits until some of `wanted` bytes may be used, and returns how many: at least one, unless
    /// none is wanted.
    ///
    /// # Cancel safety
    /// When the future is dropped, at most one piece is lost.
    pub async fn take(&self, wanted: usize) -> usize {
        if wanted == 0 || !self.is_in_force() {
            return wanted;
        }
        let _turn = self.turn.lock().await;
        let Some(piece) = self.reserve(wanted as u64) else { return wanted };
        while let Some(left) = self.left_until(piece.paid_at) {
            tokio::time::sleep(left).await;
        }
        usize::try_from(piece.bytes).unwrap_or(wanted)
    }

    /// Waits until all of `bytes` may be used; returns early when `cancel` is set. Not on a
    /// thread that runs tasks.
    pub fn take_all_blocking(&self, bytes: u64, cancel: &CancellationToken) {
        let mut rest = bytes;
        while rest > 0 && self.is_in_force() && !cancel.is_cancelled() {
            let _turn = self.turn.blocking_lock();
            let Some(piece) = self.reserve(rest) else { return };
            while let Some(left) = self.left_until(piece.paid_at)
                && !cancel.is_cancelled()
            {
                std::thread::sleep(left);
            }
            rest -= piece.bytes;
        }
    }

    /// Whether there is a limit now.
    pub fn is_in_force(&self) -> bool {
        self.meter.bytes_per_second() > 0
    }

    /// Takes the next piece of what is wanted, to be used once it is paid for. `None` when
    /// there is no limit.
    fn reserve(&self, wanted: u64) -> Option<Piece> {
        let rate = self.meter.bytes_per_second();
        if rate == 0 {
            return None;
        }
        let largest = (rate / PIECES_PER_SECOND).max(SMALLEST_PIECE_BYTES).min(rate);
        let bytes = wanted.min(largest);
        let cost = u128::from(bytes) * u128::from(NANOS_PER_SECOND) / u128::from(rate);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let earliest = self.meter.now().saturating_sub(BURST_NANOS);
        let after = |paid_until: u64| paid_until.max(earliest).saturating_add(cost);
        let paid_until = self.meter.paid_until();
        let mut seen = paid_until.load(Ordering::Relaxed);
        while let Err(newer) = paid_until.compare_exchange_weak(
            seen,
            after(seen),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            seen = newer;
        }
        Some(Piece { bytes, paid_at: after(seen) })
    }

    /// How long to sleep before looking again; `None` when the wait is over.
    fn left_until(&self, paid_at: u64) -> Option<Duration> {
        let left = paid_at.checked_sub(self.meter.now()).filter(|left| *left > 0)?;
        self.is_in_force().then(|| Duration::from_nanos(left).min(LONGEST_SLEEP))
    }
}

/// A limit that does not change, of one process.
#[derive(Debug)]
struct Fixed {
    bytes_per_second: u64,
    began: Instant,
    paid_until: AtomicU64,
}

impl Meter for Fixed {
    fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    fn now(&self) -> u64 {
        // A pause lies before the beginning.
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        since.saturating_add(BURST_NANOS)
    }

    fn paid_until(&self) -> &AtomicU64 {
        &self.paid_until
    }
}

#[cfg(test)]
mod tests;
