//! The checksum of its content that is kept with an object.
//!
//! It tells whether a file is the one that is archived, without reading it. It stands beside
//! the object, where others can read it. So with a key it is a code that only those who have the
//! key can make: of two contents nobody else can tell which of them was stored.

use sha2::{Digest, Sha256};

use crate::encryption::{Key, Keyring};

/// What tells the code from the checksum itself.
const KEYED: &str = "keyed:";

/// What is hashed before the key, so that the hash is one of nothing else.
const LABEL: &[u8] = b"wal-e checksum of content\0";

/// XXH3 of a content, 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentChecksum(pub(crate) u128);

impl ContentChecksum {
    /// As it is kept with an object that was written with this key, or with none.
    pub(crate) fn to_keep(self, key: Option<&Key>) -> String {
        match key {
            None => format!("{:032x}", self.0),
            Some(key) => {
                // Keyed hashing as HMAC does it (RFC 2104), with the hash of the label and the key.
                let own: [u8; 32] =
                    Sha256::new().chain_update(LABEL).chain_update(key.expose()).finalize().into();
                let inner = padded(&own, 0x36).chain_update(self.0.to_be_bytes()).finalize();
                let code = padded(&own, 0x5C).chain_update(inner).finalize();
                let code = code[..16].iter().map(|byte| format!("{byte:02x}"));
                format!("{KEYED}{}", code.collect::<String>())
            }
        }
    }

    /// Whether `kept` is that of this content, whichever of the keys it was made with.
    pub(crate) fn is(self, kept: &str, keyring: &Keyring) -> bool {
        match is_plain_checksum(kept) {
            true => kept == self.to_keep(None),
            false => keyring.reading().iter().any(|key| kept == self.to_keep(Some(key))),
        }
    }
}

/// Whether what was kept with an object is the checksum itself.
pub(crate) fn is_plain_checksum(kept: &str) -> bool {
    !kept.starts_with(KEYED)
}

fn padded(key: &[u8; 32], pad: u8) -> Sha256 {
    let mut block = [pad; 64];
    block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    Sha256::new().chain_update(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_key_knows_whether_it_is_the_content() {
        let (key, other) = (Key::new([7; 32]), Key::new([8; 32]));
        let content = ContentChecksum(0x0123_4567_89ab_cdef);
        let plain = content.to_keep(None);
        assert_eq!(plain, "00000000000000000123456789abcdef");
        let keyed = content.to_keep(Some(&key));
        assert!(keyed.starts_with(KEYED) && keyed.len() == KEYED.len() + 32, "{keyed}");
        assert_ne!(keyed, content.to_keep(Some(&other)));
        let ring = Keyring::new(Some(other.clone()), vec![key], None);
        assert!(content.is(&keyed, &ring) && content.is(&plain, &ring));
        assert!(!content.is(&keyed, &Keyring::new(Some(other), Vec::new(), None)));
        assert!(!ContentChecksum(1).is(&keyed, &ring) && !ContentChecksum(1).is(&plain, &ring));
    }
}
