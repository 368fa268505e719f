//! What a base backup needs of the server.

use std::time::SystemTime;

use pgrx::PgSqlErrorCode;
use wal_e_core::archiving;

use super::backup::MAX_LABEL_BYTES;
use crate::archiver_stats;
use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::server;

/// The server is not in a state in which a backup could be completed.
const NOT_READY: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;

/// Everything that would make the backup fail later, or never become complete.
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub fn check(label: &str) -> Result<()> {
    gucs::store_config()?;
    gucs::compression()?;
    let not_ready =
        |message: &str, hint: &str| Err(Failure::new(NOT_READY, message).with_hint(hint));
    if server::in_recovery() {
        return not_ready(
            "a base backup cannot be taken during recovery",
            "Take it on the primary server.",
        );
    }
    if server::setting(c"archive_mode") == "off" {
        return not_ready(
            "a base backup needs WAL archiving, and \"archive_mode\" is off",
            "Set \"archive_mode\" to on and \"archive_library\" to wal_e, and restart the server.",
        );
    }
    if let Some(refusal) = server::way_of_archiving().refusal() {
        return Err(Failure { code: NOT_READY, ..Failure::from(refusal) });
    }
    let failing = archiving::refusal_of_failing(
        server::archiver_attempts(),
        &archiver_stats::queue()?,
        SystemTime::now(),
    );
    if let Some(refusal) = failing {
        return Err(Failure { code: NOT_READY, ..Failure::from(refusal) });
    }
    if label.len() > MAX_LABEL_BYTES {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("backup label is too long (at most {MAX_LABEL_BYTES} bytes)"),
        ));
    }
    if label.contains(['\n', '\r']) {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "backup label must not contain a line break",
        ));
    }
    Ok(())
}
