//! The running or last verification of a base backup, as the worker and whoever
//! asked for it share it. It has a slot of its own: a backup may run meanwhile.

use pgrx::PgSqlErrorCode;
use wal_e_core::verify::{Finding, Verified};

use crate::error::{Failure, Result};
use crate::pg::shared_memory;
use crate::shared_values::{FixedText, SharedFailure};
use crate::tenancy::{Attached, State, Tenancy};

/// The longest name of a backup that is looked for, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// How many rows there is room for.
const ROWS: usize = 64;

/// The slot, as it lies in shared memory: plain bytes, valid in every process.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    tenancy: Tenancy,
    /// The name that was asked for.
    name: FixedText<MAX_NAME_BYTES>,
    row_count: usize,
    rows: [SharedRow; ROWS],
    failure: SharedFailure,
}

#[derive(Debug, Clone, Copy)]
struct SharedRow {
    check_name: FixedText<32>,
    ok: Option<bool>,
    detail: FixedText<1024>,
}

impl SharedRow {
    const EMPTY: Self =
        SharedRow { check_name: FixedText::EMPTY, ok: None, detail: FixedText::EMPTY };
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            tenancy: Tenancy::NONE,
            name: FixedText::EMPTY,
            row_count: 0,
            rows: [SharedRow::EMPTY; ROWS],
            failure: SharedFailure::NONE,
        }
    }
}

/// One finding, as the function returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was looked at.
    pub check_name: String,
    /// Whether it is as it should be; `None` when that could not be found out.
    pub ok: Option<bool>,
    /// What was found.
    pub detail: String,
}

/// What a backend asks of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The backup's name, or `LATEST`.
    pub name: String,
}

/// How a verification is going.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// It is on its way.
    Active,
    /// It is over, with these findings.
    Done(Vec<Row>),
    /// It could not find out.
    Failed(Failure),
}

impl Slot {
    fn status(&self) -> Option<Status> {
        Some(match self.tenancy.state() {
            State::Idle => return None,
            State::Active => Status::Active,
            State::Failed => Status::Failed(self.failure.get()),
            State::Done => {
                let rows = self.rows.iter().take(self.row_count);
                Status::Done(rows.map(SharedRow::get).collect())
            }
        })
    }

    fn end(&mut self, outcome: &Result<Verified>) {
        match outcome {
            Ok(verified) => {
                self.row_count = 0;
                for (place, row) in self.rows.iter_mut().zip(fitting(&verified.findings)) {
                    *place = row;
                    self.row_count += 1;
                }
            }
            Err(failure) => self.failure = SharedFailure::new(failure),
        }
        self.tenancy.end(outcome.is_ok());
    }
}

impl SharedRow {
    fn of(finding: &Finding) -> Self {
        SharedRow {
            check_name: FixedText::new(finding.check_name),
            ok: finding.ok,
            detail: FixedText::new(&finding.detail),
        }
    }

    fn get(&self) -> Row {
        Row {
            check_name: self.check_name.get().unwrap_or_default(),
            ok: self.ok,
            detail: self.detail.get().unwrap_or_default(),
        }
    }
}

/// The findings as rows. Of more than there is room for, the failures come first,
/// and the last row says how many are left out.
fn fitting(findings: &[Finding]) -> Vec<SharedRow> {
    if findings.len() <= ROWS {
        return findings.iter().map(SharedRow::of).collect();
    }
    let (failed, others): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| finding.ok == Some(false));
    let mut rows: Vec<SharedRow> =
        failed.iter().chain(&others).take(ROWS - 1).map(|finding| SharedRow::of(finding)).collect();
    let left_out = findings.len() - rows.len();
    let failures = failed.len().saturating_sub(rows.len());
    let detail = format!(
        "{left_out} more rows, {failures} of them failures: the server log has all failures"
    );
    rows.push(SharedRow {
        check_name: FixedText::new("more"),
        ok: if failures > 0 { Some(false) } else { None },
        detail: FixedText::new(&detail),
    });
    rows
}

/// Takes the slot for a new verification and returns its generation.
///
/// # Errors
/// When one is running: `object_in_use`.
pub fn reserve(request: &Request) -> Result<u64> {
    let occupant = shared_memory::update_verify_slot(|slot| {
        if slot.tenancy.is_occupied() {
            return Err((slot.tenancy.pid(), slot.name));
        }
        slot.tenancy = slot.tenancy.next(true);
        slot.name = FixedText::new(&request.name);
        slot.row_count = 0;
        Ok(slot.tenancy.generation())
    });
    occupant.map_err(|(pid, name)| {
        let name = name.get().unwrap_or_default();
        Failure::new(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "another verification of a base backup is running",
        )
        .with_detail(format!("Process {pid} is verifying base backup \"{name}\"."))
        .with_hint("Wait for its end, or cancel the query that asked for it.")
    })
}

/// The worker's first act. `None` when the slot is not the one that it was started
/// for, or nobody wants the verification any more.
pub fn attach(generation: u64) -> Option<Request> {
    shared_memory::update_verify_slot(|slot| match slot.tenancy.attach(generation) {
        Attached::Welcome => Some(slot.name),
        Attached::Unwanted => {
            slot.end(&Err(Failure::verification_canceled()));
            None
        }
        Attached::Refused => None,
    })
    .map(|name| Request { name: name.get().unwrap_or_default() })
}

/// Whether nobody wants the verification of `generation` any more, or the slot is
/// another's now.
pub fn is_unwanted(generation: u64) -> bool {
    shared_memory::read_verify_slot(|slot| slot.tenancy).is_unwanted(generation)
}

/// The worker's last act. Does nothing when another generation has taken the slot.
pub fn end(generation: u64, outcome: &Result<Verified>) {
    shared_memory::update_verify_slot(|slot| {
        if slot.tenancy.generation() == generation {
            slot.end(outcome);
        }
    });
}

/// Ends the slot of a generation that no worker has attached to, or whose worker is
/// gone without an outcome; does nothing otherwise.
pub fn end_abandoned(generation: u64, failure: Failure) {
    let outcome = Err(failure);
    shared_memory::update_verify_slot(|slot| {
        if slot.tenancy.is_abandoned(generation) {
            slot.end(&outcome);
        }
    });
}

/// Asks the verification of `generation` to stop.
pub fn request_cancel(generation: u64) {
    shared_memory::update_verify_slot(|slot| slot.tenancy.request_cancel(Some(generation)));
}

/// How the verification of a generation is going; `None` when another one has taken
/// the slot.
pub fn status_of(generation: u64) -> Option<Status> {
    shared_memory::read_verify_slot(|slot| {
        (slot.tenancy.generation() == generation).then(|| slot.status()).flatten()
    })
}
