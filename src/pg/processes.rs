//! What other processes of the server are doing: the checkpointer, and those that send WAL.
//!
//! All of it lies in shared memory, where `pg_stat_activity` and `pg_stat_replication` find it,
//! too (src/backend/utils/adt/pgstatfuncs.c, src/backend/replication/walsender.c).

use std::ffi::{CStr, c_int};
use std::thread;
use std::time::Duration;

use pgrx::pg_sys::{self, BackendType, PgBackendStatus, WalSndState};

use super::server;

/// A connected server that receives the WAL of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// Its `application_name`.
    pub name: String,
    /// How much WAL is on this server's disk, and was not received there.
    pub missing_bytes: u64,
}

/// A process, by its entry among those of the server.
struct Process {
    pid: c_int,
    kind: BackendType::Type,
    /// Whether it is connected to a database.
    has_database: bool,
    application_name: String,
}

/// Whether a checkpoint is running, or is about to.
pub fn checkpoint_runs() -> bool {
    // Between checkpoints the checkpointer waits in its main loop, and during one it never does.
    // In that loop it is busy for a moment now and then, which several looks tell apart.
    const LOOKS: u32 = 3;
    const BETWEEN: Duration = Duration::from_millis(5);
    let Some(checkpointer) =
        processes().into_iter().find(|p| p.kind == BackendType::B_CHECKPOINTER)
    else {
        return false;
    };
    for look in 0..LOOKS {
        if look > 0 {
            thread::sleep(BETWEEN);
        }
        if wait_event(checkpointer.pid)
            == Some(pg_sys::WaitEventActivity::WAIT_EVENT_CHECKPOINTER_MAIN)
        {
            return false;
        }
    }
    true
}

/// The standbys that are connected to this primary, and whatever else receives its WAL as they
/// do, such as `pg_receivewal`. Empty on a standby.
pub fn standbys() -> Vec<Standby> {
    if server::in_recovery() {
        return Vec::new();
    }
    // SAFETY: reads a position in shared memory; a null pointer says that the timeline is not
    // wanted.
    let written = unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) };
    // What receives decoded changes is connected to their database.
    let mut processes = processes();
    processes.retain(|process| process.kind == BackendType::B_WAL_SENDER && !process.has_database);
    let standby = |(pid, received): (c_int, u64)| {
        let process = processes.iter().find(|process| process.pid == pid)?;
        let name = process.application_name.clone();
        Some(Standby { name, missing_bytes: written.saturating_sub(received) })
    };
    received().into_iter().filter_map(standby).collect()
}

/// The processes that stream WAL, and up to where it was received.
fn received() -> Vec<(c_int, u64)> {
    let mut found = Vec::new();
    // SAFETY: the array is in shared memory for as long as the server runs, and has so many
    // elements. Each field is one aligned word, so that a copy of it is whole, also while its
    // process changes it.
    unsafe {
        let control = pg_sys::WalSndCtl;
        if control.is_null() {
            return found;
        }
        let senders = (*control).walsnds.as_ptr();
        for place in 0..usize::try_from(pg_sys::max_wal_senders).unwrap_or(0) {
            let sender = senders.add(place);
            let pid = (&raw const (*sender).pid).read_volatile();
            let state = (&raw const (*sender).state).read_volatile();
            let sent = (&raw const (*sender).sentPtr).read_volatile();
            let written = (&raw const (*sender).write).read_volatile();
            let streams = matches!(
                state,
                WalSndState::WALSNDSTATE_CATCHUP | WalSndState::WALSNDSTATE_STREAMING
            );
            if pid != 0 && streams {
                // Before its first answer nothing is known but where it began.
                found.push((pid, if written == 0 { sent } else { written }));
            }
        }
    }
    found
}

/// What an auxiliary process waits for; `None` when there is no such process.
fn wait_event(pid: c_int) -> Option<u32> {
    // SAFETY: the entry of a process is in shared memory for as long as the server runs; a number
    // in it is copied.
    unsafe {
        let process = pg_sys::AuxiliaryPidGetProc(pid);
        (!process.is_null()).then(|| (&raw const (*process).wait_event_info).read_volatile())
    }
}

fn processes() -> Vec<Process> {
    let mut found = Vec::new();
    // SAFETY: the entries are copies in this process's own memory, made at the first call after
    // the former ones were forgotten, and valid until these are.
    unsafe {
        pg_sys::pgstat_clear_backend_activity_snapshot();
        for number in 1..=pg_sys::pgstat_fetch_stat_numbackends() {
            let entry = entry(number);
            if entry.is_null() {
                continue;
            }
            let name = (*entry).st_appname;
            let application_name = match name.is_null() {
                true => String::new(),
                false => CStr::from_ptr(name).to_string_lossy().into_owned(),
            };
            found.push(Process {
                pid: (*entry).st_procpid,
                kind: (*entry).st_backendType,
                has_database: (*entry).st_databaseid != pg_sys::InvalidOid,
                application_name,
            });
        }
        pg_sys::pgstat_clear_backend_activity_snapshot();
    }
    found
}

/// An entry of the copy; null when there is none of this number, which counts from 1.
///
/// # Safety
/// It is valid until the copy is forgotten.
#[cfg(feature = "pg15")]
unsafe fn entry(number: c_int) -> *const PgBackendStatus {
    // SAFETY: any number may be asked for.
    unsafe { pg_sys::pgstat_fetch_stat_beentry(number) }
}

/// The same, as later versions have it.
///
/// # Safety
/// It is valid until the copy is forgotten.
#[cfg(not(feature = "pg15"))]
unsafe fn entry(number: c_int) -> *const PgBackendStatus {
    // SAFETY: any number may be asked for.
    unsafe {
        let local = pg_sys::pgstat_get_local_beentry_by_index(number);
        if local.is_null() { std::ptr::null() } else { &raw const (*local).backendStatus }
    }
}
