use std::sync::Arc;

use super::*;

/// What processes share, with a clock that stands still until it is set.
#[derive(Debug, Default, Clone)]
struct Shared(Arc<State>);

#[derive(Debug, Default)]
struct State {
    bytes_per_second: AtomicU64,
    now: AtomicU64,
    paid_until: AtomicU64,
}

impl Meter for Shared {
    fn bytes_per_second(&self) -> u64 {
        self.0.bytes_per_second.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    fn paid_until(&self) -> &AtomicU64 {
        &self.0.paid_until
    }
}

impl Shared {
    fn limited_to(bytes_per_second: u64) -> Shared {
        let shared = Shared::default();
        shared.set(bytes_per_second);
        shared.0.now.store(BURST_NANOS, Ordering::Relaxed);
        shared
    }

    fn set(&self, bytes_per_second: u64) {
        self.0.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Lets processes that each want more than there is work for `seconds`; what each got.
    fn run<const N: usize>(&self, wanted: [u64; N], seconds: u64) -> [u64; N] {
        let limits = wanted.map(|_| RateLimit::new(self.clone()));
        let end = self.now() + seconds * NANOS_PER_SECOND;
        let mut got = [0; N];
        let mut waiting: Vec<Piece> =
            limits.iter().zip(wanted).filter_map(|(limit, wanted)| limit.reserve(wanted)).collect();
        loop {
            let next = (0..N).min_by_key(|n| waiting[*n].paid_at).unwrap();
            let Piece { bytes, paid_at } = waiting[next];
            if paid_at > end {
                self.0.now.store(end, Ordering::Relaxed);
                return got;
            }
            self.0.now.fetch_max(paid_at, Ordering::Relaxed);
            got[next] += bytes;
            waiting[next] = limits[next].reserve(wanted[next]).unwrap();
        }
    }
}

#[test]
fn what_is_handed_out_is_the_limit_and_little_more_however_small_it_is() {
    for rate in [1, 1024, 10_000, 300_000, 5_000_000, 1 << 30] {
        for seconds in [1, 10] {
            let [got] = Shared::limited_to(rate).run([64 * 1024], seconds);
            let (least, most) = (rate * seconds * 9 / 10, rate * seconds + rate / 10);
            assert!(least <= got && got <= most, "{rate} B/s, {seconds} s: {got}");
        }
    }
}

#[test]
fn after_a_pause_no_more_than_a_part_of_a_second_s_bytes_comes_at_once() {
    let shared = Shared::limited_to(1_000_000);
    shared.run([64 * 1024], 1);
    shared.0.now.fetch_add(3600 * NANOS_PER_SECOND, Ordering::Relaxed);
    let [got] = shared.run([64 * 1024], 1);
    assert!((1_000_000..=1_100_000).contains(&got), "{got}");
}

#[test]
fn processes_share_evenly_and_what_one_leaves_the_other_gets() {
    let shared = Shared::limited_to(1_000_000);
    let [archiver, backup] = shared.run([64 * 1024, 64 * 1024], 10);
    let sum = archiver + backup;
    assert!((9_000_000..=10_100_000).contains(&sum), "{sum}");
    assert!(archiver.abs_diff(backup) <= 2 * 64 * 1024, "{archiver} and {backup}");
    // Small pieces have the turn of a large one.
    let [archiver, backup] = shared.run([1000, 64 * 1024], 10);
    assert!(archiver * 20 < backup && archiver > 100_000, "{archiver} and {backup}");
}

#[test]
fn a_new_limit_holds_from_the_next_piece_on() {
    let shared = Shared::limited_to(1024);
    let limit = RateLimit::new(shared.clone());
    let piece = limit.reserve(1 << 20).unwrap();
    assert!(piece.paid_at <= shared.now() + NANOS_PER_SECOND, "it waits for less than a second");
    shared.set(1 << 20);
    let [got] = shared.run([1 << 20], 2);
    assert!(got > 3 << 19, "{got}");
    shared.set(0);
    assert!(limit.reserve(1).is_none());
    assert_eq!(limit.left_until(u64::MAX), None, "nor does one that waits wait on");
}

#[test]
fn threads_share_one_rate() {
    let limit = RateLimit::fixed(1_000_000);
    let cancel = CancellationToken::new();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| limit.take_all_blocking(15_000, &cancel)));
        }
    });
    // 600,000 bytes at 1,000,000 a second, less what a burst gives.
    assert!(begin.elapsed() >= Duration::from_millis(450), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn tasks_and_threads_share_one_rate() {
    let limit = Arc::new(RateLimit::fixed(1_000_000));
    let begin = Instant::now();
    let thread = tokio::task::spawn_blocking({
        let limit = Arc::clone(&limit);
        move || limit.take_all_blocking(300_000, &CancellationToken::new())
    });
    let mut left = 300_000;
    while left > 0 {
        left -= limit.take(left).await;
    }
    thread.await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(450), "{:?}", begin.elapsed());
}

#[test]
fn a_cancelled_thread_does_not_wait() {
    let limit = RateLimit::fixed(1);
    let cancel = CancellationToken::new();
    cancel.cancel();
    limit.take_all_blocking(1_000_000, &cancel);
}

#[tokio::test]
async fn a_task_that_is_given_up_leaves_its_turn_to_the_next() {
    let limit = RateLimit::fixed(1000);
    // What a burst gives.
    while tokio::time::timeout(Duration::from_millis(20), limit.take(1000)).await.is_ok() {}
    let next = async {
        for _ in 0..4 {
            assert!(limit.take(1000).await > 0);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), next).await.expect("its turn comes");
}
