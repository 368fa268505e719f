//! How far archiving is: throughput of the last minute, and lag. Plain
//! arithmetic on numbers that others collect. And by what a server archives, and whether that
//! fails, as far as its settings and statistics say.

mod failing;
mod stalling;
mod way;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::postgres::archive_status::ReadyQueue;
use crate::postgres::{Lsn, SegmentSize};
pub use failing::{Attempts, refusal as refusal_of_failing};
pub use stalling::stalled_for;
pub use way::{HOW_TO_ARCHIVE, NEEDS_WAL, Way};

/// What one bucket of [`Throughput`] counts, in seconds.
const BUCKET_SECONDS: u64 = 10;
/// A minute of them.
const BUCKETS: usize = 6;

/// Bytes of the last minute, in buckets of ten seconds. Plain numbers, so that
/// it can lie in memory that processes share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throughput {
    /// Number of the ten seconds since 1970, and bytes in them.
    buckets: [(u64, u64); BUCKETS],
}

impl Throughput {
    /// Counts `bytes` at `now`.
    pub fn add(&mut self, now: SystemTime, bytes: u64) {
        let number = seconds(now) / BUCKET_SECONDS;
        let bucket = &mut self.buckets[(number % BUCKETS as u64) as usize];
        if bucket.0 != number {
            *bucket = (number, 0);
        }
        bucket.1 = bucket.1.saturating_add(bytes);
    }

    /// The mean of the last minute, or of the time since `since` when that is
    /// shorter.
    pub fn bytes_per_second(&self, now: SystemTime, since: SystemTime) -> u64 {
        let number = seconds(now) / BUCKET_SECONDS;
        let oldest = number.saturating_sub(BUCKETS as u64 - 1);
        let recent = self.buckets.iter().filter(|(of, _)| (oldest..=number).contains(of));
        let bytes: u64 = recent.map(|(_, bytes)| bytes).sum();
        let window = (seconds(now) - oldest * BUCKET_SECONDS)
            .min(seconds(now).saturating_sub(seconds(since)));
        bytes / window.max(1)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What is known of an archiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Archived {
    /// End of the last segment that was archived.
    pub lsn: Option<Lsn>,
    /// When that segment was complete.
    pub complete_at: Option<SystemTime>,
}

/// How far the archive lags the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Bytes of WAL that are not in the archive yet.
    pub bytes: u64,
    /// Changes older than this are in the archive. `None` when that is not
    /// known: nothing was archived yet and nothing waits.
    pub time: Option<Duration>,
}

/// The lag of a server that has written (or received) WAL up to `position`.
///
/// All before the first segment that waits is archived. When none waits, all
/// before the end of the last archived one is, or, when none was archived since
/// the count began, all before the segment that is being written.
pub fn lag(
    archived: Archived,
    queue: &ReadyQueue,
    position: Lsn,
    size: SegmentSize,
    now: SystemTime,
) -> Lag {
    let segment_start = Lsn(position.0 - position.0 % size.bytes());
    let oldest = queue.oldest_segment.as_ref();
    let up_to = oldest.map(|oldest| oldest.start_lsn).or(archived.lsn).unwrap_or(segment_start);
    let bytes = position.0.saturating_sub(up_to.0);
    let since = match oldest {
        // The one before it was complete then.
        _ if archived.lsn == Some(up_to) => archived.complete_at,
        Some(oldest) => oldest.since,
        None => None,
    };
    let time = match bytes {
        0 => Some(Duration::ZERO),
        _ => since.map(|since| now.duration_since(since).unwrap_or_default()),
    };
    Lag { bytes, time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::archive_status::ReadySegment;

    const MB16: u64 = 16 * 1024 * 1024;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds)
    }

    #[test]
    fn throughput_is_that_of_the_last_minute() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.bytes_per_second(at(0), at(0)), 0);
        throughput.add(at(1), 1000);
        assert_eq!(throughput.bytes_per_second(at(2), at(0)), 500);
        throughput.add(at(9), 1000);
        assert_eq!(throughput.bytes_per_second(at(40), at(0)), 50);
        // 50 whole seconds and the beginning of the sixth bucket.
        assert_eq!(throughput.bytes_per_second(at(59), at(0)), 2000 / 59);
        assert_eq!(throughput.bytes_per_second(at(60), at(0)), 0);
        throughput.add(at(61), 5100);
        assert_eq!(throughput.bytes_per_second(at(61), at(0)), 100);
        throughput.add(at(3600), 51);
        assert_eq!(throughput.bytes_per_second(at(3601), at(0)), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_is_survived() {
        let mut throughput = Throughput::default();
        throughput.add(at(600), 1000);
        assert_eq!(throughput.bytes_per_second(at(0), at(600)), 0);
        throughput.add(at(0), 10);
        assert_eq!(throughput.bytes_per_second(UNIX_EPOCH, at(600)), 0);
    }

    fn waiting(segment: u64, since: u64) -> ReadyQueue {
        let name = format!("00000001{:016X}", segment).parse().unwrap();
        let start_lsn = Lsn(segment * MB16);
        let oldest = ReadySegment { name, start_lsn, since: Some(at(since)) };
        ReadyQueue { files: 1, oldest_segment: Some(oldest) }
    }

    fn lag_of(
        archived: Option<(u64, u64)>,
        queue: &ReadyQueue,
        position: u64,
    ) -> (u64, Option<u64>) {
        let archived = Archived {
            lsn: archived.map(|(segment, _)| Lsn(segment * MB16)),
            complete_at: archived.map(|(_, complete)| at(complete)),
        };
        let lag = lag(archived, queue, Lsn(position), SegmentSize::DEFAULT, at(100));
        (lag.bytes, lag.time.map(|time| time.as_secs()))
    }

    #[test]
    fn lag_counts_from_what_is_archived() {
        let none = ReadyQueue::default();
        // All before segment 5 is archived, since second 40.
        assert_eq!(lag_of(Some((5, 40)), &none, 5 * MB16), (0, Some(0)));
        assert_eq!(lag_of(Some((5, 40)), &none, 5 * MB16 + 7), (7, Some(60)));
        assert_eq!(lag_of(Some((5, 40)), &waiting(5, 90), 6 * MB16), (MB16, Some(60)));
        // A standby may have archived what it has not replayed yet.
        assert_eq!(lag_of(Some((5, 40)), &none, 4 * MB16), (0, Some(0)));
    }

    #[test]
    fn a_segment_that_waits_is_not_archived_whatever_came_later() {
        assert_eq!(lag_of(Some((9, 40)), &waiting(5, 30), 9 * MB16), (4 * MB16, Some(70)));
    }

    #[test]
    fn before_the_first_archived_segment_marks_tell() {
        assert_eq!(lag_of(None, &waiting(5, 30), 7 * MB16), (2 * MB16, Some(70)));
        assert_eq!(lag_of(None, &ReadyQueue::default(), 7 * MB16 + 3), (3, None));
        assert_eq!(lag_of(None, &ReadyQueue::default(), 7 * MB16), (0, Some(0)));
    }
}
