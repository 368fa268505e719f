//! The WAL that a server still has.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::postgres::{
    Lsn, SegmentNumber, SegmentSize, SystemIdentifier, TimelineId, WalFileKind, WalFileName,
    WalPageHeader, WalSegment, archive_status,
};

/// What a server has of its own WAL. It is read before the archive is listed: what has been
/// archived by then is in the listing, and what has not is on its way.
#[derive(Debug, Clone)]
pub struct OwnWal {
    pub(super) pg_wal: PathBuf,
    pub(super) size: SegmentSize,
    pub(super) system_identifier: SystemIdentifier,
    /// The timeline that it writes or replays, and the first segment that is not complete.
    /// `None` when that is not known.
    pub(super) position: Option<WalSegment>,
    /// Whether it replays what another server writes.
    pub(super) in_recovery: bool,
    /// The segments in `pg_wal`, and whether they wait to be archived.
    segments: BTreeMap<WalSegment, bool>,
}

impl OwnWal {
    /// Reads the names in `pg_wal`. `position` is where the server writes: its timeline, and
    /// up to where it has flushed. Without that, only what the server takes for archived, or
    /// wants to have archived, is known to be complete.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the directory cannot be read.
    pub fn read(
        pg_wal: &Path,
        size: SegmentSize,
        system_identifier: SystemIdentifier,
        position: Option<(TimelineId, Lsn)>,
        in_recovery: bool,
    ) -> Result<OwnWal> {
        // What is complete meanwhile waits from then on, and is passed over here.
        let position = position.map(|(timeline, lsn)| WalSegment::containing(timeline, lsn, size));
        let unreadable = |source: std::io::Error| Error::file("read directory", pg_wal, &source);
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(pg_wal).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let Some(name) = name.to_str().and_then(|name| name.parse::<WalFileName>().ok()) else {
                continue;
            };
            let number = name.segment_number(size).filter(|_| name.kind() == WalFileKind::Segment);
            let Some(number) = number else { continue };
            let waits = archive_status::is_ready(pg_wal, &name);
            // A file without a mark may be one that has only the name of what it will be.
            if position.is_some() || waits || archive_status::is_done(pg_wal, &name) {
                segments.insert(WalSegment { timeline: name.timeline(), number }, waits);
            }
        }
        let pg_wal = pg_wal.to_owned();
        Ok(OwnWal { pg_wal, size, system_identifier, position, in_recovery, segments })
    }

    /// Of the segments from `first` to `last` of a timeline those that it has, and whether they
    /// wait to be archived.
    pub(super) fn has_of(
        &self,
        timeline: TimelineId,
        first: SegmentNumber,
        last: SegmentNumber,
    ) -> impl Iterator<Item = (SegmentNumber, bool)> {
        let at = |number| WalSegment { timeline, number };
        self.segments
            .range(at(first)..=at(last))
            .filter(|(segment, _)| !self.is_being_written(**segment))
            .map(|(segment, waits)| (segment.number, *waits))
    }

    /// Whether a segment is not complete yet. Those after it have the names of what they will
    /// be, and what is in them is older.
    pub(super) fn is_being_written(&self, segment: WalSegment) -> bool {
        self.position.is_some_and(|position| {
            segment.timeline == position.timeline && segment.number >= position.number
        })
    }

    /// Forgets the segments from `first` to `last` of a timeline that are not what their names
    /// say.
    pub(super) fn forget_unsound(
        &mut self,
        timeline: TimelineId,
        first: SegmentNumber,
        last: SegmentNumber,
    ) {
        let at = |number| WalSegment { timeline, number };
        let unsound: Vec<WalSegment> = self
            .segments
            .range(at(first)..=at(last))
            .filter(|(segment, waits)| !**waits && !self.is_sound(**segment))
            .map(|(segment, _)| *segment)
            .collect();
        for segment in unsound {
            self.segments.remove(&segment);
        }
    }

    /// Whether a file is the segment that its name says, of this cluster.
    fn is_sound(&self, segment: WalSegment) -> bool {
        let name = WalFileName::segment(segment, self.size);
        let mut start = [0; WalPageHeader::LENGTH];
        let mut read = || -> std::io::Result<u64> {
            let mut file = File::open(self.pg_wal.join(name.as_str()))?;
            file.read_exact(&mut start)?;
            Ok(file.metadata()?.len())
        };
        let Ok(bytes) = read() else { return false };
        WalPageHeader::parse(&start).is_some_and(|header| {
            header.check(&name, bytes).is_ok() && header.system_identifier == self.system_identifier
        })
    }
}
