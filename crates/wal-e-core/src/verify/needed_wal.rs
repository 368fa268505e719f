//! The WAL from start to stop of a backup, without which it is not consistent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Verification;
use super::documents::hold_back;
use super::report::{self, Report};
use crate::error::Result;
use crate::layout;
use crate::notice;
use crate::postgres::{
    BackupLabel, Lsn, SegmentNumber, SegmentSize, WalFileName, WalReader, WalRecord, WalSegment,
};
use crate::sentinel::Sentinel;
use crate::wal::OwnWal;
use crate::wal::{self, ArchivedWal, RecordVisitor, Stop};

const CHECK: &str = report::WAL;

/// No backup spans more segments; a stop LSN that says so is damaged.
const MOST_SEGMENTS: u64 = 1 << 20;

/// The backup, as far as it could be read.
#[derive(Clone, Copy)]
pub(super) struct Backup<'a> {
    pub(super) name: &'a str,
    pub(super) sentinel: &'a Sentinel,
    pub(super) label: Option<&'a BackupLabel>,
}

pub(super) async fn verify(
    verification: &Verification,
    backup: Backup<'_>,
    segment_size: Option<SegmentSize>,
    report: &mut Report,
) -> Result<()> {
    let Backup { name, sentinel, label } = backup;
    let Some(first) = layout::start_segment_of_backup(name) else {
        report.not_checked(CHECK, "the backup's name does not say where it begins");
        return Ok(());
    };
    let first_bytes = match (segment_size, sentinel.finish_lsn) {
        (Some(_), Some(_)) => None,
        _ => read_first(verification, sentinel, &first, report).await?,
    };
    let Some(size) = segment_size.or_else(|| SegmentSize::new(first_bytes?)) else {
        let reason = "neither pg_control nor the first segment gives the segment size";
        report.not_checked(CHECK, reason);
        return Ok(());
    };
    let Some(stop) = sentinel.finish_lsn else {
        let reason = "the sentinel has no stop LSN; only the first segment was read";
        report.not_checked(CHECK, reason);
        return Ok(());
    };
    let Some(begin) = first.segment_number(size) else {
        let what = "a cluster with this segment size has no segment of that name";
        report.failed(CHECK, &url(verification, &first), what);
        return Ok(());
    };
    let timeline = first.timeline();
    let last = WalSegment::before(timeline, stop, size);
    if last.number.0.saturating_sub(begin.0) > MOST_SEGMENTS {
        let url = verification.store.url(layout::sentinel(name).as_str());
        let what = format!("its stop LSN {stop} is too far from the first segment \"{first}\"");
        report.failed(CHECK, &url, what);
        return Ok(());
    }
    let first = WalSegment { timeline, number: begin };
    // An error in the label is reported elsewhere, and is not the fault of the WAL.
    let label = label.filter(|label| {
        sentinel.lsn.is_none_or(|lsn| lsn == label.start_lsn)
            && label.checkpoint_lsn >= label.start_lsn
    });
    let start = label.map(|label| label.start_lsn).or(sentinel.lsn);
    let own = start
        .filter(|start| start.0 / size.bytes() == begin.0)
        .map(|start| (start, OwnWal::new(start, stop, label)));
    let needed = NeededWal { verification, backup, size, first, last, stop };
    needed.follow(own, report).await
}

/// The first segment alone: its size in bytes, if it is sound.
async fn read_first(
    verification: &Verification,
    sentinel: &Sentinel,
    first: &WalFileName,
    report: &mut Report,
) -> Result<Option<u64>> {
    let read = wal::verify(&*verification.store, first, sentinel.system_identifier).await;
    match hold_back(read)? {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => {
            report.failed_with(CHECK, &url(verification, first), &error);
            Ok(None)
        }
    }
}

fn url(verification: &Verification, name: &WalFileName) -> String {
    verification.store.url(&layout::wal_file_beginning(name))
}

