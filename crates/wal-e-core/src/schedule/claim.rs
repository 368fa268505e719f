//! The objects of a run by schedule, from its claim to its end.
//!
//! A claim, and the end of a run, are create-only: of several servers one creates them. Only
//! what says that a server is alive is replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::clock::Clock;
use super::cron::Schedule;
use super::decide::{Attempt, Decision, Ownership, decide};
use super::objects::{ClaimContent, Entry, read_claim};
use super::run::{Job, Slot};
use crate::error::Result;
use crate::layout::{self, ObjectKey, RunMark};
use crate::sentinel;
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, PutOutcome, list_all};
use crate::tasks::Work;

/// How long the store has to take in what two servers wrote at the same moment, where it does not
/// honour create-only: the later one has replaced the claim of the other then.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// What began earlier than this is not looked at any more.
const LONGEST_RUN: time::Duration = time::Duration::days(3);

/// A server, as claims name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its host.
    pub hostname: String,
    /// Its data directory.
    pub data_directory: String,
    /// Drawn when its scheduler was started.
    pub instance: u64,
}

impl Node {
    /// A server whose scheduler starts now.
    pub fn starting(hostname: impl Into<String>, data_directory: impl Into<String>) -> Self {
        Node {
            hostname: hostname.into(),
            data_directory: data_directory.into(),
            instance: fastrand::u64(..),
        }
    }
}

/// What is to be done about a slot that `schedule` gives; `None` when the slot does not count,
/// because it was before the schedule was first seen. For `retaken` see [`inspect`].
///
/// # Errors
/// Those of the store.
pub fn look<'a>(
    store: &'a dyn ObjectStore,
    (job, slot): (Job, Slot),
    schedule: &'a Schedule,
    clock: Clock,
    node: &'a Node,
    retaken: Option<Slot>,
) -> Work<'a, Result<Option<Decision>>> {
    Box::pin(async move {
        let now = clock.now();
        let since = first_seen(store, job, schedule, now).await?;
        // A clock that was ahead when the schedule was first seen must not keep it from working.
        if slot.time() <= since && since <= now {
            return Ok(None);
        }
        inspect(store, (job, slot), clock, node, retaken).await.map(Some)
    })
}

/// When the schedule was first seen, by the store's clock; slots before that do not count.
async fn first_seen(
    store: &dyn ObjectStore,
    job: Job,
    schedule: &Schedule,
    now: OffsetDateTime,
) -> Result<OffsetDateTime> {
    let key = layout::schedule(job.as_str(), &schedule.fingerprint());
    if let Some(seen) = store.head(&key).await? {
        return Ok(seen.last_modified);
    }
    let content = format!("{}\n", schedule.as_str());
    let (PutOutcome::Stored | PutOutcome::AlreadyExists) =
        store.put(&key, content.into(), PutMode::CreateOnly, &Attributes::default()).await?;
    Ok(now)
}

/// What is to be done about a slot. A claim of this server from before its start is taken
/// over at once, unless the slot is `retaken`.
///
/// # Errors
/// Those of the store.
pub fn inspect<'a>(
    store: &'a dyn ObjectStore,
    (job, slot): (Job, Slot),
    clock: Clock,
    node: &'a Node,
    retaken: Option<Slot>,
) -> Work<'a, Result<Decision>> {
    Box::pin(async move {
        let now = clock.now();
        let mut attempts = attempts(store, job, slot, now).await?;
        let own = attempts.remove(&slot).unwrap_or_default();
        let decision = match own.iter().max_by_key(|attempt| attempt.number) {
            Some(Attempt { number, end: None, .. }) => {
                let key = layout::run_mark(job.as_str(), slot, *number, RunMark::Claim);
                let last = match ownership(read_claim(store, &key).await?.as_ref(), node) {
                    Ownership::Former if retaken == Some(slot) => Ownership::Foreign,
                    last => last,
                };
                decide(&own, last, now)
            }
            _ => decide(&own, Ownership::Foreign, now),
        };
        if !matches!(decision, Decision::Claim { .. }) {
            return Ok(decision);
        }
        // The job of another slot may still be under way on another server.
        for (other, attempts) in attempts {
            let newest = attempts.iter().max_by_key(|attempt| attempt.number);
            let Some(attempt) = newest.filter(|newest| newest.may_be_alive(now)) else { continue };
            let key = layout::run_mark(job.as_str(), other, attempt.number, RunMark::Claim);
            if ownership(read_claim(store, &key).await?.as_ref(), node) == Ownership::Foreign {
                return Ok(Decision::LookAgain(attempt.stale_at()));
            }
        }
        Ok(decision)
    })
}

