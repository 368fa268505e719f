//! Base backups: taken, listed, verified, fetched.

mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod list;
mod manifest;
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
mod verify;
mod walk;

#[cfg(test)]
mod tests;

pub use fetch::{FetchProgress, FetchRequest, Fetched, fetch};
pub use list::{BackupInfo, list};
pub(crate) use list::{newest_identified, stored};
pub use progress::{Phase, Progress};
pub use push::{BackupPush, BackupStart, BackupStop, PushOptions};
pub use recovery::{RecoveryConfig, RecoveryTarget};
pub use unfinished::Taker;
pub use verify::{Finding, Verified, VerifyProgress, VerifyRequest, verify};
