//! What of a backup lies in a storage class that cannot be read from, before anything is
//! read: it takes hours to have it restored, and what is named late is restored late.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::backup_info::{StoredSentinel, named, read_sentinel, sentinels};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::store::{self, ListRequest, ObjectInfo, ObjectStore, list_all};

/// Objects that are tried at the same time.
const TRIED_AT_ONCE: usize = 8;

/// The class from which an object may have moved on to archives without saying so in a
/// listing.
const INTELLIGENT_TIERING: &str = "INTELLIGENT_TIERING";

/// Refuses the restore of the backup `name`, or `LATEST`, for which objects have to be
/// restored from their storage class. Those that are on disk are not needed.
///
/// # Errors
/// [`ErrorKind::Config`] that names all of them, and those of the store.
pub(crate) async fn refuse(
    store: &dyn ObjectStore,
    name: &str,
    on_disk: &HashSet<ObjectKey>,
) -> Result<()> {
    let sentinels = sentinels(store).await?;
    let Some(StoredSentinel { name, .. }) = named(&sentinels, name) else { return Ok(()) };
    let mut perhaps_cold = Vec::new();
    for StoredSentinel { name, object, .. } in chain_by_names(store, &sentinels, name).await {
        let prefix = layout::backup_directory(name);
        let objects = list_all(store, &ListRequest { prefix, ..ListRequest::default() }).await?;
        let all = std::iter::once(object.clone()).chain(objects);
        perhaps_cold
            .extend(all.filter(may_be_cold).filter(|object| !on_disk.contains(&object.key)));
    }
    let refusals: Vec<(ObjectInfo, Option<Error>)> = stream::iter(perhaps_cold)
        .map(async |object| match store::refusal_to_read(store, &object.key).await {
            // It is reported when it is read.
            Err(error) if !error.is_transient() => Ok((object, None)),
            result => Ok::<_, Error>((object, result?)),
        })
        .buffered(TRIED_AT_ONCE)
        .try_collect()
        .await?;
    let cold: Vec<String> = refusals
        .iter()
        .filter(|(_, refusal)| refusal.is_some())
        .map(|(object, _)| {
            let class = object.storage_class.as_deref().unwrap_or_default();
            format!("\"{}\" ({class})", store.url(object.key.as_str()))
        })
        .collect();
    if cold.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "base backup \"{name}\" cannot be read: {} of its objects have to be restored from their storage class first",
            cold.len()
        ),
    )
    .with_detail(format!("These cannot be read now:\n{}", cold.join("\n")))
    .with_hint(
        "Have the store restore them (in S3: RestoreObject), and repeat the command when that is done.",
    ))
}

fn may_be_cold(object: &ObjectInfo) -> bool {
    object.is_in_cold_storage() || object.storage_class.as_deref() == Some(INTELLIGENT_TIERING)
}

/// The backup `tip` and those that it builds on, as far as their names show: the sentinel
/// that would say it may be what cannot be read. It is only asked where two backups have the
/// name, as a delta and what was merged of it.
async fn chain_by_names<'a>(
    store: &dyn ObjectStore,
    sentinels: &'a [StoredSentinel],
    tip: &str,
) -> Vec<&'a StoredSentinel> {
    let mut chain: Vec<&StoredSentinel> = named(sentinels, tip).into_iter().collect();
    while let Some(last) = chain.last()
        && let Some(segment) = layout::parent_segment(&last.name)
    {
        let begins_there = |sentinel: &&StoredSentinel| {
            layout::start_segment_of_backup(&sentinel.name).as_ref() == Some(&segment)
        };
        let mut parents: Vec<&StoredSentinel> = sentinels.iter().filter(begins_there).collect();
        if parents.len() > 1 {
            let said = read_sentinel(store, &last.name).await.ok();
            let said = said.and_then(|sentinel| sentinel.delta_from);
            parents.retain(|parent| said.as_ref() == Some(&parent.name));
        }
        match parents[..] {
            [parent] if !chain.iter().any(|level| level.name == parent.name) => chain.push(parent),
            _ => break,
        }
    }
    chain
}
