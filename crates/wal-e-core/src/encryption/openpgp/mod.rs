//! Messages of OpenPGP, to read what WAL-G and WAL-E encrypted with it. None is written.
//!
//! The crate `pgp` does it: packets, ciphers and keys. What is read must have an integrity
//! check: a message without one (of the time before 2002, or of `gpg --disable-mdc`) is
//! refused. The check of the usual kind stands at the end of the message, so that content is
//! given before it is known to be right, as WAL-G does it, too: it was right if the end is
//! reached without an error.

mod beginning;
mod key;
mod message;
mod secret;

pub(super) use beginning::is_openpgp;
pub use key::OpenPgpKey;
pub(super) use message::OpenPgpReader;
pub use secret::OpenPgpSecret;
