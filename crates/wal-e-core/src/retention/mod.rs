//! What of an archive is kept, and what may go.
//!
//! A [`Survey`] finds out what there is. From it comes a decision about each base backup
//! ([`select`]): what rule keeps it, or that none does; from the backups that stay follows
//! what WAL they need ([`Needs`]). Both together are a [`Plan`], to be shown or carried out.
//! Decisions and needs are pure: they are told what there is, and read nothing.
//!
//! * `policy`, `calendar`: what a user wants to keep.
//! * `select`: which backups stay, and why; `needs`: which WAL does.
//! * `survey`: what the archive has; `plan`: what becomes of it; `carry_out`: deletes.
//! * `mark`: which backups are permanent.

mod calendar;
mod carry_out;
mod mark;
mod needs;
mod plan;
mod policy;
mod select;
mod survey;

pub use crate::coverage::Branches;
pub use calendar::Calendar;
pub use carry_out::carry_out;
pub use mark::mark;
pub use needs::{Needs, WalNeed};
pub use plan::{Action, Item, ItemKind, Plan};
pub use policy::{Garbage, Policy, Request, parse_window};
pub use select::{Backup, Decision, Extent, select};
pub use survey::{Survey, Tally};

#[cfg(test)]
mod tests;
