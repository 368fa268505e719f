//! Work that runs in a background worker: a base backup, a verification, retention.
//!
//! Each [`Job`] has a slot in shared memory, so one of each kind runs at a time.
//! A caller ([`caller`]) reserves the slot and starts a worker ([`worker`]) for that
//! generation of it; the worker does the work and leaves the outcome in the slot
//! ([`slot`]). A new job is a file here that implements [`Job`], and a line in [`JOBS`].

pub mod backup;
pub mod caller;
pub mod requirements;
pub mod retention;
pub mod slot;
pub mod started;
mod tenancy;
pub mod verification;
mod watcher;
pub mod worker;

use std::ffi::CStr;

use pgrx::PgSqlErrorCode;
use wal_e_core::event::Kind;

use crate::error::{Failure, Result};
use crate::pg::shared_memory::{InSharedMemory, SharedMemory};
use slot::{Slot, Tenant, View};

/// All jobs.
static JOBS: &[Registered] = &[
    Registered::new::<backup::Backup>(),
    Registered::new::<verification::Verification>(),
    Registered::new::<retention::Retention>(),
];

/// What can be done in a background worker.
///
/// What the processes share lies in shared memory: plain bytes of a fixed size,
/// without pointers and references.
pub trait Job: Sized + 'static {
    /// What it is called.
    const WORDS: Words;

    /// What a caller asks for.
    type Request: Copy + Default;
    /// How far the work is; stays as it was when the work ends.
    type Progress: Copy + Default;
    /// What the work has found.
    type Outcome: Copy + Default;

    /// The slot, which is a static of the job's own.
    fn slot() -> &'static SharedMemory<Slot<Self>>;

    /// The error for a caller while the work of another one runs.
    fn already_running(running: &View<Self>) -> Failure;

    /// What the work is about, for who is told that it has failed.
    fn object(view: &View<Self>) -> Option<String> {
        let _ = view;
        None
    }

    /// The work, on the main thread of the worker.
    ///
    /// # Errors
    /// Those that the caller gets.
    fn run(request: &Self::Request, tenant: Tenant<Self>) -> Result<Self::Outcome>;
}

/// The names of a job in messages and in `pg_stat_activity`.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// Name and type of the worker's process, as `pg_stat_activity` shows them. It is
    /// different for each job: a worker finds its job by it.
    pub process: &'static str,
    /// What the process does, as `pg_stat_activity` shows it.
    pub activity: &'static CStr,
    /// "could not start a background worker for ..."
    pub purpose: &'static str,
    /// "the background worker of ... ended without a result"
    pub short: &'static str,
    /// The message when it was stopped on request.
    pub canceled: &'static str,
    /// What the message of a failure begins with in the server log.
    pub failed: &'static str,
    /// How a failure is announced, if it is.
    pub failure_event: Option<Kind>,
}

/// A job as the postmaster and a new worker see it: without its types.
struct Registered {
    process: &'static str,
    slot: fn() -> &'static dyn InSharedMemory,
    work: fn(u64),
}

impl Registered {
    const fn new<J: Job>() -> Self {
        Registered { process: J::WORDS.process, slot: || J::slot(), work: worker::work::<J> }
    }
}

/// The slots, for the process that reserves shared memory.
pub fn slots() -> impl Iterator<Item = &'static dyn InSharedMemory> {
    JOBS.iter().map(|job| (job.slot)())
}

/// A worker's process: does the work of the job that is called `process`, for a
/// generation of that job's slot. Without such a job it ends at once, and the caller
/// finds that its worker is gone without a result.
pub fn work(process: &str, generation: u64) {
    if let Some(job) = JOBS.iter().find(|job| job.process == process) {
        (job.work)(generation);
    }
}

/// The work was stopped on request.
fn canceled<J: Job>() -> Failure {
    Failure::new(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, J::WORDS.canceled)
}
