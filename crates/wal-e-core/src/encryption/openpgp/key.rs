//! Secret keys of OpenPGP.

use std::borrow::Cow;
use std::fmt;
use std::io::Cursor;

use pgp::composed::{Deserializable, PlainSessionKey, SignedSecretKey};
use pgp::packet::PublicKeyEncryptedSessionKey;
use pgp::types::{DecryptionKey, EskType, KeyDetails, Password, PkeskVersion};
use zeroize::Zeroizing;

use crate::encryption::Fingerprint;
use crate::error::{Error, ErrorKind, Result};

const ARMOUR: &[u8] = b"-----BEGIN ";

/// A secret key of OpenPGP with its subkeys, unlocked. Its secret parts are wiped when it is
/// dropped; it is printed as its key ID.
pub struct OpenPgpKey(SignedSecretKey);

impl OpenPgpKey {
    /// The secret keys in `content`, armoured or not: one that `gpg --export-secret-keys` wrote
    /// has at least one. In armour, `\n` may stand for the end of a line, as WAL-G has it for
    /// `WALG_PGP_KEY`. `passphrase` unlocks those that are locked.
    ///
    /// Content without a secret key and a passphrase that is missing or wrong are
    /// [`ErrorKind::Config`].
    pub fn parse(content: &[u8], passphrase: Option<&str>) -> Result<Vec<Self>> {
        let content = Zeroizing::new(with_line_ends(content.trim_ascii_start()).into_owned());
        let keys = SignedSecretKey::from_reader_many_buf(Cursor::new(&content[..]));
        // Not in the words of the parser, which may have read what is secret.
        let keys = keys.map_err(|_| no_key())?.0;
        let keys: Vec<SignedSecretKey> = keys.filter_map(|key| key.ok()).collect();
        if keys.is_empty() {
            return Err(no_key());
        }
        keys.into_iter().map(|key| unlocked(key, passphrase).map(OpenPgpKey)).collect()
    }

    /// Its key ID, with which gpg names it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_openpgp(&self.0.primary_key.legacy_key_id())
    }

    /// The session key that is `encrypted` to this key, or to one that is hidden.
    pub(super) fn session_key(
        &self,
        encrypted: &PublicKeyEncryptedSessionKey,
    ) -> Option<PlainSessionKey> {
        let kind = match encrypted.version() {
            PkeskVersion::V3 => EskType::V3_4,
            PkeskVersion::V6 => EskType::V6,
            PkeskVersion::Other(_) => return None,
        };
        let values = encrypted.values().ok()?;
        let decrypt = |key: &dyn DecryptionKey| {
            key.decrypt(&Password::empty(), values, kind)
                .ok()
                .and_then(|session_key| session_key.ok())
        };
        let subkeys = self.0.secret_subkeys.iter().map(|subkey| &subkey.key);
        let mut matching = subkeys.filter(|key| encrypted.match_identity(key.public_key()));
        matching.find_map(|key| decrypt(key)).or_else(|| {
            let primary = &self.0.primary_key;
            encrypted.match_identity(primary.public_key()).then(|| decrypt(primary)).flatten()
        })
    }
}

impl fmt::Debug for OpenPgpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenPgpKey({})", self.fingerprint())
    }
}

fn no_key() -> Error {
    Error::new(ErrorKind::Config, "it has no OpenPGP secret key that can be read")
        .with_hint("Export the secret key from GnuPG: a public key opens nothing.")
}

fn with_line_ends(content: &[u8]) -> Cow<'_, [u8]> {
    if !content.starts_with(ARMOUR) {
        return Cow::Borrowed(content);
    }
    let mut lines = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some((first, after)) = rest.split_first() {
        match after.split_first() {
            Some((b'n', after)) if *first == b'\\' => {
                lines.push(b'\n');
                rest = after;
            }
            _ => {
                lines.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(lines)
}

/// Unlocks what the passphrase unlocks. A primary key may be absent, and a subkey may be
/// locked in another way: one that can be used is enough.
fn unlocked(mut key: SignedSecretKey, passphrase: Option<&str>) -> Result<SignedSecretKey> {
    let password = Password::from(passphrase.unwrap_or_default());
    let _ = key.primary_key.remove_password(&password);
    for subkey in &mut key.secret_subkeys {
        let _ = subkey.key.remove_password(&password);
    }
    let is_unlocked = !key.primary_key.secret_params().is_encrypted()
        || key.secret_subkeys.iter().any(|subkey| !subkey.secret_params().is_encrypted());
    if is_unlocked {
        return Ok(key);
    }
    let id = Fingerprint::of_openpgp(&key.primary_key.legacy_key_id());
    let message = match passphrase {
        Some(_) => format!("the passphrase does not unlock OpenPGP key {id}"),
        None => format!("OpenPGP key {id} is locked with a passphrase"),
    };
    Err(Error::new(ErrorKind::Config, message)
        .with_hint("Its passphrase belongs into \"WALG_PGP_KEY_PASSPHRASE\"."))
}
