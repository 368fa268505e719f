//! What to do about WAL that is missing.

use super::archive::Archive;
use super::holes::{Range, Status};
use crate::config::Word;
use crate::postgres::TimelineId;

impl Archive {
    /// Whole sentences; `None` where there is nothing to do or to know.
    pub(super) fn advice(&self, timeline: TimelineId, range: &Range) -> Option<String> {
        Some(match range.status {
            Status::Found => return None,
            Status::NotKept => "No base backup needs it.".to_owned(),
            Status::InFlight => {
                "Nothing is needed, as long as the server does not fail to archive it.".to_owned()
            }
            Status::Missing if range.is_at_hand => {
                format!("The server has it: archive it again with {}.", Word::RepairWal)
            }
            Status::Missing => format!(
                "If a server still has it in pg_wal, archive it again with {}, there. {}",
                Word::RepairWal,
                self.without(timeline, range)
            ),
            Status::Lost if self.is_of_former_primary(timeline) => format!(
                "If a former primary still has it in pg_wal, archive it again with {}, there. {}",
                Word::RepairWal,
                self.without(timeline, range)
            ),
            Status::Lost => self.without(timeline, range),
        })
    }

    /// Whether a timeline is not the one that the server writes.
    fn is_of_former_primary(&self, timeline: TimelineId) -> bool {
        let position = self.own.as_ref().and_then(|own| own.position);
        position.is_some_and(|position| position.timeline != timeline)
    }

    /// What it means that it will never be there.
    fn without(&self, timeline: TimelineId, hole: &Range) -> String {
        let next = self.backups.iter().find(|backup| self.is_after(backup, timeline, hole));
        match next {
            Some(backup) => format!(
                "Without it, no restore reaches a moment before the end of base backup \"{}\", which needs none of it.",
                backup.name
            ),
            None => format!(
                "Without it, no restore reaches a moment after it: take a new base backup with {}.",
                Word::TakeBackup
            ),
        }
    }
}
