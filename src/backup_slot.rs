//! The running or last base backup of this server, as its processes share it.
//!
//! A backend **reserves** the slot and starts a worker for that generation of
//! it; the worker **attaches**, keeps the counters up to date, and **ends** it
//! with the outcome when its process ends, after PostgreSQL has ended backup
//! mode. Whoever waits therefore never sees an outcome while the server is
//! still in backup mode. A process that dies without a word (`kill -9`) makes
//! the postmaster start anew, with an empty slot.

use std::sync::atomic::Ordering;

use pgrx::PgSqlErrorCode;
use time::OffsetDateTime;
use time::macros::format_description;
use wal_e_core::base_backup::{Phase, Progress};

use crate::error::{Failure, Result};
use crate::pg::shared_memory;
use crate::shared_values::{FixedText, SharedFailure, SharedTime};
use crate::tenancy::{Attached, State, Tenancy};

/// The longest label that `pg_backup_start` takes, in bytes (`MAXPGPATH`).
pub const MAX_LABEL_BYTES: usize = 1024;

/// The slot, as it lies in shared memory: plain bytes, valid in every process.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    tenancy: Tenancy,
    /// `pg_backup_start` has returned.
    in_backup_mode: bool,
    fast: bool,
    permanent: bool,
    label: FixedText<MAX_LABEL_BYTES>,
    name: FixedText<64>,
    started_at: SharedTime,
    uploading_since: SharedTime,
    ended_at: SharedTime,
    phase: Phase,
    counters: Counters,
    failure: SharedFailure,
}

/// How much is done. Sizes are in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Estimated when the files are listed.
    pub bytes_total: u64,
    /// Read from data files.
    pub bytes_read: u64,
    /// Confirmed by the store.
    pub bytes_uploaded: u64,
    /// Tar partitions planned.
    pub partitions_total: u64,
    /// Tar partitions stored.
    pub partitions_done: u64,
    /// Pages whose checksum was wrong.
    pub corrupt_pages: u64,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            tenancy: Tenancy::NONE,
            in_backup_mode: false,
            fast: false,
            permanent: false,
            label: FixedText::EMPTY,
            name: FixedText::EMPTY,
            started_at: SharedTime::NONE,
            uploading_since: SharedTime::NONE,
            ended_at: SharedTime::NONE,
            phase: Phase::Starting,
            counters: Counters::default(),
            failure: SharedFailure::NONE,
        }
    }
}

/// What a backend asks of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Label for `pg_backup_start`.
    pub label: String,
    /// Whether the checkpoint that begins the backup is hurried.
    pub fast: bool,
    /// Whether deletion must leave the backup.
    pub permanent: bool,
}

/// A backup as seen by whoever looks at the slot.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its name, once it has one.
    pub name: Option<String>,
    /// The worker, while it works.
    pub worker_pid: Option<i32>,
    /// `pg_backup_start` has returned.
    pub in_backup_mode: bool,
    /// What it is doing, or how it ended.
    pub status: Status,
    /// How much is done.
    pub counters: Counters,
    /// When it was asked for.
    pub started_at: Option<OffsetDateTime>,
    /// When its first file was read.
    pub uploading_since: Option<OffsetDateTime>,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
}

/// What a backup is doing, or how it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// It is on its way.
    Active(Phase),
    /// It is complete.
    Done,
    /// It left no sentinel.
    Failed(Failure),
}

impl Slot {
    fn view(&self) -> Option<View> {
        let status = match self.tenancy.state() {
            State::Idle => return None,
            State::Active => Status::Active(self.phase),
            State::Done => Status::Done,
            State::Failed => Status::Failed(self.failure.get()),
        };
        Some(View {
            name: self.name.get(),
            worker_pid: self.tenancy.worker_pid(),
            in_backup_mode: self.in_backup_mode,
            status,
            counters: self.counters,
            started_at: self.started_at.get(),
            uploading_since: self.uploading_since.get(),
            ended_at: self.ended_at.get(),
        })
    }

    fn end(&mut self, outcome: &Result<String>) {
        match outcome {
            Ok(name) => self.name = FixedText::new(name),
            Err(failure) => self.failure = SharedFailure::new(failure),
        }
        self.tenancy.end(outcome.is_ok());
        self.ended_at = SharedTime::now();
        self.in_backup_mode = false;
    }
}

