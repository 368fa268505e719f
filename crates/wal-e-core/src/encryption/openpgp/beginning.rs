//! The first bytes of a message.

/// Of the key that a message is for.
const KEY_ID_BYTES: usize = 8;

const ARMOUR: &[u8] = b"-----BEGIN PGP MESSAGE-----";

/// Whether it begins like an encrypted message (RFC 9580, sections 4.2 and 5.1,
/// 5.3): with a packet that holds a session key, its version, and how that is encrypted.
pub(in crate::encryption) fn is_openpgp(head: &[u8]) -> bool {
    if head.starts_with(ARMOUR) {
        return true;
    }
    let (public_key, length_bytes) = match *head {
        [0x84, ..] => (true, 1),
        [0x85, ..] => (true, 2),
        [0x86, ..] => (true, 4),
        [0x8C, ..] => (false, 1),
        [0x8D, ..] => (false, 2),
        [0x8E, ..] => (false, 4),
        [tag @ (0xC1 | 0xC3), length, ..] => {
            let length_bytes = match length {
                0..=191 => 1,
                192..=223 => 2,
                255 => 5,
                // Not for packets of this kind.
                224..=254 => return false,
            };
            (tag == 0xC1, length_bytes)
        }
        _ => return false,
    };
    let after_version = 2 + length_bytes;
    match head.get(1 + length_bytes) {
        // The key ID, and the algorithm (section 9.1): those that encrypt.
        Some(2 | 3) if public_key => match head.get(after_version + KEY_ID_BYTES) {
            Some(algorithm) => matches!(algorithm, 1 | 2 | 16 | 18 | 25 | 26),
            None => true,
        },
        Some(version) if public_key => *version == 6,
        Some(version) => matches!(version, 4..=6),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_session_key_is_an_encrypted_message() {
        for beginning in [
            &b"\x85\x01\x0C\x03\xAD\x0F\x32\x11\x9E\x55\x21\x60\x01\x08\x00"[..],
            b"\x84\x5E\x03\xAD\x0F\x32\x11\x9E\x55\x21\x60\x12\x01\x07\x40",
            b"\x8C\x0D\x04\x09\x03\x02\x5E\x21\x77\x90\x1A\xC4\x02\xE5\xFF\xD2",
            b"\x8D\x00\x0D\x04\x09\x03\x02",
            b"\xC1\xC0\x4C\x03\xAD\x0F\x32\x11\x9E\x55\x21\x60\x01\x08\x00",
            b"\xC3\x1E\x06\x1A\x09\x02\x0B\x03\x08",
            b"-----BEGIN PGP MESSAGE-----\n\nhQEMA60PMhGeVSFgAQ",
        ] {
            assert!(is_openpgp(beginning), "{beginning:02X?}");
        }
        // Signed, compressed or literal, for a key that only signs, or just another byte that is
        // set.
        for beginning in [
            &b"\x85\x01\x0C\x09"[..],
            b"\x84\x5E\x03\xAD\x0F\x32\x11\x9E\x55\x21\x60\x16",
            b"\xC1\xE1\x03",
            b"\xA3\x01\x03",
            b"\x84",
            b"",
        ] {
            assert!(!is_openpgp(beginning), "{beginning:02X?}");
        }
    }
}
