//! A WAL segment within which its timeline was left, as a standby has it.
//!
//! A standby that streams along a timeline which ends within a segment, because another
//! server was promoted there, hands over what it has of that segment under the full name
//! when `archive_mode` is `always` (PostgreSQL 15 to 18, `walreceiver.c`, `WalReceiverMain`:
//! `XLogArchiveNotify` of the segment that it has open, right after it has fetched the
//! histories of the newer timelines into `pg_wal`). The rest of that file is empty, or what
//! the file had before it was used again. Under this name it would keep the old primary's
//! whole segment out of the archive for ever, and nothing needs it: the newer timeline's
//! segment of the same place begins with the same WAL.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::READ_BYTES;
use crate::catalogue::asked::newer_timelines;
use crate::error::{Error, Result};
use crate::postgres::timeline_history::LARGEST_HISTORY_BYTES;
use crate::postgres::{
    Lsn, SegmentSize, TimelineHistory, TimelineId, WalFileKind, WalFileName, WalReader,
};

/// Where a timeline was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// The newer timeline.
    pub(super) newer: TimelineId,
    /// The first LSN that is not common to both.
    pub(super) at: Lsn,
}

/// Where the timeline of a segment was left within it, if the file at `path` has no WAL past
/// that point. `None` is a file to archive.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the segment cannot be read.
pub(super) fn left_within(
    name: &WalFileName,
    path: &Path,
    size: SegmentSize,
) -> Result<Option<Left>> {
    let number = name.segment_number(size).filter(|_| name.kind() == WalFileKind::Segment);
    let Some(number) = number else { return Ok(None) };
    let (start, end) = (number.start_lsn(size), number.end_lsn(size));
    let mut within = histories_after(name.timeline(), path)
        .filter_map(|history| {
            let at = history.range_of(name.timeline())?.end?;
            Some(Left { newer: history.timeline(), at })
        })
        .filter(|left| start < left.at && left.at < end)
        .peekable();
    if within.peek().is_none() {
        return Ok(None);
    }
    let Some(ended) = end_of_wal(path, start, size)? else { return Ok(None) };
    Ok(within.find(|left| ended <= left.at))
}

/// The histories of the newer timelines that lie beside the segment. The server has fetched
/// all of them, one after the other.
fn histories_after(timeline: TimelineId, path: &Path) -> impl Iterator<Item = TimelineHistory> {
    let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
    let files = newer_timelines(timeline).map_while(move |newer| {
        let name = WalFileName::history(newer);
        let file = File::open(directory.join(name.as_str())).ok()?;
        let mut content = Vec::new();
        let read = file.take(LARGEST_HISTORY_BYTES + 1).read_to_end(&mut content);
        Some(read.ok().and_then(|_| TimelineHistory::parse(name.as_str(), newer, &content).ok()))
    });
    files.flatten()
}

/// Where the WAL in a segment's file ends; `None` when it goes on in the next one.
fn end_of_wal(path: &Path, start: Lsn, size: SegmentSize) -> Result<Option<Lsn>> {
    let unreadable = |source| Error::file("read file", path, &source);
    let mut file = File::open(path).map_err(|source| Error::file("open file", path, &source))?;
    let mut reader = WalReader::new(start, size);
    let mut buffer = vec![0; READ_BYTES];
    while reader.ended().is_none() {
        let length = file.read(&mut buffer).map_err(unreadable)?;
        if length == 0 {
            break;
        }
        reader.feed(&buffer[..length], &mut |_| ());
    }
    Ok(reader.ended().map(|end| end.lsn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::wal_sample::{SEGMENT_SIZE, WalWriter};

    /// A log of timeline 1 in segment 2, and where another timeline leaves it.
    fn log() -> (WalWriter, Lsn) {
        let mut log = WalWriter::new(1, 2);
        for _ in 0..20 {
            log.noise(1000);
        }
        let at = Lsn(log.position().0.next_multiple_of(8));
        (log, at)
    }

    fn ask(content: &[u8], histories: &[(u32, String)]) -> Option<Left> {
        let directory = tempfile::tempdir().unwrap();
        for (timeline, text) in histories {
            let name = WalFileName::history(TimelineId(*timeline));
            std::fs::write(directory.path().join(name.as_str()), text).unwrap();
        }
        let name: WalFileName = "000000010000000000000002".parse().unwrap();
        let path = directory.path().join(name.as_str());
        std::fs::write(&path, content).unwrap();
        left_within(&name, &path, SEGMENT_SIZE).unwrap()
    }

    #[test]
    fn what_a_standby_has_of_the_segment_is_told_from_the_whole_one() {
        let (log, at) = log();
        let received = log.segments().remove(0).1;
        let second = || (2, format!("1\t{at}\tx\n"));
        let left = Some(Left { newer: TimelineId(2), at });
        assert_eq!(ask(&received, &[second()]), left);
        assert_eq!(ask(&received, &[]), None);
        // A file that was used before has other WAL there.
        let mut used = WalWriter::new(1, 1);
        while used.position().0 < (2 << 20) - 9000 {
            used.noise(900);
        }
        let mut recycled = used.segments().remove(0).1;
        let common = usize::try_from(at.0 - (2 << 20)).unwrap();
        recycled[..common].copy_from_slice(&received[..common]);
        assert_eq!(ask(&recycled, &[second()]), left);
        // The old primary went on, a little or a lot.
        let mut whole = log.clone();
        whole.switch();
        assert_eq!(ask(&whole.segments()[0].1, &[second()]), None);
        let mut whole = log.clone();
        whole.noise(2 << 20);
        assert_eq!(ask(&whole.segments()[0].1, &[second()]), None);
        let mut whole = log;
        whole.commit(7, time::macros::datetime!(2026-11-23 12:00 UTC));
        assert_eq!(ask(&whole.segments()[0].1, &[second()]), None);
    }

    #[test]
    fn every_newer_timeline_may_be_the_one_that_left() {
        let (log, at) = log();
        let received = log.segments().remove(0).1;
        let elsewhere = |timeline: u32, lsn: u64| (timeline, format!("1\t{}\tx\n", Lsn(lsn)));
        let third = (3, format!("1\t{at}\tx\n"));
        let left = Some(Left { newer: TimelineId(3), at });
        assert_eq!(ask(&received, &[elsewhere(2, 1 << 20), third.clone()]), left);
        assert_eq!(ask(&received, &[(2, "nonsense".to_owned()), third]), left);
        for lsn in [2 << 20, 3 << 20, 5 << 20] {
            assert_eq!(ask(&received, &[elsewhere(2, lsn)]), None, "{lsn}");
        }
    }
}
