//! The WAL of a busy server, made up: always the same bytes, for measurements.
//!
//! Pages have headers, and records their CRCs, so that a reader walks through all of it. A
//! record is the update of a row, as `pgbench` makes them, or now and then the image of a page,
//! and contains about as many bytes that cannot be guessed as real ones: LZ4 makes a quarter of
//! it.

/// The size of a segment, in bytes.
pub const SEGMENT_BYTES: usize = 16 << 20;

/// The cluster that writes.
pub const SYSTEM_IDENTIFIER: u64 = 7_300_000_000_000_000_007;

const PAGE_BYTES: usize = 8192;
const MAGIC: u16 = 0xD110;
const TIMELINE: u32 = 1;

/// Of a page header: it is the first of its segment, a record goes on in it.
const LONG_HEADER: u16 = 0x0002;
const CONTINUES: u16 = 0x0001;

/// The resource manager of tables (`RM_HEAP_ID`).
const HEAP: u8 = 10;

/// So many updates come before the image of a page.
const UPDATES_PER_IMAGE: u64 = 60;

/// The first segments that a cluster writes, and their names.
pub fn segments(count: usize) -> Vec<(String, Vec<u8>)> {
    let mut log = Log::begin();
    let mut number = 0;
    while log.bytes.len() <= count * SEGMENT_BYTES {
        let data = if number % UPDATES_PER_IMAGE == 0 { log.image() } else { log.update(number) };
        log.record(&data);
        number += 1;
    }
    let name = |number: usize| format!("{TIMELINE:08X}{:08X}{number:08X}", 0);
    log.bytes
        .chunks_exact(SEGMENT_BYTES)
        .take(count)
        .zip(1..)
        .map(|(bytes, number)| (name(number), bytes.to_vec()))
        .collect()
}

/// A log that begins with segment 1.
struct Log {
    bytes: Vec<u8>,
    previous: u64,
    random: u64,
}

impl Log {
    fn begin() -> Self {
        Log { bytes: Vec::new(), previous: 0, random: 0x9E37_79B9_7F4A_7C15 }
    }

    /// Where the next byte goes.
    fn position(&self) -> u64 {
        (SEGMENT_BYTES + self.bytes.len()) as u64
    }

    /// The next number of Marsaglia's xorshift.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// A row with its number, an amount, a time, and the blanks of a column that nobody fills.
    fn row(&mut self, number: u64) -> Vec<u8> {
        let mut row = vec![0x02, 0x09, 0x18, 0x00];
        row.extend(u32::try_from(number % 100_000).expect("it is small").to_le_bytes());
        row.extend(u16::try_from(number % 10).expect("it is small").to_le_bytes());
        row.extend(&self.random().to_le_bytes()[..6]);
        row.push(0xAB);
        row.extend(&self.random().to_le_bytes()[..3]);
        row.extend([b' '; 80]);
        row
    }

    /// What the record of an update says, with the block that it changes.
    fn update(&mut self, number: u64) -> Vec<u8> {
        let block = u32::try_from(self.random() % 50_000).expect("it is small");
        let row = self.row(number);
        let mut data = vec![0, 0x20];
        data.extend(u16::try_from(row.len()).expect("a row is short").to_le_bytes());
        data.extend([1663_u32, 5, 16_384, block].map(u32::to_le_bytes).concat());
        data.extend([255, 14]);
        data.extend(row);
        let offset = u16::try_from(self.random() % 60).expect("it is small");
        data.extend([&[0; 8], &offset.to_le_bytes()[..], &[0x20, 0, 0, 0]].concat());
        data
    }

    /// What a record says that has a whole page.
    fn image(&mut self) -> Vec<u8> {
        let mut page = Vec::new();
        while page.len() < PAGE_BYTES {
            let number = self.random();
            page.extend(self.row(number));
        }
        let length = u32::try_from(page.len()).expect("a page is short");
        [&[254], &length.to_le_bytes()[..], &page].concat()
    }

    fn record(&mut self, data: &[u8]) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        if self.bytes.len().is_multiple_of(PAGE_BYTES) {
            self.page_header(0);
        }
        let start = self.position();
        let xid = u32::try_from(start >> 10).expect("the log is short");
        let length = u32::try_from(24 + data.len()).expect("a record is short");
        let mut record = [length, xid].map(u32::to_le_bytes).concat();
        record.extend(self.previous.to_le_bytes());
        record.extend([0x20, HEAP, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(data), &record);
        record.extend(crc.to_le_bytes());
        record.extend(data);
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(PAGE_BYTES) {
                self.page_header(rest.len());
            }
            let room = PAGE_BYTES - self.bytes.len() % PAGE_BYTES;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend(now);
            rest = later;
        }
        self.previous = start;
    }

    fn page_header(&mut self, rest: usize) {
        let address = self.position();
        let is_first = self.bytes.len().is_multiple_of(SEGMENT_BYTES);
        let flags = if is_first { LONG_HEADER } else { 0 } | if rest > 0 { CONTINUES } else { 0 };
        self.bytes.extend([MAGIC, flags].map(u16::to_le_bytes).concat());
        self.bytes.extend(TIMELINE.to_le_bytes());
        self.bytes.extend(address.to_le_bytes());
        self.bytes.extend(u32::try_from(rest).expect("a record is short").to_le_bytes());
        self.bytes.extend([0; 4]);
        if is_first {
            self.bytes.extend(SYSTEM_IDENTIFIER.to_le_bytes());
            self.bytes.extend((SEGMENT_BYTES as u32).to_le_bytes());
            self.bytes.extend((PAGE_BYTES as u32).to_le_bytes());
        }
    }
}
