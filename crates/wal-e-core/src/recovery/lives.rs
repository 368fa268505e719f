//! What happened on a timeline, and when: its beginning, and the last transaction and the
//! newest base backup that it has from some LSN on.
//!
//! Times are those that servers wrote into the WAL. Only the first and the last segments
//! of a timeline are read for them.

use std::sync::Arc;

use time::OffsetDateTime;

use super::backups;
use super::chain::{Chain, ChainEnd};
use super::plan::Planner;
use super::wal_source::{Found, Goal, Point, WalSource};
use crate::catalogue::BackupInfo;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineHistory, TimelineId, WalSegment};

/// What a timeline has of its own from some LSN on.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    /// Its last segment.
    pub(super) last_segment: Option<WalSegment>,
    /// How many segments it has from there on.
    pub(super) segments: u64,
    /// Where its last record begins.
    pub(super) last_record: Option<Lsn>,
    /// Its last transaction.
    pub(super) last_transaction: Option<Point>,
    /// Its newest base backup.
    pub(super) newest_backup: Option<BackupInfo>,
    /// Why the end of its WAL could not be read, if so.
    pub(super) unknown: Option<String>,
}

impl Life {
    /// The last moment at which it is known to have been alive, by its server's clock.
    pub(super) fn last_sign(&self) -> Option<OffsetDateTime> {
        let transaction = self.last_transaction.and_then(|point| point.time);
        let backup = self.newest_backup.as_ref().and_then(|backup| backup.finish_time);
        transaction.max(backup)
    }
}

impl Planner<'_> {
    /// What `timeline` has from `from` on.
    pub(super) async fn life(
        &mut self,
        size: SegmentSize,
        timeline: TimelineId,
        from: Lsn,
    ) -> Result<Life> {
        if let Some(known) = self.lives.get(&(timeline, from)) {
            return Ok(known.clone());
        }
        let first = SegmentNumber::containing(from, size);
        let listing = self.listing(size);
        listing.extend_timeline_to(timeline, first).await?;
        let wal = listing.wal(timeline);
        let backups = self.backups.iter().filter(|backup| {
            backup.timeline == timeline && backup.stop_lsn.is_none_or(|stop| stop > from)
        });
        let mut life = Life {
            last_segment: wal.last_from(first).map(|number| WalSegment { timeline, number }),
            newest_backup: backups.max_by_key(|backup| backups::finished(backup)).cloned(),
            ..Life::default()
        };
        let next = WalSegment { timeline, number: first };
        let chain = Chain {
            runs: wal.runs_from(timeline, first),
            tail: None,
            end: ChainEnd::Archive { next },
        };
        life.segments = chain.len();
        if wal.cold_from(first).next().is_some() {
            life.unknown = Some("some of its WAL is in cold storage".to_owned());
        }
        let mut source = WalSource::new(Arc::clone(&self.store), size, None, self.notices.clone());
        for index in (0..chain.len()).rev() {
            let summary = match source.summary(&chain, index).await {
                Ok(summary) => summary,
                Err(error) if error.is_unusable_object() => {
                    life.unknown.get_or_insert(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            life.last_record = life.last_record.or(summary.last_start.filter(|lsn| *lsn >= from));
            life.last_transaction = summary.last.filter(|point| point.start >= from);
            if life.last_transaction.is_some() {
                break;
            }
        }
        self.lives.insert((timeline, from), life.clone());
        Ok(life)
    }

    /// When a timeline began, by the clock of the server that began it: its first record says
    /// it. Where that is not archived, the history file was stored a moment later.
    pub(super) async fn began(
        &mut self,
        size: SegmentSize,
        line: &TimelineHistory,
    ) -> Result<Option<OffsetDateTime>> {
        let timeline = line.timeline();
        let Some(begin) = line.begin() else { return Ok(None) };
        if let Some(known) = self.beginnings.get(&timeline) {
            return Ok(*known);
        }
        let first = SegmentNumber::containing(begin, size);
        let listing = self.listing(size);
        listing.extend_timeline_to(timeline, first).await?;
        let stored = listing.history_stored(timeline);
        let runs = listing.wal(timeline).runs_from(timeline, first);
        let runs: Vec<_> = runs.into_iter().take(1).filter(|run| run.first == first).collect();
        let next = WalSegment { timeline, number: first };
        let chain = Chain { runs, tail: None, end: ChainEnd::Archive { next } };
        let source = WalSource::new(Arc::clone(&self.store), size, None, self.notices.clone());
        let all = 0..=chain.len().saturating_sub(1);
        let began = match source.find(&chain, all, begin, Goal::AnyTime).await {
            Ok(Found::Here(point)) => point.time,
            Ok(Found::Nowhere | Found::Broken(..)) => None,
            Err(error) if error.is_unusable_object() => None,
            Err(error) => return Err(error),
        };
        let began = began.or(stored);
        self.beginnings.insert(timeline, began);
        Ok(began)
    }
}
