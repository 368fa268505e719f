//! Base backups with which a restore can begin, as far as listings show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalogue::{self, BackupInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineId, WalSegment};
use crate::recovery::{self, Candidate, Refusal};
use crate::store::ObjectStore;
use crate::verify::last_verifications;

/// The base backups of an archive, looked at once for all that is asked about them.
#[derive(Debug)]
pub struct Backups {
    /// All of them, oldest first, those that cannot be read included.
    pub(crate) infos: Vec<BackupInfo>,
    /// With what a recovery from each begins, in the same order.
    pub(crate) prepared: Vec<std::result::Result<Candidate, Refusal>>,
    /// Those whose last verification failed, and why.
    pub(crate) damaged: BTreeMap<String, String>,
}

impl Backups {
    /// Looks at them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of(store: &Arc<dyn ObjectStore>, notices: &Notices) -> Result<Backups> {
        let infos = catalogue::list(&**store, notices).await?;
        let prepared = recovery::prepare_all(store, &infos).await?;
        let damaged = found_damaged(&**store, &infos).await?;
        Ok(Backups { infos, prepared, damaged })
    }

    /// Those whose sentinel can be read.
    pub(super) fn readable(&self) -> impl DoubleEndedIterator<Item = &BackupInfo> {
        self.infos.iter().filter(|backup| backup.unreadable.is_none())
    }

    /// Those from which a recovery may begin: they and what they build on can be read, and no
    /// verification has found them damaged.
    pub(super) fn sound(&self) -> impl Iterator<Item = &Candidate> {
        let is_sound = |name: &String| {
            !self.damaged.contains_key(name) && self.readable().any(|backup| backup.name == *name)
        };
        self.prepared.iter().flatten().filter(move |it| it.chain.iter().all(is_sound))
    }
}

/// A base backup that has all of its own WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usable {
    pub(super) name: String,
    pub(super) timeline: TimelineId,
    /// The segment with which its WAL begins.
    pub(super) first: SegmentNumber,
    /// The one with which it ends.
    pub(super) last: SegmentNumber,
    /// Where a server that was restored from it can go on from.
    pub(super) consistent: Lsn,
}

impl Usable {
    /// `None` for one that lacks a segment. `has` says which the archive has of its timeline.
    pub(super) fn of(
        candidate: &Candidate,
        size: SegmentSize,
        has: impl Fn(SegmentNumber) -> bool,
    ) -> Option<Usable> {
        let (timeline, start) = (candidate.info.timeline, candidate.start);
        if lacking(timeline, start, candidate.stop, size, has).is_some() {
            return None;
        }
        let consistent = candidate.stop.filter(|stop| *stop > start).unwrap_or(start);
        Some(Usable {
            name: candidate.info.name.clone(),
            timeline,
            first: SegmentNumber::containing(start, size),
            last: match consistent > start {
                true => WalSegment::before(timeline, consistent, size).number,
                false => SegmentNumber::containing(start, size),
            },
            consistent,
        })
    }
}

/// The first segment that a base backup from `start` to `stop` needs and the archive does not
/// have.
pub(crate) fn lacking(
    timeline: TimelineId,
    start: Lsn,
    stop: Option<Lsn>,
    size: SegmentSize,
    has: impl Fn(SegmentNumber) -> bool,
) -> Option<SegmentNumber> {
    let stop = stop.filter(|stop| *stop > start)?;
    let first = SegmentNumber::containing(start, size).0;
    let last = WalSegment::before(timeline, stop, size).number.0;
    (first..=last).map(SegmentNumber).find(|number| !has(*number))
}

/// The backups whose last verification failed, and why.
async fn found_damaged(
    store: &dyn ObjectStore,
    backups: &[BackupInfo],
) -> Result<BTreeMap<String, String>> {
    let mut verifications = last_verifications(store).await?;
    let damage = |backup: &BackupInfo| {
        let last = verifications.remove(&backup.name)?;
        // One from before is of another backup of this name.
        let damage = last.damage.filter(|_| last.recorded_at >= backup.stored_at)?;
        Some((backup.name.clone(), damage))
    };
    Ok(backups.iter().filter_map(damage).collect())
}

/// The one size of the archive's WAL segments; `None` when no backup says it.
///
/// # Errors
/// [`ErrorKind::Config`] when there is more than one.
pub(crate) fn segment_size(
    prepared: &[std::result::Result<Candidate, Refusal>],
) -> Result<Option<SegmentSize>> {
    let mut sizes = prepared.iter().flatten().map(|candidate| candidate.segment_size);
    let first = sizes.next();
    match sizes.find(|size| Some(*size) != first).zip(first) {
        None => Ok(first),
        Some((other, first)) => Err(Error::new(
            ErrorKind::Config,
            format!(
                "the archive has WAL segments of {} MB and of {} MB",
                first.bytes() >> 20,
                other.bytes() >> 20
            ),
        )
        .with_detail("Which of them are older cannot be known from their names.")
        .with_hint("Delete what is not needed any more with the tools of the store.")),
    }
}