/// Takes the slot for a new backup and returns its generation. `waits` says
/// whether the caller stays until the backup has ended; the worker gives up
/// when a caller that should wait is gone.
///
/// # Errors
/// When a backup is running: `object_in_use`.
pub fn reserve(request: &Request, waits: bool) -> Result<u64> {
    let occupant = shared_memory::update_slot(|slot| {
        if slot.tenancy.is_occupied() {
            return Err(*slot);
        }
        *slot = Slot {
            tenancy: slot.tenancy.next(waits),
            fast: request.fast,
            permanent: request.permanent,
            label: FixedText::new(&request.label),
            started_at: SharedTime::now(),
            ..Slot::default()
        };
        Ok(slot.tenancy.generation())
    });
    occupant.map_err(|slot| {
        let name = slot.name.get().map_or_else(
            || "a base backup that has no name yet".to_owned(),
            |name| format!("base backup \"{name}\""),
        );
        let pid = slot.tenancy.pid();
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        let since = slot.started_at.get().and_then(|time| time.format(format).ok());
        let since = since.unwrap_or_default();
        Failure::new(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, "a base backup is already running")
            .with_detail(format!("Process {pid} has been taking {name} since {since}."))
            .with_hint(
                "Watch it with wale_backup_progress(), or stop it with wale_backup_cancel().",
            )
    })
}

/// The worker's first act. `None` when the slot is not the one that it was
/// started for, or nobody wants the backup any more.
pub fn attach(generation: u64) -> Option<Request> {
    shared_memory::update_slot(|slot| match slot.tenancy.attach(generation) {
        Attached::Welcome => Some(*slot),
        Attached::Unwanted => {
            slot.end(&Err(Failure::canceled()));
            None
        }
        Attached::Refused => None,
    })
    .map(|slot| Request {
        label: slot.label.get().unwrap_or_default(),
        fast: slot.fast,
        permanent: slot.permanent,
    })
}

/// Says that `pg_backup_start` has returned, and how the backup is called.
pub fn set_name(generation: u64, name: &str) {
    let name = FixedText::new(name);
    update_of(generation, |slot| {
        slot.name = name;
        slot.in_backup_mode = true;
        slot.phase = Phase::Uploading;
        slot.uploading_since = SharedTime::now();
    });
}

/// Copies the counters into the slot. Only by the worker.
pub fn publish(generation: u64, progress: &Progress) {
    let counters = Counters {
        bytes_total: progress.bytes_total.load(Ordering::Relaxed),
        bytes_read: progress.bytes_read.load(Ordering::Relaxed),
        bytes_uploaded: progress.bytes_uploaded.load(Ordering::Relaxed),
        partitions_total: progress.partitions_total.load(Ordering::Relaxed),
        partitions_done: progress.partitions_done.load(Ordering::Relaxed),
        corrupt_pages: progress.corrupt_pages.load(Ordering::Relaxed),
    };
    let phase = progress.phase();
    update_of(generation, |slot| {
        slot.counters = counters;
        slot.phase = phase;
    });
}

/// Whether the backup of `generation` is to stop: somebody wants it by
/// `wale_backup_cancel()` or by going away while it should wait, or the slot is
/// another's now.
pub fn is_unwanted(generation: u64) -> bool {
    shared_memory::read_slot().tenancy.is_unwanted(generation)
}

/// The worker's last act: the outcome of the backup.
pub fn end(generation: u64, outcome: &Result<String>) {
    update_of(generation, |slot| slot.end(outcome));
}

/// Changes the slot, unless another generation has taken it.
fn update_of(generation: u64, change: impl FnOnce(&mut Slot)) {
    shared_memory::update_slot(|slot| {
        if slot.tenancy.generation() == generation {
            change(slot);
        }
    });
}

/// Ends the slot of a generation that no worker has attached to, or whose
/// worker is gone without an outcome; does nothing otherwise.
pub fn end_abandoned(generation: u64, failure: Failure) {
    let outcome = Err(failure);
    shared_memory::update_slot(|slot| {
        if slot.tenancy.is_abandoned(generation) {
            slot.end(&outcome);
        }
    });
}

/// Asks for the running backup of `generation`, or whichever runs, to stop.
/// Returns its generation, or `None` when none is running.
pub fn request_cancel(generation: Option<u64>) -> Option<u64> {
    shared_memory::update_slot(|slot| slot.tenancy.request_cancel(generation))
}

/// The running or last backup.
pub fn view() -> Option<View> {
    shared_memory::read_slot().view()
}

/// The backup of a generation; `None` when another one has taken the slot.
pub fn view_of(generation: u64) -> Option<View> {
    let slot = shared_memory::read_slot();
    (slot.tenancy.generation() == generation).then(|| slot.view()).flatten()
}
