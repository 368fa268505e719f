//! The records of a stream of WAL segments, in bounded memory.
//!
//! PostgreSQL 15, `src/backend/access/transam/xlogreader.c`
//! (`XLogDecodeNextRecord`, `XLogReaderValidatePageHeader`, `ValidXLogRecord`) and
//! `src/include/access/xlog_internal.h` (page headers). Where the server would
//! find no further record, neither does [`WalReader`].

use std::mem;

use super::wal_record::{
    HEADER_BYTES, KEPT_BYTES, LARGEST_RECORD_BYTES, RecordHeader, RecordKind, WalRecord,
};
use super::{Lsn, SegmentSize, SystemIdentifier, TimelineId};

mod page;

/// Records begin at multiples of this.
const ALIGNMENT: u64 = 8;

/// Why there is no further record, as the server would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalEnd {
    /// Where the invalid record or page begins.
    pub lsn: Lsn,
    /// What is there instead; fits after a colon.
    pub reason: String,
    /// Whether there is a log that begins with this record, as pg_resetwal begins one.
    pub begins_anew: bool,
}

/// Reads records from the bytes of consecutive segments, which are handed in as
/// they come ([`feed`](Self::feed)). Records of up to 1 GB pass through: of those
/// that do not matter only the checksum is computed.
#[derive(Debug)]
pub struct WalReader {
    segment_size: SegmentSize,
    page_bytes: u64,
    /// The LSN of the next byte.
    position: Lsn,
    magic: u16,
    /// The timeline of the page before.
    timeline: TimelineId,
    /// The cluster whose WAL it is; that of the first segment, if it was not said.
    system_identifier: Option<SystemIdentifier>,
    /// As much as has come of the page header that stands at the position.
    page_header: Vec<u8>,
    state: State,
    /// The start of the record before, once one was read.
    previous: Option<Lsn>,
    ended: Option<WalEnd>,
}

#[derive(Debug)]
enum State {
    /// Nothing matters up to here, where a record begins.
    Before(Lsn),
    /// So many bytes belong to a record that began before the first segment.
    Foreign(u64),
    /// Between two records.
    Between,
    /// In a record.
    Record(Box<Partial>),
    /// After a switch: the rest of the segment is empty.
    Skipping,
}

/// A record of which not all bytes have come.
#[derive(Debug)]
struct Partial {
    start: Lsn,
    header: [u8; HEADER_BYTES],
    /// Bytes that have come, the header's included.
    bytes: u64,
    total: Option<u64>,
    parsed: Option<RecordHeader>,
    crc: u32,
    data: Vec<u8>,
}

impl WalReader {
    /// A reader whose first byte is the first of the segment that begins at `start`.
    pub fn new(start: Lsn, segment_size: SegmentSize) -> Self {
        WalReader {
            segment_size,
            page_bytes: super::BLOCK_SIZE as u64,
            position: start,
            magic: 0,
            timeline: TimelineId(0),
            system_identifier: None,
            page_header: Vec::new(),
            state: State::Foreign(0),
            previous: None,
            ended: None,
        }
    }

    /// A reader of which a record has to begin at `lsn`, as at the redo point of a base
    /// backup. Its first byte is the first of the segment that holds `lsn`.
    pub fn at_record(lsn: Lsn, segment_size: SegmentSize) -> Self {
        let segment = Lsn(lsn.0 - lsn.0 % segment_size.bytes());
        WalReader { state: State::Before(lsn), ..WalReader::new(segment, segment_size) }
    }

    /// Takes WAL of another cluster than this for the end of the WAL, as its server would.
    pub fn expect_cluster(mut self, system_identifier: Option<SystemIdentifier>) -> Self {
        self.system_identifier = system_identifier;
        self
    }

    /// Takes the next bytes and hands each record that they complete to `record`,
    /// in order. Once the WAL has ended, further bytes are ignored.
    pub fn feed(&mut self, mut bytes: &[u8], record: &mut dyn FnMut(WalRecord)) {
        while !bytes.is_empty() && self.ended.is_none() {
            match self.step(bytes, record) {
                Ok(taken) => {
                    bytes = &bytes[taken..];
                    match self.position.0.checked_add(taken as u64) {
                        Some(position) => self.position = Lsn(position),
                        None => self.ended = Some(self.end("the log cannot be that long")),
                    }
                }
                Err(end) => self.ended = Some(end),
            }
        }
    }

    /// Why there are no more records; `None` as long as there may be some.
    pub fn ended(&self) -> Option<&WalEnd> {
        self.ended.as_ref()
    }

    /// Whether a record has begun that goes on in the next segment and that may
    /// be one of those that [`RecordKind`] names.
    pub fn waits_for_record_that_matters(&self) -> bool {
        match &self.state {
            State::Record(partial) => partial.parsed.is_none_or(|header| header.matters()),
            _ => false,
        }
    }

    /// Where the record begins that goes on after what has come.
    pub fn unfinished_record(&self) -> Option<Lsn> {
        match &self.state {
            State::Record(partial) if self.ended.is_none() && partial.bytes > 0 => {
                Some(partial.start)
            }
            _ => None,
        }
    }

    fn end(&self, reason: impl Into<String>) -> WalEnd {
        let lsn = match &self.state {
            State::Record(partial) => partial.start,
            _ => self.position,
        };
        let begins_anew = match &self.state {
            State::Record(partial) => partial.is_first_of_log(),
            _ => false,
        };
        WalEnd { lsn, reason: reason.into(), begins_anew }
    }

