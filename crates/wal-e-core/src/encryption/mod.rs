//! Content that is encrypted before it leaves, and keys that open it.
//!
//! What is written, after compression, is the form of WAL-G with libsodium
//! ([`SecretStreamWriter`]). What is read is that ([`SecretStreamReader`]), messages of OpenPGP,
//! and content as it is. The name of an object does not say which of them it is, nor has a
//! secret stream a mark: [`open`] finds out, by trying the keys of a [`Keyring`].
//!
//! Damage, and content that ends too early, is [`ErrorKind::Corrupt`] inside the `io::Error`,
//! as it is for [`codec`]; content that no key opens is [`ErrorKind::Config`].
//!
//! No key enters a message, and what holds one is wiped when it is dropped.
//!
//! [`codec`]: crate::codec
//! [`ErrorKind::Config`]: crate::ErrorKind::Config
//! [`ErrorKind::Corrupt`]: crate::ErrorKind::Corrupt

mod key;
mod keyring;
mod open;
mod openpgp;
mod pieces;
mod secret_stream;

#[cfg(test)]
mod tests;

pub use key::{Fingerprint, Key, KeyTransform};
pub use keyring::Keyring;
pub(crate) use open::{BEGINNING_BYTES, form_of};
pub use open::{Form, Opened, open};
pub use openpgp::{OpenPgpKey, OpenPgpSecret};
pub use secret_stream::{SecretStreamReader, SecretStreamWriter};
