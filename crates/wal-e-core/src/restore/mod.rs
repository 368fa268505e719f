//! Base backups, restored.
//!
//! * `fetch`: the order of steps, from the chain of backups to `pg_control`, which is last.
//! * `chain`: the backups that one restore reads; `selection`: which files of each.
//! * `destination`: the directories that are written to; `free_space`: whether they have room;
//!   `journal` and `resume`: what of an interrupted restore can stay.
//! * `unpack`: the members of a tar, onto disk or, for a verification, into nothing; it stands on
//!   `tar_reader` and `member`. `assembly`: files of pages of several backups; `deferred`: what goes
//!   to the disk last; `syncing`: files on their way to the disk; `manifest`: what they must be.
//! * `tablespaces` and `settings`: how the restored cluster is set up.

pub(crate) mod assembly;
pub(crate) mod chain;
mod deferred;
mod destination;
mod fetch;
mod free_space;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod journal;
pub(crate) mod manifest;
mod member;
mod resume;
pub(crate) mod selection;
mod settings;
mod syncing;
mod tablespaces;
pub(crate) mod tar_reader;
pub(crate) mod unpack;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use destination::remove_file;
pub use fetch::{Damage, DamagedObject, FetchProgress, FetchRequest, Fetched, fetch};
pub use resume::interrupted_restore;
pub use settings::{ArchiveMode, RecoveryConfig};
pub use tablespaces::{CreatedTablespace, TablespacePlaces};
