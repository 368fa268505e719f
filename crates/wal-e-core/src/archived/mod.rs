//! The door through which archived objects are read and written.
//!
//! * `open`: out of the store, decrypted and decoded, with the name of the object in every error.
//! * `create`: encoded and encrypted, on the way into the store; `aside`: on a thread of its own.
//! * `checksum`: what is kept with an object of its content.
//! * `wal_file`: whether what came is the WAL file of that name.
//!
//! What is between the bytes of a file and the bytes of its object stands here and nowhere
//! else.

mod checksum;
mod create;
mod open;
mod wal_file;

pub(crate) use checksum::ContentChecksum;
pub use create::{Encoder, Pieces, encode_aside};
pub(crate) use open::form;
pub use open::{ArchivedObject, damaged, read_failed};
pub(crate) use wal_file::Content;
