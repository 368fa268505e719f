//! Waiting for the WAL without which a base backup cannot be made consistent.

use std::time::Duration;

use super::{BackupPush, BackupStart};
use crate::error::{Error, Result};
use crate::layout;
use crate::notice::Level;
use crate::postgres::{Lsn, SegmentNumber, WalFileKind, WalFileName, WalSegment};
use crate::store::ListRequest;

impl BackupPush {
    /// Waits until the archive has every segment from start to stop: without
    /// them the backup could not be made consistent. One that the server has archived
    /// elsewhere is not waited for.
    pub(super) async fn wait_for_wal(&self, stop_lsn: Lsn) -> Result<()> {
        let BackupStart { timeline, segment_size, start_lsn, .. } = self.start;
        let mut first = WalSegment::containing(timeline, start_lsn, segment_size);
        let last = WalSegment::before(timeline, stop_lsn, segment_size);
        let mut waited = Duration::ZERO;
        let mut pause = SHORTEST_PAUSE;
        loop {
            let missing = self.first_missing(first, last.number).await?;
            if missing > last.number {
                return Ok(());
            }
            if missing > first.number {
                first.number = missing;
                pause = SHORTEST_PAUSE;
            }
            if self.is_archived_elsewhere(first).await? {
                return Err(self.archived_elsewhere(first));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => waited += pause,
                () = self.draft.cancel.cancelled() => return Err(Error::cancelled()),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            if waited >= REMIND_AFTER {
                waited = Duration::ZERO;
                let name = WalFileName::segment(first, segment_size);
                self.notices.send(
                    Level::Warning,
                    format!(
                        "base backup \"{}\" waits for WAL segment \"{name}\" to be archived",
                        self.draft.name
                    ),
                    Some(
                        "Check that archiving works: see pg_stat_archiver and the server log."
                            .to_owned(),
                    ),
                );
            }
        }
    }

    /// The first segment from `first` on that the archive lacks in every encoding;
    /// one after `last` when it has all of them. It lists them, which is one request for
    /// a thousand segments.
    pub(super) async fn first_missing(
        &self,
        first: WalSegment,
        last: SegmentNumber,
    ) -> Result<SegmentNumber> {
        let size = self.start.segment_size;
        let request = ListRequest {
            prefix: layout::wal_of_timeline(first.timeline),
            start_after: Some(layout::before_wal_file(&WalFileName::segment(first, size))),
            shallow: true,
        };
        let mut expected = first.number;
        // An object of the expected segment that cannot be read; another one may follow.
        let mut foreign = None;
        let mut page = None;
        'pages: loop {
            let answer = self.draft.store.list(&request, page).await?;
            for object in answer.objects {
                let Some((name, encoding)) = layout::wal_file_of(&object.key) else { continue };
                let number = name.segment_number(size);
                let Some(number) = number.filter(|_| name.kind() == WalFileKind::Segment) else {
                    continue;
                };
                if number > expected || expected > last {
                    break 'pages;
                }
                if number == expected {
                    match encoding.readable(&self.draft.store.url(object.key.as_str())) {
                        Ok(_) => {
                            expected = SegmentNumber(expected.0 + 1);
                            foreign = None;
                        }
                        Err(error) => foreign = Some(error),
                    }
                }
            }
            page = answer.next;
            if page.is_none() {
                break;
            }
        }
        // A backup of ours must not need another program for its replay.
        foreign.map_or(Ok(expected), Err)
    }
}

/// How often the archive is asked for a segment that it does not have yet.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// As often as PostgreSQL's own `pg_backup_stop` says that it waits.
const REMIND_AFTER: Duration = Duration::from_secs(60);
