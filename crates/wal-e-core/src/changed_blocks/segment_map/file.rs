//! A map as a file.
//!
//! All numbers are variable: seven bits a byte, lowest first, the eighth bit set where more
//! follow. What ascends is written as the differences. In this order:
//!
//! * `wal_e map`, and the version of this form, 1.
//! * The segment: system identifier, magic number of its pages, its size, timeline and number,
//!   the timelines of its first and last page; flags: 1 when `wal_level` was `minimal`.
//! * The record that began before: how it ends ([`HeadEnd`]), the bytes that it had yet to come,
//!   how many of them are in the segment, and the first of those.
//! * Which record the first one names as the one before it, plus 1; the start of the last whole
//!   record, within the segment, plus 1. 0 for none.
//! * The record that goes on: 0 when there is none; else its start within the segment, plus 1,
//!   its length, how many bytes are to come; 1 when it was read, else 0 and the bytes that are
//!   here.
//! * How many databases have other files, and of each tablespace and database.
//! * How many relations have changed, and of each tablespace, database and number; its limit,
//!   plus 1, or 0; how many ranges of blocks, and of each twice how many blocks were left out
//!   since the one before, plus 1 if it has more than one block, and then how many more.
//! * CRC-32C of everything before, 4 bytes, little-endian.

use roaring::RoaringBitmap;

use super::SegmentMap;
use crate::changed_blocks::{ChangedBlocks, Changes, RelationId};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::wal_blocks::{HEAD_BYTES, Head, HeadEnd, MOST_KEPT_BYTES, SegmentEnds, Tail};
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, SystemIdentifier, TimelineId, WalSegment};

const MAGIC: &[u8] = b"wal_e map\x01";

/// Of the CRC.
const CRC_BYTES: usize = 4;

/// The largest map that is read. One of a segment of 16 MB has some kilobytes, and one of 1 GB,
/// each record of which changes another block, has a few hundred megabytes.
pub const LARGEST_MAP_BYTES: u64 = 512 << 20;

/// How many bytes of a segment are the least that a record has for a block.
const BYTES_OF_A_REFERENCE: u64 = 8;

const MINIMAL: u64 = 1;

/// Of `XLogRecord`.
const RECORD_HEADER_BYTES: u32 = 24;
/// `XLogRecordMaxSize` of PostgreSQL 16 and later, rounded up.
const LARGEST_RECORD_BYTES: u32 = 1 << 30;

