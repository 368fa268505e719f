//! What the archiver works with, as configured now.

use std::path::PathBuf;

use wal_e_core::config::StoreConfig;
use wal_e_core::wal::Archiving;

use super::WAL_DIRECTORY;
use crate::error::Result;
use crate::gucs;
use crate::pg::server;

/// Everything that an open archive depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiverSettings {
    /// Where objects live.
    pub store: StoreConfig,
    /// What is archived there, and how.
    pub archiving: Archiving,
}

/// The settings that are in effect now, and what the server is now: a standby
/// may have been promoted.
///
/// # Errors
/// As [`gucs::store_config`].
pub fn current() -> Result<ArchiverSettings> {
    Ok(ArchiverSettings {
        store: gucs::store_config()?,
        archiving: Archiving {
            wal_directory: PathBuf::from(WAL_DIRECTORY),
            compression: gucs::compression()?,
            uploads: gucs::wal_upload_concurrency(),
            standby: server::in_recovery(),
        },
    })
}