    /// Deals with some of `bytes`, which are not empty, and says with how many.
    fn step(&mut self, bytes: &[u8], record: &mut dyn FnMut(WalRecord)) -> Result<usize, WalEnd> {
        let in_segment = self.position.0 % self.segment_size.bytes();
        if matches!(self.state, State::Skipping) && in_segment == 0 {
            self.state = State::Between;
        }
        if let State::Skipping = self.state {
            // The pages after a switch are empty, but for their headers.
            return Ok(at_most(self.segment_size.bytes() - in_segment, bytes));
        }
        let in_page = self.position.0 % self.page_bytes;
        if in_page == 0 || !self.page_header.is_empty() {
            return self.take_page_header(bytes);
        }
        let available = &bytes[..at_most(self.page_bytes - in_page, bytes)];
        match &mut self.state {
            State::Before(lsn) if self.position >= *lsn => {
                self.state = State::Between;
                Ok(0)
            }
            State::Before(lsn) => Ok(at_most(lsn.0 - self.position.0, available)),
            State::Foreign(0) => {
                self.state = State::Between;
                Ok(0)
            }
            State::Foreign(rest) => {
                let taken = at_most(*rest, available);
                *rest -= taken as u64;
                Ok(taken)
            }
            State::Between => {
                let padding = (ALIGNMENT - self.position.0 % ALIGNMENT) % ALIGNMENT;
                if padding > 0 {
                    return Ok(at_most(padding, available));
                }
                self.state = State::Record(Box::new(Partial::new(self.position)));
                Ok(0)
            }
            State::Record(partial) => {
                let taken = match partial.take(available, self.previous) {
                    Ok(taken) => taken,
                    Err(reason) => return Err(self.end(reason)),
                };
                if partial.is_complete() {
                    self.complete(taken, record)?;
                }
                Ok(taken)
            }
            State::Skipping => Ok(0),
        }
    }

    /// The record in `state` has all its bytes, the last `taken` of which are not
    /// yet counted in `position`.
    fn complete(&mut self, taken: usize, record: &mut dyn FnMut(WalRecord)) -> Result<(), WalEnd> {
        let State::Record(partial) = mem::replace(&mut self.state, State::Between) else {
            return Ok(());
        };
        let header = RecordHeader::parse(&partial.header);
        if partial.crc() != header.crc {
            let reason = "the checksum of the record is wrong".to_owned();
            return Err(WalEnd { lsn: partial.start, reason, begins_anew: false });
        }
        self.previous = Some(partial.start);
        let end = self.position.0.saturating_add(taken as u64);
        let unit = if header.is_switch() { self.segment_size.bytes() } else { ALIGNMENT };
        let end = end.checked_next_multiple_of(unit).unwrap_or(end);
        let kind = RecordKind::read(&header, &partial.data, self.magic);
        record(WalRecord { start: partial.start, end: Lsn(end), kind });
        if header.is_switch() {
            self.state = State::Skipping;
        }
        Ok(())
    }
}

impl Partial {
    fn new(start: Lsn) -> Self {
        Partial {
            start,
            header: [0; HEADER_BYTES],
            bytes: 0,
            total: None,
            parsed: None,
            crc: 0,
            data: Vec::new(),
        }
    }

    fn is_complete(&self) -> bool {
        self.total == Some(self.bytes)
    }

    /// A record of which there is a whole header, and which has none before it.
    fn is_first_of_log(&self) -> bool {
        self.bytes >= HEADER_BYTES as u64 && RecordHeader::parse(&self.header).is_first_of_log()
    }

    /// Takes what of `available` belongs to the record, and says how much that is.
    fn take(&mut self, available: &[u8], previous: Option<Lsn>) -> Result<usize, String> {
        if let Some(header) = self.parsed {
            let rest = u64::from(header.total_bytes) - self.bytes;
            let taken = at_most(rest, available);
            let bytes = &available[..taken];
            self.crc = crc32c::crc32c_append(self.crc, bytes);
            if header.matters() {
                let room = KEPT_BYTES - self.data.len().min(KEPT_BYTES);
                self.data.extend_from_slice(&bytes[..taken.min(room)]);
            }
            self.bytes += taken as u64;
            return Ok(taken);
        }
        let have = usize::try_from(self.bytes).unwrap_or(HEADER_BYTES).min(HEADER_BYTES);
        let taken = available.len().min(HEADER_BYTES - have);
        self.header[have..have + taken].copy_from_slice(&available[..taken]);
        self.bytes += taken as u64;
        if self.bytes >= 4 {
            let total = full(&self.header, 0);
            if total == 0 {
                return Err("there is no further record".to_owned());
            }
            if total < HEADER_BYTES as u32 || total > LARGEST_RECORD_BYTES {
                return Err(format!("a record says that it has {total} bytes"));
            }
            self.total = Some(u64::from(total));
        }
        if self.bytes == HEADER_BYTES as u64 {
            let header = RecordHeader::parse(&self.header);
            if previous.is_some_and(|previous| previous != header.previous) {
                return Err(format!("a record says that it follows LSN {}", header.previous));
            }
            self.parsed = Some(header);
        }
        Ok(taken)
    }

    /// The checksum covers the data first, then the header up to the checksum.
    fn crc(&self) -> u32 {
        crc32c::crc32c_append(self.crc, &self.header[..HEADER_BYTES - 4])
    }
}

/// How many of `bytes` there are up to `limit`.
fn at_most(limit: u64, bytes: &[u8]) -> usize {
    usize::try_from(limit).map_or(bytes.len(), |limit| limit.min(bytes.len()))
}

/// The four bytes at `at`, which lies in `bytes`.
fn full(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
