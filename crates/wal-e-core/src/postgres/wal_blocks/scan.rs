//! The records of one segment, page by page.

use super::record::{self, Reading};
use super::{
    BlockSink, HEAD_BYTES, Head, HeadEnd, MAGIC_15, MAGIC_16, MAGIC_17, MAGIC_18, SegmentEnds,
    Tail, Unreadable, unreadable,
};
use crate::postgres::wal_record::{HEADER_BYTES, LARGEST_RECORD_BYTES};
use crate::postgres::{Lsn, SegmentSize, SystemIdentifier, TimelineId, WalPageHeader};

/// `XLOG_BLCKSZ`: the size of WAL pages that is read, PostgreSQL's default.
const PAGE_BYTES: usize = 8192;

/// `SizeOfXLogShortPHD`, `SizeOfXLogLongPHD`.
const SHORT_HEADER_BYTES: usize = 24;
const LONG_HEADER_BYTES: usize = WalPageHeader::LENGTH;

/// Flags of a page header.
const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
const KNOWN_FLAGS: u16 = 0x000F;

/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// Reads one whole segment, whose bytes are handed in as they come, and says to a
/// [`BlockSink`] what the records change that begin in it.
#[derive(Debug)]
pub struct SegmentScan<S> {
    sink: S,
    /// As much as has come of a page that did not come at once.
    page: Vec<u8>,
    /// What the next record that is not on one page is kept in.
    spare: Vec<u8>,
    /// How many bytes of the segment were read.
    offset: u64,
    /// Where a record begins that is not read, nor what follows. `None` for a whole segment.
    until: Option<Lsn>,
    ends: SegmentEnds,
    state: State,
    failed: Option<Unreadable>,
}

#[derive(Debug)]
enum State {
    /// Before the first page.
    Beginning,
    /// Where a record begins, or a page.
    Between,
    /// In a record that began before the segment.
    Foreign,
    /// In a record that goes on in the next page.
    Record(Partial),
    /// After a switch: the rest of the segment is empty.
    Skipping,
}

/// A record that is not on one page.
#[derive(Debug)]
struct Partial {
    start: Lsn,
    total: usize,
    taken: usize,
    /// Its first bytes, until it was read.
    bytes: Vec<u8>,
    /// With how many of them it is read next; 0 when it was.
    needs: usize,
    /// Whether its header was looked at.
    is_checked: bool,
    is_switch: bool,
}

impl<S: BlockSink> SegmentScan<S> {
    /// A scan of the segment that begins at `start`.
    pub fn new(start: Lsn, segment_size: SegmentSize, sink: S) -> Self {
        let ends = SegmentEnds {
            start,
            segment_size,
            system_identifier: SystemIdentifier(0),
            magic: 0,
            first_timeline: TimelineId(0),
            last_timeline: TimelineId(0),
            head: Head::default(),
            first_previous: None,
            last_record: None,
            tail: None,
        };
        let (page, spare, state) = (Vec::new(), Vec::new(), State::Beginning);
        SegmentScan { sink, page, spare, offset: 0, until: None, ends, state, failed: None }
    }

    /// Reads a segment that is being written up to `lsn` only, where a record begins or will.
    pub fn until(self, lsn: Lsn) -> Self {
        SegmentScan { until: Some(lsn), ..self }
    }

