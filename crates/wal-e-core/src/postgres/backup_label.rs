//! `backup_label`: where replay of a base backup begins.
//!
//! Lines of a keyword, a colon and a value (PostgreSQL 15,
//! `src/backend/access/transam/xlog.c`, `do_pg_backup_start`; read back in
//! `xlogrecovery.c`, `read_backup_label`).

use super::{Lsn, TimelineId, WalFileKind, WalFileName};
use crate::error::{Error, ErrorKind, Result};

/// What a backup label says of the place where replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// `START WAL LOCATION`: the redo point of the backup's checkpoint.
    pub start_lsn: Lsn,
    /// The segment that has it, as the label names it.
    pub start_segment: WalFileName,
    /// `CHECKPOINT LOCATION`: the checkpoint's record.
    pub checkpoint_lsn: Lsn,
    /// `START TIMELINE`; servers before PostgreSQL 11 do not write it.
    pub timeline: Option<TimelineId>,
    /// `BACKUP FROM`: whether a standby took it. Its WAL has no record of the backup's end
    /// then.
    pub from_standby: bool,
}

impl BackupLabel {
    /// Reads a backup label.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it does not say where replay begins.
    pub fn parse(text: &str) -> Result<Self> {
        let missing = |what: &str| {
            Error::new(
                ErrorKind::Corrupt,
                format!("\"backup_label\" is damaged: it has no valid line \"{what}\""),
            )
        };
        let mut lines = text.lines();
        let start = lines.next().and_then(start_location);
        let (start_lsn, start_segment) = start.ok_or_else(|| missing("START WAL LOCATION"))?;
        let checkpoint_lsn = lines
            .next()
            .and_then(|line| line.strip_prefix("CHECKPOINT LOCATION: ")?.parse().ok())
            .ok_or_else(|| missing("CHECKPOINT LOCATION"))?;
        // The label that the user gave comes after it.
        let from_standby =
            text.lines().find_map(|line| line.strip_prefix("BACKUP FROM: ")) == Some("standby");
        // The label that the user gave may have lines of its own; this one is after it.
        let timeline = lines.rev().find_map(|line| line.strip_prefix("START TIMELINE: "));
        let timeline = match timeline {
            None => None,
            Some(number) => {
                Some(TimelineId(number.parse().map_err(|_| missing("START TIMELINE"))?))
            }
        };
        Ok(BackupLabel { start_lsn, start_segment, checkpoint_lsn, timeline, from_standby })
    }
}

/// `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`
fn start_location(line: &str) -> Option<(Lsn, WalFileName)> {
    let value = line.strip_prefix("START WAL LOCATION: ")?;
    let (lsn, file) = value.split_once(" (file ")?;
    let segment: WalFileName = file.strip_suffix(')')?.parse().ok()?;
    (segment.kind() == WalFileKind::Segment).then_some((lsn.parse().ok()?, segment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 000000030000000000000002)\n\
                         CHECKPOINT LOCATION: 0/2000060\n\
                         BACKUP METHOD: streamed\n\
                         BACKUP FROM: primary\n\
                         START TIME: 2026-11-23 13:00:00 UTC\n\
                         LABEL: odd\nSTART TIMELINE: 9\n\
                         START TIMELINE: 3\n";

    #[test]
    fn a_label_tells_where_replay_begins() {
        let label = BackupLabel::parse(LABEL).unwrap();
        assert_eq!((label.start_lsn, label.checkpoint_lsn), (Lsn(0x200_0028), Lsn(0x200_0060)));
        assert_eq!(label.start_segment.as_str(), "000000030000000000000002");
        assert_eq!((label.timeline, label.from_standby), (Some(TimelineId(3)), false));
        let of_standby = LABEL.replace("FROM: primary", "FROM: standby");
        assert!(BackupLabel::parse(&of_standby).unwrap().from_standby);
        let odd = LABEL.replace("odd\n", "odd\nBACKUP FROM: standby\n");
        assert!(!BackupLabel::parse(&odd).unwrap().from_standby);
        let old = LABEL.replace("START TIMELINE", "OTHER");
        assert_eq!(BackupLabel::parse(&old).unwrap().timeline, None);
    }

    #[test]
    fn a_damaged_label_is_refused() {
        for (sound, damaged) in [
            ("START WAL", "START WAX"),
            ("0/2000028", "02000028"),
            ("(file 0", "(file x"),
            ("02)\n", "02\n"),
            ("02)\n", "02.partial)\n"),
            ("CHECKPOINT", "CHECK"),
            ("0/2000060", ""),
            ("TIMELINE: 3", "TIMELINE: x"),
        ] {
            let text = LABEL.replace(sound, damaged);
            let error = BackupLabel::parse(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{damaged}");
        }
        assert!(BackupLabel::parse("").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = BackupLabel::parse(&text);
            let _ = BackupLabel::parse(&format!("START WAL LOCATION: {text}"));
        }
    }
}
