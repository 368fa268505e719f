//! What an archive has, as retention looks at it: two listings, and the small objects of each
//! base backup.

use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;

use super::select::Backup;
use crate::base_backup::is_under_way;
use crate::catalogue::wal_pages::WalPages;
use crate::catalogue::{self, BackupInfo};
use crate::coverage::{self, Backups, Branches};
use crate::error::Result;
use crate::layout::{self, WalContent};
use crate::notice::Notices;
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineId, WalFileName, WalSegment};
use crate::recovery::{self, Refusal};
use crate::store::{ListRequest, ObjectInfo, ObjectStore};

/// What an archive has.
#[derive(Debug)]
pub struct Survey {
    /// The base backups, those without a sentinel included.
    pub(super) backups: Vec<Backup>,
    /// The objects of each base backup, by its name.
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) branches: Branches,
    pub(super) wal: BTreeMap<TimelineId, Vec<Segment>>,
    pub(super) histories: Tally,
    /// What retention does not know, and never deletes.
    pub(super) foreign: Tally,
    pub(super) size: SegmentSize,
    /// Where the recovery window ends.
    pub(super) now: OffsetDateTime,
}

/// A number of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// Their size in the store.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, object: &ObjectInfo) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(object.size_bytes);
    }

    /// Both together.
    #[must_use]
    pub(super) fn and(self, other: Tally) -> Tally {
        Tally {
            objects: self.objects + other.objects,
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The objects of a base backup.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) tally: Tally,
    /// When the newest was stored.
    newest: OffsetDateTime,
    pub(super) is_complete: bool,
}

/// The objects of a segment, and of those after it where one object is about several.
///
/// An archive may hold millions of segments: a few words are kept of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) number: SegmentNumber,
    /// Their size in the store: a segment has 1 GB at most.
    pub(super) bytes: u32,
    pub(super) objects: u16,
    /// How many segments after it they are about, too.
    more: u8,
    /// Whether the whole segment is there.
    whole: bool,
}

impl Segment {
    /// The last segment that they are about.
    pub(super) fn last(&self) -> SegmentNumber {
        SegmentNumber(self.number.0.saturating_add(self.more.into()))
    }
}

impl Survey {
    /// Looks at an archive. `now` is by this host's clock.
    ///
    /// # Errors
    /// Those of the store. [`ErrorKind::Config`] for an archive whose WAL segments are of more
    /// than one size.
    pub async fn of(
        store: &Arc<dyn ObjectStore>,
        now: OffsetDateTime,
        notices: &Notices,
    ) -> Result<Survey> {
        Survey::with(store, &Backups::of(store, notices).await?, now, notices).await
    }

    /// The same, with base backups that were looked at before.
    ///
    /// # Errors
    /// As [`Survey::of`].
    pub async fn with(
        store: &Arc<dyn ObjectStore>,
        known: &Backups,
        now: OffsetDateTime,
        notices: &Notices,
    ) -> Result<Survey> {
        let size = coverage::segment_size(&known.prepared)?.unwrap_or(SegmentSize::DEFAULT);
        let mut survey = Survey {
            backups: Vec::new(),
            groups: BTreeMap::new(),
            branches: Branches::default(),
            wal: BTreeMap::new(),
            histories: Tally::default(),
            foreign: Tally::default(),
            size,
            now,
        };
        let mut newest = None;
        survey.list_backups(&**store, &mut newest).await?;
        let timelines = survey.list_wal(&**store, &mut newest).await?;
        // A host's clock that is ahead must not make everything old.
        survey.now = now.min(newest.unwrap_or(now));
        for (timeline, newest) in timelines {
            let history = match timeline {
                TimelineId(1) => None,
                _ => match catalogue::history(&**store, timeline, notices).await {
                    Err(error) if error.is_unusable_object() => {
                        notices.warning(error.to_string());
                        None
                    }
                    history => history?,
                },
            };
            let segments = survey.wal.get(&timeline);
            let last = segments.and_then(|it| it.last()).map(|it| it.last().end_lsn(size));
            survey.branches.add(timeline, history, last.zip(newest));
        }
        for (info, prepared) in known.infos.iter().zip(&known.prepared) {
            let mut backup = survey.backup(info, prepared);
            if let Some(damage) = known.damaged.get(&info.name) {
                backup.unusable.get_or_insert(format!("its last verification failed: {damage}"));
            }
            survey.backups.push(backup);
        }
        survey.add_incomplete(&**store, now).await?;
        survey.find_parents_by_name();
        Ok(survey)
    }

