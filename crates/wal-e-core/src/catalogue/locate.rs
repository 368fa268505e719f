//! One WAL file among the keys of the archive, in any encoding.

use crate::codec::{Encoding, StoredEncoding};
use crate::error::Result;
use crate::layout::{self, ObjectKey};
use crate::postgres::WalFileName;
use crate::store::{ListRequest, ObjectStore, list_all};

/// A WAL file that the archive has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its object.
    pub key: ObjectKey,
    /// How the object is encoded.
    pub encoding: StoredEncoding,
}

impl Located {
    pub(super) fn of(key: ObjectKey, name: &WalFileName) -> Option<Self> {
        let encoding = layout::encoding_of_wal_file(&key, name)?;
        Some(Located { key, encoding })
    }

    /// Where it stands among the objects of one file: those that can be read come
    /// first, in the order of [`Encoding::ALL`].
    pub(super) fn rank(&self) -> usize {
        let of_all = Encoding::ALL.len();
        match self.encoding {
            StoredEncoding::Readable(encoding) => {
                Encoding::ALL.iter().position(|known| *known == encoding).unwrap_or(of_all)
            }
            StoredEncoding::Foreign(_) => of_all,
        }
    }
}

/// Looks for a WAL file in every encoding, with one request that lists, or by their names
/// where that is cheaper. An archive holds it in more than one after its compression was
/// changed and the file pushed again; then one that can be read is taken, in the order of [`Encoding::ALL`].
pub async fn locate(store: &dyn ObjectStore, name: &WalFileName) -> Result<Option<Located>> {
    Ok(locate_all(store, name).await?.into_iter().next())
}

/// As [`locate`], but all that there are; the best one first.
pub(crate) async fn locate_all(
    store: &dyn ObjectStore,
    name: &WalFileName,
) -> Result<Vec<Located>> {
    let keys = if store.finds_by_name() {
        store.find(&layout::wal_file_keys(name)).await?
    } else {
        let request =
            ListRequest { prefix: layout::wal_file_beginning(name), ..ListRequest::default() };
        list_all(store, &request).await?.into_iter().map(|object| object.key).collect()
    };
    let mut found: Vec<Located> =
        keys.into_iter().filter_map(|key| Located::of(key, name)).collect();
    found.sort_by_key(Located::rank);
    Ok(found)
}

/// What follows the names of an archive's WAL files in their keys. Most archives
/// have one for all, so that a file is found with one request where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEnding {
    text: String,
    encoding: Encoding,
}

impl Default for KeyEnding {
    fn default() -> Self {
        let encoding = Encoding::default();
        KeyEnding { text: encoding.file_name(""), encoding }
    }
}

impl KeyEnding {
    /// The suffix `text`: empty, a dot (as WAL-G once wrote), or a dot and an
    /// extension. `None` when it stands for nothing that can be read.
    pub fn new(text: &str) -> Option<Self> {
        match StoredEncoding::from_suffix(text)? {
            StoredEncoding::Readable(encoding) => {
                Some(KeyEnding { text: text.to_owned(), encoding })
            }
            StoredEncoding::Foreign(_) => None,
        }
    }

    /// The suffix of a key of the WAL file `name`.
    pub(crate) fn of(key: &ObjectKey, name: &WalFileName) -> Option<Self> {
        Self::new(key.as_str().strip_prefix(&layout::wal_file_beginning(name))?)
    }

    /// The suffix as it stands in keys.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key of the WAL file `name` with this suffix.
    pub(crate) fn locate(&self, name: &WalFileName) -> Option<(ObjectKey, Encoding)> {
        let key = format!("{}{}", layout::wal_file_beginning(name), self.text);
        Some((ObjectKey::from_listing(&key)?, self.encoding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_leads_to_a_key_and_back() {
        let name: WalFileName = "0000000100000000000000A1".parse().unwrap();
        for text in ["", ".", ".lz4", ".zst"] {
            let ending = KeyEnding::new(text).unwrap();
            let (key, _) = ending.locate(&name).unwrap();
            assert_eq!(key.as_str(), format!("wal_005/{name}{text}"));
            assert_eq!(KeyEnding::of(&key, &name), Some(ending));
        }
        for text in ["lz4", ".lz4x", ".gpg", "/x", ".partial.lz4", "\n"] {
            assert_eq!(KeyEnding::new(text), None, "{text}");
        }
        assert_eq!(KeyEnding::default().as_str(), ".lz4");
    }
}
