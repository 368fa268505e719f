//! Which process does the work of a slot in shared memory, and which one waits for it.

use crate::pg::{interrupts, server, signals};

/// What the slot's worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No work since the server was started.
    Idle,
    /// It is meant to begin, or is at work.
    Active,
    /// It has done its work.
    Done,
    /// It ended without.
    Failed,
}

/// The part of a slot that is the same whatever its worker does.
#[derive(Debug, Clone, Copy)]
pub struct Tenancy {
    /// Counts the tenants since the server was started.
    generation: u64,
    state: State,
    cancel_requested: bool,
    /// The backend that asked for the work and waits for its end, or 0.
    waiter_pid: i32,
    /// The backend that asked for it.
    requester_pid: i32,
    /// 0 until the worker has attached, and when it has ended.
    worker_pid: i32,
}

/// What a worker finds that was started for a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// The work is its own.
    Welcome,
    /// It is not wanted any more.
    Unwanted,
    /// The slot is another's.
    Refused,
}

impl Tenancy {
    /// Before the first.
    pub const NONE: Self = Tenancy {
        generation: 0,
        state: State::Idle,
        cancel_requested: false,
        waiter_pid: 0,
        requester_pid: 0,
        worker_pid: 0,
    };

    /// The next one, asked for by this backend. `waits` says whether it stays until
    /// the end; the worker gives up when a caller that should wait is gone.
    pub fn next(&self, waits: bool) -> Self {
        let pid = server::current_pid();
        Tenancy {
            generation: self.generation + 1,
            state: State::Active,
            waiter_pid: if waits { pid } else { 0 },
            requester_pid: pid,
            ..Tenancy::NONE
        }
    }

    /// Which one this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The worker, while it works.
    pub fn worker_pid(&self) -> Option<i32> {
        (self.worker_pid != 0).then_some(self.worker_pid)
    }

    /// The process to name to a caller that asks what goes on.
    pub fn pid(&self) -> i32 {
        self.worker_pid().unwrap_or(self.requester_pid)
    }

    /// Whether a process still works on an active tenancy. The worker itself ends
    /// it when it ends; this catches one that was never started. A worker that has
    /// just attached is not yet known as a process of the server; the caller that
    /// asked for it waits for it.
    pub fn is_occupied(&self) -> bool {
        self.state == State::Active
            && [self.worker_pid, self.requester_pid]
                .into_iter()
                .any(|pid| pid != 0 && interrupts::is_server_process(pid))
    }

    /// Makes this process the worker of `generation`.
    pub fn attach(&mut self, generation: u64) -> Attached {
        if self.generation != generation || self.state != State::Active || self.worker_pid != 0 {
            return Attached::Refused;
        }
        if self.cancel_requested {
            return Attached::Unwanted;
        }
        self.worker_pid = server::current_pid();
        Attached::Welcome
    }

    /// Whether the work of `generation` is to stop: because a caller asked for that,
    /// or went away although it should wait, or because another tenant has moved in.
    pub fn is_unwanted(&self, generation: u64) -> bool {
        self.generation != generation
            || self.cancel_requested
            || (self.waiter_pid != 0 && !interrupts::is_server_process(self.waiter_pid))
    }

    /// The work is over.
    pub fn end(&mut self, done: bool) {
        self.state = if done { State::Done } else { State::Failed };
        self.worker_pid = 0;
    }

    /// Whether no worker has attached to the active `generation`, or it is gone
    /// without an outcome.
    pub fn is_abandoned(&self, generation: u64) -> bool {
        let gone = self.worker_pid == 0 || !interrupts::is_server_process(self.worker_pid);
        self.generation == generation && self.state == State::Active && gone
    }

    /// Asks the work of `generation`, or whichever is under way, to stop. Returns its
    /// generation, or `None` when no work runs. Only under the slot's lock: the
    /// worker takes it before it ends, so that the pid is still its own.
    pub fn request_cancel(&mut self, generation: Option<u64>) -> Option<u64> {
        if !self.is_occupied() || generation.is_some_and(|wanted| wanted != self.generation) {
            return None;
        }
        self.cancel_requested = true;
        // It may be waiting for a checkpoint inside pg_backup_start, where only a
        // signal reaches it.
        signals::cancel_process(self.worker_pid);
        Some(self.generation)
    }
}
