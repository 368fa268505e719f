//! The limits on bytes per second, which hold for the server as a whole.
//!
//! The postmaster reads the settings anew when the configuration is reloaded, and puts the
//! limits into shared memory. From there all threads of all processes have them at once, also
//! those whose process does not look at its settings while it works. How far a limit is used
//! lies next to it. If the library was not preloaded, there is only the archiver: it has limits
//! of its own, and reads them when PostgreSQL lets it, between two files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use wal_e_core::rate_limit::{Meter, RateLimit};

use crate::pg::shared_memory::{self, SharedAtomics};
use crate::pg::{clock, server, signals};

static LIMITS: SharedAtomics<Limits> = SharedAtomics::new(c"wal_e rate limits");

/// The limits as this process was told them.
static OWN: Limits = Limits { upload: Limit::new(0), backup_read: Limit::new(0) };

/// What is limited.
#[derive(Debug, Clone, Copy)]
pub enum Limited {
    /// What is sent to the store.
    Upload,
    /// What a base backup reads.
    BackupRead,
}

/// All limits, as they lie in shared memory.
#[derive(Debug)]
pub struct Limits {
    upload: Limit,
    backup_read: Limit,
}

#[derive(Debug)]
struct Limit {
    /// 0 for none.
    bytes_per_second: AtomicU64,
    paid_until: AtomicU64,
}

impl Limit {
    const fn new(bytes_per_second: u64) -> Limit {
        Limit { bytes_per_second: AtomicU64::new(bytes_per_second), paid_until: AtomicU64::new(0) }
    }

    /// Another one of the same height, of which nothing is used.
    fn copy(&self) -> Limit {
        Limit::new(self.bytes_per_second.load(Ordering::Relaxed))
    }
}

impl Default for Limits {
    /// What the settings say to the process that reserves shared memory.
    fn default() -> Self {
        Limits { upload: OWN.upload.copy(), backup_read: OWN.backup_read.copy() }
    }
}

impl Limits {
    fn of(&self, limited: Limited) -> &Limit {
        match limited {
            Limited::Upload => &self.upload,
            Limited::BackupRead => &self.backup_read,
        }
    }
}

/// The limits in shared memory, for the process that reserves it.
pub fn in_shared_memory() -> &'static dyn shared_memory::InSharedMemory {
    &LIMITS
}

/// A setting has this value now, in this process.
pub fn set(limited: Limited, kilobytes_per_second: i32) {
    let rate = u64::try_from(kilobytes_per_second).unwrap_or(0) * 1024;
    OWN.of(limited).bytes_per_second.store(rate, Ordering::Relaxed);
    // The others follow the postmaster; what they read may be older.
    if let Some(limits) = LIMITS.get().filter(|_| server::is_postmaster()) {
        limits.of(limited).bytes_per_second.store(rate, Ordering::Relaxed);
    }
}

/// The limit on uploads, as this process shares it.
pub fn upload() -> Arc<RateLimit> {
    static SHARE: OnceLock<Arc<RateLimit>> = OnceLock::new();
    Arc::clone(SHARE.get_or_init(|| Share::of(Limited::Upload)))
}

/// The limit on what base backups read.
pub fn backup_read() -> Arc<RateLimit> {
    static SHARE: OnceLock<Arc<RateLimit>> = OnceLock::new();
    Arc::clone(SHARE.get_or_init(|| Share::of(Limited::BackupRead)))
}

/// The share of this process in a limit.
#[derive(Debug)]
struct Share {
    limit: &'static Limit,
}

impl Share {
    fn of(limited: Limited) -> Arc<RateLimit> {
        let limit = LIMITS.get().unwrap_or(&OWN).of(limited);
        Arc::new(RateLimit::new(Share { limit }))
    }
}

impl Meter for Share {
    fn bytes_per_second(&self) -> u64 {
        // A stop of the server waits for the last WAL, and for no limit.
        match signals::archiver_stop_requested() {
            true => 0,
            false => self.limit.bytes_per_second.load(Ordering::Relaxed),
        }
    }

    fn now(&self) -> u64 {
        clock::monotonic_nanos()
    }

    fn paid_until(&self) -> &AtomicU64 {
        &self.limit.paid_until
    }
}
