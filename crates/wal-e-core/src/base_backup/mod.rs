//! Base backups, taken.
//!
//! * `push`: the order of steps, from `pg_backup_start` to the sentinel.
//! * `walk`: what there is to back up.
//! * `delta`: what an incremental backup builds on, and what it has to store.
//! * `draft`: the objects of a backup that is being made, and their order.
//! * `inspect`: what would make a backup fail, or useless.
//! * `merge`: a full backup that is made of a delta and those that it builds on.
//! * `tar_stream`: files as members of a tar.
//! * `under_way`: whether a backup without a sentinel is still being made.
//! * `verified`: what verifications have found of the backups of a chain.
//! * `progress`: how far it has come.

mod delta;
mod draft;
mod inspect;
mod member;
mod merge;
mod progress;
mod push;
mod start;
mod tar_stream;
mod under_way;
mod verified;
mod wal_reach;
mod walk;

pub use delta::{Incremental, Origin, check as check_incremental};
pub use inspect::check;
pub use merge::{MergeRequest, merge};
pub use progress::{Phase, Progress, Share};
pub use push::{BackupPush, PushOptions};
pub use start::{BackupStart, BackupStop, Taker};
pub(crate) use under_way::{delete_objects, is_under_way};
pub use walk::Cluster;
