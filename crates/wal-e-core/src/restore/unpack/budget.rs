//! How much may come out of the tars of a backup.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// Limits what comes out of tars: a small object can hold gigabytes of zeros.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// For backups that say how many bytes their files have. Without that number there is
    /// no limit: the stored size says nothing, because honest files compress to anything.
    pub(crate) fn new(file_bytes: Option<u64>) -> Self {
        // Files may grow a little while they are read, and what exactly is counted
        // differs between writers.
        let limit = match file_bytes {
            Some(bytes) => bytes.saturating_add(bytes / 8).saturating_add(1 << 30),
            None => u64::MAX,
        };
        Budget { limit, used: AtomicU64::new(0) }
    }

    /// Uses `bytes` of it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when not so much is left.
    pub(crate) fn take(&self, bytes: u64) -> Result<()> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used <= self.limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            "its files are much larger than those of the base backup",
        ))
    }

    /// Returns what was taken for a tar that turned out to be damaged.
    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How much is used.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_says_its_size_has_a_limit_and_others_have_none() {
        let generous = Budget::new(Some(8 << 30));
        assert!(generous.take(10 << 30).is_ok() && generous.take(1 << 30).is_err());
        let silent = Budget::new(None);
        assert!(silent.take(1 << 50).is_ok());
    }
}
