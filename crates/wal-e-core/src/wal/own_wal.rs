//! Whether archived WAL is that of a base backup.
//!
//! A copy of a cluster that goes on beside the original writes segments of the same names
//! with other content. A base backup of the one with WAL of the other cannot be restored,
//! although every segment is there and sound. They differ in the records that
//! the backup itself caused: its checkpoint, and on a primary the record of its end.

use crate::postgres::{BackupLabel, Lsn, RecordKind, WalRecord};

/// Where the WAL of a base backup must have which records, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnWal {
    start: Lsn,
    stop: Lsn,
    /// Where its checkpoint must be, where that is known.
    checkpoint: Option<Lsn>,
    /// Whether there must be a record of its end; only one taken on a standby has none.
    has_end: bool,
    checkpoint_found: bool,
    end_found: bool,
    followed_to: Lsn,
}

impl OwnWal {
    /// Of a backup from `start` to `stop`. Without its label, only what every backup has
    /// is asked for.
    pub(crate) fn new(start: Lsn, stop: Lsn, label: Option<&BackupLabel>) -> Self {
        OwnWal {
            start,
            stop,
            checkpoint: label.map(|label| label.checkpoint_lsn),
            has_end: label.is_some_and(|label| !label.from_standby),
            checkpoint_found: false,
            end_found: false,
            followed_to: start,
        }
    }

    /// Takes the next record.
    pub(crate) fn visit(&mut self, record: &WalRecord) {
        if self.is_complete() || record.start < self.start {
            return;
        }
        match record.kind {
            // PostgreSQL 15, xlogrecovery.c, InitWalRecovery: it begins with the checkpoint
            // that the label names, and replays from its redo point.
            RecordKind::Checkpoint { redo, .. } if redo == self.start => {
                self.checkpoint_found |= self.checkpoint.is_none_or(|lsn| lsn == record.start);
            }
            // What pg_backup_stop returned is the end of this record (do_pg_backup_stop).
            RecordKind::BackupEnd { start } if start == self.start => {
                self.end_found |= record.end == self.stop;
            }
            _ => {}
        }
        self.followed_to = record.end;
    }

    /// Whether all WAL up to the end of the backup has been seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.followed_to >= self.stop
    }

    /// Why the WAL, which is [complete](Self::is_complete), is not that of the backup:
    /// what it does not have.
    pub(crate) fn lacks(&self) -> Option<String> {
        if !self.checkpoint_found {
            let start = self.start;
            let place = self.checkpoint.map(|lsn| format!(" at LSN {lsn}")).unwrap_or_default();
            return Some(format!("no checkpoint{place} with which replay begins at LSN {start}"));
        }
        (self.has_end && !self.end_found)
            .then(|| format!("no record of this backup's end before LSN {}", self.stop))
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::postgres::TimelineId;

    const START: Lsn = Lsn(0x200_0028);
    const STOP: Lsn = Lsn(0x200_0200);

    fn label(from: &str) -> BackupLabel {
        BackupLabel::parse(&format!(
            "START WAL LOCATION: {START} (file 000000010000000000000002)\n\
             CHECKPOINT LOCATION: 0/2000060\nBACKUP FROM: {from}\n"
        ))
        .unwrap()
    }

    fn record(start: u64, end: u64, kind: RecordKind) -> WalRecord {
        WalRecord { start: Lsn(start), end: Lsn(end), kind }
    }

    fn checkpoint(redo: Lsn) -> RecordKind {
        RecordKind::Checkpoint {
            redo,
            timeline: TimelineId(1),
            shutdown: false,
            time: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn lacks(label: Option<&BackupLabel>, records: &[WalRecord]) -> Option<String> {
        let mut wal = OwnWal::new(START, STOP, label);
        records.iter().for_each(|record| wal.visit(record));
        assert!(wal.is_complete());
        wal.lacks()
    }

    #[test]
    fn wal_is_told_by_the_records_that_the_backup_caused() {
        let first = || record(0x200_0028, 0x200_0060, RecordKind::Other);
        let own = || record(0x200_0060, 0x200_00E0, checkpoint(START));
        let end = || record(0x200_01D8, STOP.0, RecordKind::BackupEnd { start: START });
        let last = || record(0x200_01D8, STOP.0, RecordKind::Other);
        let primary = label("primary");
        assert_eq!(lacks(Some(&primary), &[first(), own(), end()]), None);
        assert!(lacks(Some(&primary), &[first(), own(), last()]).unwrap().contains("end"));
        for label in [None, Some(label("standby"))] {
            assert_eq!(lacks(label.as_ref(), &[first(), own(), last()]), None);
        }
        let others = [
            record(0x200_0060, 0x200_00E0, checkpoint(Lsn(0x100_0028))),
            record(0x200_0068, 0x200_00E0, checkpoint(START)),
        ];
        for other in others {
            let found = lacks(Some(&primary), &[first(), other, end()]).unwrap();
            assert!(found.contains("no checkpoint at LSN 0/2000060"), "{found}");
        }
        let other_end = record(0x200_01D8, STOP.0, RecordKind::BackupEnd { start: Lsn(1) });
        assert!(lacks(Some(&primary), &[first(), own(), other_end]).is_some());
        let later_end = record(0x200_0200, 0x200_0228, RecordKind::BackupEnd { start: START });
        assert!(lacks(Some(&primary), &[first(), own(), last(), later_end]).is_some());
    }
}
