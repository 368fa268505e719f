//! The proof, before the sentinel is written, that the archived WAL is this backup's own.

use std::sync::Arc;

use super::pg_wal::{self, PgWal};
use super::{BackupPush, BackupStart, OWN_PREFIX};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::postgres::{
    BackupLabel, Lsn, SegmentSize, WalFileName, WalReader, WalRecord, WalSegment,
};
use crate::tasks::or_cancelled;
use crate::wal::OwnWal;
use crate::wal::{ArchivedWal, ReadingProgress, RecordVisitor, Stop};

impl BackupPush {
    /// Follows the archived WAL from record to record, from the start of the backup to its
    /// end, and compares the segments that are still in `pg_wal`.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it is not this server's; [`ErrorKind::Corrupt`] when an
    /// archived object is damaged; and the store's own kinds.
    pub(super) async fn prove_wal(&self, stop_lsn: Lsn, label: &BackupLabel) -> Result<()> {
        let BackupStart { timeline, segment_size: size, start_lsn, .. } = self.start;
        let first = WalSegment::containing(timeline, start_lsn, size);
        let last = WalSegment::before(timeline, stop_lsn, size);
        let count = (last.number.0 + 1).saturating_sub(first.number.0);
        let segments = std::iter::successors(Some(first), |segment| Some(segment.next()))
            .take_while(|segment| *segment <= last);
        let visitor = Proof {
            own: OwnWal::new(start_lsn, stop_lsn, Some(label)),
            pg_wal: PgWal::of(&self.start.data_directory),
            only_finished: label.from_standby,
            size,
            other: None,
        };
        let reader = WalReader::at_record(start_lsn, size)
            .expect_cluster(Some(self.start.system_identifier));
        let archived = ArchivedWal::new(Arc::clone(&self.draft.store), size, self.notices.clone());
        let mut progress = ReadingProgress::new(&self.notices, count);
        let mut report = |read| progress.tell(read);
        let following = archived.follow(segments, reader, visitor, &mut report);
        let followed = or_cancelled(&self.draft.cancel, following).await?;
        let Proof { own, pg_wal, other, .. } = followed.visitor;
        if let Some(segment) = other {
            let name = WalFileName::segment(segment, size);
            let file = pg_wal.file(&name);
            return Err(
                self.not_own(&name, &format!("Its content differs from \"{}\".", file.display()))
            );
        }
        match followed.stop {
            Stop::Failed(_, error) => return Err(error),
            Stop::Ended(segment, end) if !own.is_complete() => {
                let name = WalFileName::segment(segment, size);
                let why = format!("It breaks off at LSN {}: {}.", end.lsn, end.reason);
                return Err(self.not_own(&name, &why));
            }
            Stop::Ended(..) | Stop::Enough | Stop::AllRead => {}
        }
        match own.lacks() {
            None => Ok(()),
            Some(lacking) => {
                let name = WalFileName::segment(last, size);
                Err(self.not_own(&name, &format!("The WAL up to its end has {lacking}.")))
            }
        }
    }

    fn not_own(&self, name: &WalFileName, why: &str) -> Error {
        let url = self.draft.store.url(&layout::wal_file_beginning(name));
        Error::new(
            ErrorKind::Conflict,
            format!("archived WAL segment \"{name}\" is not that of base backup \"{}\"", self.draft.name),
        )
        .with_detail(format!(
            "Its object is \"{url}\". {why} Another copy of this cluster archives to the same prefix, so the backup is not completed: it could not be restored."
        ))
        .with_hint(OWN_PREFIX)
    }
}

struct Proof {
    own: OwnWal,
    pg_wal: PgWal,
    /// Whether segments may be archived that this server has only in part.
    only_finished: bool,
    size: SegmentSize,
    /// The first segment that the server has with other content.
    other: Option<WalSegment>,
}

impl RecordVisitor for Proof {
    fn visit(&mut self, record: WalRecord) {
        self.own.visit(&record);
    }

    /// The last segment is compared to its end.
    fn is_done(&self) -> bool {
        self.other.is_some()
    }

    fn segment(&mut self, segment: WalSegment, xxh128: u128) {
        let name = WalFileName::segment(segment, self.size);
        if self.only_finished && !self.pg_wal.is_finished(&name) {
            return;
        }
        if pg_wal::checksum(&self.pg_wal.file(&name)).is_some_and(|own| own != xxh128) {
            self.other = Some(segment);
        }
    }
}
