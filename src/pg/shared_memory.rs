//! The one piece of shared memory: the slot of the running or last base backup.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};

use crate::backup_slot::Slot;

// SAFETY: a Slot is plain bytes without pointers, the same in every process.
unsafe impl PGRXSharedMemory for Slot {}

// SAFETY: the name is this extension's own.
static SLOT: PgLwLock<Slot> = unsafe { PgLwLock::new(c"wal_e backup slot") };

/// Whether this server has the slot. Set in the postmaster, inherited by fork.
static RESERVED: AtomicBool = AtomicBool::new(false);

/// Asks for the shared memory when the postmaster preloads the library; does
/// nothing in any other process.
pub fn reserve_when_preloading() {
    // SAFETY: set and cleared by the process itself while it loads libraries.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        pg_shmem_init!(SLOT);
        RESERVED.store(true, Ordering::Relaxed);
    }
}

/// Whether the library was preloaded, so that there is a slot.
pub fn is_available() -> bool {
    RESERVED.load(Ordering::Relaxed)
}

/// A copy of the slot. Only when [`is_available`].
pub fn read() -> Slot {
    *SLOT.share()
}

/// Changes the slot under its lock, and returns what `change` does. Only when
/// [`is_available`]. `change` must be short and call nothing that can fail.
pub fn update<R>(change: impl FnOnce(&mut Slot) -> R) -> R {
    change(&mut SLOT.exclusive())
}
