//! Base backups, taken.
//!
//! * `push`: the order of steps, from `pg_backup_start` to the sentinel.
//! * `walk`: what there is to back up.
//! * `tar_stream`: files as members of a tar.
//! * `progress`: how far it has come.

mod progress;
mod push;
mod tar_stream;
mod walk;

pub use progress::{Phase, Progress};
pub use push::{BackupPush, BackupStart, BackupStop, PushOptions, Taker};
