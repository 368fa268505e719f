//! The part of wal_e that needs no PostgreSQL server.
//!
//! Two flows pass through here. A **WAL file** goes from `pg_wal` through
//! [`wal::push`] into the store and comes back through [`wal::fetch`]. A
//! **base backup** is written by [`base_backup::push`] as tar partitions, and
//! unpacked again by [`restore::fetch`]; it exists from the moment its
//! sentinel does.
//!
//! The rooms, from the ground up:
//!
//! * [`error`], [`notice`], [`config`]: what went wrong, what is worth saying,
//!   and the settings, as plain values.
//! * [`postgres`]: names and files that PostgreSQL made; pure parsing.
//! * [`layout`]: every object key; [`sentinel`]: the JSON objects of a backup.
//! * [`owner`]: which cluster a prefix belongs to.
//! * [`store`]: where objects live: `s3://`, `file://`, memory.
//! * [`codec`]: how bytes are compressed; [`encryption`]: what only a key opens; [`transfer`]: between blocking streams and stores.
//! * [`wal`] and [`base_backup`]: the order of steps.
//! * [`recovery`]: which backup and which WAL a target needs, and whether they are there.
//! * [`coverage`]: which WAL there is and which is missing.
//! * [`retention`]: what is kept, and what may go; [`schedule`]: what is done at certain times.
//! * [`report`]: all of it on one page.
//! * [`archiving`]: how far it is; [`check`]: whether a prefix can be used.
//! * [`event`]: what is announced as it happens.
//! * [`columns`]: text in columns; [`pace`]: how far work is, in words; [`rate_limit`]: bytes per second;
//!   [`certificate`]: what rustls does not read of one.
//!
//! Nothing here knows of pgrx, reads the environment, prints, keeps global
//! state or makes a runtime: the extension and the program do that.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod archived;
pub mod archiving;
pub mod base_backup;
pub mod catalogue;
pub mod certificate;
pub mod changed_blocks;
pub mod check;
pub mod codec;
pub mod columns;
pub mod config;
pub mod coverage;
mod durable_file;
pub mod encryption;
pub mod error;
pub mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod increment;
pub mod layout;
pub mod notice;
pub mod owner;
pub mod pace;
pub mod postgres;
pub mod rate_limit;
pub mod recovery;
pub mod report;
pub mod restore;
pub mod retention;
pub mod schedule;
pub mod sentinel;
pub mod store;
mod tasks;
pub mod transfer;
pub mod verify;
pub mod wal;

pub use error::{Error, ErrorKind, Result};
