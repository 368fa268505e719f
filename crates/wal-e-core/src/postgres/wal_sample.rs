//! A log as a server would write it, for tests.

use time::OffsetDateTime;

use super::{BLOCK_SIZE, Lsn, SegmentNumber, SegmentSize, SystemIdentifier, TimelineId};

pub mod records;

/// The size of the segments.
pub const SEGMENT_SIZE: SegmentSize = SegmentSize::SMALLEST;

/// The cluster that writes.
pub const CLUSTER: SystemIdentifier = SystemIdentifier(7_300_000_000_000_000_007);

/// Writes records one after the other. Every LSN that it hands out is the start
/// of the record just written.
#[derive(Debug, Clone)]
pub struct WalWriter {
    timeline: TimelineId,
    /// A segment's start.
    start: Lsn,
    bytes: Vec<u8>,
    previous: Lsn,
    pub magic: u16,
    pub cluster: SystemIdentifier,
}

impl WalWriter {
    /// A log that begins with the segment of this number.
    pub fn new(timeline: u32, segment: u64) -> Self {
        let start = SegmentNumber(segment).start_lsn(SEGMENT_SIZE);
        let (bytes, previous) = (Vec::new(), Lsn(0));
        let (timeline, magic, cluster) = (TimelineId(timeline), 0xD110, CLUSTER);
        WalWriter { timeline, start, bytes, previous, magic, cluster }
    }

    /// Where the next byte goes, not counting a page header.
    pub fn position(&self) -> Lsn {
        Lsn(self.start.0 + self.bytes.len() as u64)
    }

    /// How many bytes are left in the segment, but for page headers that are not written yet.
    pub fn room(&self) -> usize {
        let size = usize::try_from(SEGMENT_SIZE.bytes()).unwrap();
        let rest = size - self.bytes.len() % size;
        let page_rest = BLOCK_SIZE - self.bytes.len() % BLOCK_SIZE;
        let (pages, first) = (rest / BLOCK_SIZE, rest == size);
        match page_rest == BLOCK_SIZE {
            true => rest - 24 * pages - if first { 16 } else { 0 },
            false => rest - 24 * pages,
        }
    }

    /// A copy of the log as it is now that goes on along another timeline, as
    /// after a promotion: it begins with the segment that is being written.
    pub fn fork(&self, timeline: u32) -> WalWriter {
        let size = SEGMENT_SIZE.bytes();
        let whole = (self.bytes.len() as u64 / size) * size;
        WalWriter {
            timeline: TimelineId(timeline),
            start: Lsn(self.start.0 + whole),
            bytes: self.bytes[usize::try_from(whole).unwrap()..].to_vec(),
            previous: self.previous,
            magic: self.magic,
            cluster: self.cluster,
        }
    }

    pub fn commit(&mut self, xid: u32, time: OffsetDateTime) -> Lsn {
        self.record(1, 0x00, xid, &main_data(&timestamp(time)))
    }

    pub fn abort(&mut self, xid: u32, time: OffsetDateTime) -> Lsn {
        self.record(1, 0x20, xid, &main_data(&timestamp(time)))
    }

    pub fn restore_point(&mut self, name: &str, time: OffsetDateTime) -> Lsn {
        let mut data = timestamp(time).to_vec();
        data.extend(name.as_bytes());
        data.resize(72, 0);
        self.record(0, 0x70, 0, &main_data(&data))
    }

    pub fn backup_end(&mut self, start: Lsn) -> Lsn {
        self.record(0, 0x50, 0, &main_data(&start.0.to_ne_bytes()))
    }

    /// A checkpoint with which replay begins at `redo`.
    pub fn checkpoint(&mut self, redo: Lsn) -> Lsn {
        let mut data = redo.0.to_ne_bytes().to_vec();
        data.extend([self.timeline.0, self.timeline.0].map(u32::to_ne_bytes).concat());
        data.resize(88, 0);
        self.record(0, 0x10, 0, &main_data(&data))
    }

    /// As initdb and pg_resetwal write it first.
    pub fn shutdown_checkpoint(&mut self) -> Lsn {
        self.record(0, 0x00, 0, &main_data(&[0; 88]))
    }

    /// The server is started with this `max_connections`, and with this `wal_level`.
    pub fn parameter_change(&mut self, max_connections: i32, wal_level: i32) -> Lsn {
        let numbers = [max_connections, 8, 10, 0, 64, wal_level];
        let mut data = numbers.map(i32::to_ne_bytes).concat();
        data.extend([0, 0]);
        self.record(0, 0x60, 0, &main_data(&data))
    }

    pub fn create_tablespace(&mut self, oid: u32, location: &str) -> Lsn {
        let data = [&oid.to_ne_bytes()[..], location.as_bytes(), &[0]].concat();
        self.record(5, 0x00, 0, &main_data(&data))
    }

    pub fn drop_tablespace(&mut self, oid: u32) -> Lsn {
        self.record(5, 0x10, 0, &main_data(&oid.to_ne_bytes()))
    }

