//! Base backups: taken, listed, fetched.

mod list;
mod progress;
mod push;

pub use list::{BackupInfo, list};
pub use progress::{Phase, Progress};
pub use push::{BackupPush, BackupStart, BackupStop, PushOptions, Tablespace};
