//! The keys of schedules, and of what is done by them.

use std::fmt;

use super::{OWN, ObjectKey};

/// The object that is stored to learn the store's time.
pub fn job_clock() -> ObjectKey {
    ObjectKey(format!("{OWN}/clock"))
}

/// When a schedule of a job was first seen.
pub fn schedule(job: &str, fingerprint: &str) -> ObjectKey {
    ObjectKey(format!("{OWN}/schedules/{job}/{fingerprint}"))
}

/// What an object of a run by schedule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunMark {
    /// Who does it.
    Claim,
    /// That its owner lives.
    Alive,
    /// That it is done, and what it did.
    Done,
    /// That it failed, and why.
    Failed,
}

impl RunMark {
    pub(super) const ALL: [RunMark; 4] =
        [RunMark::Claim, RunMark::Alive, RunMark::Done, RunMark::Failed];

    const fn suffix(self) -> &'static str {
        match self {
            RunMark::Claim => ".claim",
            RunMark::Alive => ".alive",
            RunMark::Done => ".done",
            RunMark::Failed => ".failed",
        }
    }
}

/// The beginning of the keys of all runs by schedule.
pub fn runs() -> String {
    format!("{OWN}/jobs/")
}

/// The beginning of the keys of all runs of a job.
pub fn runs_of(job: &str) -> String {
    format!("{OWN}/jobs/{job}/")
}

/// The beginning of the keys of the runs of a job for one slot.
pub fn runs_of_slot(job: &str, slot: impl fmt::Display) -> String {
    format!("{OWN}/jobs/{job}/{slot}/")
}

/// An object of a run by schedule: of a job, for a slot, by the attempt of this number.
pub fn run_mark(job: &str, slot: impl fmt::Display, attempt: u32, mark: RunMark) -> ObjectKey {
    ObjectKey(format!("{OWN}/jobs/{job}/{slot}/{attempt:04}{}", mark.suffix()))
}

/// The job, the slot, the attempt and the mark of a listed key; `None` for a key that is not
/// of a run.
pub fn run_mark_of(key: &ObjectKey) -> Option<(&str, &str, u32, RunMark)> {
    let (job, rest) = key.0.strip_prefix(OWN)?.strip_prefix("/jobs/")?.split_once('/')?;
    let (slot, file) = rest.split_once('/')?;
    RunMark::ALL.into_iter().find_map(|mark| {
        let attempt = file.strip_suffix(mark.suffix())?;
        Some((job, slot, attempt.parse().ok()?, mark))
    })
}
