//! What was done by schedule.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::objects::{Entry, read_claim, read_entry};
use super::run::{Job, Slot};
use crate::error::Result;
use crate::layout::{self, ObjectKey, RunMark};
use crate::store::{ListRequest, ObjectStore, list_all};
use crate::tasks::Work;

/// Small objects that are read at the same time.
const AT_ONCE: usize = 16;

/// Of so many slots the runs of a job are kept: more than a year of nights.
const KEPT_SLOTS: usize = 400;

/// Of so many attempts for one slot, the newest.
const KEPT_ATTEMPTS: usize = 50;

/// The runs that are kept, newest first.
///
/// # Errors
/// Those of the store.
pub fn history(store: &dyn ObjectStore) -> Work<'_, Result<Vec<Entry>>> {
    Box::pin(async move {
        let request = ListRequest { prefix: layout::runs(), ..ListRequest::default() };
        let listed = list_all(store, &request).await?;
        let runs = grouped(listed.iter().map(|object| &object.key));
        let wanted: Vec<(Job, Slot, u32, RunMark)> = runs
            .into_iter()
            .filter_map(|((job, slot, attempt), marks)| {
                // What was taken over may have become done all the same.
                let order = [RunMark::Done, RunMark::Failed, RunMark::Claim];
                let mark = order.into_iter().find(|mark| marks.contains(mark))?;
                Some((job, slot, attempt, mark))
            })
            .collect();
        let found: Vec<Option<Entry>> = stream::iter(wanted)
            .map(|(job, slot, attempt, mark)| read(store, job, slot, attempt, mark))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut entries: Vec<Entry> = found.into_iter().flatten().collect();
        entries.sort_by(|a, b| {
            let key = |entry: &Entry| (entry.slot, entry.started, entry.attempt);
            key(b).cmp(&key(a))
        });
        Ok(entries)
    })
}

/// A run whose object vanished or is damaged has no entry.
async fn read(
    store: &dyn ObjectStore,
    job: Job,
    slot: Slot,
    attempt: u32,
    mark: RunMark,
) -> Result<Option<Entry>> {
    let key = layout::run_mark(job.as_str(), slot, attempt, mark);
    // The key decides what it is of.
    let known = Entry {
        job: job.as_str().to_owned(),
        slot: Some(slot.time()),
        attempt,
        ..Entry::default()
    };
    if mark == RunMark::Claim {
        let claim = read_claim(store, &key).await?;
        return Ok(claim.map(|it| Entry { host: it.host, started: it.started, ..known }));
    }
    let entry = read_entry(store, &key).await?;
    Ok(entry.map(|entry| Entry {
        job: known.job,
        slot: known.slot,
        attempt,
        ok: entry.ok.or(Some(mark == RunMark::Done)),
        ..entry
    }))
}

type Runs = BTreeMap<(Job, Slot, u32), BTreeSet<RunMark>>;

fn grouped<'a>(keys: impl Iterator<Item = &'a ObjectKey>) -> Runs {
    let mut runs = Runs::new();
    for key in keys {
        let Some((job, slot, attempt, mark)) = layout::run_mark_of(key) else { continue };
        let (Some(job), Ok(slot)) = (Job::from_name(job), slot.parse()) else { continue };
        runs.entry((job, slot, attempt)).or_default().insert(mark);
    }
    runs
}

/// Removes the runs of a job that are not kept any more.
///
/// # Errors
/// Those of the store.
pub fn prune(store: &dyn ObjectStore, job: Job) -> Work<'_, Result<()>> {
    Box::pin(async move {
        let prefix = layout::runs_of(job.as_str());
        let listed = list_all(store, &ListRequest { prefix, ..ListRequest::default() }).await?;
        let runs = grouped(listed.iter().map(|object| &object.key));
        let slots: BTreeSet<Slot> = runs.keys().map(|(_, slot, _)| *slot).collect();
        let kept: BTreeSet<Slot> = slots.into_iter().rev().take(KEPT_SLOTS).collect();
        let mut old = Vec::new();
        for ((_, slot, attempt), marks) in &runs {
            let later =
                runs.range((job, *slot, attempt.saturating_add(1))..=(job, *slot, u32::MAX));
            if kept.contains(slot) && later.count() < KEPT_ATTEMPTS {
                continue;
            }
            let keys =
                marks.iter().map(|mark| layout::run_mark(job.as_str(), *slot, *attempt, *mark));
            old.extend(keys);
        }
        store.delete_all(&old).await
    })
}
