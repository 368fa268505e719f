//! The timelines of an archive beside those that recovery goes along, and whether one of
//! them could be meant.
//!
//! A promotion ends one timeline and begins the next. Ordinarily nothing happens on the old
//! one from then on: what its server had still written past that point is older than the
//! new timeline. But where a copy was promoted on the same prefix, both go on, and only the
//! user knows which of them is the database. PostgreSQL's `latest` is the one with the highest number.

use super::backups::Candidate;
use super::lives::Life;
use super::plan::Planner;
use crate::catalogue::BackupInfo;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineHistory, TimelineId};
use crate::recovery::BackupChoice;

/// A timeline that is not the one that recovery follows.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) timeline: TimelineId,
    /// It and its ancestors; `None` when its history file is missing or damaged.
    pub(super) line: Option<TimelineHistory>,
    /// From here on it has nothing in common with the way of the recovery.
    pub(super) parts_at: Lsn,
    /// From here on it has WAL of its own that is not on that way.
    pub(super) own_from: Lsn,
}

impl Planner<'_> {
    /// The timelines beside `way`.
    pub(super) async fn sides(
        &mut self,
        size: SegmentSize,
        way: &TimelineHistory,
    ) -> Result<Vec<Side>> {
        let listed = self.listing(size).timelines().collect::<Vec<_>>();
        let mut timelines: Vec<TimelineId> =
            listed.into_iter().chain(self.backups.iter().map(|backup| backup.timeline)).collect();
        timelines.sort_unstable();
        timelines.dedup();
        let mut sides = Vec::new();
        for timeline in timelines.into_iter().filter(|timeline| *timeline != way.timeline()) {
            let line = self.line_of(timeline, way).await?;
            let (parts_at, own_from) = match &line {
                Some(line) => {
                    let Some(parts_at) = line.parts_from(way) else { continue };
                    (parts_at, line.begin().unwrap_or_default().max(parts_at))
                }
                None => {
                    let first = self.listing(size).wal(timeline).next_from(SegmentNumber(0));
                    let first = first.map_or(Lsn(0), |number| number.start_lsn(size));
                    (first, first)
                }
            };
            sides.push(Side { timeline, line, parts_at, own_from });
        }
        Ok(sides)
    }

    /// A timeline and its ancestors; `None` when that is not known.
    pub(super) async fn line_of(
        &mut self,
        timeline: TimelineId,
        way: &TimelineHistory,
    ) -> Result<Option<TimelineHistory>> {
        if timeline.0 <= 1 {
            return Ok(Some(TimelineHistory::without_ancestors(timeline)));
        }
        let own = match self.history(timeline).await {
            Err(error) if error.is_unusable_object() => None,
            found => found?,
        };
        // A newer history may have less of an ancestor than that one's own.
        Ok(own.or_else(|| way.of_ancestor(timeline)))
    }

    /// Whether a side is alive: it has transactions or base backups that are younger than
    /// the next newer timeline on the way; of a side that is newer than all of these, any.
    pub(super) async fn is_alive(
        &mut self,
        size: SegmentSize,
        way: &TimelineHistory,
        side: &Side,
        life: &Life,
    ) -> Result<bool> {
        let Some(last_sign) = life.last_sign() else { return Ok(false) };
        let on_way = way.ranges().into_iter().map(|range| range.timeline);
        let Some(newer) = on_way.filter(|timeline| *timeline > side.timeline).min() else {
            return Ok(true);
        };
        let Some(line) = self.line_of(newer, way).await? else { return Ok(true) };
        Ok(self.began(size, &line).await?.is_none_or(|began| last_sign > began))
    }

    /// Whether a recovery along a side has a base backup to begin with. A timeline without
    /// history file counts: its file may come back.
    pub(super) fn has_backup(&self, candidate: &Candidate, side: &Side) -> bool {
        let Some(line) = &side.line else { return true };
        let named = |backup: &BackupInfo| match &self.request.backup {
            BackupChoice::Named(name) => backup.name == *name,
            BackupChoice::Auto | BackupChoice::Latest => true,
        };
        self.backups_on(candidate, line).any(named)
    }

    /// The base backups of the same cluster with which a recovery along `line` can begin.
    pub(super) fn backups_on(
        &self,
        candidate: &Candidate,
        line: &TimelineHistory,
    ) -> impl Iterator<Item = &BackupInfo> {
        let cluster = candidate.info.system_identifier;
        let of_cluster = move |backup: &&BackupInfo| {
            let both = backup.system_identifier.zip(cluster);
            both.is_none_or(|(backup, cluster)| backup == cluster)
        };
        self.backups.iter().filter(of_cluster).filter(move |backup| is_on(backup, line))
    }
}

/// Whether a recovery along `line` can begin with a base backup.
pub(super) fn is_on(backup: &BackupInfo, line: &TimelineHistory) -> bool {
    line.range_of(backup.timeline).is_some_and(|range| {
        let ends_in_time =
            range.end.is_none_or(|end| backup.stop_lsn.is_none_or(|stop| stop <= end));
        backup.start_lsn.is_none_or(|start| range.contains(start)) && ends_in_time
    })
}
