//! What a user wants to keep.

use time::Duration;

use super::calendar::Calendar;

/// What retention keeps. Rules add up: a backup goes only if none keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// So many of the newest full backups, and every moment from the oldest of them on.
    /// 0 for no such rule.
    pub full_backups: u32,
    /// Every moment of this time up to now. `None` for no such rule.
    pub window: Option<Duration>,
    /// Single backups, without the moments after them.
    pub calendar: Calendar,
}

impl Policy {
    /// Whether it has no rule. It keeps everything then.
    pub fn is_empty(&self) -> bool {
        self.full_backups == 0 && self.window.is_none() && self.calendar.is_empty()
    }
}

/// A time as a user says it: a number and hours, days or weeks.
///
/// # Errors
/// What is wrong with it.
pub fn parse_window(text: &str) -> Result<Duration, String> {
    let invalid = || format!("\"{text}\" is not a number and hours, days or weeks");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().map_err(|_| invalid())?;
    let hours = match unit.trim().trim_end_matches('s') {
        "hour" | "h" => 1,
        "day" | "d" => 24,
        "week" | "w" => 7 * 24,
        _ => return Err(invalid()),
    };
    number
        .checked_mul(hours)
        .filter(|hours| *hours < 1_000_000)
        .map(Duration::hours)
        .ok_or_else(invalid)
}

/// What is of no use to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// Both.
    All,
    /// WAL that no backup needs.
    Archives,
    /// What is left of backups that never became complete.
    Backups,
}

/// What is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What a policy does not keep.
    Retain(Policy),
    /// What is older than a backup and not needed from it on.
    Before(String),
    /// One backup, with those that are deltas of it.
    Backup(String),
    /// What nothing needs, and no rule is needed for.
    Garbage(Garbage),
    /// Everything but backups that are permanent.
    Everything,
}
