//! What is done by schedule, by whom, and for which time.

use std::fmt;
use std::str::FromStr;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

const FORM: &[BorrowedFormatItem<'static>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// What is done by schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Job {
    /// A base backup is taken.
    Backup,
    /// The newest base backup is read back.
    Verification,
    /// What no rule keeps is deleted, after a backup.
    Retention,
}

impl Job {
    /// All of them.
    pub const ALL: [Job; 3] = [Job::Backup, Job::Verification, Job::Retention];

    /// As keys and rows have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Job::Backup => "backup",
            Job::Verification => "verification",
            Job::Retention => "retention",
        }
    }

    /// The job of this name.
    pub fn from_name(name: &str) -> Option<Job> {
        Job::ALL.into_iter().find(|job| job.as_str() == name)
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which server of several with one prefix works by schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// The primary.
    #[default]
    Primary,
    /// A standby.
    Standby,
    /// The one that is quicker.
    Any,
}

impl Role {
    /// Whether a server does such a job. Base backups are taken by a primary alone, and so
    /// whatever the role is: a role must not leave a cluster without any. What follows a
    /// backup is done where that was taken.
    pub fn includes(self, job: Job, in_recovery: bool) -> bool {
        match (job, self) {
            (Job::Backup | Job::Retention, _) | (Job::Verification, Role::Primary) => !in_recovery,
            (Job::Verification, Role::Standby) => in_recovery,
            (Job::Verification, Role::Any) => true,
        }
    }
}

/// A time at which a job is due, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(OffsetDateTime);

impl Slot {
    /// The slot at a time.
    pub fn at(time: OffsetDateTime) -> Self {
        let time = time.to_offset(UtcOffset::UTC);
        Slot(time.replace_nanosecond(0).unwrap_or(time))
    }

    /// When it is.
    pub fn time(self) -> OffsetDateTime {
        self.0
    }
}

impl fmt::Display for Slot {
    /// `20261129T020000Z`: slots sort as their texts do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.format(FORM).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Slot {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let time = PrimitiveDateTime::parse(text, FORM).map_err(|_| ())?;
        Ok(Slot(time.assume_utc()))
    }
}