impl SegmentMap {
    /// It as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        let ends = &self.ends;
        out.number(ends.system_identifier.0);
        out.number(u64::from(ends.magic));
        out.number(ends.segment_size.bytes());
        out.number(u64::from(self.segment.timeline.0));
        out.number(self.segment.number.0);
        out.number(u64::from(ends.first_timeline.0));
        out.number(u64::from(ends.last_timeline.0));
        out.number(if self.wal_level_is_minimal { MINIMAL } else { 0 });
        out.number(match ends.head.end {
            HeadEnd::Whole => 0,
            HeadEnd::GoesOn => 1,
            HeadEnd::Abandoned => 2,
            HeadEnd::Switch => 3,
        });
        out.number(u64::from(ends.head.rest));
        out.number(u64::from(ends.head.taken));
        out.0.extend(&ends.head.bytes);
        out.number(ends.first_previous.map_or(0, |lsn| lsn.0 + 1));
        out.number(ends.last_record.map_or(0, |lsn| lsn.0 - ends.start.0 + 1));
        match &ends.tail {
            None => out.number(0),
            Some(tail) => {
                out.number(tail.start.0 - ends.start.0 + 1);
                out.number(u64::from(tail.total));
                out.number(u64::from(tail.rest));
                out.number(u64::from(tail.is_read));
                out.0.extend(&tail.bytes);
            }
        }
        out.changes(&self.changed);
        let crc = crc32c::crc32c(&out.0);
        out.0.extend(crc.to_le_bytes());
        out.0
    }

    /// Reads the file that is named `file` in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for anything but what [`to_bytes`](Self::to_bytes) makes.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        let whole = bytes.len().checked_sub(CRC_BYTES).map(|length| bytes.split_at(length));
        let map = whole.and_then(|(content, crc)| {
            let is_sound = crc32c::crc32c(content).to_le_bytes() == *crc;
            let mut input = Reader(content.strip_prefix(MAGIC).filter(|_| is_sound)?);
            let map = input.map()?;
            input.0.is_empty().then_some(map)
        });
        map.ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format!("\"{file}\" is damaged, or not a map of a WAL segment"),
            )
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn changes(&mut self, changed: &ChangedBlocks) {
        let mut databases: Vec<_> = changed.databases().collect();
        databases.sort_unstable();
        self.number(databases.len() as u64);
        for (tablespace, database) in databases {
            self.number(u64::from(tablespace));
            self.number(u64::from(database));
        }
        let mut relations: Vec<_> = changed.relations().collect();
        relations.sort_unstable_by_key(|(relation, _)| **relation);
        self.number(relations.len() as u64);
        let mut before = [0; 3];
        for (relation, changes) in relations {
            let numbers = [relation.tablespace, relation.database, relation.number];
            let mut is_same = true;
            for (number, before) in numbers.into_iter().zip(before) {
                self.number(u64::from(if is_same { number - before } else { number }));
                is_same &= number == before;
            }
            before = numbers;
            self.number(changes.limit().map_or(0, |limit| u64::from(limit) + 1));
            self.blocks(changes);
        }
    }

    fn blocks(&mut self, changes: &Changes) {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for block in changes.blocks() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == block => *last = block,
                _ => ranges.push((block, block)),
            }
        }
        self.number(ranges.len() as u64);
        let mut next = 0;
        for (first, last) in ranges {
            let left_out = u64::from(first) - next;
            self.number(left_out * 2 + u64::from(last > first));
            if last > first {
                self.number(u64::from(last - first));
            }
            next = u64::from(last) + 1;
        }
    }
}

