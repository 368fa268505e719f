//! What the archive has: base backups and WAL. Everything here only reads.
//!
//! * `backups`: which base backups there are; `backup_info`: what is known of each without
//!   reading it; `begun`: what one that is not complete says of itself.
//! * `stored_backup`: the objects of one base backup; `tar_set`: which of those among its
//!   tars are its own; `cold`: which of them have to be restored from their storage class.
//! * `locate`: the objects of one WAL file; `around`: what there is around its place.
//! * `histories`: the histories of timelines; `asked`: what a server that follows one asks for.
//! * `wal_inventory`: which WAL segments there are; `wal_listing`: found out by one listing;
//!   `wal_pages`: that listing, several pages at a time.

pub(crate) mod around;
pub(crate) mod asked;
pub(crate) mod backup_info;
pub(crate) mod backups;
pub(crate) mod begun;
mod chains;
pub(crate) mod cold;
pub(crate) mod histories;
pub(crate) mod locate;
pub(crate) mod stored_backup;
pub(crate) mod tar_set;
pub(crate) mod wal_inventory;
pub(crate) mod wal_listing;
pub(crate) mod wal_pages;

pub use backup_info::{BackupInfo, BackupKind, list};
pub(crate) use backup_info::{StoredSentinel, sentinels};
pub(crate) use backups::{list_sound, newest_identified};
pub(crate) use begun::read_begun;
pub use chains::{BackupChain, chains};
pub use histories::history;
pub use locate::{KeyEnding, Located, locate};
