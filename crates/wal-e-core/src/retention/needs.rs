//! Which WAL the backups need that stay.

use super::select::{Backup, Decision, Extent};
use crate::coverage::Branches;
use crate::postgres::{SegmentNumber, SegmentSize, TimelineId};

/// What keeps a WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalNeed<'a> {
    /// The backup that needs it.
    pub backup: &'a str,
    /// How much the backup needs.
    pub extent: Extent,
}

/// The WAL that an archive needs after a decision.
#[derive(Debug)]
pub struct Needs<'a> {
    kept: Vec<(&'a Backup, Extent)>,
    branches: &'a Branches,
    size: SegmentSize,
}

impl<'a> Needs<'a> {
    /// Of `backups` and the decisions about them, in the same order. Segments have `size`.
    pub fn new(
        backups: &'a [Backup],
        decisions: &[Decision],
        branches: &'a Branches,
        size: SegmentSize,
    ) -> Self {
        let kept = backups.iter().zip(decisions).filter_map(|(backup, decision)| {
            let extent = decision.keeps?;
            // What is left of a backup may be kept for a delta of it, and needs no WAL: where it
            // would end is not known, so that all that follows would stay for it.
            let may_be_restored = backup.is_complete || backup.pinned.is_some();
            may_be_restored.then_some((backup, extent))
        });
        Needs { kept: kept.collect(), branches, size }
    }

    /// Whether any complete backup stays.
    pub(super) fn any(&self) -> bool {
        self.kept.iter().any(|(backup, _)| backup.is_complete)
    }

    /// What keeps a segment, and with it every file that belongs to it; `None` when it may
    /// go. The oldest backup that needs it is named.
    pub fn of(&self, timeline: TimelineId, number: SegmentNumber) -> Option<WalNeed<'a>> {
        let needs = |(backup, extent): &&(&Backup, Extent)| {
            let start = SegmentNumber::containing(backup.start, self.size);
            match (extent, backup.stop) {
                _ if timeline == backup.timeline && number < start => false,
                (Extent::Itself, Some(stop)) if stop > backup.start => {
                    let last =
                        SegmentNumber::containing(crate::postgres::Lsn(stop.0 - 1), self.size);
                    timeline == backup.timeline && number <= last
                }
                // Where it ends is not known, so any of what follows on its timeline may
                // belong to it.
                (Extent::Itself, _) => timeline == backup.timeline,
                (Extent::Onwards, _) => {
                    self.branches.may_lead(backup.timeline, backup.start, timeline)
                }
            }
        };
        let (backup, extent) = self.kept.iter().find(needs)?;
        Some(WalNeed { backup: &backup.name, extent: *extent })
    }
}
