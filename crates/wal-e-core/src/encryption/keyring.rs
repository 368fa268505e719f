//! The keys that a cluster has.

use std::sync::Arc;

use super::{Key, OpenPgpKey, OpenPgpSecret};
use crate::error::Result;

/// At most one key to write with, and any number to read with. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(Arc<Keys>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Keys {
    /// Those to read with, the one to write with first.
    reading: Vec<Key>,
    writes: bool,
    openpgp: Option<OpenPgpSecret>,
}

impl Keyring {
    /// Reads with all of them; `writing` need not be among `reading`.
    pub fn new(writing: Option<Key>, reading: Vec<Key>, openpgp: Option<OpenPgpSecret>) -> Self {
        let writes = writing.is_some();
        let mut keys: Vec<Key> = Vec::with_capacity(reading.len() + 1);
        for key in writing.into_iter().chain(reading) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Keyring(Arc::new(Keys { reading: keys, writes, openpgp }))
    }

    /// No keys: nothing is encrypted, and what is cannot be read.
    pub fn empty() -> Self {
        Keyring::default()
    }

    /// Whether there is no key of any kind.
    pub fn is_empty(&self) -> bool {
        self.0.reading.is_empty() && self.0.openpgp.is_none()
    }

    /// The key to write with. Without one, what is written is not encrypted.
    pub fn writing(&self) -> Option<&Key> {
        self.0.reading.first().filter(|_| self.0.writes)
    }

    /// The keys to read with, in the order in which they are tried: the one to write with comes
    /// first, and none comes twice.
    pub fn reading(&self) -> &[Key] {
        &self.0.reading
    }

    /// The keys that messages of OpenPGP are read with.
    ///
    /// # Errors
    /// Those of [`OpenPgpSecret::keys`].
    pub fn openpgp(&self) -> Result<&[OpenPgpKey]> {
        self.0.openpgp.as_ref().map_or(Ok(&[]), OpenPgpSecret::keys)
    }
}
