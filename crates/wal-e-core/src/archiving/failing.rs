//! Whether archiving fails, as far as a server's own statistics say.

use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind};
use crate::postgres::archive_status::ReadyQueue;

/// An archiver that works takes a segment within seconds; a store that is away for a
/// moment is no reason to refuse anything.
pub(super) const TOLERATED: Duration = Duration::from_secs(30);

/// What a server's statistics say of its archiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The last that went well.
    pub archived: Option<SystemTime>,
    /// The last that failed.
    pub failed: Option<SystemTime>,
}

impl Attempts {
    /// Whether the last one failed.
    pub fn last_failed(&self) -> bool {
        self.failed > self.archived
    }
}

/// Why a base backup could not be completed now: segments wait, and the last attempt failed.
pub fn refusal(attempts: Attempts, queue: &ReadyQueue, now: SystemTime) -> Option<Error> {
    if !attempts.last_failed() {
        return None;
    }
    let oldest = queue.oldest_segment.as_ref()?;
    let waited = now.duration_since(oldest.since?).unwrap_or_default();
    if waited < TOLERATED {
        return None;
    }
    let message = format!(
        "the server's WAL cannot be archived: WAL segment \"{}\" has waited for {} s, and the last attempt failed",
        oldest.name,
        waited.as_secs()
    );
    Some(Error::new(ErrorKind::Config, message).with_detail(super::NEEDS_WAL).with_hint(
        "See the server log for the reason, and take the backup when archiving works again.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Lsn;
    use crate::postgres::archive_status::ReadySegment;

    #[test]
    fn archiving_fails_when_a_segment_waits_and_the_last_attempt_failed() {
        let now = SystemTime::now();
        let before = |seconds| Some(now - Duration::from_secs(seconds));
        let waiting = |since| {
            let name = "000000010000000000000007".parse().unwrap();
            let oldest = ReadySegment { name, start_lsn: Lsn(7 << 24), since };
            ReadyQueue { files: 1, oldest_segment: Some(oldest) }
        };
        for (archived, failed, queue, refused) in [
            (before(100), before(5), waiting(before(90)), true),
            (None, before(5), waiting(before(90)), true),
            (None, before(5), waiting(before(10)), false),
            (before(4), before(5), waiting(before(90)), false),
            (before(100), None, waiting(before(90)), false),
            (before(100), before(5), ReadyQueue::default(), false),
        ] {
            let refusal = refusal(Attempts { archived, failed }, &queue, now);
            assert_eq!(refusal.is_some(), refused, "{archived:?} {failed:?} {queue:?}");
        }
    }
}
