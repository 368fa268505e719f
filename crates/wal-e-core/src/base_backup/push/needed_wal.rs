//! Waiting for the WAL without which a base backup cannot be made consistent.

use std::time::Duration;

use super::{BackupPush, BackupStart};
use crate::error::{Error, Result};
use crate::layout;
use crate::notice::Level;
use crate::postgres::{Lsn, WalFileName, WalSegment};
use crate::wal;

impl BackupPush {
    /// Waits until the archive has every segment from start to stop: without
    /// them the backup could not be made consistent.
    pub(super) async fn wait_for_wal(&self, stop_lsn: Lsn) -> Result<()> {
        let BackupStart { timeline, segment_size, start_lsn, .. } = self.start;
        let mut segment = WalSegment::containing(timeline, start_lsn, segment_size);
        let last = WalSegment::before(timeline, stop_lsn, segment_size);
        let mut waited = Duration::ZERO;
        let mut pause = SHORTEST_PAUSE;
        while segment <= last {
            let name = WalFileName::segment(segment, segment_size);
            if self.is_archived(&name).await? {
                segment = segment.next();
                pause = SHORTEST_PAUSE;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => waited += pause,
                () = self.cancel.cancelled() => return Err(Error::cancelled()),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            if waited >= REMIND_AFTER {
                waited = Duration::ZERO;
                self.notices.send(
                    Level::Warning,
                    format!(
                        "base backup \"{}\" waits for WAL segment \"{name}\" to be archived",
                        self.name
                    ),
                    Some(
                        "Check that archiving works: see pg_stat_archiver and the server log."
                            .to_owned(),
                    ),
                );
            }
        }
        Ok(())
    }

    /// The archiver may compress in another way than this backup.
    async fn is_archived(&self, name: &WalFileName) -> Result<bool> {
        let likely = layout::wal_file(name, self.options.compression.encoding());
        if self.store.head(&likely).await?.is_some() {
            return Ok(true);
        }
        match wal::locate(&*self.store, name).await? {
            Some(located) => {
                // A backup that only another program could replay is none of ours.
                located.encoding.readable(&self.store.url(located.key.as_str()))?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// How often the archive is asked for a segment that it does not have yet.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// As often as PostgreSQL's own `pg_backup_stop` says that it waits.
const REMIND_AFTER: Duration = Duration::from_secs(60);
