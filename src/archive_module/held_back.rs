//! Failures that trying again does not mend: a wrong key, a missing bucket, a
//! prefix of another cluster. The store is asked again when the configuration
//! has changed, and once a minute.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use super::settings::ArchiverSettings;
use crate::error::{Failure, Result};

/// How long the store is left alone.
const HOLD_TIME: Duration = Duration::from_secs(60);

/// The failure that keeps the archiver from trying, if there is one.
#[derive(Debug, Default)]
pub struct HeldBack {
    reason: Option<(ArchiverSettings, Instant, Failure)>,
}

impl HeldBack {
    /// Fails as the last attempt did, when another one would fail in the same way.
    ///
    /// # Errors
    /// That failure.
    pub fn check(&mut self, settings: &ArchiverSettings) -> Result<()> {
        match self.reason.take() {
            Some((then, when, failure)) if then == *settings && when.elapsed() < HOLD_TIME => {
                self.reason = Some((then, when, failure.clone()));
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// Remembers why a file could not be sent, and returns true, when other
    /// files would fail in the same way.
    pub fn note_file(&mut self, settings: &ArchiverSettings, failure: &Failure) -> bool {
        let lasts = matches!(
            failure.code,
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
                | PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE
        );
        if lasts {
            self.reason = Some((settings.clone(), Instant::now(), failure.clone()));
        }
        lasts
    }

    /// Remembers why the archive could not be opened, unless the reason may pass.
    pub fn note_opening(&mut self, settings: &ArchiverSettings, failure: &Failure) {
        let passes = matches!(
            failure.code,
            PgSqlErrorCode::ERRCODE_IO_ERROR | PgSqlErrorCode::ERRCODE_QUERY_CANCELED
        );
        if !passes {
            self.reason = Some((settings.clone(), Instant::now(), failure.clone()));
        }
    }
}