    /// Takes the next bytes. After an error, further ones make no difference.
    ///
    /// # Errors
    /// What is not understood, as is everything that PostgreSQL 15 to 18 does not write.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Unreadable> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        while !bytes.is_empty() {
            let result = if self.page.is_empty() && bytes.len() >= PAGE_BYTES {
                let (page, rest) = bytes.split_at(PAGE_BYTES);
                bytes = rest;
                self.read_page(page)
            } else {
                let (piece, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES - self.page.len()));
                bytes = rest;
                self.page.extend_from_slice(piece);
                if self.page.len() < PAGE_BYTES {
                    break;
                }
                let page = std::mem::take(&mut self.page);
                let result = self.read_page(&page);
                self.page = page;
                self.page.clear();
                result
            };
            if let Err(failed) = result {
                self.failed = Some(failed.clone());
                return Err(failed);
            }
        }
        Ok(())
    }

    /// What ties the segment to its neighbours, and where all went.
    ///
    /// # Errors
    /// As [`feed`](Self::feed), and for a segment of which bytes are missing.
    pub fn finish(self) -> Result<(SegmentEnds, S), Unreadable> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let mut ends = self.ends;
        let has_come_there = self.until.is_some() && matches!(self.state, State::Skipping);
        if self.offset != ends.segment_size.bytes() && !has_come_there {
            return Err(unreadable(Lsn(ends.start.0 + self.offset), "the segment ends early"));
        }
        match self.state {
            State::Foreign => ends.head.end = HeadEnd::GoesOn,
            State::Record(partial) => ends.tail = Some(partial.into_tail()),
            State::Beginning | State::Between | State::Skipping => {}
        }
        Ok((ends, self.sink))
    }

    fn read_page(&mut self, page: &[u8]) -> Result<(), Unreadable> {
        let start = Lsn(self.ends.start.0.saturating_add(self.offset));
        if self.offset == self.ends.segment_size.bytes() {
            return Err(unreadable(start, "the segment is too long"));
        }
        if !matches!(self.state, State::Skipping) {
            let at = self.begin_page(page, start).map_err(|reason| unreadable(start, reason))?;
            self.read_records(page, at, start)?;
        }
        self.offset += PAGE_BYTES as u64;
        Ok(())
    }

    /// Checks a page's header, and finds out how the page continues; says where.
    fn begin_page(&mut self, page: &[u8], start: Lsn) -> Result<usize, &'static str> {
        let is_first = matches!(self.state, State::Beginning);
        let header = WalPageHeader::parse(page).ok_or("a page is too short")?;
        let rest = u32::from_ne_bytes([page[16], page[17], page[18], page[19]]);
        let ends = &mut self.ends;
        if is_first {
            if !matches!(header.magic, MAGIC_15 | MAGIC_16 | MAGIC_17 | MAGIC_18) {
                return Err("the segment is of a version of PostgreSQL that is not known");
            }
            if u64::from(header.segment_bytes) != ends.segment_size.bytes() {
                return Err("the first page says another size of segments");
            }
            if header.block_bytes as usize != PAGE_BYTES {
                return Err("the pages have not the usual size");
            }
            ends.magic = header.magic;
            ends.system_identifier = header.system_identifier;
            ends.first_timeline = header.timeline;
        }
        if header.magic != ends.magic {
            return Err("a page begins with another magic number than the segment");
        }
        if header.page_address != start {
            return Err("a page says that it belongs elsewhere");
        }
        if (header.flags & LONG_HEADER != 0) != is_first || header.flags & !KNOWN_FLAGS != 0 {
            return Err("a page has flags that it cannot have");
        }
        if header.timeline < ends.last_timeline || header.timeline.0 == 0 {
            return Err("a page is of an earlier timeline than the page before");
        }
        ends.last_timeline = header.timeline;
        let is_continued = header.flags & FIRST_IS_CONTRECORD != 0;
        let is_overwritten = header.flags & FIRST_IS_OVERWRITE_CONTRECORD != 0;
        if is_continued && (is_overwritten || rest == 0) {
            return Err("a page says no way in which a record continues");
        }
        let left = match &self.state {
            State::Beginning if is_continued => {
                ends.head.rest = rest;
                self.state = State::Foreign;
                rest
            }
            State::Beginning => 0,
            State::Foreign => ends.head.rest - ends.head.taken,
            State::Record(partial) => partial.rest(),
            State::Between | State::Skipping => 0,
        };
        if is_overwritten {
            // The server died while it wrote the record, and went on without: what comes
            // follows the record before.
            if matches!(self.state, State::Beginning | State::Foreign) {
                ends.head.end = HeadEnd::Abandoned;
            }
            self.state = State::Between;
        } else if is_continued != (left > 0) || is_continued && left != rest {
            return Err("a record does not continue on the next page");
        } else if is_first && !is_continued {
            self.state = State::Between;
        }
        Ok(if is_first { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES })
    }

    /// Reads the records of a page, from `at` on.
    fn read_records(&mut self, page: &[u8], mut at: usize, start: Lsn) -> Result<(), Unreadable> {
        let first = at;
        while at < PAGE_BYTES {
            let available = &page[at..];
            let lsn = Lsn(start.0 + at as u64);
            if let Some(until) = self.until.filter(|until| lsn >= *until) {
                let is_boundary = lsn == until || until.0 < start.0 + first as u64;
                if !is_boundary || !matches!(self.state, State::Between) {
                    return Err(unreadable(lsn, "a record goes on where another begins"));
                }
                self.state = State::Skipping;
                return Ok(());
            }
            let taken = match &mut self.state {
                State::Foreign => {
                    let taken = self.ends.head.take(available);
                    if self.ends.head.taken == self.ends.head.rest {
                        self.state = State::Between;
                    }
                    taken
                }
                State::Record(partial) => {
                    let (begin, taken) = (partial.start, partial.take(available));
                    self.go_on().map_err(|reason| unreadable(begin, reason))?;
                    taken
                }
                State::Between => {
                    self.record(available, lsn).map_err(|reason| unreadable(lsn, reason))?
                }
                State::Beginning | State::Skipping => return Ok(()),
            };
            at = (at + taken).next_multiple_of(ALIGNMENT);
        }
        Ok(())
    }

    /// Reads the record that begins with `available`, or finds that it goes on in the next page.
    /// Says how many bytes it has of this one: none of one that goes on.
    #[inline]
    fn record(&mut self, available: &[u8], start: Lsn) -> Result<usize, &'static str> {
        let Some((bytes, _)) = available.split_first_chunk() else {
            return Err("a record begins where none can begin");
        };
        let length = u32::from_ne_bytes(*bytes);
        let total = length as usize;
        if total < HEADER_BYTES || length > LARGEST_RECORD_BYTES {
            if total == 0 && self.may_follow_switch() {
                self.ends.head.end = HeadEnd::Switch;
                self.state = State::Skipping;
                return Ok(0);
            }
            return Err(if total == 0 {
                "the records end"
            } else {
                "a record has a length that it cannot have"
            });
        }
        let Some(record) = available.get(..total) else {
            let bytes = std::mem::take(&mut self.spare);
            self.state = State::Record(Partial::new(start, total, bytes));
            return Ok(0);
        };
        self.check_previous(record)?;
        match record::read(record, total, self.ends.magic, &mut self.sink)? {
            Reading::Done => {}
            Reading::Needs(_) => return Err("a record is shorter than its headers say"),
        }
        self.ends.last_record = Some(start);
        if record::is_switch(record) {
            self.state = State::Skipping;
        }
        Ok(total)
    }

    /// Goes on with the record in the state, which has got more bytes.
    fn go_on(&mut self) -> Result<(), &'static str> {
        let State::Record(mut partial) = std::mem::replace(&mut self.state, State::Between) else {
            return Ok(());
        };
        if !partial.is_checked && partial.bytes.len() >= HEADER_BYTES {
            self.check_previous(&partial.bytes)?;
            partial.is_checked = true;
            partial.is_switch = record::is_switch(&partial.bytes);
        }
        partial.read(self.ends.magic, &mut self.sink)?;
        if partial.rest() > 0 {
            self.state = State::Record(partial);
            return Ok(());
        }
        if partial.needs > 0 {
            return Err("a record is shorter than its headers say");
        }
        self.ends.last_record = Some(partial.start);
        if partial.is_switch {
            self.state = State::Skipping;
        }
        self.spare = partial.bytes;
        Ok(())
    }

    /// Checks which record is before the one that begins with `header`.
    #[inline(always)]
    fn check_previous(&mut self, header: &[u8]) -> Result<(), &'static str> {
        let previous = record::previous(header);
        match self.ends.last_record {
            Some(last) if last != previous => {
                Err("a record says that it follows another than the one before")
            }
            Some(_) => Ok(()),
            None if previous >= self.ends.start => {
                Err("a record says that it follows one that is not before it")
            }
            None => {
                // After one that was abandoned here, the next names the same as that did.
                let first = *self.ends.first_previous.get_or_insert(previous);
                if first == previous { Ok(()) } else { Err("two records follow the same one") }
            }
        }
    }

    /// Whether what has come of the segment may be the end of a switch that began in the segment
    /// before: its header is cut by the boundary.
    fn may_follow_switch(&self) -> bool {
        let head = &self.ends.head;
        self.ends.last_record.is_none()
            && self.ends.first_previous.is_none()
            && head.end == HeadEnd::Whole
            && (1..HEADER_BYTES).contains(&(head.rest as usize))
    }
}

