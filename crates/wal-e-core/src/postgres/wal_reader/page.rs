//! The headers of the pages that the records stand in.

use std::mem;

use super::{State, WalEnd, WalReader, full};
use crate::postgres::wal_page::WalPageHeader;
use crate::postgres::{Lsn, SystemIdentifier, TimelineId};

/// `SizeOfXLogShortPHD`, `SizeOfXLogLongPHD`.
const SHORT_HEADER_BYTES: usize = 24;
const LONG_HEADER_BYTES: usize = 40;

/// Flags of a page header.
const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;

impl WalReader {
    /// Takes what of `bytes` belongs to the header of the page, and checks it once it is whole.
    pub(super) fn take_page_header(&mut self, bytes: &[u8]) -> Result<usize, WalEnd> {
        let have = self.page_header.len();
        let flags = self.page_header.get(2..4).map_or(0, |bytes| half(bytes, 0));
        let long = have >= SHORT_HEADER_BYTES && flags & LONG_HEADER != 0;
        let wanted = if long { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
        let taken = bytes.len().min(wanted - have);
        self.page_header.extend_from_slice(&bytes[..taken]);
        if self.page_header.len() == wanted {
            let flags = half(&self.page_header, 2);
            if long || flags & LONG_HEADER == 0 {
                let header = mem::take(&mut self.page_header);
                let page = Lsn(self.position.0.saturating_sub(have as u64));
                self.begin_page(page, flags, &header)?;
            }
        }
        Ok(taken)
    }

    /// Checks a page header, and finds out how the page continues.
    fn begin_page(&mut self, page: Lsn, flags: u16, header: &[u8]) -> Result<(), WalEnd> {
        let invalid = |reason: String| WalEnd { lsn: page, reason, begins_anew: false };
        let magic = half(header, 0);
        if !WalPageHeader::is_magic(magic) {
            return Err(invalid(format!("a page begins with 0x{magic:04X}, which is not WAL")));
        }
        let mut address = [0; 8];
        address.copy_from_slice(&header[8..16]);
        let address = Lsn(u64::from_ne_bytes(address));
        if address != page {
            return Err(invalid(format!("a page says that it is the one of LSN {address}")));
        }
        let first = page.0.is_multiple_of(self.segment_size.bytes());
        if first != (flags & LONG_HEADER != 0) {
            return Err(invalid(format!("a page has the flags 0x{flags:04X}")));
        }
        if first {
            let (segment, block) = (full(header, 32), full(header, 36));
            if u64::from(segment) != self.segment_size.bytes() {
                return Err(invalid(format!("a page says that segments have {segment} bytes")));
            }
            if !block.is_power_of_two() || !(1024..=65536).contains(&block) {
                return Err(invalid(format!("a page says that pages have {block} bytes")));
            }
            self.page_bytes = u64::from(block);
            let mut cluster = [0; 8];
            cluster.copy_from_slice(&header[24..32]);
            let cluster = SystemIdentifier(u64::from_ne_bytes(cluster));
            let expected = *self.system_identifier.get_or_insert(cluster);
            if cluster != expected {
                return Err(invalid(format!(
                    "a page is of the cluster with system identifier {cluster}, not {expected}"
                )));
            }
        }
        let timeline = TimelineId(full(header, 4));
        if timeline < self.timeline {
            return Err(invalid(format!(
                "a page of timeline {timeline} follows one of timeline {}",
                self.timeline
            )));
        }
        self.timeline = timeline;
        self.magic = magic;
        let rest = u64::from(full(header, 16));
        let continued = flags & FIRST_IS_CONTRECORD != 0;
        match &self.state {
            State::Record(_) if flags & FIRST_IS_OVERWRITE_CONTRECORD != 0 => {
                // The server died while it wrote the record, and went on without: what
                // comes follows the record before.
                self.state = State::Between;
            }
            State::Record(partial) => {
                // Where the total is not known, the header itself is cut: not even
                // its first word can be, because records are aligned.
                let expected = partial.total.map(|total| total - partial.bytes);
                if !continued || expected != Some(rest) {
                    return Err(self.end("the record does not continue on the next page"));
                }
            }
            State::Before(_) => {}
            // Only before the first record: the rest of one that began earlier.
            State::Foreign(left) if continued && (*left == 0 || *left == rest) => {
                self.state = State::Foreign(rest);
            }
            State::Foreign(left) if *left > 0 && flags & FIRST_IS_OVERWRITE_CONTRECORD == 0 => {
                return Err(invalid(
                    "the previous record does not continue on this page".to_owned(),
                ));
            }
            State::Foreign(_) => self.state = State::Between,
            State::Between if continued => {
                return Err(invalid("a page continues a record that did not begin".to_owned()));
            }
            State::Between | State::Skipping => {}
        }
        Ok(())
    }
}

/// The two bytes at `at`, which lies in `bytes`.
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}
