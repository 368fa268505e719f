//! The WAL record of `CREATE TABLESPACE`, byte by byte: where it says the directory, and
//! the same record without it.
//!
//! PostgreSQL 15 to 18, `src/include/commands/tablespace.h` (`xl_tblspc_create_rec`) and
//! `src/backend/commands/tablespace.c` (`tblspc_redo`, `create_tablespace_directories`).
//! Replay of a record whose directory is empty makes `pg_tblspc/OID` a directory, and
//! leaves what is there already, even a link: this is how a tablespace is kept away
//! from the directory that the record names, without a change of the record's length.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::wal_record::{
    HEADER_BYTES, RMGR_TABLESPACE, RecordHeader, XLOG_TABLESPACE_CREATE, main_data,
};
use super::{Lsn, SegmentSize};

/// More than any of these records has: a path has up to 1024 bytes (`MAXPGPATH`).
pub const LARGEST_BYTES: usize = 2048;

/// `SizeOfXLogShortPHD`: of a page's header.
pub const SHORT_HEADER_BYTES: usize = 24;
/// `SizeOfXLogLongPHD`: of that of a segment's first page.
pub const LONG_HEADER_BYTES: usize = 40;

/// Where the checksum is in a record.
const CRC: Range<usize> = 20..24;

/// A record of `CREATE TABLESPACE`, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceRecord {
    bytes: Vec<u8>,
    /// The tablespace.
    pub oid: u32,
    /// Where the directory is said, with the zero after it.
    path: Range<usize>,
}

impl TablespaceRecord {
    /// The record in `bytes`; `None` when they are not one, all of it. Its checksum is
    /// for [`is_sound`](Self::is_sound) to look at.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        let header = RecordHeader::parse(bytes.first_chunk::<HEADER_BYTES>()?);
        let is_create =
            header.rmgr == RMGR_TABLESPACE && header.info & 0xF0 == XLOG_TABLESPACE_CREATE;
        if !is_create || usize::try_from(header.total_bytes) != Ok(bytes.len()) {
            return None;
        }
        let data = main_data(bytes.get(HEADER_BYTES..)?)?;
        let (oid, path) = data.split_first_chunk()?;
        // At least the zero at its end.
        path.last()?;
        let (oid, path) = (u32::from_ne_bytes(*oid), bytes.len() - path.len()..bytes.len());
        Some(TablespaceRecord { bytes, oid, path })
    }

    /// Whether a record that begins with these bytes can be one of these, as far as they
    /// show.
    pub fn may_begin_with(bytes: &[u8]) -> bool {
        let whole = bytes.first_chunk::<HEADER_BYTES>().map(RecordHeader::parse);
        whole.is_none_or(|header| {
            header.rmgr == RMGR_TABLESPACE
                && header.info & 0xF0 == XLOG_TABLESPACE_CREATE
                && usize::try_from(header.total_bytes).is_ok_and(|total| total <= LARGEST_BYTES)
        })
    }

    /// Whether the checksum is right.
    pub fn is_sound(&self) -> bool {
        self.bytes[CRC] == checksum(&self.bytes)
    }

    /// The directory that it names; empty for a tablespace in the data directory.
    pub fn location(&self) -> &Path {
        let path = &self.bytes[self.path.clone()];
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        Path::new(OsStr::from_bytes(&path[..end]))
    }

    /// The record without the directory, of the same length.
    #[must_use]
    pub fn without_location(&self) -> Self {
        let mut emptied = self.clone();
        emptied.clear_path_from(0);
        let crc = checksum(&emptied.bytes);
        emptied.bytes[CRC].copy_from_slice(&crc);
        emptied
    }

    /// The record with the part of its directory taken out that stands at or after
    /// `offset`, and with the checksum that it has.
    #[must_use]
    pub fn without_location_from(&self, offset: usize) -> Self {
        let mut emptied = self.clone();
        emptied.clear_path_from(offset);
        emptied
    }

    fn clear_path_from(&mut self, offset: usize) {
        let path = self.path.start.max(offset).min(self.path.end)..self.path.end;
        self.bytes[path].fill(0);
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Over the data first, then the header up to the checksum.
fn checksum(record: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c(&record[HEADER_BYTES..]);
    crc32c::crc32c_append(crc, &record[..CRC.start]).to_ne_bytes()
}

/// A piece of the log as it lies in files, page headers included.
#[derive(Debug, Clone)]
pub struct WalPiece {
    /// Where it begins; not within a page header.
    pub start: Lsn,
    /// What is there.
    pub bytes: Vec<u8>,
    /// The size of segments.
    pub segment_size: SegmentSize,
    /// The size of pages.
    pub page_bytes: u64,
}

impl WalPiece {
    /// Where in [`bytes`](Self::bytes) what the record at `start` consists of lies, its
    /// first `length` bytes or as many as there are: page headers are passed over.
    pub fn places(&self, start: Lsn, length: usize) -> Vec<usize> {
        let mut places = Vec::with_capacity(length);
        let mut at = start.0;
        while places.len() < length {
            if at.is_multiple_of(self.page_bytes) {
                let first = at.is_multiple_of(self.segment_size.bytes());
                let header = if first { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
                at += header as u64;
            }
            let place = at.checked_sub(self.start.0).and_then(|at| usize::try_from(at).ok());
            let Some(place) = place.filter(|place| *place < self.bytes.len()) else { break };
            places.push(place);
            at += 1;
        }
        places
    }

    /// Whether `lsn` lies in the header of a page.
    pub fn is_in_page_header(&self, lsn: Lsn) -> bool {
        let first = lsn.0 % self.segment_size.bytes() < self.page_bytes;
        let header = if first { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
        lsn.0 % self.page_bytes < header as u64
    }

    /// The bytes at `places`.
    pub fn at(&self, places: &[usize]) -> Vec<u8> {
        places.iter().map(|place| self.bytes[*place]).collect()
    }

    /// How long the record at `start` says that it is.
    pub fn record_bytes(&self, start: Lsn) -> Option<usize> {
        let first = self.at(&self.places(start, 4));
        let total = first.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))?;
        usize::try_from(total).ok()
    }
}
