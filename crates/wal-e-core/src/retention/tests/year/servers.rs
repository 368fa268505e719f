//! Servers that write WAL, and what they have written.

use std::collections::BTreeMap;
use std::io::Write;

use time::OffsetDateTime;

use crate::codec::{Compression, Compressor};
use crate::postgres::wal_sample::{SEGMENT_SIZE, WalWriter};
use crate::postgres::{Lsn, SystemIdentifier, TimelineHistory, TimelineId};

/// A server that writes to a timeline.
#[derive(Debug, Clone)]
pub struct Server {
    pub log: WalWriter,
    pub timeline: TimelineId,
}

impl Server {
    /// A new cluster, whose log begins with this segment.
    pub fn initialized(cluster: u64, segment: u64) -> Server {
        let mut log = WalWriter::new(1, segment);
        log.cluster = SystemIdentifier(cluster);
        log.shutdown_checkpoint();
        Server { log, timeline: TimelineId(1) }
    }

    pub fn cluster(&self) -> u64 {
        self.log.cluster.0
    }

    /// Ends the segment. Returns all that are complete, with their names and content as they
    /// are stored.
    pub fn switch(&mut self) -> Vec<(String, Vec<u8>)> {
        self.log.switch();
        let segments = self.log.segments();
        // What is written is forgotten.
        self.log = self.log.fork(self.timeline.0);
        segments.into_iter().map(|(name, content)| (name, compressed(&content))).collect()
    }
}

fn compressed(content: &[u8]) -> Vec<u8> {
    let mut writer = Compressor::new(Vec::new(), Compression::default()).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

/// A moment: a transaction that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub cluster: u64,
    pub timeline: TimelineId,
    pub lsn: Lsn,
    /// When it really was, whatever the server's clock said.
    pub at: OffsetDateTime,
}

/// The timelines of all clusters.
#[derive(Debug, Default)]
pub struct Lines {
    lines: BTreeMap<(u64, TimelineId), TimelineHistory>,
}

impl Lines {
    pub fn begin(&mut self, cluster: u64, line: TimelineHistory) {
        self.lines.insert((cluster, line.timeline()), line);
    }

    pub fn get(&self, cluster: u64, timeline: TimelineId) -> &TimelineHistory {
        &self.lines[&(cluster, timeline)]
    }

    /// The one line of this number. Timeline 1 of any cluster is like another.
    pub fn numbered(&self, timeline: TimelineId) -> &TimelineHistory {
        self.lines.values().find(|line| line.timeline() == timeline).unwrap()
    }

    /// A timeline that no cluster has used.
    pub fn next(&self) -> TimelineId {
        TimelineId(self.lines.keys().map(|(_, timeline)| timeline.0).max().unwrap_or(0) + 1)
    }

    /// Whether a server that is consistent at `lsn` of timeline `from` can follow `to`.
    pub fn leads(&self, cluster: u64, from: TimelineId, lsn: Lsn, to: TimelineId) -> bool {
        let Some(line) = self.lines.get(&(cluster, to)) else { return false };
        let range = line.range_of(from).filter(|range| !range.is_empty());
        range.is_some_and(|range| range.end.is_none_or(|end| end >= lsn))
    }

    /// The clusters.
    pub fn clusters(&self) -> Vec<u64> {
        let mut clusters: Vec<_> = self.lines.keys().map(|(cluster, _)| *cluster).collect();
        clusters.dedup();
        clusters
    }
}

/// The number of the segment that holds a position.
pub fn segment_of(lsn: Lsn) -> u64 {
    lsn.0 / SEGMENT_SIZE.bytes()
}