/// Notes that the job of a slot was not begun, for this reason, and will not be. Does nothing,
/// and returns `false`, when another server has begun it.
///
/// # Errors
/// Those of the store; it may be called again then.
pub fn skip<'a>(
    store: &'a dyn ObjectStore,
    (job, slot): (Job, Slot),
    reason: &'a str,
    clock: Clock,
    node: &'a Node,
    retaken: Option<Slot>,
) -> Work<'a, Result<bool>> {
    Box::pin(async move {
        let claim = match inspect(store, (job, slot), clock, node, retaken).await? {
            Decision::Done | Decision::LookAgain(_) => None,
            Decision::Resume(attempt) => Some(Claim::resumed(job, slot, attempt, clock, node)),
            Decision::Claim { attempt, abandoned } => {
                Claim::create(store, job, slot, (attempt, abandoned), clock, node).await?
            }
        };
        let Some(claim) = claim else { return Ok(false) };
        let outcome = Outcome { ok: false, again: false, summary: reason.to_owned(), bytes: None };
        claim.end(store, &outcome, clock.now()).await?;
        Ok(true)
    })
}

/// The attempts for `slot`, and for those around it.
async fn attempts(
    store: &dyn ObjectStore,
    job: Job,
    slot: Slot,
    now: OffsetDateTime,
) -> Result<BTreeMap<Slot, Vec<Attempt>>> {
    let oldest = Slot::at(slot.time().min(now - LONGEST_RUN));
    let request = ListRequest {
        prefix: layout::runs_of(job.as_str()),
        start_after: Some(layout::runs_of_slot(job.as_str(), oldest)),
        shallow: false,
    };
    let mut found: BTreeMap<Slot, Vec<Attempt>> = BTreeMap::new();
    for object in list_all(store, &request).await? {
        let Some((_, of, number, mark)) = layout::run_mark_of(&object.key) else { continue };
        let Ok(of) = of.parse() else { continue };
        let attempts = found.entry(of).or_default();
        if attempts.iter().all(|attempt| attempt.number != number) {
            attempts.push(Attempt { number, seen: object.last_modified, end: None });
        }
        for attempt in attempts.iter_mut().filter(|attempt| attempt.number == number) {
            attempt.note(mark, object.last_modified);
        }
    }
    Ok(found)
}

fn ownership(claim: Option<&ClaimContent>, node: &Node) -> Ownership {
    match claim {
        Some(claim) if claim.instance == node.instance => Ownership::Own,
        Some(claim)
            if claim.host == node.hostname && claim.data_directory == node.data_directory =>
        {
            Ownership::Former
        }
        _ => Ownership::Foreign,
    }
}

/// The right to do the job of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is done.
    pub job: Job,
    /// For which slot.
    pub slot: Slot,
    /// Which attempt it is; the first is 1.
    pub attempt: u32,
    /// When it was begun.
    pub started: OffsetDateTime,
    node: Node,
}

/// Whether a claim still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It does.
    Held,
    /// Another server has taken over, because this one was not heard of for long.
    TakenOver,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether all is well.
    pub ok: bool,
    /// Whether the job is still to be done: it failed, and may succeed later.
    pub again: bool,
    /// What it did, or why not.
    pub summary: String,
    /// How much it stored, read or deleted, in bytes.
    pub bytes: Option<u64>,
}

impl Claim {
    /// A claim that is known to be held.
    pub fn resumed(job: Job, slot: Slot, attempt: u32, clock: Clock, node: &Node) -> Self {
        Claim { job, slot, attempt, started: clock.now(), node: node.clone() }
    }

