//! Requests to stop, seen from the main thread of a process.

use std::time::Duration;

use pgrx::{PgTryBuilder, pg_sys};

use crate::error::{Failure, Result};

/// Whether this process was asked to cancel its query or to end.
///
/// Only looks: [`check`] is what acts on it.
pub fn stop_requested() -> bool {
    // SAFETY: these are volatile sig_atomic_t of this process, set by its
    // signal handlers (src/include/miscadmin.h).
    unsafe {
        (&raw const pg_sys::QueryCancelPending).read_volatile() != 0
            || (&raw const pg_sys::ProcDiePending).read_volatile() != 0
    }
}

/// Whether this process was asked to end. Only looks.
pub fn end_requested() -> bool {
    // SAFETY: a volatile sig_atomic_t of this process, set by its signal handler.
    unsafe { (&raw const pg_sys::ProcDiePending).read_volatile() != 0 }
}

/// `CHECK_FOR_INTERRUPTS`: ends the process when that was asked for.
///
/// # Errors
/// What PostgreSQL raises for a request to cancel, in its own words.
pub fn check() -> Result<()> {
    PgTryBuilder::new(|| {
        pgrx::check_for_interrupts!();
        Ok(())
    })
    .catch_others(|cause| Err(Failure::from(cause)))
    .execute()
}

/// Takes part in a barrier that another process waits for (`DROP DATABASE`,
/// for one), where [`check`] is not to be called.
pub fn absorb_barrier() {
    // SAFETY: the flag is a volatile sig_atomic_t of this process; the function
    // returns at once when there is nothing to do.
    unsafe {
        if (&raw const pg_sys::ProcSignalBarrierPending).read_volatile() != 0 {
            pg_sys::ProcessProcSignalBarrier();
        }
    }
}

/// Whether the postmaster still lives. A child whose parent has died has
/// another parent.
pub fn postmaster_is_alive() -> bool {
    // SAFETY: getppid has no preconditions; PostmasterPid is set before any
    // child is forked and never changes.
    unsafe { libc::getppid() == pg_sys::PostmasterPid as libc::pid_t }
}

/// Whether a process of this server that has the shared memory open has this pid.
pub fn is_server_process(pid: i32) -> bool {
    // SAFETY: takes a shared lock on the array of processes and only compares.
    pid > 0 && unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}

/// Ends the sleep of another process of this server in [`wait_on_latch`].
pub fn wake_process(pid: i32) {
    if pid <= 0 {
        return;
    }
    // SAFETY: entries of processes are in shared memory as long as the server runs. If the
    // process has just ended, another one's sleep ends, which is harmless: every process looks
    // whether there is something to do.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}

/// Sleeps until another process sets the latch of this one, or `timeout`. Ends
/// the process when the postmaster has died.
pub fn wait_on_latch(timeout: Duration) {
    let milliseconds = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: MyLatch belongs to this process from its start to its end.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}