impl Head {
    /// Takes what of `available` belongs to the record, and says how much that is.
    fn take(&mut self, available: &[u8]) -> usize {
        let taken = available.len().min((self.rest - self.taken) as usize);
        let kept = taken.min(HEAD_BYTES - self.bytes.len());
        self.bytes.extend_from_slice(&available[..kept]);
        self.taken += taken as u32;
        taken
    }
}

impl Partial {
    /// `bytes` are empty.
    fn new(start: Lsn, total: usize, bytes: Vec<u8>) -> Self {
        Partial {
            start,
            total,
            taken: 0,
            bytes,
            needs: total.min(HEAD_BYTES),
            is_checked: false,
            is_switch: false,
        }
    }

    fn rest(&self) -> u32 {
        (self.total - self.taken) as u32
    }

    /// Takes what of `available` belongs to the record, and says how much that is.
    fn take(&mut self, available: &[u8]) -> usize {
        let taken = available.len().min(self.total - self.taken);
        if self.needs > 0 {
            let kept = taken.min(self.total.min(record::MOST_KEPT_BYTES) - self.bytes.len());
            self.bytes.extend_from_slice(&available[..kept]);
        }
        self.taken += taken;
        taken
    }

    /// Reads the record, if enough of it is there.
    fn read<S: BlockSink>(&mut self, magic: u16, sink: &mut S) -> Result<(), &'static str> {
        while self.needs > 0 && self.bytes.len() >= self.needs {
            match record::read(&self.bytes, self.total, magic, sink)? {
                Reading::Done => {
                    self.needs = 0;
                    self.bytes.clear();
                }
                Reading::Needs(bytes) if bytes > self.bytes.len() => self.needs = bytes,
                Reading::Needs(_) => return Err("a record is shorter than its headers say"),
            }
        }
        Ok(())
    }

    fn into_tail(self) -> Tail {
        let (rest, is_read) = (self.rest(), self.needs == 0);
        Tail { start: self.start, total: self.total as u32, rest, bytes: self.bytes, is_read }
    }
}
