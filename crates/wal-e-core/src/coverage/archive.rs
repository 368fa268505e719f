//! What an archive has: one listing of its WAL, the histories and the sentinels, each read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::OffsetDateTime;

use super::backups::{Backups, Usable, segment_size};
use super::branches::Branches;
use super::own_wal::OwnWal;
use super::windows::windows_of;
use crate::catalogue;
use crate::catalogue::wal_listing::WalListing;
use crate::error::Result;
use crate::layout;
use crate::notice::Notices;
use crate::postgres::{
    SegmentNumber, SegmentSize, TimelineHistory, TimelineId, WalFileKind, WalFileName, WalSegment,
};
use crate::recovery::{self, Window};
use crate::store::{ListRequest, ObjectStore};

/// The segments after so many holes are looked at to see whether a log begins there.
const HOLES_LOOKED_AT: usize = 64;

/// What an archive has of WAL, and what a server has.
#[derive(Debug)]
pub struct Archive {
    pub(super) lines: BTreeMap<TimelineId, Line>,
    pub(super) branches: Branches,
    /// In the order in which they begin.
    pub(super) backups: Vec<Usable>,
    pub(super) size: SegmentSize,
    /// By the clock of this host.
    pub(super) now: OffsetDateTime,
    pub(super) own: Option<OwnWal>,
}

/// A timeline.
#[derive(Debug, Default, Clone)]
pub(super) struct Line {
    /// It and its ancestors; `None` when the archive does not have the file, or a damaged one.
    pub(super) history: Option<TimelineHistory>,
    pub(super) history_stored: Option<OffsetDateTime>,
    /// First and last segments of what has no hole, ascending.
    pub(super) runs: Vec<(SegmentNumber, SegmentNumber)>,
    /// When the newest of its files was stored.
    pub(super) newest: Option<OffsetDateTime>,
    /// Segments with which another log begins: what is before them is not missing.
    pub(super) log_begins: BTreeSet<SegmentNumber>,
}

impl Line {
    pub(super) fn has(&self, number: SegmentNumber) -> bool {
        let after = self.runs.partition_point(|(first, _)| *first <= number);
        after > 0 && self.runs[after - 1].1 >= number
    }
}

impl Archive {
    /// Looks at an archive. `own` is what a server has that archives to it, read before; `now`
    /// is by this host's clock.
    ///
    /// # Errors
    /// Those of the store. [`crate::ErrorKind::Config`] for an archive whose WAL segments are
    /// of more than one size.
    pub async fn of(
        store: &Arc<dyn ObjectStore>,
        own: Option<OwnWal>,
        now: OffsetDateTime,
        notices: &Notices,
    ) -> Result<Archive> {
        let backups = Backups::of(store, notices).await?;
        Ok(Archive::listed(store, &backups, own, now, notices).await?.0)
    }

    /// Looks at an archive, and at the moments to which a restore is possible, with one listing
    /// of its WAL.
    ///
    /// # Errors
    /// As [`Archive::of`].
    pub async fn with_windows(
        store: &Arc<dyn ObjectStore>,
        backups: &Backups,
        now: OffsetDateTime,
        notices: &Notices,
    ) -> Result<(Archive, Vec<Window>)> {
        let (archive, listing) = Archive::listed(store, backups, None, now, notices).await?;
        let windows = windows_of(store, backups, Some(listing), notices).await?;
        Ok((archive, windows))
    }

    async fn listed(
        store: &Arc<dyn ObjectStore>,
        backups: &Backups,
        own: Option<OwnWal>,
        now: OffsetDateTime,
        notices: &Notices,
    ) -> Result<(Archive, WalListing)> {
        let size = match (segment_size(&backups.prepared)?, &own) {
            (Some(size), _) => size,
            (None, Some(own)) => own.size,
            (None, None) => size_of_any(&**store).await?.unwrap_or(SegmentSize::DEFAULT),
        };
        let cluster = backups.readable().rev().find_map(|info| info.system_identifier);
        let is_own = |own: &OwnWal| {
            own.size == size && cluster.is_none_or(|cluster| cluster == own.system_identifier)
        };
        let mut archive = Archive {
            lines: BTreeMap::new(),
            branches: Branches::default(),
            backups: Vec::new(),
            size,
            now,
            own: own.filter(is_own),
        };
        let listing = archive.list(store, notices).await?;
        for candidate in backups.sound() {
            let line = archive.lines.get(&candidate.info.timeline);
            let has = |number| line.is_some_and(|line| line.has(number));
            archive.backups.extend(Usable::of(candidate, size, has));
        }
        archive.backups.sort_by(|a, b| (a.first, &a.name).cmp(&(b.first, &b.name)));
        archive.find_beginnings(&**store).await?;
        archive.look_at_own_wal();
        Ok((archive, listing))
    }

