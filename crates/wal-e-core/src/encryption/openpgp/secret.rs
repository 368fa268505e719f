//! Secret keys of OpenPGP that are read when they are needed.

use std::fmt;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use super::OpenPgpKey;
use crate::error::Result;

/// Text that holds secret keys, and what unlocks them. To unlock takes a good part of a second,
/// and hardly an object needs it: so it is done once, for the first message of OpenPGP.
pub struct OpenPgpSecret {
    content: Zeroizing<Vec<u8>>,
    passphrase: Option<Zeroizing<String>>,
    /// Where they were found, for errors.
    source: String,
    keys: OnceLock<Result<Vec<OpenPgpKey>>>,
}

impl OpenPgpSecret {
    /// What `content` holds, as [`OpenPgpKey::parse`] reads it. `source` says where it was
    /// found, as a whole sentence.
    pub fn new(
        content: Zeroizing<Vec<u8>>,
        passphrase: Option<Zeroizing<String>>,
        source: impl Into<String>,
    ) -> Self {
        OpenPgpSecret { content, passphrase, source: source.into(), keys: OnceLock::new() }
    }

    /// Keys that are known.
    #[cfg(test)]
    pub(in crate::encryption) fn of_keys(keys: Vec<OpenPgpKey>) -> Self {
        let secret = OpenPgpSecret::new(Vec::new().into(), None, "A test has it.");
        OpenPgpSecret { keys: OnceLock::from(Ok(keys)), ..secret }
    }

    /// The keys.
    ///
    /// # Errors
    /// Those of [`OpenPgpKey::parse`].
    pub fn keys(&self) -> Result<&[OpenPgpKey]> {
        let passphrase = self.passphrase.as_ref().map(|passphrase| passphrase.as_str());
        let keys = self.keys.get_or_init(|| OpenPgpKey::parse(&self.content, passphrase));
        keys.as_deref().map_err(|error| error.clone().with_detail(self.source.clone()))
    }
}

impl PartialEq for OpenPgpSecret {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content && self.passphrase == other.passphrase
    }
}

impl Eq for OpenPgpSecret {}

impl fmt::Debug for OpenPgpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenPgpSecret(***)")
    }
}