    async fn list_backups(
        &mut self,
        store: &dyn ObjectStore,
        newest: &mut Option<OffsetDateTime>,
    ) -> Result<()> {
        let request = ListRequest { prefix: layout::base_backups(), ..ListRequest::default() };
        let mut page = None;
        loop {
            let answer = store.list(&request, page).await?;
            for object in &answer.objects {
                *newest = (*newest).max(Some(object.last_modified));
                let sentinel = layout::backup_of_sentinel(&object.key).map(str::to_owned);
                let is_complete = sentinel.is_some();
                let Some(name) = sentinel.or_else(|| layout::backup_of(&object.key)) else {
                    self.foreign.add(object);
                    continue;
                };
                if layout::start_segment_of_backup(&name).is_none() {
                    self.foreign.add(object);
                    continue;
                }
                let group = self.groups.entry(name).or_insert(Group {
                    tally: Tally::default(),
                    newest: object.last_modified,
                    is_complete: false,
                });
                group.tally.add(object);
                group.newest = group.newest.max(object.last_modified);
                group.is_complete |= is_complete;
            }
            page = answer.next;
            if page.is_none() {
                return Ok(());
            }
        }
    }

    /// The timelines, each with when the newest file of its own was stored.
    async fn list_wal(
        &mut self,
        store: &dyn ObjectStore,
        newest: &mut Option<OffsetDateTime>,
    ) -> Result<BTreeMap<TimelineId, Option<OffsetDateTime>>> {
        let mut timelines = BTreeMap::new();
        let request = ListRequest { prefix: layout::wal(), ..ListRequest::default() };
        let mut pages = WalPages::new(store, self.size, request);
        while let Some(objects) = pages.next().await? {
            for object in &objects {
                *newest = (*newest).max(Some(object.last_modified));
                match layout::wal_content(&object.key, self.size) {
                    None => self.foreign.add(object),
                    Some(WalContent::History(timeline)) => {
                        self.histories.add(object);
                        timelines.entry(timeline).or_insert(None);
                    }
                    Some(WalContent::Segments { timeline, first, last, whole }) => {
                        let own = timelines.entry(timeline).or_insert(None);
                        *own = (*own).max(Some(object.last_modified));
                        let whole = whole && object.size_bytes > 0;
                        let segments = self.wal.entry(timeline).or_default();
                        add_segment(segments, first, last, whole, object.size_bytes);
                    }
                }
            }
        }
        Ok(timelines)
    }

    fn backup(
        &self,
        info: &BackupInfo,
        prepared: &std::result::Result<recovery::Candidate, Refusal>,
    ) -> Backup {
        let named = self.named_start(&info.name);
        let start = info.start_lsn.or(prepared.as_ref().ok().map(|it| it.start)).unwrap_or(named);
        let unusable = match (&info.unreadable, prepared) {
            (Some(error), _) => Some(error.message().to_owned()),
            (None, Err(refusal)) => Some(refusal.reason.clone()),
            (None, Ok(_)) => self.hole(info.timeline, start, info.stop_lsn),
        };
        let pinned = match (&info.metadata_unreadable, info.permanent) {
            (_, true) => Some("it is permanent".to_owned()),
            (Some(_), false) => {
                Some("its metadata cannot be read, so it may be permanent".to_owned())
            }
            (None, false) => None,
        };
        Backup {
            name: info.name.clone(),
            complete_at: recovery::finished(info),
            stored_at: info.stored_at,
            system_identifier: info.system_identifier,
            timeline: info.timeline,
            start,
            stop: info.stop_lsn,
            parent: info.delta_from.clone(),
            perhaps_parents: Vec::new(),
            pinned,
            unusable,
            is_complete: true,
        }
    }

