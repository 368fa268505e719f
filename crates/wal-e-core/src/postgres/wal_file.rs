//! The names of the files that PostgreSQL archives.
//!
//! PostgreSQL 15, `src/include/access/xlog_internal.h`: a WAL segment is named
//! by timeline and position in 24 hexadecimal digits; a segment that was not
//! filled before a promotion has `.partial` after it; a backup history file has
//! the offset of the backup's start and `.backup`; a timeline history file is
//! the timeline and `.history`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::postgres::{Lsn, TimelineId};

/// The number of a WAL segment, counted from the beginning of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// The number of the segment that holds the byte at `lsn`.
    pub fn containing(lsn: Lsn, size: SegmentSize) -> Self {
        SegmentNumber(lsn.0 / size.bytes())
    }

    /// Where the segment begins in the log.
    pub fn start_lsn(self, size: SegmentSize) -> Lsn {
        Lsn(self.0.saturating_mul(size.bytes()))
    }

    /// Where the segment ends: the beginning of the next one.
    pub fn end_lsn(self, size: SegmentSize) -> Lsn {
        Lsn(self.start_lsn(size).0.saturating_add(size.bytes()))
    }
}

/// The size of a cluster's WAL segments in bytes: a power of two from 1 MB to 1 GB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSize(u64);

impl SegmentSize {
    /// What `initdb` chooses by default.
    pub const DEFAULT: SegmentSize = SegmentSize(16 * 1024 * 1024);

    /// The smallest that PostgreSQL allows.
    pub const SMALLEST: SegmentSize = SegmentSize(1 << 20);

    /// The largest that PostgreSQL allows.
    pub const LARGEST: SegmentSize = SegmentSize(1 << 30);

    /// The size, when it is one that PostgreSQL allows.
    pub fn new(bytes: u64) -> Option<Self> {
        let legal = bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes);
        legal.then_some(SegmentSize(bytes))
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// How many segments share the first half of an LSN.
    fn segments_per_id(self) -> u64 {
        0x1_0000_0000 / self.0
    }
}

/// One WAL segment: a timeline and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSegment {
    /// The timeline that it was written on.
    pub timeline: TimelineId,
    /// Its number.
    pub number: SegmentNumber,
}

