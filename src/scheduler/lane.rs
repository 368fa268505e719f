//! What one job does from slot to slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use wal_e_core::ErrorKind;
use wal_e_core::schedule::{
    self, Claim, Clock, Decision, Hold, Job, Look, Outcome, RENEW_AFTER, Slot,
};
use wal_e_core::store::ObjectStore;

use super::session::Session;
use super::work::{self, Work};
use super::{LONGEST_SLEEP, SLEEP_WITHOUT_SCHEDULE};
use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::{interrupts, server};
use crate::server_log;

/// How long what keeps a job from being begun is left alone.
const PAUSE: Duration = Duration::from_secs(30);

/// The prefix is looked at again after so long, whatever is waited for: a new slot may be due.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The latch is set when the work ends; this is for what the latch has missed.
const POLL: Duration = Duration::from_secs(1);

/// The same complaint is logged again after so long.
const REPEAT_COMPLAINT: Duration = Duration::from_secs(60 * 60);

/// One kind of job. At most one of it is on its way.
pub struct Lane {
    job: Job,
    state: State,
    /// The slot about which nothing is left to do.
    settled: Option<Slot>,
    /// The slot in which a claim from before the start of this process was taken over.
    retaken: Option<Slot>,
    /// No look at the prefix before this, unless another slot is due than this one.
    look_at: Instant,
    waits_for: Option<Slot>,
    /// A slot for which a backup was completed: of retention, which follows it; of a backup,
    /// until it was told.
    follows: Option<Slot>,
    complaint: Option<(String, Instant)>,
}

enum State {
    /// Nothing is on its way.
    Idle,
    /// The work of a claim.
    Running { claim: Claim, store: Arc<dyn ObjectStore>, work: Box<dyn Work>, renewed: Instant },
    /// Work whose claim another server has taken over; it was asked to stop.
    Leaving { work: Box<dyn Work> },
    /// It has ended, and the prefix does not say so yet.
    Ending { claim: Claim, store: Arc<dyn ObjectStore>, outcome: Outcome, at: OffsetDateTime },
}

impl Lane {
    /// Nothing was done yet.
    pub fn new(job: Job) -> Self {
        Lane {
            job,
            state: State::Idle,
            settled: None,
            retaken: None,
            look_at: Instant::now(),
            waits_for: None,
            follows: None,
            complaint: None,
        }
    }

    /// The settings may have changed: everything is looked at anew.
    pub fn forget(&mut self) {
        self.settled = None;
        self.look_at = Instant::now();
        self.complaint = None;
    }

    /// Whether something is on its way.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Retention of what no rule keeps is due after the backup of a slot.
    pub fn follow(&mut self, slot: Slot) {
        self.follows = Some(slot);
        self.look_at = Instant::now();
    }

    /// The slot of a backup that was completed since this was asked last.
    pub fn take_completed_backup(&mut self) -> Option<Slot> {
        if self.job == Job::Backup { self.follows.take() } else { None }
    }

    /// Does what is due, and says for how long nothing is.
    pub fn step(&mut self, session: &mut Session) -> Duration {
        let state = std::mem::replace(&mut self.state, State::Idle);
        match state {
            State::Idle => self.begin(session),
            State::Running { claim, store, work, renewed } => {
                self.attend(session, claim, store, work, renewed)
            }
            State::Leaving { work } => {
                if work.ended().is_none() {
                    self.state = State::Leaving { work };
                }
                POLL
            }
            State::Ending { claim, store, outcome, at } => {
                self.note_end(session, claim, store, outcome, at)
            }
        }
    }

    /// Looks whether something is due, and begins it.
    fn begin(&mut self, session: &mut Session) -> Duration {
        let schedule = gucs::schedule(self.job);
        if schedule.is_none() && self.follows.is_none() {
            return SLEEP_WITHOUT_SCHEDULE;
        }
        if !gucs::role().includes(self.job, server::in_recovery()) {
            return LONGEST_SLEEP;
        }
        let until_next = |clock: Clock| {
            let now = clock.now();
            let next = schedule.as_ref().and_then(|schedule| schedule.next(now));
            let left = next.map_or(LONGEST_SLEEP, |next| between(now, next.time()));
            left.min(LONGEST_SLEEP)
        };
        let latest = |clock: Clock| match &schedule {
            Some(schedule) => schedule.latest(clock.now()),
            None => None,
        };
        if schedule.is_some() && self.settled.is_some() && self.settled == latest(session.clock) {
            return until_next(session.clock);
        }
        let left = self.look_at.saturating_duration_since(Instant::now());
        let is_new = self.waits_for.is_some() && self.waits_for != latest(session.clock);
        if !left.is_zero() && !is_new {
            return left.min(until_next(session.clock));
        }
        match self.look(session) {
            Ok(Some(pause)) => {
                self.look_at = Instant::now() + pause;
                self.waits_for = latest(session.clock);
                pause.min(until_next(session.clock))
            }
            Ok(None) if self.is_busy() => Duration::ZERO,
            Ok(None) if self.job == Job::Retention => {
                self.follows = None;
                SLEEP_WITHOUT_SCHEDULE
            }
            Ok(None) => {
                self.settled = latest(session.clock);
                until_next(session.clock)
            }
            Err(failure) => {
                self.complain(failure);
                self.look_at = Instant::now() + PAUSE;
                self.waits_for = None;
                PAUSE
            }
        }
    }

