//! Archives as WAL-G and WAL-E write them, made without wal_e.
//!
//! A [`Source`] is a server whose WAL is collected by `cp`; a [`Snapshot`] is a
//! copy of its files, taken between `pg_backup_start` and `pg_backup_stop`.
//! [`WalG`] and [`WalE`] make the objects of a base backup of it: tars by Python's
//! `tarfile`, compressed with the command line programs ([`Codec`]), perhaps encrypted
//! by libsodium or gpg ([`Cipher`]), names and JSON by the facts about their formats.
//! [`increment`] makes the changed pages of delta backups.

mod cipher;
mod codec;
mod extra_files;
mod gnupg;
pub mod increment;
mod snapshot;
mod source;
mod tar;
mod wal_e;
mod wal_g;

pub use cipher::{Cipher, Coding, give_file};
pub use codec::Codec;
pub use extra_files::ExtraFiles;
pub use gnupg::Gnupg;
pub use snapshot::{Entry, Snapshot};
pub use source::{Source, passes_verification};
pub use tar::TarFormat;
pub use wal_e::WalE;
pub use wal_g::{Backup, WalG};
