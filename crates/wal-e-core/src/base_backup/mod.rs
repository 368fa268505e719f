//! Base backups: taken, listed, fetched.

mod fetch;
mod list;
mod member;
mod partition;
mod progress;
mod push;
mod recovery;
mod stored;
mod tar_stream;
mod target;
mod unfinished;
mod unpack;
mod walk;

#[cfg(test)]
mod tests;

pub use fetch::{FetchProgress, FetchRequest, Fetched, fetch};
pub use list::{BackupInfo, list};
pub(crate) use list::{list_sound, newest_identified, stored};
pub use progress::{Phase, Progress};
pub use push::{BackupPush, BackupStart, BackupStop, PushOptions};
pub use recovery::RecoveryConfig;
pub use unfinished::Taker;
