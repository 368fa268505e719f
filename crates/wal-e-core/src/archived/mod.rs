//! The door through which archived objects are read and written.
//!
//! * `open`: out of the store, decoded, with the name of the object in every error.
//! * `create`: encoded, on the way into the store.
//!
//! What is between the bytes of a file and the bytes of its object stands here and nowhere
//! else.

mod create;
mod open;

pub use create::Encoder;
pub use open::{ArchivedObject, RESTORE_IT, damaged, read_failed};
