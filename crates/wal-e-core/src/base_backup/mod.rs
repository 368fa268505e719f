//! Base backups, taken.
//!
//! * `push`: the order of steps, from `pg_backup_start` to the sentinel.
//! * `walk`: what there is to back up.
//! * `delta`: what an incremental backup builds on, and what it has to store.
//! * `inspect`: what would make a backup fail, or useless.
//! * `tar_stream`: files as members of a tar.
//! * `progress`: how far it has come.

mod delta;
mod inspect;
mod member;
mod progress;
mod push;
mod start;
mod tar_stream;
mod wal_reach;
mod walk;

pub use delta::{Incremental, Origin, check as check_incremental};
pub use inspect::check;
pub use progress::{Phase, Progress, Share};
pub(crate) use push::killed_backups;
pub use push::{BackupPush, PushOptions};
pub use start::{BackupStart, BackupStop, Taker};
pub use walk::Cluster;
