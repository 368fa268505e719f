//! Finding out how an object is encrypted, and with which key.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::str::FromStr;

use super::openpgp::{OpenPgpReader, is_openpgp};
use super::pieces::fill;
use super::secret_stream::{HEADER_BYTES, STORED_CHUNK_BYTES, opens};
use super::{Fingerprint, Key, Keyring, SecretStreamReader};
use crate::error::{Error, ErrorKind, Result};

/// How much of an object [`open`] and [`form_of`] look at.
pub(crate) const BEGINNING_BYTES: usize = HEADER_BYTES + STORED_CHUNK_BYTES;

/// How an object is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Not at all.
    Plain,
    /// As a secret stream of libsodium.
    Libsodium,
    /// As a message of OpenPGP.
    OpenPgp,
}

impl Form {
    const ALL: [Self; 3] = [Form::Plain, Form::Libsodium, Form::OpenPgp];

    /// The word for it in every list.
    pub fn as_str(self) -> &'static str {
        match self {
            Form::Plain => "none",
            Form::Libsodium => "libsodium",
            Form::OpenPgp => "openpgp",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|form| form.as_str() == word).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, format!("unknown form of encryption \"{word}\""))
        })
    }
}

/// The content of an object, decrypted. Compressed content stays so.
pub struct Opened<'a> {
    content: Box<dyn Read + Send + 'a>,
    form: Form,
    key: Option<Fingerprint>,
}

impl<'a> Opened<'a> {
    /// How it is encrypted.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The key that opened it, if it is encrypted.
    pub fn key(&self) -> Option<&Fingerprint> {
        self.key.as_ref()
    }

    fn plain(content: impl Read + Send + 'a) -> Self {
        Opened { content: Box::new(content), form: Form::Plain, key: None }
    }

    fn libsodium(stream: impl Read + Send + 'a, key: &Key) -> Self {
        Opened {
            content: Box::new(SecretStreamReader::new(stream, key)),
            form: Form::Libsodium,
            key: Some(key.fingerprint()),
        }
    }

    fn openpgp(stored: impl Read + Send + 'a, keyring: &Keyring) -> io::Result<Self> {
        let reader = OpenPgpReader::new(stored, keyring.openpgp()?)?;
        let key = Some(reader.key().clone());
        Ok(Opened { content: Box::new(reader), form: Form::OpenPgp, key })
    }
}

impl Read for Opened<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

/// Gives the content of an object that is `stored`: of a libsodium stream if one of the keys
/// opens its beginning, of a message of OpenPGP if it begins as one, and as it is if
/// `looks_plain` says so of its first bytes, which may be all there are. An empty object, and
/// with an empty keyring each other one, is passed on as it is, too: who decodes it says best what
/// is wrong with it.
///
/// What is neither is [`ErrorKind::Config`] inside the `io::Error`: it cannot be told whether
/// its key is missing or its beginning is damaged. Damage after the beginning shows while
/// reading, and is [`ErrorKind::Corrupt`].
///
/// Reads about 8 KiB of the object.
pub fn open<'a>(
    mut stored: impl Read + Send + 'a,
    keyring: &Keyring,
    looks_plain: impl Fn(&[u8]) -> bool,
) -> io::Result<Opened<'a>> {
    let mut beginning = vec![0; BEGINNING_BYTES];
    let length = fill(&mut stored, &mut beginning)?;
    beginning.truncate(length);
    let recognised = recognise(&beginning, keyring, looks_plain);
    let passes = keyring.is_empty() || beginning.is_empty();
    let whole = Cursor::new(beginning).chain(stored);
    match recognised {
        Recognised::Libsodium(key) => Ok(Opened::libsodium(whole, key)),
        Recognised::OpenPgp => Opened::openpgp(whole, keyring),
        Recognised::Plain => Ok(Opened::plain(whole)),
        Recognised::Unknown if passes => Ok(Opened::plain(whole)),
        Recognised::Unknown => Err(not_opened().into()),
    }
}

/// What the beginning of an object shows.
enum Recognised<'k> {
    Libsodium(&'k Key),
    OpenPgp,
    Plain,
    Unknown,
}

fn recognise<'k>(
    beginning: &[u8],
    keyring: &'k Keyring,
    looks_plain: impl Fn(&[u8]) -> bool,
) -> Recognised<'k> {
    match keyring.reading().iter().find(|key| opens(beginning, key)) {
        Some(key) => Recognised::Libsodium(key),
        None if is_openpgp(beginning) => Recognised::OpenPgp,
        None if looks_plain(beginning) => Recognised::Plain,
        None => Recognised::Unknown,
    }
}

/// How an object is encrypted whose first [`BEGINNING_BYTES`] are these, or all that it has.
/// `None` when none of the keys opens it, and it is not known to be without encryption either.
pub(crate) fn form_of(
    beginning: &[u8],
    keyring: &Keyring,
    looks_plain: impl Fn(&[u8]) -> bool,
) -> Option<Form> {
    if beginning.is_empty() {
        return None;
    }
    match recognise(beginning, keyring, looks_plain) {
        Recognised::Libsodium(_) => Some(Form::Libsodium),
        Recognised::OpenPgp => Some(Form::OpenPgp),
        Recognised::Plain => Some(Form::Plain),
        Recognised::Unknown => None,
    }
}

fn not_opened() -> Error {
    Error::new(ErrorKind::Config, "no configured key opens it")
        .with_detail("It does not begin as content that is not encrypted. Either it was encrypted with a key that is not configured, or its beginning is damaged.")
        .with_hint("Configure the key that it was written with, as \"WALG_LIBSODIUM_KEY_PATH\" or as a further key to read with.")
        .that_lacks_a_key()
}
