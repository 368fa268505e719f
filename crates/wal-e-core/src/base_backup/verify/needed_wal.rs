//! The WAL from start to stop of a backup, without which it is not consistent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt};

use super::Verification;
use super::documents::hold_back;
use super::report::{self, Report};
use crate::error::Result;
use crate::layout;
use crate::postgres::{SegmentNumber, SegmentSize, WalFileName, WalSegment};
use crate::sentinel::Sentinel;
use crate::wal;

/// No backup spans more segments; a stop LSN that says so is damaged.
const MOST_SEGMENTS: u64 = 1 << 20;

pub(super) async fn verify(
    verification: &Verification,
    name: &str,
    sentinel: &Sentinel,
    segment_size: Option<SegmentSize>,
    report: &mut Report,
) -> Result<()> {
    const CHECK: &str = report::WAL;
    let Some(first) = layout::start_segment_of_backup(name) else {
        report.not_checked(CHECK, "the backup's name does not tell where it begins");
        return Ok(());
    };
    let mut needed = NeededWal { verification, sentinel, report, segments: 0, bytes: 0 };
    let first_read = read(verification, sentinel, &first).await;
    let first_bytes = needed.segment(&first, first_read)?;
    let Some(size) = segment_size.or_else(|| SegmentSize::new(first_bytes?)) else {
        let reason = "neither pg_control nor the first segment tells the size of segments";
        needed.report.not_checked(CHECK, reason);
        return Ok(());
    };
    let Some(stop_lsn) = sentinel.finish_lsn else {
        needed
            .report
            .not_checked(CHECK, "the sentinel has no stop LSN; read was only the first segment");
        return Ok(());
    };
    let Some(begin) = first.segment_number(size) else {
        let url = needed.url(&first);
        needed.report.failed(CHECK, &url, "there is no segment of that name of the cluster's size");
        return Ok(());
    };
    let last = WalSegment::before(first.timeline(), stop_lsn, size).number;
    if last.0.saturating_sub(begin.0) > MOST_SEGMENTS {
        let url = verification.store.url(layout::sentinel(name).as_str());
        let what = format!("its stop LSN {stop_lsn} is too far from the first segment \"{first}\"");
        needed.report.failed(CHECK, &url, what);
        return Ok(());
    }
    needed.others(&first, begin, last, size).await?;
    let NeededWal { segments, bytes, report, .. } = needed;
    report.passed(CHECK, format!("{segments} segments, {bytes} bytes, up to LSN {stop_lsn}"));
    Ok(())
}

struct NeededWal<'a> {
    verification: &'a Verification,
    sentinel: &'a Sentinel,
    report: &'a mut Report,
    /// Sound ones.
    segments: u64,
    bytes: u64,
}

impl NeededWal<'_> {
    /// The segments after the first.
    async fn others(
        &mut self,
        first: &WalFileName,
        begin: SegmentNumber,
        last: SegmentNumber,
        size: SegmentSize,
    ) -> Result<()> {
        let progress = &self.verification.progress;
        let count = last.0.saturating_sub(begin.0).saturating_add(1);
        progress.segments_total.store(count, Ordering::Relaxed);
        let timeline = first.timeline();
        let names = (begin.0.saturating_add(1)..=last.0).map(|number| {
            WalFileName::segment(WalSegment { timeline, number: SegmentNumber(number) }, size)
        });
        let (verification, sentinel) = (self.verification, self.sentinel);
        let mut read = stream::iter(names)
            .map(|name| async move {
                let read = read(verification, sentinel, &name).await;
                (name, read)
            })
            .buffer_unordered(verification.concurrency);
        while let Some((name, read)) = read.next().await {
            self.segment(&name, read)?;
        }
        Ok(())
    }

    /// Takes in what reading a segment gave: its size in bytes, if it is sound.
    fn segment(&mut self, name: &WalFileName, read: Result<u64>) -> Result<Option<u64>> {
        match hold_back(read)? {
            Ok(bytes) => {
                self.segments += 1;
                self.bytes = self.bytes.saturating_add(bytes);
                Ok(Some(bytes))
            }
            Err(error) => {
                let url = self.url(name);
                self.report.failed_with(report::WAL, &url, &error);
                Ok(None)
            }
        }
    }

    fn url(&self, name: &WalFileName) -> String {
        self.verification.store.url(&layout::wal_file_beginning(name))
    }
}

async fn read(verification: &Verification, sentinel: &Sentinel, name: &WalFileName) -> Result<u64> {
    let store = Arc::clone(&verification.store);
    let read = wal::verify(&*store, name, sentinel.system_identifier).await;
    verification.progress.segments_read.fetch_add(1, Ordering::Relaxed);
    read
}
