//! The sentinels in a listing: an object each, by which a base backup is there.

use crate::error::Result;
use crate::layout;
use crate::postgres::TimelineId;
use crate::store::{ListRequest, ObjectInfo, ObjectStore, list_all};

/// A sentinel in a listing.
#[derive(Debug, Clone)]
pub(crate) struct StoredSentinel {
    /// The backup's name.
    pub(crate) name: String,
    /// From the name.
    pub(crate) timeline: TimelineId,
    /// The object.
    pub(crate) object: ObjectInfo,
}

/// The sentinels of all backups, in the order in which they were stored.
pub(crate) async fn sentinels(store: &dyn ObjectStore) -> Result<Vec<StoredSentinel>> {
    let request =
        ListRequest { prefix: layout::base_backups(), shallow: true, ..ListRequest::default() };
    let mut sentinels: Vec<StoredSentinel> = list_all(store, &request)
        .await?
        .into_iter()
        .filter_map(|object| {
            let name = layout::backup_of_sentinel(&object.key)?.to_owned();
            let timeline = layout::timeline_of_backup(&name)?;
            Some(StoredSentinel { name, timeline, object })
        })
        .collect();
    sentinels
        .sort_by(|a, b| (a.object.last_modified, &a.name).cmp(&(b.object.last_modified, &b.name)));
    Ok(sentinels)
}

/// The sentinel of the backup `name`, or of `LATEST`; they are in the order of
/// [`sentinels`].
pub(crate) fn named<'a>(sentinels: &'a [StoredSentinel], name: &str) -> Option<&'a StoredSentinel> {
    match name {
        "LATEST" => sentinels.last(),
        _ => sentinels.iter().find(|sentinel| sentinel.name == name),
    }
}