    async fn list(
        &mut self,
        store: &Arc<dyn ObjectStore>,
        notices: &Notices,
    ) -> Result<WalListing> {
        let mut listing = WalListing::new(Arc::clone(store), self.size);
        listing.extend_to(SegmentNumber(0)).await?;
        for timeline in listing.timelines() {
            let wal = listing.wal(timeline);
            let history_stored = listing.history_stored(timeline);
            let runs = wal.stored_runs();
            if runs.is_empty() && history_stored.is_none() {
                continue;
            }
            let history = match timeline {
                TimelineId(1) => Some(TimelineHistory::without_ancestors(timeline)),
                _ => match catalogue::history(&**store, timeline, notices).await {
                    Err(error) if error.is_unusable_object() => {
                        notices.warning(error.to_string());
                        None
                    }
                    history => history?,
                },
            };
            let last = runs.last().map(|(_, last)| last.end_lsn(self.size));
            self.branches.add(timeline, history.clone(), last.zip(wal.newest()));
            let newest = wal.newest();
            let log_begins = BTreeSet::new();
            let line = Line { history, history_stored, runs, newest, log_begins };
            self.lines.insert(timeline, line);
        }
        Ok(listing)
    }

    /// A cluster that was upgraded, or whose WAL was reset, begins another log, and nothing
    /// between the two was ever written.
    async fn find_beginnings(&mut self, store: &dyn ObjectStore) -> Result<()> {
        for (timeline, line) in &mut self.lines {
            for hole in line.runs.windows(2).rev().take(HOLES_LOOKED_AT) {
                let [(_, before), (next, _)] = hole else { continue };
                let header = async |number| {
                    let segment = WalSegment { timeline: *timeline, number };
                    let name = WalFileName::segment(segment, self.size);
                    match recovery::segment_header(store, &name).await {
                        Err(error) if error.is_unusable_object() => Ok(None),
                        header => header,
                    }
                };
                let Some((after, begins)) = header(*next).await? else { continue };
                let before = header(*before).await?;
                let is_other = before
                    .is_some_and(|(before, _)| before.system_identifier != after.system_identifier);
                if begins || is_other {
                    line.log_begins.insert(*next);
                }
            }
        }
        Ok(())
    }

    /// What is missing and not what its name says is not in `pg_wal` either.
    fn look_at_own_wal(&mut self) {
        let Some(mut own) = self.own.take() else { return };
        let timelines: Vec<TimelineId> = self.lines.keys().copied().collect();
        for timeline in timelines {
            for (first, last) in self.missing(timeline) {
                own.forget_unsound(timeline, first, last);
            }
        }
        self.own = Some(own);
    }

    /// The name of a segment.
    pub(super) fn name(&self, timeline: TimelineId, number: SegmentNumber) -> String {
        WalSegment { timeline, number }.file_name(self.size)
    }
}

/// The size of the segments, out of the header of the first one that is listed.
async fn size_of_any(store: &dyn ObjectStore) -> Result<Option<SegmentSize>> {
    let request = ListRequest { prefix: layout::wal(), shallow: true, ..ListRequest::default() };
    let page = store.list(&request, None).await?;
    let names = page.objects.iter().filter_map(|object| layout::wal_file_of(&object.key));
    let segment = names.map(|(name, _)| name).find(|name| name.kind() == WalFileKind::Segment);
    let Some(segment) = segment else { return Ok(None) };
    match recovery::segment_size(store, &segment).await {
        Err(error) if error.is_unusable_object() => Ok(None),
        size => size,
    }
}
