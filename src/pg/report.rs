//! A line for the server log, without leaving Rust frames by a long jump.
//!
//! PostgreSQL's `ereport` may jump out in two ways: after the message it looks
//! for interrupts, and building the message may fail (out of memory, a
//! character that the log's encoding does not have). Interrupts are therefore
//! held, and a failure is turned into a panic by pgrx's guard, with nothing
//! between the guard and the C functions that has a destructor.

use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

use pgrx::function_name;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::ErrorReport;

use super::text::{for_report, to_database};
use crate::error::Failure;

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// For debugging.
    Debug,
    /// For the administrator; not sent to a client.
    Log,
    /// For the client that waits; not written to the log by default.
    Notice,
    /// Something that has to be looked at.
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
    let message = c_text(message);
    let detail = detail.map(c_text);
    let hint = hint.map(c_text);
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

/// `text` as a C string, in the encoding of the database; a NUL inside would end it early.
pub fn c_text(text: &str) -> CString {
    CString::new(to_database(&text.replace('\0', " "))).unwrap_or_default()
}

impl From<Failure> for ErrorReport {
    fn from(failure: Failure) -> Self {
        let message = for_report(failure.message);
        let mut report = ErrorReport::new(failure.code, message, function_name!());
        if let Some(detail) = failure.detail {
            report = report.set_detail(for_report(detail));
        }
        if let Some(hint) = failure.hint {
            report = report.set_hint(for_report(hint));
        }
        report
    }
}
