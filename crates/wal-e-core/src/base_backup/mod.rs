//! Base backups: taken, listed, verified, fetched.

mod chain;
mod deferred;
mod fetch;
mod free_space;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod increment;
mod journal;
mod list;
mod manifest;
mod member;
mod own_wal;
mod partition;
mod progress;
mod push;
mod recovery;
mod resume;
mod selection;
mod stored;
mod syncing;
mod tablespaces;
mod tar_reader;
mod tar_set;
mod tar_stream;
mod target;
mod unpack;
mod verify;
mod walk;

#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod tests;

pub use fetch::{Damage, DamagedObject, FetchProgress, FetchRequest, Fetched, fetch};
pub use list::{BackupInfo, BackupKind, list};
pub(crate) use list::{list_sound, newest_identified, stored};
pub(crate) use own_wal::OwnWal;
pub use progress::{Phase, Progress};
pub use push::{BackupPush, BackupStart, BackupStop, PushOptions, Taker};
pub use recovery::{ArchiveMode, RecoveryConfig};
pub use resume::interrupted_restore;
pub use tablespaces::{CreatedTablespace, TablespacePlaces};
pub use verify::{Finding, Verified, VerifyProgress, VerifyRequest, verify};
