//! Base backups, taken.
//!
//! * `push`: the order of steps, from `pg_backup_start` to the sentinel.
//! * `walk`: what there is to back up.
//! * `inspect`: what would make a backup fail, or useless.
//! * `tar_stream`: files as members of a tar.
//! * `progress`: how far it has come.

mod inspect;
mod progress;
mod push;
mod tar_stream;
mod walk;

pub use inspect::check;
pub use progress::{Phase, Progress};
pub(crate) use push::killed_backups;
pub use push::{BackupPush, BackupStart, BackupStop, PushOptions, Taker};
pub use walk::Cluster;
