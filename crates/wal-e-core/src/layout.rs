//! Every object key, and nothing else makes one.
//!
//! The names are WAL-G's (`docs/repository-format.md`): `wal_005/` holds WAL,
//! `basebackups_005/` holds base backups.

use std::fmt;

/// The name of an object below the prefix: no slash at either end, no empty,
/// `.` or `..` component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// A key as a store listed it; `None` when it is not of a key's form.
    pub fn from_listing(key: &str) -> Option<Self> {
        let sound = !key.is_empty()
            && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        sound.then(|| ObjectKey(key.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The object whose create-only upload shows whether a store honours
/// `If-None-Match: *`. It stays, so that the probe is one request the next time.
pub fn create_only_probe() -> ObjectKey {
    ObjectKey("wal_e/create_only_probe".to_owned())
}