/// What is still to be read. `None` stands for anything that cannot be.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7F);
            number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
            if byte & 0x80 == 0 {
                // There is one way only to write a number.
                return (byte > 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    fn number32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes.to_vec())
    }

    fn map(&mut self) -> Option<SegmentMap> {
        let system_identifier = SystemIdentifier(self.number()?);
        let magic = self.number()?.try_into().ok()?;
        let segment_size = SegmentSize::new(self.number()?)?;
        let timeline = TimelineId(self.number32()?);
        let number = SegmentNumber(self.number()?);
        let start = Lsn(number.0.checked_mul(segment_size.bytes())?);
        start.0.checked_add(segment_size.bytes())?;
        let (first_timeline, last_timeline) =
            (TimelineId(self.number32()?), TimelineId(self.number32()?));
        if first_timeline > last_timeline || last_timeline > timeline {
            return None;
        }
        let flags = self.number()?;
        if flags & !MINIMAL != 0 {
            return None;
        }
        let head = self.head()?;
        let first_previous = self.number()?.checked_sub(1).map(Lsn);
        if first_previous.is_some_and(|previous| previous >= start) {
            return None;
        }
        let last_record = self.place(start, segment_size)?;
        let tail = match self.place(start, segment_size)? {
            Some(begin) => Some(self.tail(begin, segment_size)?),
            None => None,
        };
        let ends = SegmentEnds {
            start,
            segment_size,
            system_identifier,
            magic,
            first_timeline,
            last_timeline,
            head,
            first_previous,
            last_record,
            tail,
        };
        if ends.head.end == HeadEnd::GoesOn && (ends.tail.is_some() || last_record.is_some()) {
            return None;
        }
        let changed = self.changes(segment_size.bytes() / BYTES_OF_A_REFERENCE)?;
        let segment = WalSegment { timeline, number };
        Some(SegmentMap { segment, ends, wal_level_is_minimal: flags & MINIMAL != 0, changed })
    }

    /// An LSN within the segment, or none.
    fn place(&mut self, start: Lsn, size: SegmentSize) -> Option<Option<Lsn>> {
        let Some(place) = self.number()?.checked_sub(1) else { return Some(None) };
        (place < size.bytes()).then_some(Some(Lsn(start.0 + place)))
    }

    fn head(&mut self) -> Option<Head> {
        let end = match self.number()? {
            0 => HeadEnd::Whole,
            1 => HeadEnd::GoesOn,
            2 => HeadEnd::Abandoned,
            3 => HeadEnd::Switch,
            _ => return None,
        };
        let (rest, taken) = (self.number32()?, self.number32()?);
        let is_possible = match end {
            HeadEnd::Whole => taken == rest,
            HeadEnd::Switch => taken == rest && rest > 0,
            HeadEnd::GoesOn => taken < rest,
            HeadEnd::Abandoned => taken < rest || rest == 0 && taken == 0,
        };
        if !is_possible || rest > LARGEST_RECORD_BYTES {
            return None;
        }
        let bytes = self.bytes(HEAD_BYTES.min(taken as usize))?;
        Some(Head { rest, taken, bytes, end })
    }

    fn tail(&mut self, start: Lsn, size: SegmentSize) -> Option<Tail> {
        let (total, rest) = (self.number32()?, self.number32()?);
        let is_possible = (RECORD_HEADER_BYTES..=LARGEST_RECORD_BYTES).contains(&total)
            && (1..total).contains(&rest)
            && u64::from(total - rest) <= size.bytes();
        if !is_possible {
            return None;
        }
        let is_read = match self.number()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let here = (total - rest) as usize;
        if !is_read && here > MOST_KEPT_BYTES {
            return None;
        }
        let bytes = if is_read { Vec::new() } else { self.bytes(here)? };
        Some(Tail { start, total, rest, bytes, is_read })
    }

    /// `most` is how many blocks there can be in all.
    fn changes(&mut self, most: u64) -> Option<ChangedBlocks> {
        let mut changed = ChangedBlocks::default();
        let mut last = None;
        for _ in 0..self.number()? {
            let database = (self.number32()?, self.number32()?);
            if last.is_some_and(|last| last >= database) {
                return None;
            }
            last = Some(database);
            changed.note_database(database.0, database.1);
        }
        let mut before = [0_u32; 3];
        let mut left = most;
        for index in 0..self.number()? {
            let mut numbers = [0; 3];
            let mut is_same = true;
            for (number, before) in numbers.iter_mut().zip(before) {
                let written = self.number32()?;
                *number = if is_same { before.checked_add(written)? } else { written };
                is_same &= *number == before;
            }
            if is_same && index > 0 {
                return None;
            }
            before = numbers;
            let [tablespace, database, number] = numbers;
            let relation = RelationId { tablespace, database, number };
            let limit = self.number()?.checked_sub(1);
            if let Some(limit) = limit {
                changed.note_limit(relation, limit.try_into().ok()?);
            }
            let ranges = self.number()?;
            if ranges == 0 && limit.is_none() {
                return None;
            }
            if ranges > 0 {
                changed.note_blocks(relation, self.ranges(ranges, &mut left)?);
            }
        }
        Some(changed)
    }

    /// `left` is how many blocks there can still be.
    fn ranges(&mut self, count: u64, left: &mut u64) -> Option<RoaringBitmap> {
        let mut blocks = RoaringBitmap::new();
        let mut next = 0_u64;
        for index in 0..count {
            let written = self.number()?;
            let (left_out, has_more) = (written / 2, written % 2 == 1);
            let more = if has_more { u64::from(self.number32()?) } else { 0 };
            // Two ranges without a block between are one.
            if left_out == 0 && index > 0 || has_more && more == 0 {
                return None;
            }
            let first = next.checked_add(left_out)?;
            let last = first.checked_add(more).filter(|last| *last < u64::from(u32::MAX))?;
            *left = left.checked_sub(more + 1)?;
            blocks.insert_range(first as u32..=last as u32);
            next = last + 1;
        }
        Some(blocks)
    }
}
