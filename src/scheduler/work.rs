//! The workers that do what is due, as the scheduler sees them.

use pgrx::PgSqlErrorCode;
use wal_e_core::schedule::{Job, Outcome};

use crate::error::{Failure, Result, in_words};
use crate::gucs;
use crate::jobs::backup::{self, Backup};
use crate::jobs::retention::Retention;
use crate::jobs::slot::{self, Status, View};
use crate::jobs::started::Started;
use crate::jobs::verification::{self, Verification};
use crate::jobs::{self, requirements};
use crate::shared_values::FixedText;

/// The label of backups that are taken by schedule.
const LABEL: &str = "wal_e schedule";

/// A job on its way.
pub trait Work {
    /// What it came to; `None` while it is on its way.
    fn ended(&self) -> Option<Outcome>;

    /// Asks it to stop.
    fn cancel(&self);
}

/// What keeps a job from being begun on this server now.
///
/// # Errors
/// What is missing.
pub fn check(job: Job) -> Result<()> {
    match job {
        Job::Backup => requirements::check(LABEL),
        Job::Retention | Job::Verification => gucs::store_config().map(|_| ()).map_err(Into::into),
    }
}

/// Whether such a job runs already, because a session has asked for it.
pub fn is_busy(job: Job) -> bool {
    match job {
        Job::Backup => slot::is_occupied::<Backup>(),
        Job::Verification => slot::is_occupied::<Verification>(),
        Job::Retention => slot::is_occupied::<Retention>(),
    }
}

/// Has a job done in a worker.
///
/// # Errors
/// When no worker can be started.
pub fn start(job: Job) -> Result<Box<dyn Work>> {
    Ok(match job {
        Job::Backup => {
            let label = FixedText::new(LABEL);
            // Not hurried: nothing waits for it.
            let max_deltas = gucs::backup_max_deltas();
            let request = backup::Request {
                label,
                fast: false,
                permanent: false,
                incremental: max_deltas > 0,
                max_deltas,
            };
            Box::new(Started::<Backup>::start(&request)?)
        }
        Job::Verification => {
            let request = verification::Request { name: FixedText::new("LATEST") };
            Box::new(Started::<Verification>::start(&request)?)
        }
        Job::Retention => Box::new(Started::<Retention>::start(&())?),
    })
}

/// How a run that failed is noted.
pub fn failed(failure: &Failure) -> Outcome {
    // What a person has stopped is not begun again before the next slot.
    let again = !failure.is_canceled();
    Outcome { ok: false, again, summary: in_words(&failure.summary()), bytes: None }
}

impl<J: Reported> Work for Started<J> {
    fn ended(&self) -> Option<Outcome> {
        Started::ended(self).map(|ended| match ended {
            Ok(view) => J::outcome(&view),
            Err(failure) => failed(&failure),
        })
    }

    fn cancel(&self) {
        Started::cancel(self);
    }
}

/// A job whose end is noted in the prefix.
trait Reported: jobs::Job {
    /// What it came to, when it was done.
    fn outcome(view: &View<Self>) -> Outcome;
}

impl Reported for Backup {
    fn outcome(view: &View<Self>) -> Outcome {
        let name = view.progress.name.get().unwrap_or_default();
        let counters = view.progress.counters;
        let corrupt = match counters.corrupt_pages {
            0 => String::new(),
            pages => format!(" (pages with a wrong checksum: {pages})"),
        };
        let summary = format!("took base backup \"{name}\"{corrupt}");
        Outcome { ok: true, again: false, summary, bytes: Some(counters.bytes_uploaded) }
    }
}

impl Reported for Verification {
    /// A backup that is damaged will not be sound when it is read again.
    fn outcome(view: &View<Self>) -> Outcome {
        let Status::Done(findings) = &view.status else { return failed(&lost()) };
        let rows = findings.rows();
        let damage = rows.iter().find(|row| row.ok == Some(false));
        let summary = match damage {
            None => "found the newest base backup sound".to_owned(),
            Some(row) => in_words(&format!("{}: {}", row.check_name, row.detail)),
        };
        Outcome { ok: damage.is_none(), again: false, summary, bytes: None }
    }
}

impl Reported for Retention {
    fn outcome(view: &View<Self>) -> Outcome {
        let Status::Done(deleted) = &view.status else { return failed(&lost()) };
        let summary = match deleted.objects {
            0 => "found nothing to delete".to_owned(),
            1 => "deleted 1 object".to_owned(),
            objects => format!("deleted {objects} objects"),
        };
        Outcome { ok: true, again: false, summary, bytes: Some(deleted.bytes) }
    }
}

fn lost() -> Failure {
    Failure::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the work ended without a result")
}
