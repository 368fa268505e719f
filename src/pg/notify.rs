//! `NOTIFY`, without SQL.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::report::c_text;

// src/include/commands/async.h, the same from PostgreSQL 15 to 18.
unsafe extern "C-unwind" {
    #[allow(non_snake_case)]
    fn Async_Notify(channel: *const c_char, payload: *const c_char);
}

/// Has the listeners of a channel of this database told when the transaction commits, of which
/// there has to be one.
///
/// # Panics
/// With the ERROR of PostgreSQL, which ends the transaction: for a payload that is too long.
pub fn notify(channel: &CStr, payload: &str) {
    let payload = c_text(payload);
    let (channel, payload) = (channel.as_ptr(), payload.as_ptr());
    // SAFETY: both are C strings that outlive the call, which copies them. An ERROR comes out
    // of the guard as a panic, with no destructor on its way.
    unsafe { pg_guard_ffi_boundary(|| Async_Notify(channel, payload)) };
}
