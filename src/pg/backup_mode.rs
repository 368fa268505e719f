//! Backup mode, begun and ended by the functions that `pg_backup_start` and
//! `pg_backup_stop` are made of, as a walsender does it for `BASE_BACKUP`
//! (src/backend/backup/basebackup.c).
//!
//! No SQL is run: what a database or a role could put before the names of
//! `pg_catalog` has no meaning here, and the process needs no database.

use std::ffi::CStr;
use std::ptr::null_mut;

use pgrx::{PgSqlErrorCode, pg_sys};
use wal_e_core::base_backup::BackupStop;
use wal_e_core::postgres::Lsn;

use super::report::c_text;
use super::worker_process::in_transaction;
use crate::error::{Failure, Result};

/// This process is in backup mode. Its end ends that, too.
#[derive(Debug)]
pub struct BackupMode {
    start_lsn: Lsn,
    state: version::State,
    tablespace_map: pg_sys::StringInfo,
}

impl BackupMode {
    /// Begins backup mode. Waits for a checkpoint; a request to cancel ends the
    /// wait with an ERROR.
    ///
    /// # Errors
    /// What PostgreSQL raises.
    pub fn begin(label: &str, fast: bool) -> Result<Self> {
        let label = c_text(label);
        in_transaction(|| {
            // SAFETY: the label is a C string. All that PostgreSQL keeps is made in
            // a context that lives as long as the process, as pg_backup_start does
            // it (src/backend/access/transam/xlogfuncs.c), and backup mode ends with
            // the process, because the handler is there first.
            unsafe {
                let former = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
                let (state, tablespace_map) = (version::new_state(), pg_sys::makeStringInfo());
                pg_sys::MemoryContextSwitchTo(former);
                pg_sys::register_persistent_abort_backup_handler();
                let start = version::start(label.as_ptr(), fast, state, tablespace_map);
                Ok(BackupMode { start_lsn: Lsn(start), state, tablespace_map })
            }
        })
    }

    /// Where the backup starts.
    pub fn start_lsn(&self) -> Lsn {
        self.start_lsn
    }

    /// Ends backup mode. Does not wait for the archive.
    ///
    /// # Errors
    /// What PostgreSQL raises.
    pub fn end(self) -> Result<BackupStop> {
        in_transaction(|| {
            // SAFETY: state and map were filled when backup mode began, and are
            // C strings that end with a NUL (src/include/lib/stringinfo.h).
            let (stop, label, map) = unsafe {
                let (stop, label) = version::stop(self.state);
                (stop, CStr::from_ptr(label), CStr::from_ptr((*self.tablespace_map).data))
            };
            Ok(BackupStop {
                stop_lsn: Lsn(stop),
                backup_label: text("backup_label", label)?,
                tablespace_map: text("tablespace_map", map)?,
            })
        })
    }
}

fn text(name: &str, content: &CStr) -> Result<String> {
    content.to_str().map(str::to_owned).map_err(|_| {
        let code = PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
        Failure::new(code, format!("\"{name}\" of the base backup is not valid UTF-8"))
    })
}

/// In PostgreSQL 15 the label is the state of a backup.
#[cfg(feature = "pg15")]
mod version {
    use super::*;
    use std::ffi::c_char;

    pub type State = pg_sys::StringInfo;

    pub unsafe fn new_state() -> State {
        // SAFETY: as its caller says.
        unsafe { pg_sys::makeStringInfo() }
    }

    pub unsafe fn start(
        label: *const c_char,
        fast: bool,
        state: State,
        map: pg_sys::StringInfo,
    ) -> pg_sys::XLogRecPtr {
        // SAFETY: as its caller says; null where nothing is wanted.
        unsafe { pg_sys::do_pg_backup_start(label, fast, null_mut(), state, null_mut(), map) }
    }

    pub unsafe fn stop(state: State) -> (pg_sys::XLogRecPtr, *const c_char) {
        // SAFETY: as its caller says.
        unsafe { (pg_sys::do_pg_backup_stop((*state).data, false, null_mut()), (*state).data) }
    }
}

/// From 16 on the label is made of the state, at the end
/// (src/include/access/xlogbackup.h).
#[cfg(not(feature = "pg15"))]
mod version {
    use super::*;
    use std::ffi::c_char;

    pub type State = *mut pg_sys::BackupState;

    pub unsafe fn new_state() -> State {
        // SAFETY: all zero is how pg_backup_start begins.
        unsafe { pg_sys::palloc0(size_of::<pg_sys::BackupState>()).cast() }
    }

    pub unsafe fn start(
        label: *const c_char,
        fast: bool,
        state: State,
        map: pg_sys::StringInfo,
    ) -> pg_sys::XLogRecPtr {
        // SAFETY: as its caller says; null because no list is wanted.
        unsafe {
            pg_sys::do_pg_backup_start(label, fast, null_mut(), state, map);
            (*state).startpoint
        }
    }

    pub unsafe fn stop(state: State) -> (pg_sys::XLogRecPtr, *const c_char) {
        // SAFETY: as its caller says.
        unsafe {
            pg_sys::do_pg_backup_stop(state, false);
            ((*state).stoppoint, pg_sys::build_backup_content(state, false))
        }
    }
}
