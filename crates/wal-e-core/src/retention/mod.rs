//! What of an archive is kept, and what may go.
//!
//! First comes a decision about each base backup ([`select`]): what rule keeps it, or that
//! none does. From the backups that stay follows what WAL they need ([`Needs`]). Both are
//! pure: they are told what there is, and read nothing.
//!
//! * `policy`, `calendar`: what a user wants to keep.
//! * `branches`: which timelines a server can follow from a backup.
//! * `select`: which backups stay, and why; `needs`: which WAL does.

mod branches;
mod calendar;
mod needs;
mod policy;
mod select;

pub use branches::Branches;
pub use calendar::Calendar;
pub use needs::{Needs, WalNeed};
pub use policy::{Policy, Request};
pub use select::{Backup, Decision, Extent, select};

#[cfg(test)]
mod tests;
