//! The shared memory: the slots of the jobs, the statistics of the archiver, the queue of events.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::{
    PGRXSharedMemory, PgAtomic, PgLwLock, PgSharedMemoryInitialization, pg_guard, pg_shmem_init,
    pg_sys,
};

use crate::archiver_stats::Stats;
use crate::events::{self, Queue};
use crate::jobs::slot::Slot;
use crate::jobs::{self, Job};
use crate::rate_limits::{self, Limits};

// SAFETY: a Slot is plain bytes without pointers, the same in every process; so is
// what a Job puts into it.
unsafe impl<J: Job> PGRXSharedMemory for Slot<J> {}

// SAFETY: so is a Stats.
unsafe impl PGRXSharedMemory for Stats {}

// SAFETY: so is a Queue.
unsafe impl PGRXSharedMemory for Queue {}

// SAFETY: a Limits is nothing but atomic numbers.
unsafe impl PGRXSharedMemory for Limits {}

static STATS: SharedMemory<Stats> = SharedMemory::new(c"wal_e archiver statistics");

static EVERYTHING: Everything = Everything;

/// Whether this server has it. Set in the postmaster, inherited by fork.
static RESERVED: AtomicBool = AtomicBool::new(false);

/// A value in shared memory, under a lock of its own. Only in a static.
pub struct SharedMemory<T>(PgLwLock<T>);

impl<T> SharedMemory<T> {
    /// The name is the value's own, and shown in `pg_shmem_allocations`.
    pub const fn new(name: &'static CStr) -> Self {
        // SAFETY: `Everything` reserves no two of one name.
        SharedMemory(unsafe { PgLwLock::new(name) })
    }
}

impl<T: PGRXSharedMemory> SharedMemory<T> {
    /// What `look` sees. It must be short and call nothing that can fail.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.share())
    }

    /// Changes the value under its lock, and returns what `change` does, which
    /// must be short and call nothing that can fail.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.exclusive())
    }
}

/// Atomic values in shared memory, which need no lock: threads that must not call PostgreSQL
/// may use them. Only in a static.
pub struct SharedAtomics<T> {
    value: PgAtomic<T>,
    /// Whether it is there. Set in the postmaster, inherited by fork.
    started: AtomicBool,
}

impl<T> SharedAtomics<T> {
    /// The name is the value's own, and shown in `pg_shmem_allocations`.
    pub const fn new(name: &'static CStr) -> Self {
        // SAFETY: `Everything` reserves no two of one name.
        let value = unsafe { PgAtomic::new(name) };
        SharedAtomics { value, started: AtomicBool::new(false) }
    }
}

impl<T: PGRXSharedMemory> SharedAtomics<T> {
    /// The value; `None` when the library was not preloaded, and until the memory is there.
    pub fn get(&self) -> Option<&T> {
        self.started.load(Ordering::Relaxed).then(|| self.value.get())
    }
}

/// A value in shared memory, of whatever type, for the process that reserves it.
pub trait InSharedMemory {
    /// Its name.
    fn name(&self) -> &'static CStr;

    /// Asks for the memory.
    ///
    /// # Safety
    /// Only in PostgreSQL's `shmem_request_hook`.
    unsafe fn request(&'static self);

    /// Fills it with the value's default.
    ///
    /// # Safety
    /// Only in PostgreSQL's `shmem_startup_hook`.
    unsafe fn start(&'static self);
}

impl<T: PGRXSharedMemory + Default> InSharedMemory for SharedMemory<T> {
    fn name(&self) -> &'static CStr {
        self.0.name()
    }

    unsafe fn request(&'static self) {
        // SAFETY: the caller keeps it.
        unsafe { self.0.on_shmem_request() }
    }

    unsafe fn start(&'static self) {
        // SAFETY: the caller keeps it.
        unsafe { self.0.on_shmem_startup(T::default()) }
    }
}

impl<T: PGRXSharedMemory + Default> InSharedMemory for SharedAtomics<T> {
    fn name(&self) -> &'static CStr {
        self.value.name()
    }

    unsafe fn request(&'static self) {
        // SAFETY: the caller keeps it.
        unsafe { self.value.on_shmem_request() }
    }

    unsafe fn start(&'static self) {
        // SAFETY: the caller keeps it.
        unsafe { self.value.on_shmem_startup(T::default()) }
        self.started.store(true, Ordering::Relaxed);
    }
}

/// All that this extension has in shared memory.
struct Everything;

impl Everything {
    fn values() -> Vec<&'static dyn InSharedMemory> {
        let statistics: &dyn InSharedMemory = &STATS;
        let others = [statistics, rate_limits::in_shared_memory(), events::in_shared_memory()];
        jobs::slots().chain(others).collect()
    }
}

impl PgSharedMemoryInitialization for Everything {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        let values = Everything::values();
        for (place, value) in values.iter().enumerate() {
            let name = value.name();
            assert!(values[..place].iter().all(|other| other.name() != name), "{name:?} twice");
            // SAFETY: the caller is the hook.
            unsafe { value.request() };
        }
    }

    unsafe fn on_shmem_startup(&'static self, (): ()) {
        for value in Everything::values() {
            // SAFETY: the caller is the hook.
            unsafe { value.start() };
        }
    }
}

/// Asks for the shared memory when the postmaster preloads the library; does
/// nothing in any other process. Says whether it did.
pub fn reserve_when_preloading() -> bool {
    // SAFETY: set and cleared by the process itself while it loads libraries.
    let preloads = unsafe { pg_sys::process_shared_preload_libraries_in_progress };
    if preloads {
        pg_shmem_init!(EVERYTHING);
        RESERVED.store(true, Ordering::Relaxed);
    }
    preloads
}

/// Whether the library was preloaded, so that there is shared memory. It may be
/// used only then.
pub fn is_available() -> bool {
    RESERVED.load(Ordering::Relaxed)
}

/// A copy of the statistics.
pub fn read_stats() -> Stats {
    STATS.read(|stats| *stats)
}

/// Changes the statistics under their lock; `change` is as for [`SharedMemory::update`].
pub fn update_stats(change: impl FnOnce(&mut Stats)) {
    STATS.update(change);
}
