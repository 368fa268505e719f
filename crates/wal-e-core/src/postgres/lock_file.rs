//! `postmaster.pid`, the lock file of a data directory: which server runs on it.

use time::OffsetDateTime;

/// The file's name.
pub const LOCK_FILE: &str = "postmaster.pid";

/// A server's start. No two servers on copies of one data directory share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerStart {
    /// The postmaster's process id.
    pub pid: i64,
    /// When it started, to the second.
    pub started: OffsetDateTime,
}

impl ServerStart {
    /// What the content of a lock file says (PostgreSQL 15, `miscadmin.h`,
    /// `LOCK_FILE_LINE_*`: the process id is in line 1, the start in line 3); `None` when
    /// it is not whole.
    pub fn parse(lock_file: &str) -> Option<Self> {
        let mut lines = lock_file.lines().map(str::trim);
        let pid = lines.next()?.parse().ok()?;
        let started = lines.nth(1)?.parse().ok()?;
        Some(ServerStart { pid, started: OffsetDateTime::from_unix_timestamp(started).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_server_is_read() {
        let text = "4711\n/var/lib/data\n1764348000\n5432\n/tmp\n\n  123  45\nready   \n";
        let start = ServerStart::parse(text).unwrap();
        assert_eq!((start.pid, start.started.unix_timestamp()), (4711, 1_764_348_000));
        for text in ["", "4711\n", "4711\n/data\n", "x\n/data\n1764348000\n", "1\n/data\nx\n"] {
            assert_eq!(ServerStart::parse(text), None, "{text:?}");
        }
    }
}
