//! Random moments that can be had again.

use std::thread;
use std::time::{Duration, SystemTime};

use fastrand::Rng;

/// A generator whose seed is printed, and is `WALE_TEST_SEED` when that is set.
///
/// # Panics
///
/// When `WALE_TEST_SEED` is not a number.
pub fn seeded() -> Rng {
    let given = std::env::var("WALE_TEST_SEED").ok();
    let seed =
        given.map(|seed| seed.parse().expect("WALE_TEST_SEED is a number")).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.expect("the clock is right").as_millis() as u64
        });
    println!("WALE_TEST_SEED={seed}");
    Rng::with_seed(seed)
}

/// Waits for a random time: the moment at which it ends is what is tested.
pub fn random_moment(random: &mut Rng, longest_ms: u64) {
    thread::sleep(Duration::from_millis(random.u64(1..longest_ms)));
}
