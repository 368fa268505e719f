//! Signals: kept away from threads, and noticed in the archiver.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgrx::pg_sys;

/// Runs `body` with all signals blocked, so that threads which it starts never
/// run a signal handler of PostgreSQL: threads inherit the mask.
pub fn with_all_blocked<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the set is the one that pthread_sigmask filled in.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, null_mut()) };
        }
    }
    // SAFETY: both sets are written before they are read: `all` by sigfillset,
    // `former` by pthread_sigmask, which fails only for an unknown first argument.
    let _restore = unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut former = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), former.as_mut_ptr());
        Restore(former.assume_init())
    };
    body()
}

/// Interrupts what the process does, as `pg_cancel_backend` would.
pub fn cancel_process(pid: i32) {
    if pid > 0 {
        // SAFETY: kill has no preconditions. The caller knows that the process is one of ours.
        unsafe { libc::kill(pid, libc::SIGINT) };
    }
}

/// The handlers of a backup worker: SIGTERM and SIGINT are remembered and acted
/// on where interrupts are looked for, instead of ending the process inside a
/// signal handler. SIGHUP stays ignored, as PostgreSQL has it for workers.
pub fn install_worker_handlers() {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as pqsignal;
    // src/include/tcop/tcopprot.h. Declared here, because pgrx's bindings put a
    // guard around each function, which has no place in a signal handler.
    unsafe extern "C-unwind" {
        fn die(signal: c_int);
        #[allow(non_snake_case)]
        fn StatementCancelHandler(signal: c_int);
    }
    // SAFETY: both handlers are PostgreSQL's own for processes with a database
    // connection; signals are still blocked until the last line.
    unsafe {
        pqsignal(libc::SIGTERM, Some(die));
        pqsignal(libc::SIGINT, Some(StatementCancelHandler));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// The handlers of the scheduler: those of a worker, and SIGHUP is remembered, for
/// [`reload_requested`].
pub fn install_scheduler_handlers() {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as pqsignal;
    // src/include/postmaster/interrupt.h; declared here for the reason above.
    unsafe extern "C-unwind" {
        #[allow(non_snake_case)]
        fn SignalHandlerForConfigReload(signal: c_int);
    }
    // SAFETY: PostgreSQL's own handler, for processes with a latch; signals are still blocked.
    unsafe { pqsignal(libc::SIGHUP, Some(SignalHandlerForConfigReload)) };
    install_worker_handlers();
}

/// Whether the settings are to be read anew; says so once for each request.
pub fn reload_requested() -> bool {
    // SAFETY: a volatile sig_atomic_t of this process (src/include/postmaster/interrupt.h). It
    // is cleared before the settings are read, so that no request is lost.
    unsafe {
        let flag = &raw mut pg_sys::ConfigReloadPending;
        let requested = flag.read_volatile() != 0;
        flag.write_volatile(0);
        requested
    }
}

/// Set once this archiver was asked to stop.
static ARCHIVER_STOP: AtomicBool = AtomicBool::new(false);

/// A handler that was there before ours, as the address that sigaction gave.
struct FormerHandler {
    address: AtomicUsize,
    takes_info: AtomicBool,
}

impl FormerHandler {
    const fn none() -> Self {
        FormerHandler { address: AtomicUsize::new(0), takes_info: AtomicBool::new(false) }
    }
}

static FORMER_SIGUSR2: FormerHandler = FormerHandler::none();
static FORMER_SIGTERM: FormerHandler = FormerHandler::none();

/// From now on, notices a request that this archiver stop.
///
/// The postmaster does so with SIGUSR2 after the shutdown checkpoint
/// (src/backend/postmaster/pgarch.c). The archiver then archives what is left
/// and ends, and the stop of the server waits for it as long as that takes; the
/// flag that its handler sets is private. So our handler goes before it.
pub fn watch_archiver_stop() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    chain(libc::SIGUSR2, &FORMER_SIGUSR2);
    chain(libc::SIGTERM, &FORMER_SIGTERM);
}

/// Whether this archiver was asked to stop.
pub fn archiver_stop_requested() -> bool {
    ARCHIVER_STOP.load(Ordering::Relaxed)
}

/// Has the archiver try no file again, as SIGTERM would. If it was asked to stop, it
/// then ends at once.
pub fn end_archiving() {
    // SAFETY: a volatile sig_atomic_t of this process (src/include/postmaster/interrupt.h),
    // which its SIGTERM handler sets in the same way.
    unsafe { (&raw mut pg_sys::ShutdownRequestPending).write_volatile(1) };
}

fn chain(signal: c_int, former: &FormerHandler) {
    // SAFETY: sigaction with valid pointers. The former handler is stored
    // before ours can run, because ours is installed only afterwards; it stays
    // valid, because PostgreSQL never unloads code. Ours calls only what is
    // safe in a signal handler.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        if libc::sigaction(signal, std::ptr::null(), &mut action) != 0 {
            return;
        }
        former.address.store(action.sa_sigaction, Ordering::SeqCst);
        former.takes_info.store(action.sa_flags & libc::SA_SIGINFO != 0, Ordering::SeqCst);
        action.sa_sigaction = on_archiver_stop as *const () as usize;
        action.sa_flags |= libc::SA_SIGINFO;
        libc::sigaction(signal, &action, null_mut());
    }
}

/// Remembers the request and hands it on to PostgreSQL's own handler.
extern "C" fn on_archiver_stop(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    ARCHIVER_STOP.store(true, Ordering::Relaxed);
    let former = if signal == libc::SIGUSR2 { &FORMER_SIGUSR2 } else { &FORMER_SIGTERM };
    let address = former.address.load(Ordering::Relaxed);
    if address == libc::SIG_DFL || address == libc::SIG_IGN {
        return;
    }
    // SAFETY: the address is a handler that sigaction named, of the kind that
    // its flags say.
    unsafe {
        if former.takes_info.load(Ordering::Relaxed) {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                std::mem::transmute(address);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = std::mem::transmute(address);
            handler(signal);
        }
    }
}
