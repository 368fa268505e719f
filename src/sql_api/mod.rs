//! The SQL functions, one file for each family. Their declarations are in
//! `sql/`, kept by hand.

mod backup_list;
mod backup_push;
mod backup_verify;
mod check;
mod extension_version;
mod job_history;
mod progress_notices;
mod recovery_window;
mod report;
mod restore_plan;
mod retention;
mod stat_archiver;
mod timestamp;
mod wal_coverage;

use std::time::Instant;

use pgrx::PgSqlErrorCode;
use wal_e_core::notice::{self, Notices};

use self::progress_notices::ProgressNotices;
use crate::error::{Failure, Result};
use crate::pg::{interrupts, shared_memory};
use crate::runtime::{Runtime, Watch};
use crate::server_log;

/// Runs `work` of the core on threads of this backend, which meanwhile logs the notices
/// of the core and can be canceled.
fn run<T, F>(work: impl FnOnce(Notices) -> F) -> Result<T>
where
    F: Future<Output = wal_e_core::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    run_described(|_| None, work)
}

/// [`run`], for work that takes long: every few seconds the caller hears what `describe` says.
fn run_described<T, F>(
    mut describe: impl FnMut(Instant) -> Option<String>,
    work: impl FnOnce(Notices) -> F,
) -> Result<T>
where
    F: Future<Output = wal_e_core::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let (notices, queue) = notice::channel();
    let mut progress = ProgressNotices::begin();
    let done = Runtime::start()?.run(work(notices), || {
        server_log::emit(&queue);
        progress.look(&mut describe);
        match interrupts::check() {
            Ok(()) => Watch::Continue,
            Err(failure) => Watch::GiveUp(failure),
        }
    });
    server_log::emit(&queue);
    done
}

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