    /// Claims a slot. `None` when another server was quicker. An attempt that is taken over
    /// is noted as failed.
    ///
    /// # Errors
    /// Those of the store. The claim may be there all the same: the next look says so.
    pub fn create<'a>(
        store: &'a dyn ObjectStore,
        job: Job,
        slot: Slot,
        (attempt, abandoned): (u32, Option<u32>),
        clock: Clock,
        node: &'a Node,
    ) -> Work<'a, Result<Option<Claim>>> {
        Box::pin(async move {
            let claim = Claim::resumed(job, slot, attempt, clock, node);
            let content = ClaimContent {
                host: node.hostname.clone(),
                data_directory: node.data_directory.clone(),
                instance: node.instance,
                started: Some(claim.started),
            };
            let atomic = store.create_only_is_atomic().await?;
            let key = claim.key(RunMark::Claim);
            put_once(store, &key, sentinel::to_json(&content)).await?;
            if !atomic {
                tokio::time::sleep(SETTLE_TIME).await;
            }
            // Read back after any outcome: the answer to an earlier request may have been lost.
            match read_claim(store, &key).await? {
                Some(found) if found.instance == node.instance => {}
                _ => return Ok(None),
            }
            if let Some(abandoned) = abandoned {
                claim.note_abandoned(store, abandoned).await?;
            }
            Ok(Some(claim))
        })
    }

    async fn note_abandoned(&self, store: &dyn ObjectStore, attempt: u32) -> Result<()> {
        let former = Claim { attempt, ..self.clone() };
        let content = read_claim(store, &former.key(RunMark::Claim)).await?;
        let (host, started) = content.map_or((String::new(), None), |it| (it.host, it.started));
        let summary = format!("it never reported its end, and {} took over", self.node.hostname);
        let outcome = Outcome { ok: false, again: true, summary, bytes: None };
        let mut entry = former.entry(&outcome, self.started);
        entry.host = host;
        entry.started = started;
        put_once(store, &former.key(RunMark::Failed), sentinel::to_json(&entry)).await
    }

    /// Says that this server is still at work, and looks whether another has taken over.
    ///
    /// # Errors
    /// Those of the store.
    pub fn renew<'a>(&'a self, store: &'a dyn ObjectStore) -> Work<'a, Result<Hold>> {
        Box::pin(async move {
            let next = Claim { attempt: self.attempt.saturating_add(1), ..self.clone() };
            let is_own = |found: ClaimContent| found.instance == self.node.instance;
            // Where create-only is not honoured, the claim itself may be another's by now.
            let own = read_claim(store, &self.key(RunMark::Claim)).await?.is_some_and(is_own);
            if !own || store.head(&next.key(RunMark::Claim)).await?.is_some() {
                return Ok(Hold::TakenOver);
            }
            let content = format!("{}\n", self.node.hostname);
            let key = self.key(RunMark::Alive);
            let (PutOutcome::Stored | PutOutcome::AlreadyExists) =
                store.put(&key, content.into(), PutMode::Replace, &Attributes::default()).await?;
            Ok(Hold::Held)
        })
    }

    /// Notes how the run ended. It may be called again after an error.
    ///
    /// # Errors
    /// Those of the store.
    pub fn end<'a>(
        &'a self,
        store: &'a dyn ObjectStore,
        outcome: &'a Outcome,
        finished: OffsetDateTime,
    ) -> Work<'a, Result<()>> {
        Box::pin(async move {
            let mark = if outcome.again { RunMark::Failed } else { RunMark::Done };
            let entry = self.entry(outcome, finished);
            put_once(store, &self.key(mark), sentinel::to_json(&entry)).await
        })
    }

    fn entry(&self, outcome: &Outcome, finished: OffsetDateTime) -> Entry {
        Entry {
            job: self.job.as_str().to_owned(),
            slot: Some(self.slot.time()),
            attempt: self.attempt,
            host: self.node.hostname.clone(),
            started: Some(self.started),
            finished: Some(finished),
            ok: Some(outcome.ok),
            detail: Some(outcome.summary.clone()),
            bytes: outcome.bytes,
        }
    }

    fn key(&self, mark: RunMark) -> ObjectKey {
        layout::run_mark(self.job.as_str(), self.slot, self.attempt, mark)
    }
}

async fn put_once(store: &dyn ObjectStore, key: &ObjectKey, json: Vec<u8>) -> Result<()> {
    let (PutOutcome::Stored | PutOutcome::AlreadyExists) =
        store.put(key, json.into(), PutMode::CreateOnly, &Attributes::default()).await?;
    Ok(())
}
