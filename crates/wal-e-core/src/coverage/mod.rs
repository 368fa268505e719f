//! Which WAL an archive has, and which it lacks.
//!
//! An [`Archive`] is what one listing of the WAL, the histories of timelines and the sentinels
//! say. From that, and from what a server still has in `pg_wal`, follows what is missing, and
//! what becomes of it.
//!
//! * `branches`: which timelines a server can follow from a backup.
//! * `backups`: with which base backups a restore can begin.
//! * `archive`: what the archive has; `own_wal`: what a server has.
//! * `holes`: what is missing, judged; `advice`: what to do about it;
//!   `lost`: what is gone for good.
//! * `rows`: both as they are shown; `encryption`: how that is encrypted.
//! * `repair`: archives again what is missing.
//! * `windows`: the moments to which a restore is possible, as the planner of restores sees them.

mod advice;
mod archive;
mod backups;
mod branches;
mod encryption;
mod holes;
mod lost;
mod own_wal;
mod repair;
mod rows;
mod windows;

#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use backups::Backups;
pub(crate) use backups::{lacking, segment_size};
pub use branches::Branches;
pub use encryption::{WalEncryption, encryption};
pub use holes::Status;
pub use lost::LostWal;
pub use own_wal::OwnWal;
pub use repair::{Repaired, repair};
pub use rows::{Stretch, TimelineRow, WalRange};
pub use windows::windows;
