//! The SQL functions, one file for each family. Their declarations are in
//! `sql/`, kept by hand.

mod backup_list;
mod backup_push;
mod check;
mod stat_archiver;
mod timestamp;

use pgrx::PgSqlErrorCode;

use crate::error::{Failure, Result};
use crate::pg::shared_memory;

/// Base backups and statistics need the memory that only the postmaster can reserve.
fn require_preloading() -> Result<()> {
    if shared_memory::is_available() {
        return Ok(());
    }
    Err(Failure::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "wal_e must be loaded when the server starts",
    )
    .with_hint("Add wal_e to \"shared_preload_libraries\" and restart the server."))
}
