//! The running or last work of a job, as the processes of the server share it.
//!
//! A caller **reserves** the slot and starts a worker for that generation of
//! it; the worker **attaches**, keeps the progress up to date, and **ends** it
//! with the outcome when its process ends, after PostgreSQL has ended backup
//! mode. A caller that waits therefore never sees an outcome while the server is
//! still in backup mode. A process that is killed (`kill -9`) makes the
//! postmaster restart all others, and the slot is empty then. When the processes of a slot are
//! gone, another caller may take it.

use std::marker::PhantomData;

use time::OffsetDateTime;

use super::tenancy::{Attached, State, Tenancy};
use super::{Job, canceled};
use crate::error::{Failure, Result};
use crate::shared_values::{SharedFailure, SharedTime};

/// The slot, as it lies in shared memory: plain bytes, valid in every process.
pub struct Slot<J: Job> {
    tenancy: Tenancy,
    reserved_at: SharedTime,
    request: J::Request,
    progress: J::Progress,
    /// Only of work that is done.
    outcome: J::Outcome,
    /// Only of work that failed.
    failure: SharedFailure,
}

impl<J: Job> Default for Slot<J> {
    fn default() -> Self {
        Slot {
            tenancy: Tenancy::NONE,
            reserved_at: SharedTime::NONE,
            request: J::Request::default(),
            progress: J::Progress::default(),
            outcome: J::Outcome::default(),
            failure: SharedFailure::NONE,
        }
    }
}

/// What is seen in a slot.
pub struct View<J: Job> {
    /// The worker, or the caller while there is no worker.
    pub pid: i32,
    /// When the work was asked for.
    pub reserved_at: Option<OffsetDateTime>,
    /// What was asked for.
    pub request: J::Request,
    /// How far it is, or was.
    pub progress: J::Progress,
    /// Whether it is over, and how it ended.
    pub status: Status<J::Outcome>,
}

/// Whether work is over, and how it ended.
pub enum Status<O> {
    /// It is on its way.
    Active,
    /// It is complete.
    Done(Box<O>),
    /// It is not.
    Failed(Failure),
}

impl<J: Job> Slot<J> {
    /// `None` when there was no work since the server was started.
    fn view(&self) -> Option<View<J>> {
        let status = match self.tenancy.state() {
            State::Idle => return None,
            State::Active => Status::Active,
            State::Done => Status::Done(Box::new(self.outcome)),
            State::Failed => Status::Failed(self.failure.get()),
        };
        Some(self.view_with(status))
    }

    fn view_with(&self, status: Status<J::Outcome>) -> View<J> {
        View {
            pid: self.tenancy.pid(),
            reserved_at: self.reserved_at.get(),
            request: self.request,
            progress: self.progress,
            status,
        }
    }

    fn end(&mut self, outcome: &Result<J::Outcome>) {
        match outcome {
            Ok(outcome) => self.outcome = *outcome,
            Err(failure) => self.failure = SharedFailure::new(failure),
        }
        self.tenancy.end(outcome.is_ok());
    }
}

/// Takes the slot for new work and returns its generation. `waits` says whether
/// the caller stays until the work has ended; the worker gives up when a caller
/// that should wait is gone.
///
/// # Errors
/// When such work is running: [`Job::already_running`].
pub fn reserve<J: Job>(request: &J::Request, waits: bool) -> Result<u64> {
    let reserved = J::slot().update(|slot| {
        if slot.tenancy.is_occupied() {
            return Err(slot.view_with(Status::Active));
        }
        slot.tenancy = slot.tenancy.next(waits);
        slot.reserved_at = SharedTime::now();
        slot.request = *request;
        slot.progress = J::Progress::default();
        Ok(slot.tenancy.generation())
    });
    reserved.map_err(|running| J::already_running(&running))
}

/// Ends the slot of a generation that no worker has attached to, or whose
/// worker is gone without an outcome; does nothing otherwise.
pub fn end_abandoned<J: Job>(generation: u64, failure: Failure) {
    let outcome = Err(failure);
    J::slot().update(|slot| {
        if slot.tenancy.is_abandoned(generation) {
            slot.end(&outcome);
        }
    });
}

/// Asks the running work of `generation`, or whichever runs, to stop. Returns
/// its generation, or `None` when it does not run.
pub fn request_cancel<J: Job>(generation: Option<u64>) -> Option<u64> {
    J::slot().update(|slot| slot.tenancy.request_cancel(generation))
}

/// The running or last work.
pub fn view<J: Job>() -> Option<View<J>> {
    J::slot().read(Slot::view)
}

/// The work of a generation; `None` when another one has taken the slot.
pub fn view_of<J: Job>(generation: u64) -> Option<View<J>> {
    J::slot().read(|slot| if slot.tenancy.generation() == generation { slot.view() } else { None })
}

/// Whether there is work that keeps other such work from being started.
pub fn is_occupied<J: Job>() -> bool {
    J::slot().read(|slot| slot.tenancy).is_occupied()
}

/// Whether the work of a generation is not over, and the slot not another's.
pub fn is_active<J: Job>(generation: u64) -> bool {
    J::slot().read(|slot| {
        slot.tenancy.generation() == generation && slot.tenancy.state() == State::Active
    })
}

/// A worker's hold on the generation of the slot that it works for.
pub struct Tenant<J: Job> {
    generation: u64,
    job: PhantomData<J>,
}

impl<J: Job> Clone for Tenant<J> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<J: Job> Copy for Tenant<J> {}

impl<J: Job> Tenant<J> {
    /// The worker's first act. `None` when the slot is not the one that it was
    /// started for, or the work is not wanted any more.
    pub fn attach(generation: u64) -> Option<(Self, J::Request)> {
        let request = J::slot().update(|slot| match slot.tenancy.attach(generation) {
            Attached::Welcome => Some(slot.request),
            Attached::Unwanted => {
                slot.end(&Err(canceled::<J>()));
                None
            }
            Attached::Refused => None,
        })?;
        Some((Tenant { generation, job: PhantomData }, request))
    }

    /// Whether the work is to stop: because a caller asked for it, or went away
    /// while it should wait, or because the slot is another's now.
    pub fn is_unwanted(self) -> bool {
        J::slot().read(|slot| slot.tenancy).is_unwanted(self.generation)
    }

    /// Changes the progress, unless another generation has taken the slot.
    pub fn update(self, change: impl FnOnce(&mut J::Progress)) {
        self.in_slot(|slot| change(&mut slot.progress));
    }

    /// The worker's last act: the outcome of the work.
    pub fn end(self, outcome: &Result<J::Outcome>) {
        self.in_slot(|slot| slot.end(outcome));
    }

    fn in_slot(self, change: impl FnOnce(&mut Slot<J>)) {
        J::slot().update(|slot| {
            if slot.tenancy.generation() == self.generation {
                change(slot);
            }
        });
    }
}
