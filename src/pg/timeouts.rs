//! The limits of time that PostgreSQL puts on a statement and a transaction.

use std::ffi::c_int;

use pgrx::pg_sys;

// src/include/utils/timeout.h. The numbers are those of its enum `TimeoutId`: what
// was added in PostgreSQL 17 comes after the one of the statement.
const STATEMENT_TIMEOUT: c_int = 3;
#[cfg(any(feature = "pg17", feature = "pg18"))]
const TRANSACTION_TIMEOUT: c_int = 8;

unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn get_timeout_active(id: c_int) -> bool;
    fn get_timeout_finish_time(id: c_int) -> pg_sys::TimestampTz;
}

/// Keeps the limits of the caller's statement and transaction from ending it while this
/// lives. Afterwards what was left of them counts again, so that the rest of the
/// statement has as much time as it would have had.
///
/// PostgreSQL starts the limit of a statement when it begins and stops it when it ends, in
/// whatever state it finds it (`enable_statement_timeout` and `disable_statement_timeout` in
/// src/backend/tcop/postgres.c), and that of a transaction in the same way
/// (src/backend/access/transam/xact.c). After an error it stops all.
pub struct WithoutLimits {
    paused: Vec<(c_int, c_int)>,
}

impl WithoutLimits {
    /// Stops the limits that run.
    pub fn new() -> Self {
        let ids = [
            STATEMENT_TIMEOUT,
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            TRANSACTION_TIMEOUT,
        ];
        WithoutLimits { paused: ids.into_iter().filter_map(pause).collect() }
    }
}

impl Drop for WithoutLimits {
    fn drop(&mut self) {
        for &(id, left_ms) in &self.paused {
            // SAFETY: a predefined timeout, which this process has registered: it was
            // active before. Not active now, since nothing but this file touches it.
            unsafe { enable_timeout_after(id, left_ms) };
        }
    }
}

/// Stops a limit, and says how many milliseconds were left of it. `None` when it does
/// not run, or has just ended the statement.
fn pause(id: c_int) -> Option<(c_int, c_int)> {
    // SAFETY: a predefined timeout; each backend has initialised them.
    unsafe {
        if !get_timeout_active(id) {
            return None;
        }
        let left_us = get_timeout_finish_time(id) - pg_sys::GetCurrentTimestamp();
        disable_timeout(id, false);
        // Rounded up, and never zero, which would fire at once.
        let left_ms = left_us.max(0) / 1000 + 1;
        Some((id, c_int::try_from(left_ms).unwrap_or(c_int::MAX)))
    }
}
