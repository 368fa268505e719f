//! Which blocks a WAL segment changes, noted while it passes: for the next incremental backup.

use crate::changed_blocks::{KeptMaps, SegmentMapper};
use crate::error::Result;
use crate::notice::Notices;
use crate::postgres::{SegmentSize, WalFileKind, WalFileName, WalSegment};

/// The map of one segment, as far as it has passed. What fails here fails nothing else: the backup
/// finds that there is no map.
pub(super) struct Mapping {
    mapper: SegmentMapper,
    maps: KeptMaps,
    notices: Notices,
    failed: Result<()>,
}

impl Mapping {
    /// For a segment of `bytes`; `None` when none is wanted, or it is not a whole segment.
    pub(super) fn begin(
        maps: Option<&KeptMaps>,
        name: &WalFileName,
        bytes: u64,
        notices: &Notices,
    ) -> Option<Self> {
        let size = SegmentSize::new(bytes).filter(|_| name.kind() == WalFileKind::Segment)?;
        let segment = WalSegment { timeline: name.timeline(), number: name.segment_number(size)? };
        Some(Mapping {
            mapper: SegmentMapper::new(segment, size),
            maps: maps?.clone(),
            notices: notices.clone(),
            failed: Ok(()),
        })
    }

    /// Takes the next bytes of the segment.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_ok() {
            self.failed = self.mapper.feed(bytes);
        }
    }

    /// Keeps the map, when all has passed.
    pub(super) fn keep(self) {
        let Mapping { mapper, maps, notices, failed } = self;
        let kept = failed.and_then(|()| mapper.finish()).map(|map| maps.keep(&map));
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => notices.log(format!(
                "could not note which blocks have changed, so the next incremental base backup may have to read all of them: {error}"
            )),
            Err(error) => notices.debug(error.to_string()),
        }
    }
}
