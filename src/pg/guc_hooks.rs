//! Checks of settings, in the shape that PostgreSQL calls.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::{pg_guard, pg_sys};
use wal_e_core::Error;

use super::report::c_text;
use crate::error::{Failure, in_words};
use crate::gucs;
use crate::rate_limits::{self, Limited};

/// What a text setting is checked for when it is set.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// [`gucs::check_prefix`].
    Prefix,
    /// [`gucs::check_endpoint`].
    Endpoint,
    /// [`gucs::check_backup_exclude`].
    BackupExclude,
    /// [`gucs::check_proxy`].
    Proxy,
    /// [`gucs::check_schedule`].
    Schedule,
    /// [`gucs::check_retain_window`].
    RetainWindow,
    /// [`gucs::check_retain_calendar`].
    RetainCalendar,
}

/// Defines a text setting for superusers whose values are checked.
pub fn define_checked_text(
    name: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    short: &'static CStr,
    long: &'static CStr,
    context: GucContext,
    check: Check,
) {
    let hook: pg_sys::GucStringCheckHook = match check {
        Check::Prefix => Some(check_prefix),
        Check::Endpoint => Some(check_endpoint),
        Check::BackupExclude => Some(check_backup_exclude),
        Check::Proxy => Some(check_proxy),
        Check::Schedule => Some(check_schedule),
        Check::RetainWindow => Some(check_retain_window),
        Check::RetainCalendar => Some(check_retain_calendar),
    };
    // SAFETY: the hook is guarded: a panic in it becomes an ERROR.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            long,
            setting,
            context,
            GucFlags::SUPERUSER_ONLY,
            hook,
            None,
            None,
        );
    }
}

/// Defines a limit in kilobytes per second, whose values go to [`rate_limits::set`].
pub fn define_rate_limit(
    name: &'static CStr,
    setting: &'static GucSetting<i32>,
    texts: [&'static CStr; 2],
    range: [i32; 2],
    context: GucContext,
    flags: GucFlags,
    limited: Limited,
) {
    let hook: pg_sys::GucIntAssignHook = match limited {
        Limited::Upload => Some(assign_upload_rate_limit),
        Limited::BackupRead => Some(assign_backup_read_rate_limit),
    };
    let ([short, long], [low, high]) = (texts, range);
    // SAFETY: the hook only stores a number, and cannot fail.
    unsafe {
        GucRegistry::define_int_guc_with_hooks(
            name, short, long, setting, low, high, context, flags, None, hook, None,
        );
    }
}

#[pg_guard]
extern "C-unwind" fn assign_upload_rate_limit(new: c_int, _extra: *mut c_void) {
    rate_limits::set(Limited::Upload, new);
}

#[pg_guard]
extern "C-unwind" fn assign_backup_read_rate_limit(new: c_int, _extra: *mut c_void) {
    rate_limits::set(Limited::BackupRead, new);
}

/// Makes a misspelt setting of this extension an error.
pub fn reserve_prefix(class: &'static CStr) {
    // SAFETY: a C string that lives forever.
    unsafe { pg_sys::MarkGUCPrefixReserved(class.as_ptr()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn check_prefix(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a valid pointer to the new value.
    accept(gucs::check_prefix(&unsafe { text(new) }))
}

#[pg_guard]
unsafe extern "C-unwind" fn check_endpoint(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a valid pointer to the new value.
    accept(gucs::check_endpoint(&unsafe { text(new) }))
}

#[pg_guard]
unsafe extern "C-unwind" fn check_backup_exclude(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a valid pointer to the new value.
    accept(gucs::check_backup_exclude(&unsafe { text(new) }))
}

#[pg_guard]
unsafe extern "C-unwind" fn check_schedule(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a valid pointer to the new value.
    accept(gucs::check_schedule(&unsafe { text(new) }))
}

#[pg_guard]
unsafe extern "C-unwind" fn check_retain_window(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a valid pointer to the new value.
    accept(gucs::check_retain_window(&unsafe { text(new) }))
}

#[pg_guard]
unsafe extern "C-unwind" fn check_retain_calendar(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a valid pointer to the new value.
    accept(gucs::check_retain_calendar(&unsafe { text(new) }))
}

#[pg_guard]
unsafe extern "C-unwind" fn check_proxy(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a valid pointer to the new value.
    let checked = gucs::check_proxy(&unsafe { text(new) });
    if let Err(error) = &checked {
        let message = in_words(error.message());
        // SAFETY: as in `accept`. PostgreSQL's own message has the value in it, which may be a
        // password.
        unsafe { pg_sys::GUC_check_errmsg_string = in_error_context(Some(&message)) };
    }
    accept(checked)
}

/// # Safety
/// `value` points to a pointer that is null or to a C string.
unsafe fn text(value: *mut *mut c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe {
        if (*value).is_null() {
            return String::new();
        }
        CStr::from_ptr(*value).to_string_lossy().into_owned()
    }
}

/// Says why a value is refused, as `GUC_check_errdetail` and `GUC_check_errhint` do.
fn accept(checked: Result<(), Error>) -> bool {
    let Err(error) = checked else { return true };
    let failure = Failure::from(error);
    // SAFETY: guc.c puts both strings into its message and then forgets them;
    // it expects them in ErrorContext (src/include/utils/guc.h), which the
    // report of the message empties.
    unsafe {
        pg_sys::GUC_check_errdetail_string = in_error_context(failure.detail.as_deref());
        pg_sys::GUC_check_errhint_string = in_error_context(failure.hint.as_deref());
    }
    false
}

/// # Safety
/// Only while a process of PostgreSQL runs, on its main thread.
unsafe fn in_error_context(text: Option<&str>) -> *mut c_char {
    match text.map(c_text) {
        // SAFETY: ErrorContext exists from the start of each process.
        Some(text) => unsafe { pg_sys::MemoryContextStrdup(pg_sys::ErrorContext, text.as_ptr()) },
        None => std::ptr::null_mut(),
    }
}
