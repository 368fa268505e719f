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

/// What is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What a policy does not keep.
    Retain(Policy),
    /// What is older than a backup and not needed from it on.
    Before(String),
    /// One backup, with those that are deltas of it.
    Backup(String),
    /// What is left of backups that never became complete, and WAL that no backup needs.
    Garbage,
    /// Everything but backups that are permanent.
    Everything,
}
