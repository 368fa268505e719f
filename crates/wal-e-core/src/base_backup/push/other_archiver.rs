//! WAL that the server has archived, but to another place.
//!
//! The marks in `archive_status` say what the server takes for archived. A segment that
//! has such a mark is never archived again: when the prefix lacks it, waiting is in vain.

use std::time::{Duration, Instant};

use super::pg_wal::PgWal;
use super::{BackupPush, BackupStart};
use crate::archiving::{HOW_TO_ARCHIVE, NEEDS_WAL};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Level;
use crate::postgres::{SegmentNumber, WalFileName, WalSegment};
use crate::tasks::or_cancelled;

/// How long the server may take to archive the segment that the backup's start has ended.
const PATIENCE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(200);

impl BackupPush {
    /// For a server that archives in a way that is not known: waits a moment until the last
    /// segment before the backup is archived, and looks whether it came to this prefix. Before
    /// the first upload. What cannot be found out is said, and the backup goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it went elsewhere; those of the store.
    pub async fn refuse_other_archive(&self) -> Result<()> {
        let BackupStart { timeline, segment_size: size, start_lsn, .. } = self.start;
        let first = WalSegment::containing(timeline, start_lsn, size);
        let Some(before) = first.number.0.checked_sub(1).map(SegmentNumber) else {
            return Ok(());
        };
        let last = WalSegment { number: before, ..first };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.is_archived_elsewhere(last).await? {
                return Err(self.archived_elsewhere(last));
            }
            if self.first_missing(last, last.number).await? > last.number {
                return Ok(());
            }
            or_cancelled(&self.draft.cancel, async {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            })
            .await?;
        }
        self.notices.send(
            Level::Warning,
            "it is not known whether \"archive_command\" archives to the prefix of this base backup",
            Some(format!("{NEEDS_WAL} It is found out at the end.")),
        );
        Ok(())
    }

    /// Whether the server takes a segment for archived that the prefix does not have. The
    /// prefix is asked after the mark was seen, and for a second: not every store lists at once
    /// what it has.
    pub(super) async fn is_archived_elsewhere(&self, segment: WalSegment) -> Result<bool> {
        let BackupStart { start_lsn, segment_size: size, .. } = self.start;
        let name = WalFileName::segment(segment, size);
        let pg_wal = PgWal::of(&self.start.data_directory);
        let is_past = segment.number < SegmentNumber::containing(start_lsn, size);
        let is_archived = pg_wal.is_archived(&name) || is_past && pg_wal.is_removed(&name);
        if !is_archived {
            return Ok(false);
        }
        for _ in 0..5 {
            if self.first_missing(segment, segment.number).await? > segment.number {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(true)
    }

    pub(super) fn archived_elsewhere(&self, segment: WalSegment) -> Error {
        let name = WalFileName::segment(segment, self.start.segment_size);
        let url = self.draft.store.url(&layout::wal_file_beginning(&name));
        Error::new(
            ErrorKind::Config,
            format!("the server has archived WAL segment \"{name}\", but not to this prefix"),
        )
        .with_detail(format!("There is no object \"{url}\". {NEEDS_WAL}"))
        .with_hint(HOW_TO_ARCHIVE)
    }
}
