//! What one job does from slot to slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use wal_e_core::ErrorKind;
use wal_e_core::schedule::{self, Claim, Clock, Decision, Hold, Job, Outcome, RENEW_AFTER, Slot};
use wal_e_core::store::ObjectStore;

use super::complaints::Complaints;
use super::session::Session;
use super::waiting::{self, Waiting};
use super::work::{self, Work};
use super::{LONGEST_SLEEP, SLEEP_WITHOUT_SCHEDULE};
use crate::error::Result;
use crate::gucs;
use crate::pg::server;
use crate::server_log;

/// How long what keeps a job from being begun is left alone.
const PAUSE: Duration = Duration::from_secs(30);

/// The prefix is looked at again after so long, whatever is waited for: a new slot may be due.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The same when another server was quicker just now.
const AFTER_LOST_RACE: Duration = Duration::from_secs(5);

/// How long it is tried to note an end. Other servers may do the job anew by then.
const LONGEST_ENDING: Duration = Duration::from_secs(15 * 60);

/// The latch is set when the work ends; this is for what the latch has missed.
const POLL: Duration = Duration::from_secs(1);

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
    /// A slot beside the schedule, for which a backup is wanted.
    beside: Option<Slot>,
    /// Of a verification: whether it found anything wrong since this was asked last.
    found_damage: bool,
    /// A base backup that could begin, and waits.
    waiting: Waiting,
    complaints: Complaints,
}

enum State {
    /// Nothing is on its way.
    Idle,
    /// The work of a claim.
    Running { claim: Claim, store: Arc<dyn ObjectStore>, work: Box<dyn Work>, renewed: Instant },
    /// Work whose claim another server has taken over; it was asked to stop.
    Leaving { work: Box<dyn Work> },
    /// It has ended, and the prefix does not say so yet.
    Ending(Ended),
}

/// Work that has ended.
struct Ended {
    claim: Claim,
    store: Arc<dyn ObjectStore>,
    outcome: Outcome,
    at: OffsetDateTime,
    /// Since when it is tried to say so in the prefix.
    since: Instant,
}

impl Ended {
    fn now(claim: Claim, store: Arc<dyn ObjectStore>, outcome: Outcome, clock: Clock) -> Self {
        Ended { claim, store, outcome, at: clock.now(), since: Instant::now() }
    }
}

