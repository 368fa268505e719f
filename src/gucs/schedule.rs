//! What is done by schedule, and what retention keeps, as configured now.

use wal_e_core::retention::{self, Calendar, Policy};
use wal_e_core::schedule::{Job, Role, Schedule};
use wal_e_core::{Error, ErrorKind, Result};

use super::{
    BACKUP_MAX_REPLICATION_LAG, BACKUP_ROLE, BACKUP_SCHEDULE, BACKUP_WAIT_FOR_CHECKPOINT,
    EVENTS_DATABASE, RETAIN_CALENDAR, RETAIN_FULL_BACKUPS, RETAIN_WINDOW, VERIFY_SCHEDULE,
    WorkRole, get,
};

/// When a job is due, as configured now. Retention has no schedule: it follows a backup.
pub fn schedule(job: Job) -> Option<Schedule> {
    let setting = match job {
        Job::Backup => &BACKUP_SCHEDULE,
        Job::Verification => &VERIFY_SCHEDULE,
        Job::Retention => return None,
    };
    // A check when it is set keeps out what cannot be parsed.
    get(setting)?.parse().ok()
}

/// Whether a value of `wal_e.backup_schedule` or `wal_e.verify_schedule` can be parsed, or is
/// empty.
pub fn check_schedule(value: &str) -> Result<()> {
    if value.is_empty() { Ok(()) } else { value.parse::<Schedule>().map(|_| ()) }
}

/// Which server works by schedule.
pub fn role() -> Role {
    match BACKUP_ROLE.get() {
        WorkRole::Primary => Role::Primary,
        WorkRole::Standby => Role::Standby,
        WorkRole::Any => Role::Any,
    }
}

/// How much WAL a standby may lack when a base backup begins by schedule, in bytes; `None` when
/// that does not matter.
pub fn backup_max_replication_lag() -> Option<u64> {
    let megabytes = u64::try_from(BACKUP_MAX_REPLICATION_LAG.get()).ok()?;
    (megabytes > 0).then_some(megabytes << 20)
}

/// Whether a base backup by schedule waits for the end of a checkpoint.
pub fn backup_wait_for_checkpoint() -> bool {
    BACKUP_WAIT_FOR_CHECKPOINT.get()
}

/// The database in which events are announced, when there is one.
pub fn events_database() -> Option<String> {
    get(&EVENTS_DATABASE)
}

/// What retention keeps, as configured now.
///
/// # Errors
/// [`ErrorKind::Config`] for what cannot be parsed; a check when it is set prevents it.
pub fn retention_policy() -> Result<Policy> {
    Ok(Policy {
        full_backups: u32::try_from(RETAIN_FULL_BACKUPS.get()).unwrap_or(0),
        window: get(&RETAIN_WINDOW).map(|value| window(&value)).transpose()?,
        calendar: calendar(&get(&RETAIN_CALENDAR).unwrap_or_default())?,
    })
}

/// Whether a value of `wal_e.retain_window` can be parsed, or is empty.
pub fn check_retain_window(value: &str) -> Result<()> {
    if value.is_empty() { Ok(()) } else { window(value).map(|_| ()) }
}

/// Whether a value of `wal_e.retain_calendar` can be parsed.
pub fn check_retain_calendar(value: &str) -> Result<()> {
    calendar(value).map(|_| ())
}

fn window(value: &str) -> Result<time::Duration> {
    retention::parse_window(value).map_err(|why| {
        Error::new(ErrorKind::Config, "the retention window cannot be read")
            .with_detail(format!("The value {why}."))
    })
}

fn calendar(value: &str) -> Result<Calendar> {
    value.parse().map_err(|why: String| {
        Error::new(ErrorKind::Config, "the retention calendar cannot be read")
            .with_detail(format!("The part {why}."))
    })
}
