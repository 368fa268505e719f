//! Which cluster wrote the WAL. A prefix that was kept across `pg_upgrade` has the WAL of two,
//! and the names of segments do not say which: the header of each segment does.

use std::sync::Arc;

use super::backups::Candidate;
use super::chain::{Chain, ChainEnd};
use super::plan::Planner;
use super::refusal::{Cause, Refusal};
use super::sides::is_on;
use super::wal_source;
use crate::catalogue::wal_inventory::Run;
use crate::config::Word;
use crate::error::Result;
use crate::postgres::{
    SegmentNumber, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId, WalFileName,
    WalSegment,
};

impl Planner<'_> {
    /// The cluster that wrote a segment; `None` when it cannot be read.
    pub(super) async fn cluster_of(
        &mut self,
        segment: WalSegment,
        size: SegmentSize,
    ) -> Result<Option<SystemIdentifier>> {
        if let Some(known) = self.clusters.get(&segment) {
            return Ok(*known);
        }
        let store = Arc::clone(&self.store);
        let name = WalFileName::segment(segment, size);
        let cluster = match wal_source::segment_header(&*store, &name).await {
            Ok(Some((header, begins_log))) => {
                if begins_log {
                    self.log_begins.insert(segment);
                }
                Some(header.system_identifier)
            }
            Ok(None) => None,
            Err(error) if error.is_unusable_object() => None,
            Err(error) => return Err(error),
        };
        self.clusters.insert(segment, cluster);
        Ok(cluster)
    }

    /// Whether a segment is the first of a log: what is before it does not lead to it.
    pub(super) async fn begins_log(
        &mut self,
        segment: WalSegment,
        size: SegmentSize,
    ) -> Result<bool> {
        self.cluster_of(segment, size).await?;
        Ok(self.log_begins.contains(&segment))
    }

    /// The cluster of a base backup.
    async fn own_cluster(&mut self, candidate: &Candidate) -> Result<Option<SystemIdentifier>> {
        if let Some(known) = candidate.info.system_identifier {
            return Ok(Some(known));
        }
        let (timeline, size) = (candidate.info.timeline, candidate.segment_size);
        self.cluster_of(WalSegment::containing(timeline, candidate.start, size), size).await
    }

    /// Whether a segment was written by another cluster than the one of a base backup: which.
    pub(super) async fn other_cluster(
        &mut self,
        candidate: &Candidate,
        segment: WalSegment,
    ) -> Result<Option<SystemIdentifier>> {
        let cluster = self.cluster_of(segment, candidate.segment_size).await?;
        let Some(cluster) = cluster else { return Ok(None) };
        let own = self.own_cluster(candidate).await?;
        Ok(own.filter(|own| *own != cluster).map(|_| cluster))
    }

    /// Ends a chain before the first segment of another cluster, and says of which. The
    /// segments of one follow those of the other, so that it is searched by halves.
    pub(super) async fn cut_at_other_cluster(
        &mut self,
        candidate: &Candidate,
        chain: &mut Chain,
    ) -> Result<Option<SystemIdentifier>> {
        if let ChainEnd::Hole { next, .. } = chain.end
            && let Some(other) = self.other_cluster(candidate, next).await?
        {
            // The hole is between two clusters, if this one's WAL goes up to it.
            let own_end = self.first_of_another(candidate, chain).await?;
            if own_end.is_none() {
                chain.end = ChainEnd::Archive { next };
                return Ok(Some(other));
            }
        }
        let Some((index, other)) = self.first_of_another(candidate, chain).await? else {
            return Ok(None);
        };
        if let Some(next) = chain.segment(index) {
            truncate(chain, index);
            chain.end = ChainEnd::Archive { next };
        }
        Ok(Some(other))
    }

    async fn first_of_another(
        &mut self,
        candidate: &Candidate,
        chain: &Chain,
    ) -> Result<Option<(u64, SystemIdentifier)>> {
        let (mut low, mut high) = (0, chain.len().saturating_sub(1));
        let Some(last) = chain.segment(high) else { return Ok(None) };
        let Some(mut other) = self.other_cluster(candidate, last).await? else { return Ok(None) };
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(segment) = chain.segment(middle) else { break };
            match self.other_cluster(candidate, segment).await? {
                Some(cluster) => (high, other) = (middle, cluster),
                None => low = middle + 1,
            }
        }
        Ok(Some((high, other)))
    }

    /// The history of the newest timeline that the cluster of a base backup has, where the
    /// one that a server would choose, `way`, is another cluster's, or is nothing but a history
    /// file that retention has left. `None` when it is not.
    pub(super) async fn way_of_own_cluster(
        &mut self,
        candidate: &Candidate,
        way: &TimelineHistory,
    ) -> Result<Option<TimelineHistory>> {
        let own = candidate.info.timeline;
        for number in (own.0..=way.timeline().0).rev() {
            let timeline = TimelineId(number);
            if timeline == own {
                let line = self.history(timeline).await?;
                return Ok(Some(line.unwrap_or_else(|| TimelineHistory::without_ancestors(own))));
            }
            let line = self.line_of(timeline, way).await?;
            let is_other = self.is_of_another(candidate, timeline, line.as_ref()).await?;
            if timeline == way.timeline() && !is_other {
                return Ok(None);
            }
            if let Some(line) = line.filter(|line| !is_other && is_on(&candidate.info, line)) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Whether the newest WAL of a timeline is another cluster's. Without WAL it is, unless a
    /// base backup of this one leads there.
    async fn is_of_another(
        &mut self,
        candidate: &Candidate,
        timeline: TimelineId,
        line: Option<&TimelineHistory>,
    ) -> Result<bool> {
        let wal = self.listing(candidate.segment_size).wal(timeline);
        match (wal.last_from(SegmentNumber(0)), line) {
            (Some(number), _) => {
                let last = WalSegment { timeline, number };
                Ok(self.other_cluster(candidate, last).await?.is_some())
            }
            (None, Some(line)) => Ok(self.backups_on(candidate, line).next().is_none()),
            // What it left, and where, may become known.
            (None, None) => Ok(false),
        }
    }
}

/// The refusal of a base backup whose cluster is not the one that archives now.
pub(super) fn newer_cluster(
    candidate: &Candidate,
    segment: &str,
    other: SystemIdentifier,
) -> Refusal {
    let name = &candidate.info.name;
    Refusal::new(
        Cause::Target,
        format!("the newest WAL in the archive is of another cluster than base backup \"{name}\""),
    )
    .with_detail(format!(
        "WAL segment \"{segment}\" is of the cluster with system identifier {other}."
    ))
    .with_advice(format!(
        "Take a base backup of the cluster that archives now. The older one can be recovered to a target, or along a timeline that is named with {}.",
        Word::TargetTimeline
    ))
}

/// Leaves the first `length` segments.
fn truncate(chain: &mut Chain, length: u64) {
    chain.tail = chain.tail.filter(|_| length >= chain.len());
    let mut left = length;
    let runs = chain.runs.iter().map_while(|run| {
        let count = (run.last.0 - run.first.0 + 1).min(left);
        left -= count;
        let last = SegmentNumber(run.first.0 + count.checked_sub(1)?);
        Some(Run { last, ..*run })
    });
    chain.runs = runs.collect();
}
