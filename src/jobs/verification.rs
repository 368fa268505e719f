//! The job that reads one base backup back, and records what it found. A backup may run
//! meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pgrx::PgSqlErrorCode;
use wal_e_core::event::{Event, Kind};
use wal_e_core::owner;
use wal_e_core::store::{self, retry::Patience};
use wal_e_core::verify::{self, Finding, Verified, VerifyProgress, VerifyRequest};

use super::slot::{Slot, Tenant, View};
use super::watcher::Watcher;
use super::{Job, Words};
use crate::error::{Failure, Result};
use crate::events;
use crate::gucs;
use crate::pg::server;
use crate::pg::shared_memory::SharedMemory;
use crate::runtime::Runtime;
use crate::server_log;
use crate::shared_values::FixedText;

/// The longest name of a backup that is looked for, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// How many rows there is room for.
const ROWS: usize = 64;

static SLOT: SharedMemory<Slot<Verification>> = SharedMemory::new(c"wal_e verification slot");

/// Verifies one base backup.
pub struct Verification;

/// What is to be verified.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// The backup's name, or `LATEST`.
    pub name: FixedText<MAX_NAME_BYTES>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Stored bytes of all tars, as far as they have been listed.
    pub bytes_total: u64,
    /// Stored bytes of tars read so far.
    pub bytes_read: u64,
    /// WAL segments that are needed; 0 until the tars are read.
    pub segments_total: u64,
    /// WAL segments read so far.
    pub segments_read: u64,
}

impl From<&VerifyProgress> for Progress {
    fn from(progress: &VerifyProgress) -> Self {
        Progress {
            bytes_total: progress.bytes_total.load(Ordering::Relaxed),
            bytes_read: progress.bytes_read.load(Ordering::Relaxed),
            segments_total: progress.segments_total.load(Ordering::Relaxed),
            segments_read: progress.segments_read.load(Ordering::Relaxed),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Findings {
    row_count: usize,
    rows: [SharedRow; ROWS],
}

#[derive(Debug, Clone, Copy)]
struct SharedRow {
    check_name: FixedText<32>,
    ok: Option<bool>,
    detail: FixedText<1024>,
}

/// One finding, as the SQL function returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was looked at.
    pub check_name: String,
    /// Whether it is as it should be; `None` when that could not be found out.
    pub ok: Option<bool>,
    /// What was found.
    pub detail: String,
}

impl Job for Verification {
    const WORDS: Words = Words {
        process: "wal_e verification",
        activity: c"verifying a base backup",
        purpose: "the verification of a base backup",
        short: "the verification",
        canceled: "verification of the base backup was canceled",
        failed: "verification of a base backup failed",
        failure_event: Some(Kind::VerificationFailed),
    };

    type Request = Request;
    type Progress = Progress;
    type Outcome = Findings;

    fn slot() -> &'static SharedMemory<Slot<Self>> {
        &SLOT
    }

    fn already_running(running: &View<Self>) -> Failure {
        let name = running.request.name.get().unwrap_or_default();
        Failure::new(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "another verification of a base backup is running",
        )
        .with_detail(format!("Process {} is verifying base backup \"{name}\".", running.pid))
        .with_hint("Wait for its end, or cancel the query that asked for it.")
    }

    fn object(view: &View<Self>) -> Option<String> {
        view.request.name.get()
    }

    /// Reads the backup back, and logs what is wrong with it.
    fn run(request: &Request, tenant: Tenant<Self>) -> Result<Findings> {
        let config = gucs::store_config()?;
        let claimant = server::claimant();
        let runtime = Runtime::start()?;
        let progress = Arc::new(VerifyProgress::default());
        // Nothing is begun that would have to be cleaned up.
        let mut watcher = Watcher::new(tenant, {
            let progress = Arc::clone(&progress);
            move || tenant.update(|shared| *shared = Progress::from(&*progress))
        });
        let (notices, cancel) = (watcher.notices(), watcher.cancel());
        let verification = VerifyRequest {
            name: request.name.get().unwrap_or_default(),
            concurrency: gucs::backup_concurrency(),
        };
        let verified = watcher.run(&runtime, async move {
            let store = store::open(&config, Patience::command(), notices.clone()).await?;
            let verified =
                verify::verify(Arc::clone(&store), verification, progress, cancel).await?;
            // Into another cluster's archive, nothing is written.
            if owner::inspect(&*store, &claimant).await.is_ok() {
                verified.record(&*store, &notices).await?;
            }
            Ok(verified)
        })?;
        report(&verified);
        Ok(Findings::of(&verified.findings))
    }
}

/// Says what is wrong with it, in the log and to those who listen.
fn report(verified: &Verified) {
    let Verified { name, findings } = verified;
    for finding in findings.iter().filter(|finding| finding.ok == Some(false)) {
        server_log::warn(&Failure::new(
            PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            format!(
                "base backup \"{name}\" is damaged: {}: {}",
                finding.check_name, finding.detail
            ),
        ));
    }
    if let Some(damage) = findings.iter().find(|finding| finding.ok == Some(false)) {
        let detail = format!("{}: {}", damage.check_name, damage.detail);
        let event = Event::new(Kind::VerificationFailed).of(Some(name.clone()));
        events::send(&event.saying(detail));
    }
    let outcome = match verified.failures() {
        0 => "found sound".to_owned(),
        failures => format!("found damaged (failures: {failures})"),
    };
    server_log::log(&format!("base backup \"{name}\" was verified and {outcome}"), None);
}

impl Default for Findings {
    fn default() -> Self {
        Findings { row_count: 0, rows: [SharedRow::EMPTY; ROWS] }
    }
}

impl Findings {
    fn of(findings: &[Finding]) -> Self {
        let mut shared = Findings::default();
        for (place, row) in shared.rows.iter_mut().zip(fitting(findings)) {
            *place = row;
            shared.row_count += 1;
        }
        shared
    }

    /// The findings as rows.
    pub fn rows(&self) -> Vec<Row> {
        self.rows.iter().take(self.row_count).map(SharedRow::get).collect()
    }
}

impl SharedRow {
    const EMPTY: Self =
        SharedRow { check_name: FixedText::EMPTY, ok: None, detail: FixedText::EMPTY };
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
    let rest = format!(
        "{left_out} more rows, {failures} of them failures: the server log has all failures"
    );
    rows.push(SharedRow {
        check_name: FixedText::new("more"),
        ok: if failures > 0 { Some(false) } else { None },
        detail: FixedText::new(&rest),
    });
    rows
}
