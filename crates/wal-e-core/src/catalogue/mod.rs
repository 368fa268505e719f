//! What the archive has: base backups and WAL. Everything here only reads.
//!
//! * `backups`: which base backups there are, and what is known of each without reading it.
//! * `stored_backup`: the objects of one base backup; `tar_set`: which of those among its
//!   tars are its own; `cold`: which of them have to be restored from their storage class.
//! * `locate`: the objects of one WAL file; `nearby`: the same, for stores where a listing
//!   reads a whole directory.
//! * `histories`: the histories of timelines; `asked`: what a server that follows one asks for.
//! * `wal_inventory`: which WAL segments there are; `wal_listing`: found out by one listing.

pub(crate) mod asked;
pub(crate) mod backups;
pub(crate) mod cold;
pub(crate) mod histories;
pub(crate) mod locate;
pub(crate) mod nearby;
pub(crate) mod stored_backup;
pub(crate) mod tar_set;
pub(crate) mod wal_inventory;
pub(crate) mod wal_listing;

pub use backups::{BackupInfo, BackupKind, list};
pub(crate) use backups::{list_sound, newest_identified, stored};
pub use histories::history;
pub use locate::{KeyEnding, Located, locate};
