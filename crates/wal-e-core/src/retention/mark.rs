//! Whether a base backup is permanent.

use crate::catalogue::backup_info::read_sentinel;
use crate::catalogue::backups::resolve;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::sentinel;
use crate::store::{Attributes, ObjectStore, PutMode, PutOutcome};

/// What WAL-G keeps for a backup beside its times fits well into this.
const LARGEST_METADATA_BYTES: u64 = 16 * 1024 * 1024;

/// Makes a base backup permanent, or an ordinary one again; `LATEST` is the newest. What else its `metadata.json` says
/// stays as it is. A delta's parents are kept for its sake, and need no mark.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no such backup, [`ErrorKind::Corrupt`] when its
/// metadata cannot be read: nothing is changed then.
pub async fn mark(store: &dyn ObjectStore, backup: &str, permanent: bool) -> Result<()> {
    let backup = resolve(store, backup).await?;
    let own = read_sentinel(store, &backup).await?;
    let key = layout::metadata(&backup);
    let mut metadata: serde_json::Value = match store.get(&key, 0, None).await {
        Ok(object) => {
            let json = object.into_bytes(LARGEST_METADATA_BYTES).await?;
            sentinel::parse(&store.url(key.as_str()), &json)?
        }
        // WAL-E has none, and of some backups it was lost.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let json = sentinel::to_json(&own.metadata());
            sentinel::parse(&store.url(key.as_str()), &json)?
        }
        Err(error) => return Err(error),
    };
    let Some(fields) = metadata.as_object_mut() else {
        let url = store.url(key.as_str());
        return Err(Error::new(ErrorKind::Corrupt, format!("object \"{url}\" is damaged"))
            .with_detail("It is not a JSON object."));
    };
    fields.insert("is_permanent".to_owned(), permanent.into());
    let json = sentinel::to_json(&metadata);
    match store.put(&key, json.into(), PutMode::Replace, &Attributes::default()).await? {
        PutOutcome::Stored | PutOutcome::AlreadyExists => Ok(()),
    }
}
