//! What there is, from the archive alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use time::OffsetDateTime;

use super::{Report, Retention};
use crate::config::Face;
use crate::coverage::{Archive, Backups, Status};
use crate::error::{ErrorKind, Result};
use crate::notice::{self, Level, NoticeQueue, Notices};
use crate::retention::{Plan, Policy, Request, Survey};
use crate::schedule;
use crate::store::ObjectStore;

/// Looks at the archive at `prefix`, and at what retention by `policy` would do. Nothing is
/// written. `now` is by this host's clock.
///
/// # Errors
/// Those of the store. [`ErrorKind::Config`] for an archive whose WAL segments are of more than
/// one size.
pub async fn gather(
    store: &Arc<dyn ObjectStore>,
    prefix: String,
    policy: Option<Policy>,
    face: Face,
    now: OffsetDateTime,
) -> Result<Report> {
    let (notices, queue) = notice::channel();
    let known = Backups::of(store, &notices).await?;
    // One after the other: each lists all WAL, of which there may be very much.
    let (archive, windows) = Archive::with_windows(store, &known, now, &notices).await?;
    let retention = plan(store, &known, policy, now, &notices).await?;
    let jobs = schedule::history(&**store).await?;
    let holes = match archive.verify() {
        Ok(ranges) => Some(ranges.into_iter().filter(|it| it.status != Status::Found).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(Report {
        prefix,
        now,
        face,
        backups: known.infos,
        timelines: archive.timelines(),
        stretches: archive.stretches(),
        holes,
        windows,
        retention,
        jobs,
        checks: None,
        warnings: warnings(&queue),
    })
}

async fn plan(
    store: &Arc<dyn ObjectStore>,
    known: &Backups,
    policy: Option<Policy>,
    now: OffsetDateTime,
    notices: &Notices,
) -> Result<Option<Retention>> {
    let Some(policy) = policy.filter(|policy| !policy.is_empty()) else { return Ok(None) };
    let survey = Survey::with(store, known, now, notices).await?;
    let plan = Plan::new(&survey, &Request::Retain(policy))?;
    Ok(Some(Retention { policy, items: plan.items }))
}

/// Each once: several questions meet the same damage.
fn warnings(queue: &NoticeQueue) -> Vec<String> {
    let mut met = BTreeSet::new();
    let warnings = queue.drain().into_iter().filter(|notice| notice.level == Level::Warning);
    warnings.map(|notice| notice.message).filter(|it| met.insert(it.clone())).collect()
}
