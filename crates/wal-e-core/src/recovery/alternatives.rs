//! Other base backups, as what can be reached instead.

use time::OffsetDateTime;

use super::backups::{self, Candidate};
use super::branch::Branch;
use super::chain::Chain;
use super::plan::Planner;
use super::refusal::Nearest;
use super::target::format_time;
use crate::catalogue::BackupInfo;
use crate::catalogue::asked::pieces;
use crate::error::Result;
use crate::postgres::{Lsn, SegmentNumber};

impl Planner<'_> {
    /// The next base backup that ends after `lsn` on the same branch.
    pub(super) async fn next_backup(
        &mut self,
        branch: &Branch,
        lsn: Lsn,
    ) -> Result<Option<Nearest>> {
        let size = branch.candidate.segment_size;
        for backup in self.backups.clone() {
            let later = backup.stop_lsn.is_some_and(|stop| stop > lsn)
                && backup.start_lsn.is_some_and(|start| start >= lsn);
            let on_branch = later
                && backup.start_lsn.map(|start| branch.history.timeline_at(start))
                    == Some(backup.timeline);
            if !on_branch {
                continue;
            }
            let Ok(candidate) = backups::prepare(&self.store, &self.backups, &backup).await? else {
                continue;
            };
            let first = SegmentNumber::containing(candidate.start, size);
            let pieces = pieces(&branch.history, first, size);
            let chain = Chain::follow(&pieces, &branch.inventory, &branch.history, size);
            let complete = chain.and_then(|chain| chain.end_lsn(size)) >= candidate.stop;
            if complete && candidate.ends_on(&branch.history) {
                return Ok(Some(end_of(&candidate, candidate.stop)));
            }
        }
        Ok(None)
    }

    /// The newest base backup that was complete at `time`.
    pub(super) fn backup_before(&self, time: OffsetDateTime) -> Option<&BackupInfo> {
        let before = self.backups.iter().filter(|backup| backups::finished(backup) <= time);
        before.max_by_key(|backup| backups::finished(backup))
    }

    /// The newest base backup that ended at `lsn` or before it.
    pub(super) fn backup_below(&self, lsn: Lsn) -> Option<&BackupInfo> {
        let below = self.backups.iter().filter(|backup| backup.stop_lsn.is_some_and(|s| s <= lsn));
        below.max_by_key(|backup| backup.stop_lsn)
    }
}

/// The end of a base backup, as a target.
pub(super) fn end_of(candidate: &Candidate, stop: Option<Lsn>) -> Nearest {
    let (name, finished) = (&candidate.info.name, candidate.finished);
    let description = match stop {
        Some(stop) => {
            format!("LSN {stop}, where base backup \"{name}\" ends ({})", format_time(finished))
        }
        None => format!("time {}, when base backup \"{name}\" was complete", format_time(finished)),
    };
    Nearest { lsn: stop, time: Some(finished), description }
}
