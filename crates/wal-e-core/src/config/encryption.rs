//! Whether what is stored is encrypted, and with which keys.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::{Setting, Variable, Variables};
use crate::encryption::{Key, KeyTransform, Keyring, OpenPgpSecret};
use crate::error::{Error, ErrorKind, Result};

/// The variables, without their namespace. They are WAL-G's.
const KEY: &str = "LIBSODIUM_KEY";
const KEY_PATH: &str = "LIBSODIUM_KEY_PATH";
const TRANSFORM: &str = "LIBSODIUM_KEY_TRANSFORM";
const PGP_KEY: &str = "PGP_KEY";
const PGP_KEY_PATH: &str = "PGP_KEY_PATH";
const PGP_PASSPHRASE: &str = "PGP_KEY_PASSPHRASE";
const PGP_PASSPHRASE_PATH: &str = "PGP_KEY_PASSPHRASE_PATH";
/// This one is ours.
const OLD_KEYS_PATH: &str = "LIBSODIUM_OLD_KEYS_PATH";

/// A file of keys is small.
const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// When something is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncryptionPolicy {
    /// Where there is a key. Without one, nothing is written to a prefix that has encrypted
    /// objects.
    #[default]
    Auto,
    /// Always: without a key, nothing is written, and never again to this prefix.
    Required,
    /// Never. The keys are used to read.
    Off,
}

impl EncryptionPolicy {
    const ALL: [Self; 3] = [Self::Auto, Self::Required, Self::Off];
}

impl fmt::Display for EncryptionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EncryptionPolicy::Auto => "auto",
            EncryptionPolicy::Required => "required",
            EncryptionPolicy::Off => "off",
        })
    }
}

impl FromStr for EncryptionPolicy {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|policy| policy.to_string() == word).ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("invalid value \"{word}\" for encryption"))
                .with_hint("It must be \"auto\", \"required\" or \"off\".")
        })
    }
}

/// How a store encrypts what is put into it, and decrypts what comes out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encryption {
    /// When something is encrypted.
    pub policy: EncryptionPolicy,
    /// The keys: the one to write with only where something is to be encrypted.
    pub keyring: Keyring,
}

impl Encryption {
    /// The variables that say which keys there are, without their namespace.
    pub(super) const NAMES: &[&str] =
        &[KEY, KEY_PATH, TRANSFORM, OLD_KEYS_PATH, PGP_KEY, PGP_KEY_PATH];

    /// By what is `given`, and else by variables. Files that these name are read now, so that a
    /// key that was changed counts for whatever begins after that.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a file that cannot be read, and what is no key. What is wrong
    /// is said without saying anything of a key.
    pub fn resolve(given: Option<EncryptionPolicy>, variables: &Variables) -> Result<Self> {
        let policy = match (given, variables.find(Setting::Encryption)) {
            (Some(policy), _) => policy,
            (None, Some(found)) => found.value.parse().map_err(|error: Error| {
                error.with_detail(format!("It was given with {}.", found.name))
            })?,
            (None, None) => EncryptionPolicy::default(),
        };
        let transform = match variables.find_name(TRANSFORM) {
            Some(found) => {
                found.value.parse().map_err(|error: Error| in_variable(error, &found.name))?
            }
            None => KeyTransform::default(),
        };
        let key = key(variables, transform)?;
        let mut reading = old_keys(variables, transform)?;
        let writing = match policy {
            EncryptionPolicy::Auto | EncryptionPolicy::Required => key,
            EncryptionPolicy::Off => {
                reading.extend(key);
                None
            }
        };
        let keyring = Keyring::new(writing, reading, openpgp(variables)?);
        Ok(Encryption { policy, keyring })
    }

    /// Whether there is a key to write with, as far as variables say.
    pub(super) fn has_key(variables: &Variables) -> bool {
        [KEY, KEY_PATH].iter().any(|name| variables.find_name(name).is_some())
    }

