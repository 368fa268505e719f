//! Random histories, a few of them; `make torture` makes as many as you like.

use wal_e_e2e::torture::{Tally, round};

/// `WALE_TEST_SEED` is another seed to begin with, and `WALE_TEST_ROUNDS` how many follow.
fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}

#[test]
fn what_wal_e_says_of_random_histories_is_true() {
    let first = number("WALE_TEST_SEED", 1);
    let mut sum = Tally::default();
    for seed in first..first + number("WALE_TEST_ROUNDS", 3) {
        let (tally, _) = round(seed).unwrap_or_else(|report| panic!("{report}"));
        sum.add(tally);
    }
    println!("{sum}");
    assert!(sum.possible > 0 && sum.refused > 0, "{sum}");
}
