//! How far a restore can go: which base backup, which timelines and which WAL a
//! recovery target needs, and whether the archive has all of it.
//!
//! A server finds out while it recovers, and then it is late: it stops at a
//! missing segment as if the WAL ended there, and with no target opens a database
//! that lacks data. [`plan`] finds out before anything is written. It follows the
//! server step by step: the timeline that it will choose, the file that it will
//! ask for at each position, the record at which it will stop.
//!
//! * `target`: what can be asked for.
//! * `chain`: the segments of one history of timelines, up to the first that is
//!   missing.
//! * `wal_source`: archived WAL, read for what its records say.
//! * `backups`: base backups as starting points.
//! * `timelines`: which timeline the server will follow; `sides`: which others there are;
//!   `lives`: what happened on them, and when; `ambiguity`: whether another could be meant.
//! * `clusters`: which cluster wrote the WAL.
//! * `branch`: all of that for one base backup.
//! * `reach`: whether replay along it reaches the target.
//! * `scan`: all that is replayed, read record by record; `read_ahead`: what a server reads
//!   past its target.
//! * `plan`: the answer, among several base backups.
//! * `refusal`, `alternatives`: why not, and what can be reached instead.
//! * `windows`: all moments to which a plan is possible.

mod alternatives;
mod ambiguity;
mod backups;
mod branch;
mod chain;
mod clusters;
mod lives;
mod plan;
mod reach;
mod read_ahead;
mod refusal;
mod scan;
mod sides;
mod target;
mod timelines;
mod wal_source;
mod windows;

#[cfg(test)]
mod tests;

pub use ambiguity::TimelineFacts;
pub use backups::BackupChoice;
pub(crate) use backups::{Candidate, finished, prepare_all};
pub use plan::{Outcome, PlanRequest, ReadWal, RestorePlan, plan};
pub use refusal::{Nearest, Refusal};
pub use scan::NewTablespace;
pub use target::{RecoveryTarget, TargetTime, TargetTimeline, format_time};
pub(crate) use wal_source::{segment_header, segment_size};
pub use windows::Window;
pub(crate) use windows::windows;
