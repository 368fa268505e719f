//! The archive module's ABI: the symbol that the archiver looks up, and the
//! callbacks in the shape of each version.
//!
//! PostgreSQL 15 (`src/include/postmaster/pgarch.h`): the module fills a struct
//! of three callbacks. From 16 on (`src/include/archive/archive_module.h`) it
//! returns a struct of four, and each takes a state. From 17 on it may also say
//! why it is not configured. pgrx 0.18 has bindings for 15 only, so all are
//! declared here by hand.
//!
//! No ERROR and no panic may leave a callback: in 15 and 16 an ERROR ends the
//! archiver without counting a failure.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};

use pgrx::PgTryBuilder;

use super::{report, server, signals};
use crate::archive_module;
use crate::error::Failure;

#[cfg(feature = "pg15")]
mod version {
    use super::*;
    use pgrx::pg_sys;

    /// `ArchiveModuleCallbacks` of PostgreSQL 15, `src/include/postmaster/pgarch.h`.
    #[repr(C)]
    pub struct ArchiveModuleCallbacks {
        check_configured_cb: Option<unsafe extern "C-unwind" fn() -> bool>,
        archive_file_cb: Option<unsafe extern "C-unwind" fn(*const c_char, *const c_char) -> bool>,
        shutdown_cb: Option<unsafe extern "C-unwind" fn()>,
    }

    const _: () = assert!(
        size_of::<ArchiveModuleCallbacks>() == size_of::<pg_sys::ArchiveModuleCallbacks>()
            && size_of::<ArchiveModuleCallbacks>() == 3 * size_of::<usize>()
    );

    /// Called by the archiver when it loads the library.
    ///
    /// # Safety
    /// `callbacks` points to a struct of the server's version.
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn _PG_archive_module_init(
        callbacks: *mut ArchiveModuleCallbacks,
    ) {
        loaded();
        // SAFETY: promised by the caller; the magic block has made sure of the version.
        unsafe {
            callbacks.write(ArchiveModuleCallbacks {
                check_configured_cb: Some(check_configured),
                archive_file_cb: Some(archive_file),
                shutdown_cb: Some(shutdown),
            });
        }
    }

    unsafe extern "C-unwind" fn check_configured() -> bool {
        guarded(false, || archive_module::check_configured(false).is_ok())
    }

    unsafe extern "C-unwind" fn archive_file(file: *const c_char, _path: *const c_char) -> bool {
        // SAFETY: the archiver hands in a C string.
        unsafe { super::archive(file) }
    }

    unsafe extern "C-unwind" fn shutdown() {
        guarded((), archive_module::shutdown);
    }
}

#[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
mod version {
    use super::*;
    use std::ffi::c_void;

    /// `ArchiveModuleState`, `src/include/archive/archive_module.h`.
    #[repr(C)]
    pub struct ArchiveModuleState {
        private_data: *mut c_void,
    }

    /// `ArchiveModuleCallbacks` of PostgreSQL 16, 17 and 18,
    /// `src/include/archive/archive_module.h`.
    #[repr(C)]
    pub struct ArchiveModuleCallbacks {
        startup_cb: Option<unsafe extern "C-unwind" fn(*mut ArchiveModuleState)>,
        check_configured_cb: Option<unsafe extern "C-unwind" fn(*mut ArchiveModuleState) -> bool>,
        archive_file_cb: Option<
            unsafe extern "C-unwind" fn(
                *mut ArchiveModuleState,
                *const c_char,
                *const c_char,
            ) -> bool,
        >,
        shutdown_cb: Option<unsafe extern "C-unwind" fn(*mut ArchiveModuleState)>,
    }

    const _: () = assert!(size_of::<ArchiveModuleCallbacks>() == 4 * size_of::<usize>());
    const _: () = assert!(size_of::<ArchiveModuleState>() == size_of::<usize>());

    static CALLBACKS: ArchiveModuleCallbacks = ArchiveModuleCallbacks {
        startup_cb: None,
        check_configured_cb: Some(check_configured),
        archive_file_cb: Some(archive_file),
        shutdown_cb: Some(shutdown),
    };

    /// Called by the archiver when it loads the library.
    #[unsafe(no_mangle)]
    pub extern "C-unwind" fn _PG_archive_module_init() -> *const ArchiveModuleCallbacks {
        loaded();
        &CALLBACKS
    }

    unsafe extern "C-unwind" fn check_configured(_state: *mut ArchiveModuleState) -> bool {
        guarded(false, is_configured)
    }

    #[cfg(feature = "pg16")]
    fn is_configured() -> bool {
        archive_module::check_configured(false).is_ok()
    }

    /// Hands the reason to the archiver, which adds it to its own warning.
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    fn is_configured() -> bool {
        use pgrx::pg_sys;
        // src/include/archive/archive_module.h, from PostgreSQL 17 on.
        unsafe extern "C-unwind" {
            static mut arch_module_check_errdetail_string: *mut c_char;
        }
        let Err(reason) = archive_module::check_configured(true) else { return true };
        let mut text = format!("{}.", reason.message);
        text[..1].make_ascii_uppercase();
        for more in [&reason.detail, &reason.hint].into_iter().flatten() {
            text.push(' ');
            text.push_str(more);
        }
        let text = report::c_text(&text);
        // SAFETY: the archiver reads the string right after the callback and
        // keeps nothing of it. In ErrorContext it is freed when the archiver
        // has reported it, as one made by arch_module_check_errdetail is.
        unsafe {
            arch_module_check_errdetail_string =
                pg_sys::MemoryContextStrdup(pg_sys::ErrorContext, text.as_ptr());
        }
        false
    }

    unsafe extern "C-unwind" fn archive_file(
        _state: *mut ArchiveModuleState,
        file: *const c_char,
        _path: *const c_char,
    ) -> bool {
        // SAFETY: the archiver hands in a C string.
        unsafe { super::archive(file) }
    }

    unsafe extern "C-unwind" fn shutdown(_state: *mut ArchiveModuleState) {
        guarded((), archive_module::shutdown);
    }
}

/// The first that the archiver runs of this library, its own signal handlers
/// being in place already.
fn loaded() {
    if server::is_archiver() {
        signals::watch_archiver_stop();
    }
}

/// # Safety
/// `file` is a C string.
unsafe fn archive(file: *const c_char) -> bool {
    // SAFETY: promised by the caller.
    let file = unsafe { CStr::from_ptr(file) };
    let file = file.to_string_lossy();
    match guarded(None, || Some(archive_module::archive_file(&file))) {
        Some(archived) => archived,
        None => {
            guarded((), || archive_module::note_inner_failure(&file));
            false
        }
    }
}

/// Runs the body of a callback. An ERROR or a panic in it is logged, and the
/// callback answers with `fallback`; when even logging fails, silently so.
fn guarded<R>(fallback: R, body: impl FnOnce() -> R) -> R
where
    R: Copy + UnwindSafe + RefUnwindSafe,
{
    catch_unwind(AssertUnwindSafe(|| {
        PgTryBuilder::new(AssertUnwindSafe(body))
            .catch_others(|cause| {
                let failure = Failure::from(cause);
                report::report(
                    report::Severity::Warning,
                    &failure.message,
                    failure.detail.as_deref(),
                    failure.hint.as_deref(),
                );
                fallback
            })
            .execute()
    }))
    .unwrap_or(fallback)
}
