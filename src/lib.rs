//! The extension: thin faces of `wal_e_core` for the processes of a server.
//!
//! | process | entry | may do |
//! |---|---|---|
//! | postmaster | [`_PG_init`] under `shared_preload_libraries` | settings and shared memory; no thread, no network |
//! | archiver | [`archive_module`], through [`pg::archive_abi`] | upload WAL files with a runtime of its own |
//! | worker | [`jobs`] | one base backup, from `pg_backup_start` to the sentinel; or one verification |
//! | scheduler | [`scheduler`] | start workers at certain times, look at the prefix |
//! | notifier | [`events`] | announce in a database what happened, and end |
//! | backend | [`sql_api`] | check, hand over to a worker, wait, list |
//!
//! Everything that is `unsafe`, or differs between versions of PostgreSQL, is
//! in [`pg`]. Threads run only code of the core, which cannot see PostgreSQL.

#[cfg(not(panic = "unwind"))]
compile_error!("wal_e needs panic = \"unwind\": an ERROR of PostgreSQL travels as a panic");

mod archive_module;
mod archiver_stats;
mod error;
mod events;
mod gucs;
mod jobs;
mod own_wal;
mod pg;
mod rate_limits;
mod runtime;
mod scheduler;
mod server_log;
mod shared_values;
mod sql_api;

pgrx::pg_module_magic!(name = c"wal_e", version = c"1.1.0");

/// Called once in each process that loads the library: in the postmaster when
/// it is preloaded, else in the archiver or in the backend that calls a function.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    gucs::register();
    if pg::shared_memory::reserve_when_preloading() && !pg::server::is_in_pg_upgrade() {
        scheduler::register();
    }
}
