//! What a base backup that is not complete says of itself.

use crate::error::{ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::sentinel::{self, Begun};
use crate::store::ObjectStore;

/// The object is small; a larger one is damaged.
const LARGEST_BYTES: u64 = 64 * 1024;

/// Reads a backup's `begun.json`; `None` when there is none that could be read. Other
/// programs write none.
///
/// # Errors
/// Those of the store that are not about the object.
pub(crate) async fn read_begun(store: &dyn ObjectStore, key: &ObjectKey) -> Result<Option<Begun>> {
    let read = async {
        let json = store.get(key, 0, None).await?.into_bytes(LARGEST_BYTES).await?;
        sentinel::parse(&store.url(key.as_str()), &json)
    };
    match read.await {
        Ok(begun) => Ok(Some(begun)),
        Err(error) if error.kind() == ErrorKind::NotFound || error.is_unusable_object() => Ok(None),
        Err(error) => Err(error),
    }
}
