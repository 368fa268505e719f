//! How long to go on trying, how long to wait in between, and what to say.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;

/// That something is tried again is logged at most this often.
const SPEAK_EVERY: Duration = Duration::from_secs(60);

/// The bound of the first wait after [`ErrorKind::Throttled`], where it would be
/// shorter: a store that asks for fewer requests should see fewer.
const FIRST_DELAY_WHEN_THROTTLED: Duration = Duration::from_secs(1);

/// A store that asks for a longer wait than this is asked again all the same.
const LONGEST_WAIT_ASKED_FOR: Duration = Duration::from_secs(60);

/// How long a question waits for the first answer of a store: long enough for a restart of
/// a proxy on the way.
const FIRST_ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long new keys are waited for at first, where those that there are have
/// expired. A user may be waiting, and this needs a person more often than not.
/// Once the store has answered it is a rotation that lags, an outage like any other.
const RENEWAL_TIME: Duration = Duration::from_secs(20);

/// How long to go on trying what fails for a passing reason.
///
/// The wait before the next attempt is drawn evenly from zero to a bound that
/// doubles with each attempt ("full jitter"), so that many writers do not come
/// back at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// No attempt begins later than this after the first one.
    pub give_up_after: Duration,
    /// The same while the store has not answered yet.
    pub without_answer: Duration,
    /// The bound of the first wait.
    pub first_delay: Duration,
    /// The bound of any wait.
    pub longest_delay: Duration,
}

impl Patience {
    /// For the archiver: short, because the server itself tries again, and a
    /// failure should be reported soon.
    pub fn archiver() -> Self {
        Patience::giving_up_after(Duration::from_secs(20))
    }

    /// For a base backup: hours of work should outlast an outage of minutes.
    pub fn backup() -> Self {
        Patience::giving_up_after(Duration::from_secs(600))
    }

    /// For a command that a user waits for.
    pub fn command() -> Self {
        Patience::giving_up_after(Duration::from_secs(120))
    }

    /// For a question that a user waits for: an endpoint that is wrong should be reported
    /// within seconds, and nothing is lost.
    pub fn question() -> Self {
        Patience { without_answer: FIRST_ANSWER_TIME, ..Patience::command() }
    }

    fn is_question(&self) -> bool {
        self.without_answer < self.give_up_after
    }

    /// One attempt and no more.
    pub fn none() -> Self {
        Patience::giving_up_after(Duration::ZERO)
    }

    fn giving_up_after(give_up_after: Duration) -> Self {
        Patience {
            give_up_after,
            without_answer: give_up_after,
            first_delay: Duration::from_millis(200),
            longest_delay: Duration::from_secs(15),
        }
    }

    /// The attempts of one call.
    pub(super) fn attempts<'a>(
        &self,
        speaker: &'a Speaker,
        has_worked: &'a AtomicBool,
    ) -> Attempts<'a> {
        Attempts { patience: *self, speaker, has_worked, began: OnceLock::new(), failures: 0 }
    }

    /// How long to go on after this error of a store that did, or did not, work before.
    fn give_up_after(&self, error: &Error, has_worked: bool) -> Duration {
        match error.kind() {
            ErrorKind::Unavailable if !has_worked => self.without_answer,
            ErrorKind::Unavailable | ErrorKind::Throttled => self.give_up_after,
            _ if has_worked => self.give_up_after,
            _ => self.give_up_after.min(RENEWAL_TIME),
        }
    }

    /// Whether work may hang on it that should outlast keys that are replaced late. The
    /// archiver had better say what is wrong.
    fn waits_for_new_keys(&self) -> bool {
        self.give_up_after > RENEWAL_TIME
    }

    /// How long to wait after so many failures, the last of which is `error`; `share` is drawn
    /// evenly from 0 to 1. A wait that the store asks for is kept, and what was drawn is added.
    fn delay(&self, failures: u32, error: &Error, share: f64) -> Duration {
        let asked = error.retry_after().unwrap_or_default().min(LONGEST_WAIT_ASKED_FOR);
        let drawn = match asked.is_zero() {
            true => self.delay_bound(failures, error.kind()),
            false => self.delay_bound(1, error.kind()),
        };
        asked + drawn.mul_f64(share)
    }

    /// The longest that may be waited after so many failures, the last of `kind`.
    fn delay_bound(&self, failures: u32, kind: ErrorKind) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let first = match kind {
            ErrorKind::Throttled => self.first_delay.max(FIRST_DELAY_WHEN_THROTTLED),
            _ => self.first_delay,
        };
        first.saturating_mul(1 << doublings).min(self.longest_delay)
    }
}

