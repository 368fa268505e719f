//! WAL on the way of a server that is gone for good, and whether that still matters.

use super::archive::Archive;
use super::backups::Usable;
use super::holes::{Range, Status};
use crate::postgres::TimelineId;

/// Segments of one timeline that the archive lacks and the server does not have any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostWal {
    /// The name of the first.
    pub first_segment: String,
    /// The name of the last.
    pub last_segment: String,
    /// How many they are.
    pub segments: u64,
    /// Whether no base backup was complete after it, so that what is written now cannot be
    /// restored.
    pub needs_backup: bool,
}

impl Archive {
    /// What is lost of the WAL from the oldest usable base backup (without one, from the first
    /// segment) up to where the server writes. Nothing for a server that replays, which does not
    /// know what its primary has.
    pub fn lost(&self) -> Vec<LostWal> {
        let Some(position) = self.own.as_ref().and_then(|own| own.position) else {
            return Vec::new();
        };
        let mut lost = Vec::new();
        for timeline in self.lines.keys().copied() {
            if !self.branches_lead(timeline, position.timeline) {
                continue;
            }
            let first = match self.backups.is_empty() {
                false => self.needed_from(timeline),
                // A hole may be why none is usable.
                true => self.beginning(timeline),
            };
            let Some(first) = first else { continue };
            let ranges = self.ranges(timeline, first);
            let holes = ranges.iter().filter(|range| range.status == Status::Lost);
            lost.extend(holes.map(|hole| LostWal {
                first_segment: self.name(timeline, hole.first),
                last_segment: self.name(timeline, hole.last),
                segments: hole.segments(),
                needs_backup: !self.backups.iter().any(|backup| {
                    self.is_after(backup, timeline, hole)
                        && self.branches_lead(backup.timeline, position.timeline)
                }),
            }));
        }
        lost
    }

    /// Whether a backup needs nothing of a hole in a timeline, but what comes after it.
    pub(super) fn is_after(&self, backup: &Usable, timeline: TimelineId, hole: &Range) -> bool {
        backup.first > hole.last && self.branches_lead(timeline, backup.timeline)
    }

    /// Whether one timeline is another, or an ancestor of it.
    fn branches_lead(&self, from: TimelineId, to: TimelineId) -> bool {
        from == to || self.branches.left(from, to).is_some()
    }
}
