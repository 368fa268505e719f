//! Logs failures to archive without filling the log: PostgreSQL tries a failed file
//! again every second, and after three attempts every minute.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::error::Failure;
use crate::server_log;

/// How long the same cause is not repeated.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// What was logged last.
#[derive(Debug, Default)]
pub struct Complaints {
    last: Option<(Cause, Instant)>,
    failures: u64,
}

/// What makes two failures the same.
#[derive(Debug, PartialEq, Eq)]
struct Cause {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
}

impl Complaints {
    /// Logs that `file` could not be archived, unless the same cause was logged
    /// within [`QUIET_TIME`].
    pub fn warn(&mut self, file: &str, failure: &Failure) {
        // Without a file, nothing was tried.
        self.failures += u64::from(!file.is_empty());
        // What is wrong with a file is logged for each file. What is wrong with the
        // store has other words around it each time: how often it was tried, the
        // id of a request.
        let of_file = matches!(
            failure.code,
            PgSqlErrorCode::ERRCODE_DATA_CORRUPTED | PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT
        );
        let (message, detail) = match file {
            _ if of_file => (failure.message.clone(), failure.detail.clone()),
            "" => (failure.message.clone(), None),
            file => (failure.message.replace(file, ""), None),
        };
        let cause = Cause { code: failure.code, message, detail };
        let now = Instant::now();
        if let Some((last, when)) = &self.last
            && *last == cause
            && now.duration_since(*when) < QUIET_TIME
        {
            return;
        }
        self.last = Some((cause, now));
        server_log::warn(failure);
    }

    /// A file was archived: says so when there were failures before.
    pub fn note_success(&mut self) {
        if self.failures > 0 {
            let failures = std::mem::take(&mut self.failures);
            server_log::log(&format!("archiving succeeded after {failures} failed attempts"), None);
        }
    }
}