    /// Whether keys are found in the environment of this process, where another process may not
    /// find them.
    pub fn has_keys_in_environment(variables: &Variables) -> bool {
        let names = [KEY, KEY_PATH, OLD_KEYS_PATH, PGP_KEY, PGP_KEY_PATH];
        names.iter().any(|name| variables.find_name(name).is_some_and(|found| !found.from_env_dir))
    }
}

/// The key to write with. As with WAL-G, the key itself counts before a file.
fn key(variables: &Variables, transform: KeyTransform) -> Result<Option<Key>> {
    if let Some(Variable { name, value, .. }) = variables.find_name(KEY) {
        let value = Zeroizing::new(value);
        let key = Key::parse(value.as_bytes(), transform);
        return key.map(Some).map_err(|error| in_variable(error, &name));
    }
    let Some(found) = variables.find_name(KEY_PATH) else { return Ok(None) };
    let (path, content) = read(&found)?;
    let key = Key::of_file(&content, transform);
    key.map(Some).map_err(|error| in_file(error, &found.name, &path))
}

/// Keys that were written with before, one on each line.
fn old_keys(variables: &Variables, transform: KeyTransform) -> Result<Vec<Key>> {
    let Some(found) = variables.find_name(OLD_KEYS_PATH) else { return Ok(Vec::new()) };
    let (path, content) = read(&found)?;
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(number, line)| {
            Key::of_file(line, transform).map_err(|error| {
                let (line, path) = (number + 1, path.display());
                error.with_detail(format!(
                    "It is in line {line} of \"{path}\", which {} names.",
                    found.name
                ))
            })
        })
        .collect()
}

/// Secret keys of OpenPGP.
fn openpgp(variables: &Variables) -> Result<Option<OpenPgpSecret>> {
    let (content, source) = match variables.find_name(PGP_KEY) {
        Some(Variable { name, value, .. }) => {
            (value.into_bytes().into(), format!("It was given with {name}."))
        }
        None => {
            let Some(found) = variables.find_name(PGP_KEY_PATH) else { return Ok(None) };
            let (path, content) = read(&found)?;
            (content, format!("It is in \"{}\", which {} names.", path.display(), found.name))
        }
    };
    let passphrase = match variables.find_name(PGP_PASSPHRASE) {
        Some(found) => Some(found.value.into()),
        None => {
            variables.find_name(PGP_PASSPHRASE_PATH).map(|found| passphrase(&found)).transpose()?
        }
    };
    Ok(Some(OpenPgpSecret::new(content, passphrase, source)))
}

/// The passphrase in the file that a variable names, without the end of its line.
fn passphrase(found: &Variable) -> Result<Zeroizing<String>> {
    let (path, content) = read(found)?;
    match std::str::from_utf8(&content) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned().into()),
        Err(_) => {
            let error = Error::new(ErrorKind::Config, "the passphrase is not valid UTF-8");
            Err(in_file(error, &found.name, &path).with_hint("Write it in UTF-8."))
        }
    }
}

/// The file that a variable names.
fn read(found: &Variable) -> Result<(PathBuf, Zeroizing<Vec<u8>>)> {
    let path = PathBuf::from(&found.value);
    let content = std::fs::metadata(&path).and_then(|metadata| {
        if metadata.len() > LARGEST_FILE_BYTES {
            return Err(std::io::Error::other("it is too large for a file of keys"));
        }
        std::fs::read(&path).map(Zeroizing::new)
    });
    let content = content.map_err(|error| {
        let error = Error::file("read key file", &path, &error);
        Error::new(ErrorKind::Config, error.message())
            .with_detail(format!("{} names it.", found.name))
            .with_hint("It must be a file that this operating system user can read.")
    })?;
    Ok((path, content))
}

fn in_variable(error: Error, name: &str) -> Error {
    error.with_detail(format!("It was given with {name}."))
}

fn in_file(error: Error, name: &str, path: &Path) -> Error {
    error.with_detail(format!("It is in \"{}\", which {name} names.", path.display()))
}

#[cfg(test)]
mod tests;
