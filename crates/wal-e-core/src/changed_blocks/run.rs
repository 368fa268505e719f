//! What consecutive WAL segments have changed, by their maps.

use super::{ChangedBlocks, RelationId, SegmentMap};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::wal_blocks::{BlockSink, Joint};
use crate::postgres::{Lsn, SegmentNumber, WalPageHeader, WalSegment};

/// What the WAL from one LSN to another has changed. All of the segments that hold it counts,
/// which may be more than that.
///
/// `maps` are those of consecutive segments, oldest first. Each has to be of the timeline whose
/// segment a recovery would read there. That the segments are of one log is checked.
///
/// # Errors
/// The first error of `maps`. [`ErrorKind::NotFound`] when a map is missing;
/// [`ErrorKind::Corrupt`] when one does not continue the one before; [`ErrorKind::Config`] when
/// `wal_level` was `minimal` meanwhile.
pub fn changed_between(
    maps: impl IntoIterator<Item = Result<SegmentMap>>,
    from: Lsn,
    to: Lsn,
) -> Result<ChangedBlocks> {
    let mut run = MapRun::from(from);
    for map in maps {
        run.add(map?)?;
    }
    run.finish(to)
}

/// Maps of consecutive segments, taken one by one.
#[derive(Debug)]
pub struct MapRun {
    from: Lsn,
    last: Option<Last>,
    joint: Joint,
    changed: ChangedBlocks,
}

/// The map that was added last.
#[derive(Debug, Clone, Copy)]
struct Last {
    segment: WalSegment,
    end: Lsn,
}

impl MapRun {
    /// A run that begins with the segment that holds `lsn`.
    pub fn from(lsn: Lsn) -> Self {
        let (last, joint, changed) = (None, Joint::default(), ChangedBlocks::default());
        MapRun { from: lsn, last, joint, changed }
    }

    /// Adds the map of the next segment. After an error, the run is of no use.
    ///
    /// # Errors
    /// As [`changed_between`].
    pub fn add(&mut self, map: SegmentMap) -> Result<()> {
        let (segment, size) = (map.segment, map.ends.segment_size);
        let name = segment.file_name(size);
        let wanted = match self.last {
            None => SegmentNumber::containing(self.from, size),
            Some(last) => SegmentNumber(last.segment.number.0.saturating_add(1)),
        };
        if segment.number != wanted {
            let missing = WalSegment { number: wanted, ..segment };
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no map of WAL segment \"{}\"", missing.file_name(size)),
            )
            .with_detail(format!("The next one is that of \"{name}\".")));
        }
        let mut sink =
            Sink { changed: &mut self.changed, wal_level_is_minimal: map.wal_level_is_minimal };
        self.joint
            .add(&map.ends, &mut sink)
            .map_err(|error| broken(&name, &error.reason, error.lsn))?;
        if sink.wal_level_is_minimal {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the WAL does not tell all that has changed: wal_level was \"minimal\" in segment \"{name}\""
                ),
            ));
        }
        // The first segment of a timeline begins with pages of the one before, but the next ones
        // do not.
        if let Some(last) = self.last
            && map.ends.first_timeline < last.segment.timeline
        {
            return Err(broken(&name, "it is of an earlier timeline", map.ends.start));
        }
        self.last = Some(Last { segment, end: segment.number.end_lsn(size) });
        self.changed.merge(map.changed);
        Ok(())
    }

    /// All that has changed from the LSN where the run began to this one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the maps do not lead that far.
    pub fn finish(self, to: Lsn) -> Result<ChangedBlocks> {
        // No record begins in the header of a segment's first page.
        let reach = self.last.map(|last| last.end.0.saturating_add(WalPageHeader::LENGTH as u64));
        let unread = self.joint.unread().filter(|begin| *begin < to);
        match reach {
            Some(reach) if reach >= to.0 && unread.is_none() => Ok(self.changed),
            _ => {
                let end = unread.or(self.last.map(|last| last.end)).unwrap_or(self.from);
                Err(Error::new(
                    ErrorKind::NotFound,
                    format!("there are no maps of the WAL from LSN {end} to LSN {to}"),
                ))
            }
        }
    }
}

/// Takes what a record changes that is cut by the end of a segment.
struct Sink<'a> {
    changed: &'a mut ChangedBlocks,
    wal_level_is_minimal: bool,
}

impl BlockSink for Sink<'_> {
    fn block(&mut self, relation: &RelationId, block: u32) {
        self.changed.note_block(*relation, block);
    }

    fn limit(&mut self, relation: &RelationId, blocks: u32) {
        self.changed.note_limit(*relation, blocks);
    }

    fn database(&mut self, tablespace: u32, database: u32) {
        self.changed.note_database(tablespace, database);
    }

    fn wal_level_is_minimal(&mut self) {
        self.wal_level_is_minimal = true;
    }
}

fn broken(name: &str, reason: &str, lsn: Lsn) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the map of WAL segment \"{name}\" does not continue the one before: {reason}"),
    )
    .with_detail(format!("This is at LSN {lsn}."))
}

#[cfg(test)]
mod tests;
