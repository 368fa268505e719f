//! What a server does by itself at certain times, and never twice.
//!
//! A [`Schedule`] says when: each time is a [`Slot`]. Several servers may share a prefix, so
//! for each slot the prefix decides who works: the server that creates a claim there, which
//! only one of them can. A claim that is not kept alive is taken over with a claim of the
//! next number. Times are the store's, so that the clock of a single host decides nothing.
//!
//! * `cron`: when; `run`: what is done, and for which slot.
//! * `clock`: what time it is for the store.
//! * `decide`: from what the prefix has of a slot, what a server is to do; reads nothing.
//! * `claim`: a run, from its claim to its end; `objects`: what is stored of it.
//! * `history`: what was done.

mod claim;
mod clock;
mod cron;
mod decide;
mod history;
mod objects;
mod run;

pub use claim::{Claim, Hold, Node, Outcome, inspect, look, skip};
pub use clock::Clock;
pub use cron::Schedule;
pub use decide::{Decision, RENEW_AFTER};
pub use history::{history, prune};
pub use objects::Entry;
pub use run::{Job, Role, Slot};

#[cfg(test)]
mod tests;
