//! What a server is to do about a slot, by what the prefix has of it. Reads nothing.

use std::time::Duration;

use time::OffsetDateTime;

use crate::layout::RunMark;

/// How often the owner of a claim says that it is alive.
pub const RENEW_AFTER: Duration = Duration::from_secs(60);

/// A claim that was not renewed for so long is taken over: longer than a server needs to come
/// back, or a store.
const STALE_AFTER: time::Duration = time::Duration::minutes(15);

/// How long a first failure is left alone; each further one twice as long.
const FIRST_PAUSE: time::Duration = time::Duration::minutes(1);
const LONGEST_PAUSE: time::Duration = time::Duration::hours(1);

/// An attempt to do the job of a slot. Times are the store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// When its owner was last heard of.
    pub seen: OffsetDateTime,
    /// How it ended, when it did.
    pub end: Option<End>,
}

impl Attempt {
    /// Takes in an object of it, and when that was stored.
    pub fn note(&mut self, mark: RunMark, at: OffsetDateTime) {
        self.seen = self.seen.max(at);
        match mark {
            RunMark::Done => self.end = Some(End::Done),
            RunMark::Failed if self.end.is_none() => self.end = Some(End::Failed(at)),
            RunMark::Failed | RunMark::Claim | RunMark::Alive => {}
        }
    }

    /// When it is taken over, unless its owner is heard of before.
    pub fn stale_at(&self) -> OffsetDateTime {
        self.seen + STALE_AFTER
    }

    /// Whether its owner may still be at work.
    pub fn may_be_alive(&self, now: OffsetDateTime) -> bool {
        self.end.is_none() && now < self.stale_at()
    }
}

/// The end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The job need not be done any more.
    Done,
    /// It failed at this moment.
    Failed(OffsetDateTime),
}

/// What to do about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: its job is done.
    Done,
    /// Create the claim of this number, and then work. `abandoned` is the attempt before, when
    /// that never ended.
    Claim {
        /// The number of the claim.
        attempt: u32,
        /// The attempt that is taken over.
        abandoned: Option<u32>,
    },
    /// Go on with the work of this claim, which is this server's own: it was made just before,
    /// and the answer to that was lost.
    Resume(u32),
    /// Look again at this time.
    LookAgain(OffsetDateTime),
}

/// Whose the last attempt is, when it has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Another server's, or it is not known whose.
    Foreign,
    /// This server's, before it was restarted.
    Former,
    /// This very process's.
    Own,
}

/// What to do, by all attempts there were, at `now`.
pub fn decide(attempts: &[Attempt], last: Ownership, now: OffsetDateTime) -> Decision {
    if attempts.iter().any(|attempt| attempt.end == Some(End::Done)) {
        return Decision::Done;
    }
    let Some(newest) = attempts.iter().max_by_key(|attempt| attempt.number) else {
        return Decision::Claim { attempt: 1, abandoned: None };
    };
    let number = newest.number;
    let claim = |abandoned| Decision::Claim { attempt: number.saturating_add(1), abandoned };
    match (newest.end, last) {
        (Some(End::Failed(at)), _) => match at + pause_after(number) {
            due if due <= now => claim(None),
            due => Decision::LookAgain(due),
        },
        (_, Ownership::Own) => Decision::Resume(number),
        (_, Ownership::Former) => claim(Some(number)),
        (_, Ownership::Foreign) => match newest.stale_at() {
            due if due <= now => claim(Some(number)),
            due => Decision::LookAgain(due),
        },
    }
}

/// How long is waited after so many failures.
fn pause_after(failures: u32) -> time::Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}
