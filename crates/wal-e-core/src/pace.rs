//! How far long work is and how fast it goes, in words.

use std::time::{Duration, Instant};

/// Work is not guessed to take longer than that: it stands still.
const LONGEST_GUESS_SECONDS: f64 = 1e7;

/// Work that is looked at from time to time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    looked_at: Instant,
    done_bytes: u64,
}

impl Pace {
    /// Work that begins now.
    pub fn begin(now: Instant) -> Self {
        Pace { looked_at: now, done_bytes: 0 }
    }

    /// How much is done of how much, how fast it went since the last look, and how long the rest
    /// takes at that pace. Without a total, only what is done.
    pub fn describe(&mut self, now: Instant, done_bytes: u64, total_bytes: u64) -> String {
        let seconds = now.saturating_duration_since(self.looked_at).as_secs_f64();
        let moved = done_bytes.saturating_sub(self.done_bytes);
        let per_second = if seconds > 0.0 { moved as f64 / seconds } else { 0.0 };
        *self = Pace { looked_at: now, done_bytes };
        let speed = size(per_second as u64);
        if total_bytes == 0 {
            return format!("{}, {speed}/s", size(done_bytes));
        }
        let (done, total) = (size(done_bytes), size(total_bytes));
        let share = percentage(done_bytes, total_bytes);
        let rest = total_bytes.saturating_sub(done_bytes) as f64 / per_second;
        let left = match rest < LONGEST_GUESS_SECONDS {
            true => format!(", about {} left", duration(Duration::from_secs_f64(rest))),
            false => String::new(),
        };
        format!("{done} of {total} ({share}), {speed}/s{left}")
    }
}

/// Sizes in the manner of `pg_size_pretty()`: whole numbers up to 10240 of a unit.
pub fn size(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 10 * 1024 {
            return format!("{value} {unit}");
        }
        value = value / 1024 + u64::from(value % 1024 >= 512);
    }
    format!("{value} TB")
}

/// `part` of `whole` in whole percents, never above 100.
pub fn percentage(part: u64, whole: u64) -> String {
    let percents = if whole == 0 { 100 } else { u128::from(part) * 100 / u128::from(whole) };
    format!("{} %", percents.min(100))
}

/// In the largest unit of which there are two.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_percentages_are_whole_numbers() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (1_500 << 20, "1500 MB"),
            (20 << 30, "20 GB"),
            (20 << 40, "20 TB"),
            (u64::MAX, "16777216 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(percentage(1, 3), "33 %");
        assert_eq!(percentage(5, 3), "100 %");
        assert_eq!(percentage(0, 0), "100 %");
    }

    #[test]
    fn the_rest_is_guessed_by_the_pace_since_the_last_look() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut pace = Pace::begin(begin);
        let mut look = |seconds, done: u64| pace.describe(at(seconds), done << 20, 3000 << 20);
        assert_eq!(look(10, 1000), "1000 MB of 3000 MB (33 %), 100 MB/s, about 20 s left");
        assert_eq!(look(20, 1010), "1010 MB of 3000 MB (33 %), 1024 kB/s, about 33 min left");
        assert_eq!(look(30, 1010), "1010 MB of 3000 MB (33 %), 0 bytes/s");
        assert_eq!(look(40, 3000), "3000 MB of 3000 MB (100 %), 199 MB/s, about 0 s left");
        assert_eq!(look(50, 3500), "3500 MB of 3000 MB (100 %), 50 MB/s, about 0 s left");
        assert_eq!(pace.describe(at(51), 3600 << 20, 0), "3600 MB, 100 MB/s");
    }
}
