//! Failures that trying again does not fix: a wrong key, a missing bucket, a
//! prefix of another cluster. The store is asked again when the configuration
//! or the keys have changed, and once a minute.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;
use wal_e_core::config::EnvDir;

use super::ArchiverSettings;
use crate::error::{Failure, Result};
use crate::gucs;

/// How long the store is left alone.
const HOLD_TIME: Duration = Duration::from_secs(60);

/// The failure that keeps the archiver from trying, if there is one.
#[derive(Debug, Default)]
pub struct HeldBack {
    reason: Option<Reason>,
}

#[derive(Debug)]
struct Reason {
    settings: ArchiverSettings,
    /// The keys, which are not among the settings.
    env_dir: Option<Option<EnvDir>>,
    since: Instant,
    failure: Failure,
}

impl HeldBack {
    /// Fails as the last attempt did, when another one would fail in the same way.
    ///
    /// # Errors
    /// That failure.
    pub fn check(&mut self, settings: &ArchiverSettings) -> Result<()> {
        let lasts = |reason: &Reason| {
            reason.settings == *settings
                && reason.env_dir == gucs::env_dir().ok()
                && reason.since.elapsed() < HOLD_TIME
        };
        self.reason = self.reason.take().filter(lasts);
        match &self.reason {
            Some(reason) => Err(reason.failure.clone()),
            None => Ok(()),
        }
    }

    /// Remembers why a file could not be sent, and returns true, when other
    /// files would fail in the same way.
    pub fn note_file(&mut self, settings: &ArchiverSettings, failure: &Failure) -> bool {
        let of_store = matches!(
            failure.code,
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
                | PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE
        );
        of_store && self.note(settings, failure)
    }

    /// Remembers why the archive could not be opened, unless the reason may pass.
    pub fn note_opening(&mut self, settings: &ArchiverSettings, failure: &Failure) {
        self.note(settings, failure);
    }

    fn note(&mut self, settings: &ArchiverSettings, failure: &Failure) -> bool {
        if !failure.passes {
            let reason = Reason {
                settings: settings.clone(),
                env_dir: gucs::env_dir().ok(),
                since: Instant::now(),
                failure: failure.clone(),
            };
            self.reason = Some(reason);
        }
        !failure.passes
    }
}