struct NeededWal<'a> {
    verification: &'a Verification,
    backup: Backup<'a>,
    size: SegmentSize,
    first: WalSegment,
    last: WalSegment,
    stop: Lsn,
}

impl NeededWal<'_> {
    /// Reads all segments, also those after a damaged one. Whether the WAL is the backup's
    /// own is only known when nothing is damaged.
    async fn follow(&self, own: Option<(Lsn, OwnWal)>, report: &mut Report) -> Result<()> {
        let NeededWal { verification, size, first, last, .. } = self;
        let count = (last.number.0 + 1).saturating_sub(first.number.0);
        let read_counter = &verification.progress.segments_read;
        verification.progress.segments_total.store(count, Ordering::Relaxed);
        // The report has what its notices would say.
        let (notices, _) = notice::channel();
        let archived = ArchivedWal::new(Arc::clone(&verification.store), *size, notices);
        let cluster = self.backup.sentinel.system_identifier;
        let from_start = |start| WalReader::at_record(start, *size).expect_cluster(cluster);
        let from_segment = |segment: WalSegment| {
            WalReader::new(segment.number.start_lsn(*size), *size).expect_cluster(cluster)
        };
        let (mut reader, mut visitor) = match own {
            Some((start, own)) => (from_start(start), Follower(Some(own))),
            None => (from_segment(*first), Follower(None)),
        };
        let (mut next, mut damaged) = (*first, 0);
        while next <= *last {
            let segments = (next.number.0..=last.number.0)
                .map(|number| WalSegment { number: SegmentNumber(number), ..*first });
            let mut count_read = |_| {
                read_counter.fetch_add(1, Ordering::Relaxed);
            };
            let followed = archived.follow(segments, reader, visitor, &mut count_read).await?;
            visitor = followed.visitor;
            let (segment, error) = match followed.stop {
                Stop::AllRead | Stop::Enough => break,
                Stop::Ended(..) if visitor.is_complete() => break,
                Stop::Ended(segment, end) => {
                    let what = format!("it breaks off at LSN {}: {}", end.lsn, end.reason);
                    report.failed(CHECK, &self.url(segment), what);
                    (segment, None)
                }
                Stop::Failed(segment, error) => (segment, Some(error)),
            };
            if let Some(error) = error
                && let Err(error) = hold_back::<()>(Err(error))?
            {
                report.failed_with(CHECK, &self.url(segment), &error);
            }
            damaged += 1;
            visitor = Follower(None);
            next = segment.next();
            reader = from_segment(next);
        }
        if let Some(lacking) = visitor.lacks() {
            let what = format!(
                "the WAL up to here belongs to another history of the cluster: it has {lacking}"
            );
            report.failed(CHECK, &self.url(*last), what);
        } else if damaged == 0 && visitor.0.is_none() {
            let reason = "it is unknown at which LSN the backup begins, so the WAL may be of another history";
            report.not_checked(CHECK, reason);
        }
        let sound = count - damaged;
        let bytes = sound.saturating_mul(size.bytes());
        report.passed(CHECK, format!("{sound} segments, {bytes} bytes, up to LSN {}", self.stop));
        Ok(())
    }

    fn url(&self, segment: WalSegment) -> String {
        url(self.verification, &WalFileName::segment(segment, self.size))
    }
}

/// Looks for the backup's own records; `None` once records have been missed.
struct Follower(Option<OwnWal>);

impl Follower {
    fn is_complete(&self) -> bool {
        self.0.as_ref().is_some_and(OwnWal::is_complete)
    }

    fn lacks(&self) -> Option<String> {
        self.0.as_ref()?.lacks()
    }
}

impl RecordVisitor for Follower {
    fn visit(&mut self, record: WalRecord) {
        if let Some(own) = &mut self.0 {
            own.visit(&record);
        }
    }

    /// All segments are read to their ends.
    fn is_done(&self) -> bool {
        false
    }
}
