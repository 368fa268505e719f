//! Decrypting messages.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex};

use pgp::composed::{DecryptionOptions, Edata, Esk, Message, PlainSessionKey, TheRing};
use pgp::types::Seipdv1ReadMode;

use super::OpenPgpKey;
use crate::encryption::Fingerprint;
use crate::error::{Error, ErrorKind};

/// How often content may be compressed: once is usual.
const MOST_LAYERS: usize = 4;

const DECRYPT: &str = "Decrypt it with gpg, and store what comes out in its place.";

/// Gives the content of a message, as it streams.
pub(in crate::encryption) struct OpenPgpReader<'a> {
    message: Message<'a>,
    key: Fingerprint,
    failure: Failure,
    failed: bool,
}

impl<'a> OpenPgpReader<'a> {
    /// Decrypts `stored`, armoured or not, with one of `keys`.
    ///
    /// When none is a key of the message, or it is of a kind that is not read, that is
    /// [`ErrorKind::Config`]; a message that is damaged is [`ErrorKind::Corrupt`].
    pub(in crate::encryption) fn new(
        stored: impl Read + Send + 'a,
        keys: &[OpenPgpKey],
    ) -> io::Result<Self> {
        let failure = Failure::default();
        let stored = BufReader::new(Stored { inner: stored, failure: failure.clone() });
        match decrypted(stored, keys) {
            Ok((message, key)) => Ok(OpenPgpReader { message, key, failure, failed: false }),
            Err(error) => Err(failure.instead_of(error)),
        }
    }

    /// The key that it was decrypted with.
    pub(in crate::encryption) fn key(&self) -> &Fingerprint {
        &self.key
    }
}

impl Read for OpenPgpReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Nothing would be read, which for the message is the end.
        if buffer.is_empty() {
            return Ok(0);
        }
        // The message would panic.
        if self.failed {
            return Err(io::Error::other("an earlier read failed"));
        }
        self.message.read(buffer).map_err(|error| {
            self.failed = true;
            self.failure.instead_of(explained_io(&error))
        })
    }
}

fn decrypted<'a>(
    stored: BufReader<Stored<impl Read + Send + 'a>>,
    keys: &[OpenPgpKey],
) -> Result<(Message<'a>, Fingerprint), Error> {
    // Whether it is damaged, too, is not known then.
    if keys.is_empty() {
        return Err(not_opened());
    }
    let (message, _) = Message::from_reader(stored).map_err(|error| explained(&error))?;
    if let Message::Encrypted { edata: Edata::SymEncryptedData { .. }, .. } = message {
        return Err(Error::new(
            ErrorKind::Config,
            "it is an OpenPGP message without an integrity check, which is not read",
        )
        .with_hint(
            "Decrypt it with gpg, which has to be told to go on without the check, and store what comes out in its place.",
        ));
    }
    let Message::Encrypted { esk: session_keys, .. } = &message else { return Err(damaged()) };
    let (session_key, key) = session_key(session_keys, keys).ok_or_else(not_opened)?;
    let ring = TheRing {
        session_keys: vec![session_key],
        decrypt_options: DecryptionOptions::new()
            .enable_gnupg_aead()
            // Not all of it in memory first.
            .set_seipdv1_read_mode(Seipdv1ReadMode::Streaming),
        ..TheRing::default()
    };
    let (mut message, _) =
        message.decrypt_the_ring(ring, true).map_err(|error| explained(&error))?;
    for _ in 0..MOST_LAYERS {
        if !message.is_compressed() {
            break;
        }
        message = message.decompress().map_err(|error| not_decompressed(&error))?;
    }
    if message.is_compressed() || message.is_encrypted() {
        return Err(Error::new(ErrorKind::Config, "it is an OpenPGP message inside of others")
            .with_hint(DECRYPT));
    }
    Ok((message, key))
}

/// The session key of a message, and the key that it was encrypted to. One that is for a hidden
/// recipient is tried with each key.
fn session_key(encrypted: &[Esk], keys: &[OpenPgpKey]) -> Option<(PlainSessionKey, Fingerprint)> {
    let encrypted = encrypted.iter().filter_map(|esk| match esk {
        Esk::PublicKeyEncryptedSessionKey(encrypted) => Some(encrypted),
        Esk::SymKeyEncryptedSessionKey(_) => None,
    });
    encrypted
        .flat_map(|encrypted| keys.iter().map(move |key| (encrypted, key)))
        .find_map(|(encrypted, key)| Some((key.session_key(encrypted)?, key.fingerprint())))
}

/// The error for a message that none of the keys opens.
fn not_opened() -> Error {
    Error::new(ErrorKind::Config, "it is encrypted with OpenPGP, and no configured key opens it")
        .with_hint("Configure the secret key of one of its recipients, as \"WALG_PGP_KEY_PATH\", or decrypt it with gpg, and store what comes out in its place.")
        .that_lacks_a_key()
}

fn explained_io(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<pgp::errors::Error>()) {
        Some(error) => explained(error),
        None => damaged(),
    }
}

/// Without the words of the crate where it speaks of the content: they may quote it.
fn explained(error: &pgp::errors::Error) -> Error {
    use pgp::errors::Error::{Unimplemented, Unsupported};
    match error {
        Unimplemented { message, .. } | Unsupported { message, .. } => Error::new(
            ErrorKind::Config,
            format!("it is an OpenPGP message of a kind that is not supported: {message}"),
        )
        .with_hint(DECRYPT),
        _ => damaged(),
    }
}

/// What is compressed in a way that the crate does not know has no kind of error of its own.
fn not_decompressed(error: &pgp::errors::Error) -> Error {
    match error {
        pgp::errors::Error::IO { source, .. } if source.to_string().starts_with("unsupported") => {
            Error::new(
                ErrorKind::Config,
                format!("it is an OpenPGP message of a kind that is not supported: {source}"),
            )
            .with_hint(DECRYPT)
        }
        _ => explained(error),
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "invalid OpenPGP message: it was altered or truncated")
}

/// Why the object could not be read: on its way through the message, an error loses what it is.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    fn instead_of(&self, error: Error) -> io::Error {
        let mut failure = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.take().unwrap_or_else(|| error.into())
    }

    fn keep(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
    }
}

/// The object as it is stored. Keeps its error.
struct Stored<R> {
    inner: R,
    failure: Failure,
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure.keep(error);
                    return Err(io::Error::other("the object could not be read"));
                }
                Ok(length) => return Ok(length),
            }
        }
    }
}

impl<R> fmt::Debug for Stored<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stored")
    }
}