    /// Backups without a sentinel: those that may still be under way are kept, with the WAL
    /// that they will need.
    async fn add_incomplete(&mut self, store: &dyn ObjectStore, now: OffsetDateTime) -> Result<()> {
        // By either clock.
        let now = now.min(self.now);
        for (name, group) in self.groups.iter().filter(|(_, group)| !group.is_complete) {
            let Some(timeline) = layout::timeline_of_backup(name) else { continue };
            let is_under_way = is_under_way(store, name, group.newest, now).await?;
            self.backups.push(Backup {
                name: name.clone(),
                complete_at: group.newest,
                stored_at: group.newest,
                system_identifier: None,
                timeline,
                start: self.named_start(name),
                stop: None,
                parent: None,
                perhaps_parents: Vec::new(),
                pinned: is_under_way.then(|| {
                    "it is not complete, and has stored something within a day".to_owned()
                }),
                unusable: Some("it is not complete".to_owned()),
                is_complete: false,
            });
        }
        Ok(())
    }

    /// Where the sentinel of a delta is missing or cannot be read, its name says what it is a
    /// delta of: should it be repaired, it needs that. A delta and the full backup that was made
    /// of it begin in the same segment, and it may be a delta of either.
    fn find_parents_by_name(&mut self) {
        let started = |backup: &Backup| {
            let segment = layout::start_segment_of_backup(&backup.name)?;
            Some((segment.to_string(), backup.name.clone()))
        };
        let mut by_segment: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (segment, name) in self.backups.iter().filter_map(started) {
            by_segment.entry(segment).or_default().push(name);
        }
        let unknown = |backup: &&mut Backup| backup.parent.is_none() && backup.unusable.is_some();
        for backup in self.backups.iter_mut().filter(unknown) {
            let segment = layout::parent_segment(&backup.name);
            let parents = segment.and_then(|it| by_segment.get(it.as_str()).cloned());
            backup.perhaps_parents = parents.unwrap_or_default();
            backup.parent = backup.perhaps_parents.last().cloned();
        }
    }

    /// Each complete backup, and whether it is pinned.
    pub(super) fn seen(&self) -> BTreeMap<String, bool> {
        let complete = self.backups.iter().filter(|backup| backup.is_complete);
        complete.map(|backup| (backup.name.clone(), backup.pinned.is_some())).collect()
    }

    fn named_start(&self, backup: &str) -> Lsn {
        let segment = layout::start_segment_of_backup(backup);
        let number = segment.and_then(|segment| segment.segment_number(self.size));
        number.unwrap_or(SegmentNumber(0)).start_lsn(self.size)
    }

    /// Why a backup cannot become consistent.
    fn hole(&self, timeline: TimelineId, start: Lsn, stop: Option<Lsn>) -> Option<String> {
        let segments = self.wal.get(&timeline).map(Vec::as_slice).unwrap_or_default();
        let has = |number| {
            let at = segments.partition_point(|segment| segment.number < number);
            segments.get(at).is_some_and(|segment| segment.number == number && segment.whole)
        };
        let number = coverage::lacking(timeline, start, stop, self.size, has)?;
        let name = WalFileName::segment(WalSegment { timeline, number }, self.size);
        Some(format!("WAL segment \"{name}\", which it needs, is not in the archive"))
    }
}

/// Segments come in ascending order, and all objects of one next to each other.
fn add_segment(
    segments: &mut Vec<Segment>,
    number: SegmentNumber,
    last: SegmentNumber,
    whole: bool,
    bytes: u64,
) {
    let more = u8::try_from(last.0.saturating_sub(number.0)).unwrap_or(u8::MAX);
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    match segments.last_mut().filter(|segment| segment.number == number) {
        Some(segment) => {
            segment.objects = segment.objects.saturating_add(1);
            segment.bytes = segment.bytes.saturating_add(bytes);
            segment.whole |= whole;
            segment.more = segment.more.max(more);
        }
        None => segments.push(Segment { number, bytes, objects: 1, more, whole }),
    }
}
