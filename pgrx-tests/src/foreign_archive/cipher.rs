//! What encrypts.

use super::codec::filter;
use super::{Codec, Gnupg};
use crate::archive::Archive;
use crate::process::ServerUser;

/// Encrypts as libsodium itself does, without wal_e.
const SECRET_STREAM: &str = include_str!("secret_stream.py");

/// How the objects of an archive are encrypted once they are compressed.
#[derive(Debug)]
pub enum Cipher {
    /// WAL-G with a key of libsodium, in 64 hexadecimal digits.
    Libsodium(String),
    /// WAL-G and WAL-E for a key of OpenPGP.
    OpenPgp(Gnupg),
}

impl Cipher {
    /// What becomes of `content`.
    #[track_caller]
    pub fn encrypt(&self, content: &[u8]) -> Vec<u8> {
        match self {
            Cipher::Libsodium(key) => filter(&["python3", "-c", SECRET_STREAM, key], content),
            Cipher::OpenPgp(gnupg) => gnupg.encrypt(content),
        }
    }

    /// The variable that names the file of the key.
    pub fn variable(&self) -> &'static str {
        match self {
            Cipher::Libsodium(_) => "WALG_LIBSODIUM_KEY_PATH",
            Cipher::OpenPgp(_) => "WALG_PGP_KEY_PATH",
        }
    }

    /// Gives wal_e the key, as it is given to WAL-G.
    #[track_caller]
    pub fn give_key(&self, archive: &Archive) {
        match self {
            Cipher::Libsodium(key) => {
                archive.write_variable("WALG_LIBSODIUM_KEY_TRANSFORM", "hex");
                give_file(archive, self.variable(), key.as_bytes());
            }
            Cipher::OpenPgp(gnupg) => {
                give_file(archive, self.variable(), &gnupg.secret_key());
                if let Some(passphrase) = gnupg.passphrase() {
                    archive.write_variable("WALG_PGP_KEY_PASSPHRASE", passphrase);
                }
            }
        }
    }
}

/// Lets a variable name a file with this content.
#[track_caller]
pub fn give_file(archive: &Archive, variable: &str, content: &[u8]) {
    let path = archive.scratch().path().join(format!("{variable}.file"));
    std::fs::write(&path, content).expect("a file of the test can be written");
    ServerUser::get().own(&path);
    archive.write_variable(variable, &path.display().to_string());
}

/// What becomes of the content of an object: it is compressed, and then perhaps encrypted.
#[derive(Debug, Clone, Copy)]
pub struct Coding<'a> {
    codec: Codec,
    cipher: Option<&'a Cipher>,
}

impl Coding<'_> {
    /// What is added to the name of an object; that it is encrypted does not show.
    pub fn suffix(self) -> &'static str {
        self.codec.suffix()
    }

    /// The object with this content.
    #[track_caller]
    pub fn encode(self, content: &[u8]) -> Vec<u8> {
        let compressed = self.codec.compress(content);
        match self.cipher {
            Some(cipher) => cipher.encrypt(&compressed),
            None => compressed,
        }
    }
}

impl From<Codec> for Coding<'_> {
    fn from(codec: Codec) -> Self {
        Coding { codec, cipher: None }
    }
}

impl Codec {
    /// Encrypts what is compressed.
    pub fn encrypted(self, cipher: &Cipher) -> Coding<'_> {
        Coding { codec: self, cipher: Some(cipher) }
    }
}