/// Says that something is tried again, without flooding the log.
#[derive(Debug)]
pub(super) struct Speaker {
    notices: Notices,
    place: String,
    spoke: Mutex<Option<Instant>>,
}

impl Speaker {
    /// `place` is the server, or the directory, that is asked.
    pub(super) fn new(notices: Notices, place: String) -> Self {
        Speaker { notices, place, spoke: Mutex::new(None) }
    }

    fn waiting(&self) {
        self.speak(|| format!("still waiting for \"{}\" to answer", self.place));
    }

    fn retrying(&self, error: &Error, give_up_after: Duration) {
        self.speak(|| {
            format!("{}; trying again for up to {} s", error.message(), give_up_after.as_secs())
        });
    }

    fn speak(&self, text: impl Fn() -> String) {
        let mut spoke = self.spoke.lock().unwrap_or_else(PoisonError::into_inner);
        if spoke.is_some_and(|spoke| spoke.elapsed() < SPEAK_EVERY) {
            return;
        }
        *spoke = Some(Instant::now());
        self.notices.log(text());
    }
}

/// The attempts of one call so far.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    patience: Patience,
    speaker: &'a Speaker,
    has_worked: &'a AtomicBool,
    /// When the first attempt began: what it waited for its turn does not count.
    began: OnceLock<Instant>,
    failures: u32,
}

