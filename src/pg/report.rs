//! A line for the server log, without leaving Rust frames by a long jump.
//!
//! PostgreSQL's `ereport` may jump out in two ways: after the message it looks
//! for interrupts, and building the message may fail (out of memory, a
//! character that the log's encoding does not have). Interrupts are therefore
//! held, and a failure is turned into a panic by pgrx's guard, with nothing
//! between the guard and the C functions that has a destructor.

use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Only for whoever looks for it.
    Debug,
    /// For the administrator; not sent to a client.
    Log,
    /// For the client that waits; not written to the log by default.
    Notice,
    /// Needs a person.
    Warning,
}

// src/include/utils/elog.h, the same from PostgreSQL 15 to 18.
unsafe extern "C-unwind" {
    fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errdetail(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
}

/// Writes a line to the server log, with its detail and hint.
///
/// # Panics
/// When PostgreSQL cannot write it; never by an interrupt.
pub fn report(severity: Severity, message: &str, detail: Option<&str>, hint: Option<&str>) {
    let level = match severity {
        Severity::Debug => pg_sys::DEBUG1,
        Severity::Log => pg_sys::LOG,
        Severity::Notice => pg_sys::NOTICE,
        Severity::Warning => pg_sys::WARNING,
    } as c_int;
    let message = without_nul(message);
    let detail = detail.map(without_nul);
    let hint = hint.map(without_nul);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
    let (message, detail, hint) = (message.as_ptr(), pointer(&detail), pointer(&hint));
    // SAFETY: called on the main thread, which pgrx's guard checks. The strings
    // outlive the call, and the closure holds only pointers to them, so that a
    // long jump to the guard passes no destructor. A failing ereport sets
    // InterruptHoldoffCount to zero itself, so that it is counted down only on
    // the way that returns.
    unsafe {
        pg_guard_ffi_boundary(|| {
            pg_sys::InterruptHoldoffCount += 1;
            if errstart(level, null()) {
                errmsg(c"%s".as_ptr(), message);
                if !detail.is_null() {
                    errdetail(c"%s".as_ptr(), detail);
                }
                if !hint.is_null() {
                    errhint(c"%s".as_ptr(), hint);
                }
                errfinish(c"wal_e".as_ptr(), 0, null());
            }
            pg_sys::InterruptHoldoffCount -= 1;
        });
    }
}

/// `text` as a C string; a NUL inside would end it early.
pub fn without_nul(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}
