//! Whether archiving stands still, as far as a server's own statistics say.

use std::time::{Duration, SystemTime};

use super::failing::{Attempts, TOLERATED};
use crate::postgres::archive_status::ReadyQueue;

/// So long may a file take that is not known to have failed: a slow line and a large segment
/// are no fault.
const LONGEST_SILENCE: Duration = Duration::from_secs(5 * 60);

/// For how long nothing was archived although a segment waits, when that is too long. When the
/// last attempt failed, half a minute is. What was before `watched_since`, while the server
/// was perhaps down, does not count. (Other files do not say since when they wait, and those
/// that cannot be archived keep the segments after them waiting.)
pub fn stalled_for(
    attempts: Attempts,
    queue: &ReadyQueue,
    watched_since: SystemTime,
    now: SystemTime,
) -> Option<Duration> {
    let waits_since = queue.oldest_segment.as_ref()?.since?;
    let begin = waits_since.max(watched_since).max(attempts.archived.unwrap_or(watched_since));
    let silence = now.duration_since(begin).unwrap_or_default();
    let fails = attempts.last_failed() && attempts.failed >= Some(watched_since);
    (silence >= if fails { TOLERATED } else { LONGEST_SILENCE }).then_some(silence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Lsn;
    use crate::postgres::archive_status::ReadySegment;

    /// A moment of a long story, in seconds.
    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn waiting_since(seconds: u64) -> ReadyQueue {
        let name = "000000010000000000000007".parse().unwrap();
        let oldest = ReadySegment { name, start_lsn: Lsn(7 << 24), since: Some(at(seconds)) };
        ReadyQueue { files: 1, oldest_segment: Some(oldest) }
    }

    /// At second 1000, of a server that is watched since second 100.
    fn stalled(archived: Option<u64>, failed: Option<u64>, queue: &ReadyQueue) -> Option<u64> {
        let attempts = Attempts { archived: archived.map(at), failed: failed.map(at) };
        stalled_for(attempts, queue, at(100), at(1000)).map(|silence| silence.as_secs())
    }

    #[test]
    fn archiving_that_fails_stands_still_after_half_a_minute() {
        assert_eq!(stalled(Some(900), Some(990), &waiting_since(970)), Some(30));
        assert_eq!(stalled(Some(900), Some(990), &waiting_since(971)), None);
        // Something is archived again and again.
        assert_eq!(stalled(Some(971), Some(990), &waiting_since(900)), None);
        assert_eq!(stalled(Some(960), Some(990), &waiting_since(900)), Some(40));
        assert_eq!(stalled(None, Some(990), &waiting_since(900)), Some(100));
    }

    #[test]
    fn archiving_that_is_silent_stands_still_after_five_minutes() {
        assert_eq!(stalled(Some(600), None, &waiting_since(700)), Some(300));
        assert_eq!(stalled(Some(600), None, &waiting_since(701)), None);
        // A failure before the last success means nothing.
        assert_eq!(stalled(Some(900), Some(899), &waiting_since(200)), None);
    }

    #[test]
    fn without_a_segment_that_waits_nothing_stands_still() {
        assert_eq!(stalled(Some(1), Some(999), &ReadyQueue::default()), None);
        let history = ReadyQueue { files: 1, oldest_segment: None };
        assert_eq!(stalled(None, Some(999), &history), None);
    }

    #[test]
    fn what_was_before_the_server_was_watched_does_not_count() {
        let queue = waiting_since(0);
        let attempts = Attempts { archived: None, failed: Some(at(50)) };
        assert_eq!(stalled_for(attempts, &queue, at(100), at(140)), None);
        let failed_again = Attempts { archived: None, failed: Some(at(120)) };
        let silence = Some(Duration::from_secs(40));
        assert_eq!(stalled_for(failed_again, &queue, at(100), at(140)), silence);
    }
}
