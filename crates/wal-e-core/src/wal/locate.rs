//! One WAL file among the keys of the archive, whatever its encoding.

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

/// Looks for a WAL file in every encoding, with one request that lists. An archive
/// holds it in more than one after its compression was changed and the file pushed
/// again; then one that can be read is taken, LZ4 before zstd before none before
/// what only other programs write.
pub async fn locate(store: &dyn ObjectStore, name: &WalFileName) -> Result<Option<Located>> {
    let request =
        ListRequest { prefix: layout::wal_file_beginning(name), ..ListRequest::default() };
    let found = list_all(store, &request).await?.into_iter().filter_map(|object| {
        let encoding = layout::encoding_of_wal_file(&object.key, name)?;
        Some(Located { key: object.key, encoding })
    });
    Ok(found.min_by_key(|located| match located.encoding {
        StoredEncoding::Readable(Encoding::Lz4) => 0,
        StoredEncoding::Readable(Encoding::Zstd) => 1,
        StoredEncoding::Readable(Encoding::None) => 2,
        StoredEncoding::Readable(_) => 3,
        StoredEncoding::Foreign(_) => 4,
    }))
}