    /// Looks at the prefix, and begins what is due. Returns how long to wait before the next
    /// look; `None` when nothing is left to do for the slot, or the work has begun.
    fn look(&mut self, session: &mut Session) -> Result<Option<Duration>> {
        work::check(self.job)?;
        if work::is_busy(self.job) {
            return Ok(Some(PAUSE));
        }
        let store = session.open()?;
        let (job, clock, node, retaken) =
            (self.job, session.clock, session.node.clone(), self.retaken);
        let (schedule, follows) = (gucs::schedule(self.job), self.follows);
        let looked = {
            let (store, node) = (Arc::clone(&store), node.clone());
            session.run(async move {
                match (schedule, follows) {
                    (Some(schedule), _) => {
                        schedule::look(&*store, job, &schedule, clock, &node, retaken).await
                    }
                    (None, Some(slot)) => {
                        let found =
                            schedule::inspect(&*store, job, slot, clock, &node, retaken).await?;
                        Ok(Look::Due(slot, found))
                    }
                    (None, None) => Ok(Look::NotDue),
                }
            })?
        };
        let Look::Due(slot, decision) = looked else { return Ok(None) };
        let claim = match decision {
            Decision::Done => return Ok(None),
            Decision::LookAgain(at) => {
                return Ok(Some(between(clock.now(), at).min(LONGEST_PAUSE)));
            }
            Decision::Resume(attempt) => Claim::resumed(job, slot, attempt, clock, &node),
            Decision::Claim { attempt, abandoned } => {
                if abandoned.is_some() {
                    self.retaken = Some(slot);
                }
                let claiming = Arc::clone(&store);
                let claim = session.run(async move {
                    let number = (attempt, abandoned);
                    Claim::create(&*claiming, job, slot, number, clock, &node).await
                })?;
                match claim {
                    Some(claim) => claim,
                    // The next look says what the other server makes of it.
                    None => return Ok(Some(Duration::from_secs(5))),
                }
            }
        };
        self.start(claim, store, clock.now());
        Ok(None)
    }

    fn start(&mut self, claim: Claim, store: Arc<dyn ObjectStore>, now: OffsetDateTime) {
        self.state = match work::start(self.job) {
            Ok(work) => State::Running { claim, store, work, renewed: Instant::now() },
            Err(failure) => {
                let outcome = work::failed(&failure);
                self.complain(failure);
                State::Ending { claim, store, outcome, at: now }
            }
        };
    }

    /// Keeps the claim of work that is on its way, and looks whether it has ended.
    fn attend(
        &mut self,
        session: &mut Session,
        claim: Claim,
        store: Arc<dyn ObjectStore>,
        work: Box<dyn Work>,
        mut renewed: Instant,
    ) -> Duration {
        if let Some(outcome) = work.ended() {
            let at = session.clock.now();
            return self.note_end(session, claim, store, outcome, at);
        }
        if renewed.elapsed() >= RENEW_AFTER {
            renewed = Instant::now();
            let (kept, at) = (claim.clone(), Arc::clone(&store));
            match session.run(async move { kept.renew(&*at).await }) {
                Ok(Hold::Held) => {}
                Ok(Hold::TakenOver) => {
                    work.cancel();
                    server_log::log(
                        &format!(
                            "another server has taken over the {} of {}",
                            self.job, claim.slot
                        ),
                        Some("This server was not heard of in the prefix for long."),
                    );
                    self.state = State::Leaving { work };
                    return POLL;
                }
                Err(failure) => self.complain(failure),
            }
        }
        self.state = State::Running { claim, store, work, renewed };
        POLL
    }

    /// Notes in the prefix how the work ended; until that has worked, nothing else is begun.
    fn note_end(
        &mut self,
        session: &mut Session,
        claim: Claim,
        store: Arc<dyn ObjectStore>,
        outcome: Outcome,
        at: OffsetDateTime,
    ) -> Duration {
        let (job, slot, completed) = (self.job, claim.slot, !outcome.again);
        let noted = {
            let (claim, store, outcome) = (claim.clone(), Arc::clone(&store), outcome.clone());
            session.run(async move {
                claim.end(&*store, &outcome, at).await?;
                match schedule::prune(&*store, job).await {
                    // A server that may not delete keeps them all.
                    Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
                    pruned => pruned,
                }
            })
        };
        if let Err(failure) = noted {
            self.complain(failure);
            self.state = State::Ending { claim, store, outcome, at };
            return PAUSE;
        }
        self.look_at = Instant::now();
        if completed {
            self.complaint = None;
            match job {
                Job::Backup if gucs::retention_policy().is_ok_and(|policy| !policy.is_empty()) => {
                    self.follows = Some(slot);
                }
                Job::Retention if self.follows == Some(slot) => self.follows = None,
                Job::Backup | Job::Retention | Job::Verification => {}
            }
        }
        Duration::ZERO
    }

    /// Says what is wrong, and the same not again at once.
    fn complain(&mut self, failure: Failure) {
        if interrupts::end_requested() {
            return;
        }
        let repeated = self
            .complaint
            .as_ref()
            .is_some_and(|(said, at)| *said == failure.message && at.elapsed() < REPEAT_COMPLAINT);
        if repeated {
            return;
        }
        self.complaint = Some((failure.message.clone(), Instant::now()));
        let message = format!("{} by schedule has to wait: {}", self.job, failure.message);
        server_log::warn(&Failure { message, ..failure });
    }
}

/// How long it is from one time to another; at least a moment.
fn between(now: OffsetDateTime, then: OffsetDateTime) -> Duration {
    Duration::try_from(then - now).unwrap_or_default().max(Duration::from_millis(10))
}