impl WalSegment {
    /// The segment that holds the byte at `lsn`.
    pub fn containing(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> Self {
        WalSegment { timeline, number: SegmentNumber::containing(lsn, size) }
    }

    /// The segment that holds the last byte before `lsn`: the last one that is
    /// needed to reach it (PostgreSQL's `XLByteToPrevSeg`).
    pub fn before(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> Self {
        WalSegment::containing(timeline, Lsn(lsn.0.saturating_sub(1)), size)
    }

    /// The next segment on the same timeline.
    pub fn next(self) -> Self {
        WalSegment { number: SegmentNumber(self.number.0 + 1), ..self }
    }

    /// Its file name, 24 hexadecimal digits.
    pub fn file_name(self, size: SegmentSize) -> String {
        let per_id = size.segments_per_id();
        format!(
            "{:08X}{:08X}{:08X}",
            self.timeline.0,
            self.number.0 / per_id,
            self.number.0 % per_id
        )
    }
}

/// What kind of file a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalFileKind {
    /// A whole WAL segment.
    Segment,
    /// The last, unfilled segment of a timeline that was left.
    Partial,
    /// Where a base backup began and ended; of use to people only.
    BackupHistory,
    /// Where a timeline came from.
    TimelineHistory,
}

/// The name of a file that PostgreSQL hands to the archiver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalFileName(String);

impl WalFileName {
    /// The backup history file of a base backup that began at `start` in `segment`.
    pub fn backup_history(segment: WalSegment, start: Lsn, size: SegmentSize) -> Self {
        let offset = start.0 % size.bytes();
        WalFileName(format!("{}.{offset:08X}.backup", Self::segment(segment, size)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What kind of file it names.
    pub fn kind(&self) -> WalFileKind {
        match self.0.len() {
            24 => WalFileKind::Segment,
            16 => WalFileKind::TimelineHistory,
            32 => WalFileKind::Partial,
            _ => WalFileKind::BackupHistory,
        }
    }

    /// The timeline in the name.
    pub fn timeline(&self) -> TimelineId {
        TimelineId(u32::from_str_radix(&self.0[..8], 16).expect("parsed as hexadecimal"))
    }

    /// The number of the segment in the name; of a backup history file the
    /// segment that the backup began in. `None` for a timeline history file, and
    /// when no segment of that size has such a name.
    pub fn segment_number(&self, size: SegmentSize) -> Option<SegmentNumber> {
        let half = |range| u64::from_str_radix(self.0.get(range)?, 16).ok();
        if self.kind() == WalFileKind::TimelineHistory {
            return None;
        }
        let (id, number) = (half(8..16)?, half(16..24)?);
        let per_id = size.segments_per_id();
        (number < per_id).then(|| SegmentNumber(id * per_id + number))
    }

    /// The name of a whole segment.
    pub fn segment(segment: WalSegment, size: SegmentSize) -> Self {
        WalFileName(segment.file_name(size))
    }

    /// The name of a segment that was not filled before its timeline was left.
    pub fn partial(segment: WalSegment, size: SegmentSize) -> Self {
        WalFileName(format!("{}.partial", segment.file_name(size)))
    }

    /// The name of the history file of a timeline.
    pub fn history(timeline: TimelineId) -> Self {
        WalFileName(format!("{:08X}.history", timeline.0))
    }
}

impl fmt::Display for WalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WalFileName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
        };
        let sound = match name.split_once('.') {
            None => hex(name, 24),
            Some((timeline, "history")) => hex(timeline, 8),
            Some((segment, "partial")) => hex(segment, 24),
            Some((segment, rest)) => {
                hex(segment, 24)
                    && rest.strip_suffix(".backup").is_some_and(|offset| hex(offset, 8))
            }
        };
        if sound {
            return Ok(WalFileName(name.to_owned()));
        }
        Err(Error::new(ErrorKind::Config, format!("\"{name}\" is not the name of a WAL file"))
            .with_detail(
                "PostgreSQL archives WAL segments, partial segments, backup history files and timeline history files.",
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_kinds() {
        for (name, kind) in [
            ("0000000100000016000000B3", WalFileKind::Segment),
            ("0000000100000016000000B3.partial", WalFileKind::Partial),
            ("0000000100000016000000B3.00000028.backup", WalFileKind::BackupHistory),
            ("0000000A.history", WalFileKind::TimelineHistory),
        ] {
            let parsed: WalFileName = name.parse().unwrap();
            assert_eq!(parsed.kind(), kind);
            assert_eq!(parsed.to_string(), name);
        }
        assert_eq!("0000000A.history".parse::<WalFileName>().unwrap().timeline(), TimelineId(10));
    }

    #[test]
    fn foreign_names_are_refused() {
        for name in [
            "",
            "x",
            "../0000000100000016000000B3",
            "0000000100000016000000b3",
            "0000000100000016000000B3.lz4",
            "0000000100000016000000B3.28.backup",
            "1.history",
            "0000000100000016000000B3.partial.partial",
            "0000000100000016000000B3/",
        ] {
            assert!(name.parse::<WalFileName>().is_err(), "{name}");
        }
    }

    #[test]
    fn segments_of_every_legal_size_have_postgresql_s_names() {
        let lsn = Lsn(0x16_B374_D848);
        let name = |mb: u64| {
            let size = SegmentSize::new(mb << 20).unwrap();
            WalSegment::containing(TimelineId(1), lsn, size).file_name(size)
        };
        assert_eq!(name(1), "000000010000001600000B37");
        assert_eq!(name(16), "0000000100000016000000B3");
        assert_eq!(name(64), "00000001000000160000002C");
        assert_eq!(name(1024), "000000010000001600000002");
        assert!(SegmentSize::new(3 << 20).is_none());
        assert!(SegmentSize::new(1 << 19).is_none());
        assert!(SegmentSize::new(1 << 31).is_none());
    }

    #[test]
    fn a_name_tells_where_its_segment_begins() {
        let start = |name: &str, mb: u64| {
            let size = SegmentSize::new(mb << 20).unwrap();
            let name: WalFileName = name.parse().unwrap();
            name.segment_number(size).map(|number| number.start_lsn(size))
        };
        assert_eq!(start("0000000100000016000000B3", 16), Some(Lsn(0x16_B300_0000)));
        assert_eq!(start("0000000100000016000000B3.partial", 16), Some(Lsn(0x16_B300_0000)));
        assert_eq!(start("0000000100000016000000B3.00000028.backup", 1), Some(Lsn(0x16_0B30_0000)));
        assert_eq!(start("000000010000001600000100", 16), None);
        assert_eq!(start("00000001FFFFFFFF00000003", 1024), Some(Lsn(u64::MAX - (1 << 30) + 1)));
        assert_eq!(start("00000002.history", 16), None);
    }

    #[test]
    fn a_stop_lsn_on_a_boundary_needs_the_segment_before() {
        let size = SegmentSize::DEFAULT;
        let boundary = Lsn(3 * size.bytes());
        assert_eq!(WalSegment::before(TimelineId(1), boundary, size).number, SegmentNumber(2));
        assert_eq!(WalSegment::containing(TimelineId(1), boundary, size).number, SegmentNumber(3));
    }
}
