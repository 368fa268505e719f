//! The shared memory: the slots of the running or last base backup and
//! verification, and the statistics of the archiver.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};

use crate::archiver_stats::Stats;
use crate::backup_slot::Slot;
use crate::verify_slot;

// SAFETY: a Slot is plain bytes without pointers, the same in every process.
unsafe impl PGRXSharedMemory for Slot {}

// SAFETY: so is that of a verification.
unsafe impl PGRXSharedMemory for verify_slot::Slot {}

// SAFETY: so is a Stats.
unsafe impl PGRXSharedMemory for Stats {}

// SAFETY: the name is this extension's own.
static SLOT: PgLwLock<Slot> = unsafe { PgLwLock::new(c"wal_e backup slot") };

// SAFETY: the name is this extension's own.
static VERIFY_SLOT: PgLwLock<verify_slot::Slot> =
    unsafe { PgLwLock::new(c"wal_e verification slot") };

// SAFETY: the name is this extension's own.
static STATS: PgLwLock<Stats> = unsafe { PgLwLock::new(c"wal_e archiver statistics") };

/// Whether this server has them. Set in the postmaster, inherited by fork.
static RESERVED: AtomicBool = AtomicBool::new(false);

/// Asks for the shared memory when the postmaster preloads the library; does
/// nothing in any other process.
pub fn reserve_when_preloading() {
    // SAFETY: set and cleared by the process itself while it loads libraries.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        pg_shmem_init!(SLOT);
        pg_shmem_init!(VERIFY_SLOT);
        pg_shmem_init!(STATS);
        RESERVED.store(true, Ordering::Relaxed);
    }
}

/// Whether the library was preloaded, so that there is shared memory. All other
/// functions here may only be called then.
pub fn is_available() -> bool {
    RESERVED.load(Ordering::Relaxed)
}

/// A copy of the slot.
pub fn read_slot() -> Slot {
    *SLOT.share()
}

/// Changes the slot under its lock, and returns what `change` does. `change`
/// must be short and call nothing that can fail.
pub fn update_slot<R>(change: impl FnOnce(&mut Slot) -> R) -> R {
    change(&mut SLOT.exclusive())
}

/// What `look` sees in the slot of a verification. `look` is as `change` for the slot.
pub fn read_verify_slot<R>(look: impl FnOnce(&verify_slot::Slot) -> R) -> R {
    look(&VERIFY_SLOT.share())
}

/// Changes the slot of a verification under its lock; `change` is as for the slot.
pub fn update_verify_slot<R>(change: impl FnOnce(&mut verify_slot::Slot) -> R) -> R {
    change(&mut VERIFY_SLOT.exclusive())
}

/// A copy of the statistics.
pub fn read_stats() -> Stats {
    *STATS.share()
}

/// Changes the statistics under their lock; `change` is as for the slot.
pub fn update_stats(change: impl FnOnce(&mut Stats)) {
    change(&mut STATS.exclusive());
}