impl Attempts<'_> {
    /// Runs an attempt. A user who waits for the first answer is told so.
    pub(super) async fn attempt<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.began.get_or_init(Instant::now);
        let mut call = pin!(call);
        let is_first = self.patience.is_question() && !self.has_worked.load(Ordering::Relaxed);
        let result = match is_first {
            true => match tokio::time::timeout(FIRST_ANSWER_TIME, &mut call).await {
                Ok(result) => result,
                Err(_) => {
                    self.speaker.waiting();
                    call.await
                }
            },
            false => call.await,
        };
        if result.is_ok() {
            self.has_worked.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// `error` itself when trying again cannot help or patience has ended.
    pub(super) async fn wait_after(&mut self, error: Error) -> Result<()> {
        let new_keys_help = error.needs_new_keys() && self.patience.waits_for_new_keys();
        if !error.is_transient() && !new_keys_help {
            return Err(error);
        }
        self.failures += 1;
        let elapsed = self.began.get_or_init(Instant::now).elapsed();
        let has_worked = self.has_worked.load(Ordering::Relaxed);
        let give_up_after = self.patience.give_up_after(&error, has_worked);
        let Some(left) = give_up_after.checked_sub(elapsed).filter(|d| !d.is_zero()) else {
            return Err(self.given_up(error, elapsed));
        };
        self.speaker.retrying(&error, give_up_after);
        let delay = self.patience.delay(self.failures, &error, fastrand::f64());
        tokio::time::sleep(delay.min(left)).await;
        Ok(())
    }

    fn given_up(&self, error: Error, elapsed: Duration) -> Error {
        if self.failures < 2 {
            return error;
        }
        let tried = format!("It was tried {} times in {} s.", self.failures, elapsed.as_secs());
        let detail = match error.detail() {
            Some(detail) => format!("{detail} {tried}"),
            None => tried,
        };
        error.with_detail(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let patience = Patience::archiver();
        let bounds = |kind, failures: std::ops::RangeInclusive<u32>| -> Vec<_> {
            failures.map(|n| patience.delay_bound(n, kind).as_millis()).collect()
        };
        assert_eq!(
            bounds(ErrorKind::Unavailable, 1..=9),
            [200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]
        );
        assert_eq!(bounds(ErrorKind::Throttled, 1..=6), [1000, 2000, 4000, 8000, 15000, 15000]);
        assert_eq!(bounds(ErrorKind::Throttled, u32::MAX..=u32::MAX), [15000]);
    }

    #[test]
    fn a_wait_that_the_store_asks_for_is_kept_within_bounds() {
        let patience = Patience::backup();
        let delays = |wait: Option<u64>, share| {
            let error = Error::new(ErrorKind::Throttled, "busy");
            let error = match wait {
                Some(seconds) => error.that_asks_to_wait(Duration::from_secs(seconds)),
                None => error,
            };
            patience.delay(3, &error, share).as_millis()
        };
        assert_eq!((delays(None, 0.0), delays(None, 1.0)), (0, 4_000));
        assert_eq!((delays(Some(0), 0.0), delays(Some(0), 1.0)), (0, 4_000));
        assert_eq!((delays(Some(7), 0.0), delays(Some(7), 1.0)), (7_000, 8_000));
        assert_eq!(delays(Some(86_400), 0.0), 60_000);
    }

    #[test]
    fn new_keys_are_waited_for_like_anything_else_once_the_store_has_answered() {
        let expired = Error::new(ErrorKind::Denied, "expired").that_may_pass();
        let seconds = |has_worked| {
            [Patience::archiver(), Patience::command(), Patience::backup()]
                .map(|patience| patience.give_up_after(&expired, has_worked).as_secs())
        };
        assert_eq!(seconds(false), [20, 20, 20]);
        assert_eq!(seconds(true), [20, 120, 600]);
    }

    #[test]
    fn a_question_to_a_store_that_never_answered_is_given_up_soon() {
        let seconds = |kind, has_worked| {
            let error = Error::new(kind, "refused");
            let limits = [Patience::question(), Patience::command(), Patience::backup()];
            limits.map(|patience| patience.give_up_after(&error, has_worked).as_secs())
        };
        assert_eq!(seconds(ErrorKind::Unavailable, false), [5, 120, 600]);
        assert_eq!(seconds(ErrorKind::Unavailable, true), [120, 120, 600]);
        assert_eq!(seconds(ErrorKind::Throttled, false), [120, 120, 600]);
    }

    #[tokio::test]
    async fn only_long_work_waits_for_keys_that_have_been_replaced() {
        let (notices, _queue) = crate::notice::channel();
        let (speaker, has_worked) =
            (Speaker::new(notices, "memory:".to_owned()), AtomicBool::new(true));
        let error = Error::new(ErrorKind::Denied, "unknown key").that_needs_new_keys();
        let quick = |patience: Patience| Patience { longest_delay: Duration::ZERO, ..patience };
        for (patience, waits) in [(Patience::archiver(), false), (Patience::backup(), true)] {
            let mut attempts = quick(patience).attempts(&speaker, &has_worked);
            assert_eq!(attempts.wait_after(error.clone()).await.is_ok(), waits);
        }
    }

    #[tokio::test]
    async fn without_patience_there_is_one_attempt() {
        let (notices, queue) = crate::notice::channel();
        let speaker = Speaker::new(notices, "memory:".to_owned());
        let has_worked = AtomicBool::new(false);
        let mut attempts = Patience::none().attempts(&speaker, &has_worked);
        let error = Error::new(ErrorKind::Unavailable, "busy");
        assert_eq!(attempts.wait_after(error.clone()).await, Err(error));
        assert!(queue.drain().is_empty());
    }
}