    /// The WAL of a base backup: its checkpoint is the second record after `start`, and
    /// the record of its end ends at `stop`, which lies on the first page of a segment.
    pub fn of_backup(start: Lsn, stop: Lsn) -> Self {
        let mut log = WalWriter::new(1, start.0 / SEGMENT_SIZE.bytes());
        assert_eq!(log.noise(32), start);
        log.checkpoint(start);
        while log.position().0 / SEGMENT_SIZE.bytes() < stop.0 / SEGMENT_SIZE.bytes() {
            log.switch();
        }
        let next = log.position().0 + 40; // The header of the segment's first page.
        let filled = stop.0 - 40 - next;
        log.noise(usize::try_from(filled - 24).unwrap());
        log.backup_end(start);
        assert_eq!(log.position().0.next_multiple_of(8), stop.0);
        log.switch();
        log
    }

    /// A record of `bytes` bytes of data that says nothing.
    pub fn noise(&mut self, bytes: usize) -> Lsn {
        let data: Vec<u8> = (0..bytes).map(|n| ((n * 7) >> 3) as u8).collect();
        self.record(21, 0, 0, &data)
    }

    /// Ends the segment.
    pub fn switch(&mut self) -> Lsn {
        let lsn = self.record(0, 0x40, 0, &[]);
        let size = usize::try_from(SEGMENT_SIZE.bytes()).unwrap();
        while !self.bytes.len().is_multiple_of(size) {
            if self.bytes.len().is_multiple_of(BLOCK_SIZE) {
                self.page_header(0);
            }
            let rest = BLOCK_SIZE - self.bytes.len() % BLOCK_SIZE;
            self.bytes.resize(self.bytes.len() + rest % BLOCK_SIZE, 0);
        }
        lsn
    }

    /// The server dies within a record, and goes on in the next page.
    pub fn broken_record(&mut self) {
        self.die_in(|log| log.noise(3 * BLOCK_SIZE), 0);
    }

    /// The server dies within a record, so many pages after it began, and goes on in the next.
    pub fn die_in(&mut self, write: impl FnOnce(&mut Self) -> Lsn, pages: usize) {
        let before = (self.bytes.len(), self.previous);
        write(self);
        let page_end = before.0.next_multiple_of(BLOCK_SIZE) + pages * BLOCK_SIZE;
        assert!(page_end < self.bytes.len(), "the record is shorter");
        self.bytes.truncate(page_end);
        self.previous = before.1;
        self.page_header_with(0, 0x0008);
    }

    pub fn record(&mut self, rmgr: u8, info: u8, xid: u32, data: &[u8]) -> Lsn {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        if self.bytes.len().is_multiple_of(BLOCK_SIZE) {
            self.page_header(0);
        }
        let start = self.position();
        let mut record = Vec::new();
        record.extend((24 + data.len() as u32).to_ne_bytes());
        record.extend(xid.to_ne_bytes());
        record.extend(self.previous.0.to_ne_bytes());
        record.extend([info, rmgr, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(data), &record);
        record.extend(crc.to_ne_bytes());
        record.extend(data);
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(BLOCK_SIZE) {
                self.page_header(rest.len() as u32);
            }
            let room = BLOCK_SIZE - self.bytes.len() % BLOCK_SIZE;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend(now);
            rest = later;
        }
        self.previous = start;
        start
    }

    fn page_header(&mut self, rest: u32) {
        self.page_header_with(rest, u16::from(rest > 0));
    }

    fn page_header_with(&mut self, rest: u32, flags: u16) {
        let address = self.position();
        let first = address.0.is_multiple_of(SEGMENT_SIZE.bytes());
        let mut header = Vec::new();
        header.extend(self.magic.to_ne_bytes());
        header.extend((flags | if first { 2 } else { 0 }).to_ne_bytes());
        header.extend(self.timeline.0.to_ne_bytes());
        header.extend(address.0.to_ne_bytes());
        header.extend(rest.to_ne_bytes());
        header.extend([0; 4]);
        if first {
            header.extend(self.cluster.0.to_ne_bytes());
            header.extend((SEGMENT_SIZE.bytes() as u32).to_ne_bytes());
            header.extend((BLOCK_SIZE as u32).to_ne_bytes());
        }
        self.bytes.extend(header);
    }

    /// The segments so far: name and content, the last one filled with zeros.
    pub fn segments(&self) -> Vec<(String, Vec<u8>)> {
        let size = usize::try_from(SEGMENT_SIZE.bytes()).unwrap();
        let first = self.start.0 / SEGMENT_SIZE.bytes();
        let segments = self.bytes.chunks(size).zip(first..).map(|(chunk, number)| {
            let mut content = chunk.to_vec();
            content.resize(size, 0);
            let segment =
                super::WalSegment { timeline: self.timeline, number: SegmentNumber(number) };
            (segment.file_name(SEGMENT_SIZE), content)
        });
        segments.collect()
    }
}

fn main_data(data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).unwrap();
    [&[255, length], data].concat()
}

fn timestamp(time: OffsetDateTime) -> [u8; 8] {
    let since = time - time::macros::datetime!(2000-01-01 00:00:00 UTC);
    i64::try_from(since.whole_microseconds()).unwrap().to_ne_bytes()
}
