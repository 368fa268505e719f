//! Deletes what a plan says.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use super::plan::Plan;
use crate::base_backup::delete_objects;
use crate::catalogue::{self, BackupInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey, WalContent};
use crate::notice::Notices;
use crate::postgres::{SegmentNumber, TimelineId, WalFileName, WalSegment};
use crate::store::{ListRequest, ObjectStore};

/// Backups, and pages of WAL, whose objects are deleted at the same time.
const AT_ONCE: usize = 4;

/// Deletes what `plan` says, and nothing else.
///
/// Sentinels go first, so that no backup is listed of which a part has gone; then their other
/// objects; then WAL, oldest first. After an error or a cancellation, what is left of these
/// backups has no sentinel, and is deleted by the next plan. `deleted` counts the objects.
///
/// # Errors
/// [`ErrorKind::Conflict`], before anything is deleted, when there are other backups than when
/// the plan was made, or others of them are pinned. Those of the store.
pub async fn carry_out(
    store: &dyn ObjectStore,
    plan: &Plan,
    deleted: &AtomicU64,
    notices: &Notices,
) -> Result<()> {
    refuse_changes(plan, &catalogue::list(store, notices).await?)?;
    for round in &plan.rounds {
        let sentinels: Vec<ObjectKey> = round.iter().map(|it| layout::sentinel(it)).collect();
        store.delete_all(&sentinels).await?;
    }
    stream::iter(plan.rounds.concat())
        .map(|backup| async move { delete_backup(store, &backup, deleted).await })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    for (timeline, ranges) in &plan.wal {
        delete_wal(store, plan, (*timeline, ranges), deleted).await?;
    }
    Ok(())
}

fn refuse_changes(plan: &Plan, now: &[BackupInfo]) -> Result<()> {
    let refuse = |what: String| {
        let message = format!("nothing was deleted, because the archive has changed: {what}");
        Err(Error::new(ErrorKind::Conflict, message)
            .with_hint("Look at what would be deleted now, and try again."))
    };
    for backup in now {
        let pinned = backup.permanent || backup.metadata_unreadable.is_some();
        match plan.seen.get(&backup.name) {
            None => return refuse(format!("base backup \"{}\" is new", backup.name)),
            Some(before) if *before != pinned => {
                let how = if pinned { "is permanent now" } else { "is not permanent any more" };
                return refuse(format!("base backup \"{}\" {how}", backup.name));
            }
            Some(_) => {}
        }
    }
    let gone = |name: &&String| !now.iter().any(|backup| backup.name == **name);
    match plan.seen.keys().find(gone) {
        Some(name) => refuse(format!("base backup \"{name}\" is not there any more")),
        None => Ok(()),
    }
}

async fn delete_backup(store: &dyn ObjectStore, backup: &str, deleted: &AtomicU64) -> Result<()> {
    deleted.fetch_add(delete_objects(store, backup).await?, Ordering::Relaxed);
    Ok(())
}

async fn delete_wal(
    store: &dyn ObjectStore,
    plan: &Plan,
    (timeline, ranges): (TimelineId, &[(SegmentNumber, SegmentNumber)]),
    deleted: &AtomicU64,
) -> Result<()> {
    for range in ranges {
        pages(store, plan, timeline, *range)
            .map_ok(|keys| async move {
                store.delete_all(&keys).await?;
                deleted.fetch_add(keys.len() as u64, Ordering::Relaxed);
                Ok(())
            })
            .try_buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}

/// The objects that are about the segments of a range, by pages of a listing.
fn pages<'a>(
    store: &'a dyn ObjectStore,
    plan: &'a Plan,
    timeline: TimelineId,
    (first, last): (SegmentNumber, SegmentNumber),
) -> impl Stream<Item = Result<Vec<ObjectKey>>> + 'a {
    let name = WalFileName::segment(WalSegment { timeline, number: first }, plan.size);
    let request = ListRequest {
        prefix: layout::wal_of_timeline(timeline),
        start_after: Some(layout::before_wal_file(&name)),
        shallow: true,
    };
    let number = |key: &ObjectKey| match layout::wal_content(key, plan.size)? {
        WalContent::Segments { first, .. } => Some(first),
        WalContent::History(_) => None,
    };
    stream::try_unfold(Some((request, None)), move |next| async move {
        let Some((request, page)) = next else { return Ok(None) };
        let answer = store.list(&request, page).await?;
        let numbered = answer.objects.into_iter().filter_map(|it| Some((number(&it.key)?, it.key)));
        let (keys, others): (Vec<_>, Vec<_>) =
            numbered.partition(|(number, _)| (first..=last).contains(number));
        let is_past = others.iter().any(|(number, _)| *number > last);
        let next = answer.next.filter(|_| !is_past).map(|page| (request, Some(page)));
        Ok(Some((keys.into_iter().map(|(_, key)| key).collect(), next)))
    })
}
