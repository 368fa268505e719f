//! The rows of a check, while its steps are made.

use std::future::Future;
use std::time::Duration;

use super::{
    ABILITIES, CHECKS, CHECKSUM, CLOCK_SKEW, CREATE_ONLY, Check, DELETABLE, PREFIX, WRITABLE,
};
use crate::error::{Error, ErrorKind, Result};

/// Rows so far, and why the store is not asked any more.
pub(super) struct Rows {
    rows: Vec<Check>,
    silent: Option<&'static str>,
    pub(super) limit: Duration,
}

impl Rows {
    pub(super) fn new(url: &str, limit: Duration) -> Self {
        Rows { rows: vec![Check::passed(PREFIX, url)], silent: None, limit }
    }

    pub(super) fn push(&mut self, row: Check) {
        self.rows.push(row);
    }

    /// Does a step unless the store has stopped answering. A failure becomes a row.
    pub(super) async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<T>>,
        hint: &str,
    ) -> Option<T> {
        if let Some(reason) = self.silent {
            self.push(Check::not_checked(name, reason));
            return None;
        }
        let result = within(self.limit, work).await;
        self.reported(name, result, hint)
    }

    /// The value of a step that succeeded; else a row.
    pub(super) fn reported<T>(
        &mut self,
        name: &'static str,
        result: Result<T>,
        hint: &str,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if error.is_transient() {
                    self.silent = Some("the store does not answer as it should");
                }
                self.push(Check::of_error(name, &error, hint));
                None
            }
        }
    }

    pub(super) fn skip(&mut self, names: &[&'static str], reason: &str) {
        let reason = self.silent.unwrap_or(reason);
        self.rows.extend(names.iter().map(|name| Check::not_checked(name, reason)));
    }

    pub(super) fn skip_writing(&mut self, remote: bool, reason: &str) {
        self.skip(&[WRITABLE, CREATE_ONLY, CHECKSUM, DELETABLE], reason);
        if remote {
            self.skip(&[CLOCK_SKEW], reason);
            self.skip(&ABILITIES, reason);
        }
    }

    pub(super) fn in_order(mut self) -> Vec<Check> {
        self.rows.sort_by_key(|row| CHECKS.iter().position(|name| *name == row.name));
        self.rows
    }
}

/// Does `work` unless it takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("the store did not answer within {} seconds", limit.as_secs()),
        )
        .with_hint("Check that the store is up, and the network or the mount on the way to it."))
    })
}