/// What came of a look at the prefix.
enum Looked {
    /// Nothing is left to do about this slot.
    Settled(Option<Slot>),
    /// Nothing can be done about this slot for so long.
    LookAgain(Option<Slot>, Duration),
    /// Something is on its way.
    Begun,
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
            beside: None,
            found_damage: false,
            waiting: Waiting::default(),
            complaints: Complaints::default(),
        }
    }

    /// The settings may have changed: everything is looked at anew.
    pub fn forget(&mut self) {
        self.settled = None;
        self.look_at = Instant::now();
        self.complaints.forget();
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

    /// The job is due at a slot that the schedule does not have, unless it is due at such a one
    /// already.
    pub fn begin_beside(&mut self, slot: Slot) {
        if self.beside.is_none() {
            self.beside = Some(slot);
            self.look_at = Instant::now();
        }
    }

    /// Whether a verification found anything wrong since this was asked last.
    pub fn take_found_damage(&mut self) -> bool {
        std::mem::take(&mut self.found_damage)
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
            State::Ending(ended) => self.note_end(session, ended),
        }
    }

    /// Looks whether something is due, and begins it.
    fn begin(&mut self, session: &mut Session) -> Duration {
        let schedule = gucs::schedule(self.job);
        if schedule.is_none() && self.follows.is_none() {
            self.waiting.forget();
            return SLEEP_WITHOUT_SCHEDULE;
        }
        if !gucs::role().includes(self.job, server::in_recovery()) {
            self.waiting.forget();
            return LONGEST_SLEEP;
        }
        let until_next = |clock: Clock| {
            let now = clock.now();
            let next = schedule.as_ref().and_then(|schedule| schedule.next(now));
            let left = next.map_or(LONGEST_SLEEP, |next| between(now, next.time()));
            left.min(LONGEST_SLEEP)
        };
        let beside = self.beside;
        let latest = |clock: Clock| match &schedule {
            Some(schedule) => schedule.latest(clock.now()).max(beside),
            None => None,
        };
        if schedule.is_some() && self.settled.is_some() && self.settled == latest(session.clock) {
            return until_next(session.clock);
        }
        let left = self.look_at.saturating_duration_since(Instant::now());
        let is_new = self.waits_for.is_some() && self.waits_for != latest(session.clock);
        let is_over = self.waits_for.is_some() && self.waiting.is_over();
        if !left.is_zero() && !is_new && !is_over {
            return self.waiting.sleep(left.min(until_next(session.clock)));
        }
        match self.look(session) {
            Ok(Looked::Begun) => Duration::ZERO,
            Ok(Looked::LookAgain(slot, pause)) => {
                self.look_at = Instant::now() + pause;
                self.waits_for = slot;
                self.waiting.sleep(pause.min(until_next(session.clock)))
            }
            Ok(Looked::Settled(slot)) => {
                self.settled = slot;
                self.follows = None;
                self.waiting.forget();
                // What the schedule has begun later is as good.
                self.beside = self.beside.filter(|beside| Some(*beside) > slot);
                if schedule.is_some() { until_next(session.clock) } else { SLEEP_WITHOUT_SCHEDULE }
            }
            Err(failure) => {
                self.complaints.say(self.job, failure);
                self.look_at = Instant::now() + PAUSE;
                self.waits_for = None;
                PAUSE
            }
        }
    }

    /// Looks at the prefix, and begins what is due.
    fn look(&mut self, session: &mut Session) -> Result<Looked> {
        work::check(self.job)?;
        if work::is_busy(self.job) {
            return Ok(Looked::LookAgain(None, PAUSE));
        }
        let store = session.open()?;
        let (job, clock, retaken) = (self.job, session.clock, self.retaken);
        let schedule = gucs::schedule(self.job);
        let latest = schedule.as_ref().and_then(|schedule| schedule.latest(clock.now()));
        // One beside the schedule counts in any case.
        let is_beside = self.beside > latest;
        let (schedule, latest) = match is_beside {
            true => (None, self.beside),
            false => (schedule, latest),
        };
        let Some(slot) = latest.or(self.follows) else { return Ok(Looked::Settled(None)) };
        self.note_missed(session, &store, slot)?;
        let (asked, node) = (Arc::clone(&store), session.node.clone());
        let decision = session.run(async move {
            match schedule {
                Some(schedule) => {
                    schedule::look(&*asked, (job, slot), &schedule, clock, &node, retaken).await
                }
                None => {
                    schedule::inspect(&*asked, (job, slot), clock, &node, retaken).await.map(Some)
                }
            }
        })?;
        let node = session.node.clone();
        let claim = match decision {
            None | Some(Decision::Done) => return Ok(Looked::Settled(Some(slot))),
            Some(Decision::LookAgain(at)) => {
                self.waiting.forget();
                let pause = between(clock.now(), at).min(LONGEST_PAUSE);
                return Ok(Looked::LookAgain(Some(slot), pause));
            }
            // A base backup without which nothing after a hole can be restored waits for nothing.
            Some(Decision::Claim { .. } | Decision::Resume(_))
                if job == Job::Backup && !is_beside && self.waiting.hold(slot) =>
            {
                return Ok(Looked::LookAgain(Some(slot), LONGEST_PAUSE));
            }
            Some(Decision::Resume(attempt)) => Claim::resumed(job, slot, attempt, clock, &node),
            Some(Decision::Claim { attempt, abandoned }) => {
                if abandoned.is_some() {
                    self.retaken = Some(slot);
                }
                let (asked, number) = (Arc::clone(&store), (attempt, abandoned));
                let claim = session.run(async move {
                    Claim::create(&*asked, job, slot, number, clock, &node).await
                })?;
                match claim {
                    Some(claim) => claim,
                    // The next look says what the other server makes of it.
                    None => return Ok(Looked::LookAgain(Some(slot), AFTER_LOST_RACE)),
                }
            }
        };
        self.start(claim, store, clock);
        Ok(Looked::Begun)
    }

    /// Notes in the prefix that a slot has waited until this one was due.
    fn note_missed(
        &mut self,
        session: &mut Session,
        store: &Arc<dyn ObjectStore>,
        due: Slot,
    ) -> Result<()> {
        let Some((slot, summary)) = self.waiting.missed(due) else { return Ok(()) };
        let (job, clock, retaken) = (self.job, session.clock, self.retaken);
        let (node, store, reason) = (session.node.clone(), Arc::clone(store), summary.clone());
        let noted = session.run(async move {
            schedule::skip(&*store, (job, slot), &reason, clock, &node, retaken).await
        })?;
        if noted {
            waiting::say_missed(slot, &summary);
        }
        self.waiting.forget();
        Ok(())
    }

    fn start(&mut self, claim: Claim, store: Arc<dyn ObjectStore>, clock: Clock) {
        self.state = match work::start(self.job) {
            Ok(work) => State::Running { claim, store, work, renewed: Instant::now() },
            Err(failure) => {
                let outcome = work::failed(&failure);
                self.complaints.say(self.job, failure);
                State::Ending(Ended::now(claim, store, outcome, clock))
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
            let ended = Ended::now(claim, store, outcome, session.clock);
            return self.note_end(session, ended);
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
                Err(failure) => self.complaints.say(self.job, failure),
            }
        }
        self.state = State::Running { claim, store, work, renewed };
        POLL
    }

    /// Notes in the prefix how the work ended. Until that has worked nothing else is begun; but
    /// the prefix may be gone for good.
    fn note_end(&mut self, session: &mut Session, ended: Ended) -> Duration {
        let (job, slot, completed) = (self.job, ended.claim.slot, !ended.outcome.again);
        self.found_damage |= job == Job::Verification && !ended.outcome.ok;
        let (claim, outcome) = (ended.claim.clone(), ended.outcome.clone());
        let (store, at) = (Arc::clone(&ended.store), ended.at);
        let noted = session.run(async move {
            claim.end(&*store, &outcome, at).await?;
            match schedule::prune(&*store, job).await {
                // A server that may not delete keeps them all.
                Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
                pruned => pruned,
            }
        });
        if let Err(failure) = noted {
            self.complaints.say(self.job, failure);
            if ended.since.elapsed() < LONGEST_ENDING {
                self.state = State::Ending(ended);
            }
            return PAUSE;
        }
        self.look_at = Instant::now();
        if completed {
            self.complaints.forget();
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
}

/// How long it is from one time to another; at least a moment.
fn between(now: OffsetDateTime, then: OffsetDateTime) -> Duration {
    Duration::try_from(then - now).unwrap_or_default().max(Duration::from_millis(10))
}
