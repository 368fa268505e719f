//! Keys of libsodium's secret streams, as WAL-G takes them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// The fewest bytes of a key that is used as it is written, as in WAL-G: less is guessed.
const FEWEST_BYTES: usize = 25;

/// What is hashed before a key for its fingerprint, so that it is the hash of nothing else.
const FINGERPRINT_LABEL: &[u8] = b"wal-e key fingerprint\0";

/// WAL-G does not look at the bits that the last character has too many.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

const MAKE_ONE: &str = "\"openssl rand -hex 32\" makes a key for the transform \"hex\".";

/// How the text of a key stands for its bytes: `WALG_LIBSODIUM_KEY_TRANSFORM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyTransform {
    /// The text is the key: its first 32 bytes, or all of it and zeros.
    #[default]
    None,
    /// 64 hexadecimal digits.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl FromStr for KeyTransform {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(KeyTransform::None),
            "hex" => Ok(KeyTransform::Hex),
            "base64" => Ok(KeyTransform::Base64),
            // Not quoted: a key may have been given where its transform belongs.
            _ => Err(Error::new(ErrorKind::Config, "unknown transform of keys")
                .with_hint("It is \"none\", \"hex\" or \"base64\".")),
        }
    }
}

impl fmt::Display for KeyTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyTransform::None => "none",
            KeyTransform::Hex => "hex",
            KeyTransform::Base64 => "base64",
        })
    }
}

/// A key of libsodium's secret streams: printed as its fingerprint, compared in no hurry, and
/// wiped when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Key(bytes)
    }

    /// The key that `text` stands for. White space around it is part of it only when it is the
    /// key itself: a file is for [`of_file`](Self::of_file).
    ///
    /// A key of the wrong form is [`ErrorKind::Config`]; the error says what is wrong and
    /// nothing of the key.
    pub fn parse(text: &[u8], transform: KeyTransform) -> Result<Self> {
        match transform {
            KeyTransform::None => as_it_is(text),
            KeyTransform::Hex => exactly(&of_hex(text)?),
            KeyTransform::Base64 => exactly(&of_base64(text)?),
        }
    }

    /// The key in a file, `WALG_LIBSODIUM_KEY_PATH`: as [`parse`](Self::parse), without the
    /// white space around it.
    pub fn of_file(content: &[u8], transform: KeyTransform) -> Result<Self> {
        Key::parse(trimmed(content), transform)
    }

    /// A name for the key that gives nothing of it away.
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = Sha256::new().chain_update(FINGERPRINT_LABEL).chain_update(self.0).finalize();
        Fingerprint(hash[..4].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The key itself, for those that encrypt with it or derive from it.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(other.0).fold(0, |all, (a, b)| all | (a ^ b));
        differences == 0
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

/// The name of a key: of a [`Key`] eight hexadecimal digits, which are the beginning of a
/// hash; of an OpenPGP key its key ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The key ID of a key of OpenPGP.
    pub(super) fn of_openpgp(id: &pgp::types::KeyId) -> Self {
        Fingerprint(id.to_string().to_uppercase())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message).with_hint(MAKE_ONE)
}

fn as_it_is(text: &[u8]) -> Result<Key> {
    if text.len() < FEWEST_BYTES {
        return Err(invalid(format!("the key has less than {FEWEST_BYTES} bytes")));
    }
    let used = &text[..text.len().min(KEY_BYTES)];
    let mut key = Key([0; KEY_BYTES]);
    key.0[..used.len()].copy_from_slice(used);
    Ok(key)
}

fn exactly(bytes: &[u8]) -> Result<Key> {
    if bytes.len() != KEY_BYTES {
        let message = format!("the key is of {} bytes instead of {KEY_BYTES}", bytes.len());
        return Err(invalid(message));
    }
    let mut key = Key([0; KEY_BYTES]);
    key.0.copy_from_slice(bytes);
    Ok(key)
}

fn of_hex(text: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    // Of its full size from the start: what grows leaves its old place behind as it was.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.chunks(2) {
        match *pair {
            [high, low] => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => bytes.push(high << 4 | low),
                _ => return Err(invalid("the key has characters that are no hexadecimal digits")),
            },
            _ => return Err(invalid("the key has an odd number of hexadecimal digits")),
        }
    }
    Ok(bytes)
}

fn of_base64(text: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    // WAL-G reads over line ends.
    let mut line = Zeroizing::new(Vec::with_capacity(text.len()));
    line.extend(text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')));
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(line.len())]);
    // The decoder's own words would name a character of the key.
    let length = BASE64
        .decode_slice(&*line, &mut bytes)
        .map_err(|_| invalid("the key is not valid base64 with padding"))?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Without the white space around it. A key need not be text.
fn trimmed(content: &[u8]) -> &[u8] {
    match std::str::from_utf8(content) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => content.trim_ascii(),
    }
}
