//! The page header at the beginning of a WAL segment: which cluster wrote it,
//! on which timeline, and where in the log it belongs.
//!
//! PostgreSQL 15, `src/include/access/xlog_internal.h`,
//! `XLogLongPageHeaderData`. Numbers are in the byte order of the machine.

use super::wal_record::{HEADER_BYTES, RecordHeader};
use super::{Lsn, SegmentSize, SystemIdentifier, TimelineId, WalFileName};
use crate::error::{Error, ErrorKind, Result};

/// `XLP_FIRST_IS_CONTRECORD`: a record goes on that has begun on the page before.
const CONTINUED: u16 = 0x0001;

/// `XLP_LONG_HEADER`: the header goes on with what only a segment's first page has.
const LONG_HEADER: u16 = 0x0002;

/// `XLOG_PAGE_MAGIC` of PostgreSQL 15 to 18, for messages.
const KNOWN_MAGICS: [(u16, u32); 4] = [(0xD110, 15), (0xD113, 16), (0xD116, 17), (0xD118, 18)];

/// The first halves of all magic numbers that PostgreSQL has ever used. The
/// second half counts up with the versions, so a later server is not refused.
const MAGIC_HIGH_BYTES: [u8; 2] = [0xD0, 0xD1];

/// The header of a segment's first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPageHeader {
    /// `xlp_magic`: marks WAL, and says which version wrote it.
    pub magic: u16,
    /// `xlp_info`: flags.
    pub flags: u16,
    /// `xlp_tli`: the timeline that the page was written on.
    pub timeline: TimelineId,
    /// `xlp_pageaddr`: where the page begins in the log.
    pub page_address: Lsn,
    /// `xlp_sysid`: the cluster.
    pub system_identifier: SystemIdentifier,
    /// `xlp_seg_size`, in bytes.
    pub segment_bytes: u32,
    /// `xlp_xlog_blcksz`, in bytes.
    pub block_bytes: u32,
}

impl WalPageHeader {
    /// How many bytes of a segment hold it.
    pub const LENGTH: usize = 40;

    /// Reads the header from the first bytes of a segment. `None` when there are
    /// fewer than [`LENGTH`](Self::LENGTH). What they say is not judged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; Self::LENGTH] = bytes.first_chunk()?;
        Some(WalPageHeader {
            magic: u16::from_ne_bytes(field(header, 0)),
            flags: u16::from_ne_bytes(field(header, 2)),
            timeline: TimelineId(u32::from_ne_bytes(field(header, 4))),
            page_address: Lsn(u64::from_ne_bytes(field(header, 8))),
            system_identifier: SystemIdentifier(u64::from_ne_bytes(field(header, 24))),
            segment_bytes: u32::from_ne_bytes(field(header, 32)),
            block_bytes: u32::from_ne_bytes(field(header, 36)),
        })
    }

    /// How many bytes [`begins_log`](Self::begins_log) looks at.
    pub const LENGTH_WITH_RECORD: usize = Self::LENGTH + HEADER_BYTES;

    /// Whether the segment of which these are the first bytes is the first of a log, as
    /// initdb and pg_resetwal begin one: what is before it does not lead to it.
    pub fn begins_log(bytes: &[u8]) -> bool {
        let page = Self::parse(bytes).filter(|page| page.flags & CONTINUED == 0);
        let record = bytes.get(Self::LENGTH..).and_then(|rest| rest.first_chunk());
        page.is_some() && record.is_some_and(|record| RecordHeader::parse(record).is_first_of_log())
    }

    /// Whether PostgreSQL has used, or may use, this magic number for WAL.
    pub(super) fn is_magic(magic: u16) -> bool {
        MAGIC_HIGH_BYTES.contains(&magic.to_be_bytes()[0])
    }

    /// Checks that a file of `file_bytes` bytes that begins with this header is
    /// the segment, whole or partial, that `name` says.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], with what was found and what should be there.
    pub fn check(&self, name: &WalFileName, file_bytes: u64) -> Result<()> {
        if !Self::is_magic(self.magic) {
            let known: Vec<String> = KNOWN_MAGICS
                .iter()
                .map(|(magic, version)| format!("0x{magic:04X} (PostgreSQL {version})"))
                .collect();
            return Err(misfit(
                name,
                format!(
                    "It begins with the magic number 0x{:04X}; WAL begins with one like {}.",
                    self.magic,
                    known.join(", ")
                ),
            ));
        }
        if self.flags & LONG_HEADER == 0 {
            return Err(misfit(
                name,
                format!(
                    "Its first page has the flags 0x{:04X}, without 0x{LONG_HEADER:04X}, which the first page of every segment has.",
                    self.flags
                ),
            ));
        }
        let size = SegmentSize::new(file_bytes)
            .filter(|size| size.bytes() == u64::from(self.segment_bytes))
            .ok_or_else(|| {
                misfit(
                    name,
                    format!(
                        "The file has {file_bytes} bytes, but its header says that segments have {} bytes.",
                        self.segment_bytes
                    ),
                )
            })?;
        let Some(number) = name.segment_number(size) else {
            return Err(misfit(
                name,
                format!("There is no segment of that name where segments have {file_bytes} bytes."),
            ));
        };
        let start = number.start_lsn(size);
        if self.page_address != start {
            return Err(misfit(
                name,
                format!(
                    "Its header says that it begins at LSN {}; a segment of that name begins at {start}.",
                    self.page_address
                ),
            ));
        }
        // The first segment of a timeline begins with pages of the one before.
        if self.timeline.0 == 0 || self.timeline > name.timeline() {
            return Err(misfit(
                name,
                format!(
                    "Its header says timeline {}; the name says timeline {}.",
                    self.timeline,
                    name.timeline()
                ),
            ));
        }
        if !self.block_bytes.is_power_of_two() {
            return Err(misfit(
                name,
                format!(
                    "Its header says that WAL blocks have {} bytes, which is not a power of two.",
                    self.block_bytes
                ),
            ));
        }
        Ok(())
    }

    /// Checks that the cluster `expected` wrote the segment `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], with both system identifiers.
    pub fn check_system_identifier(
        &self,
        name: &WalFileName,
        expected: SystemIdentifier,
    ) -> Result<()> {
        if self.system_identifier == expected {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!("WAL segment \"{name}\" belongs to another cluster"),
        )
        .with_detail(format!(
            "Its header says system identifier {}; this cluster has {expected}.",
            self.system_identifier
        ))
        .with_hint(
            "Find out how it came into \"pg_wal\", and move it and its mark in \"pg_wal/archive_status\" away.",
        ))
    }
}

/// The `N` bytes at `offset`, which is a constant of the header's form.
fn field<const N: usize>(header: &[u8; WalPageHeader::LENGTH], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[offset..offset + N]);
    bytes
}

fn misfit(name: &WalFileName, detail: String) -> Error {
    Error::new(ErrorKind::Corrupt, format!("file \"{name}\" is not the WAL segment of that name"))
        .with_detail(detail)
        .with_hint(
            "The file is damaged or was not written by this server. If base backups need it, take a new one; then move the file and its mark in \"pg_wal/archive_status\" away.",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

    fn sound() -> WalPageHeader {
        WalPageHeader {
            magic: 0xD110,
            flags: LONG_HEADER,
            timeline: TimelineId(2),
            page_address: Lsn(0x16_B300_0000),
            system_identifier: SystemIdentifier(7_000_000_000_000_000_001),
            segment_bytes: SEGMENT_BYTES as u32,
            block_bytes: 8192,
        }
    }

    fn name(text: &str) -> WalFileName {
        text.parse().unwrap()
    }

    fn segment() -> WalFileName {
        name("0000000200000016000000B3")
    }

    /// What is wrong with `header` as the segment's.
    fn complaint(header: WalPageHeader) -> String {
        let error = header.check(&segment(), SEGMENT_BYTES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("0000000200000016000000B3"), "{error}");
        assert!(error.hint().is_some());
        error.detail().unwrap().to_owned()
    }

    #[test]
    fn a_header_is_read_where_postgresql_writes_it() {
        let mut bytes = [0_u8; 48];
        bytes[0..2].copy_from_slice(&0xD110_u16.to_ne_bytes());
        bytes[2..4].copy_from_slice(&LONG_HEADER.to_ne_bytes());
        bytes[4..8].copy_from_slice(&2_u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&0x16_B300_0000_u64.to_ne_bytes());
        bytes[16..24].fill(0xFF); // remaining length and padding
        bytes[24..32].copy_from_slice(&7_000_000_000_000_000_001_u64.to_ne_bytes());
        bytes[32..36].copy_from_slice(&(SEGMENT_BYTES as u32).to_ne_bytes());
        bytes[36..40].copy_from_slice(&8192_u32.to_ne_bytes());
        assert_eq!(WalPageHeader::parse(&bytes), Some(sound()));
        assert_eq!(WalPageHeader::parse(&bytes[..40]), Some(sound()));
        assert_eq!(WalPageHeader::parse(&bytes[..39]), None);
    }

    #[test]
    fn a_segment_and_a_partial_segment_fit_their_names() {
        sound().check(&segment(), SEGMENT_BYTES).unwrap();
        sound().check(&name("0000000200000016000000B3.partial"), SEGMENT_BYTES).unwrap();
        // The first segment of timeline 9 begins with a page of timeline 2.
        sound().check(&name("0000000900000016000000B3"), SEGMENT_BYTES).unwrap();
    }

    #[test]
    fn segments_of_later_servers_fit() {
        for magic in [0xD110, 0xD113, 0xD116, 0xD118, 0xD1FF, 0xD07E] {
            WalPageHeader { magic, ..sound() }.check(&segment(), SEGMENT_BYTES).unwrap();
        }
    }

    #[test]
    fn what_does_not_fit_is_said_with_both_values() {
        for (header, found, wanted) in [
            (WalPageHeader { magic: 0, ..sound() }, "0x0000", "0xD118"),
            (WalPageHeader { magic: 0x10D1, ..sound() }, "0x10D1", "0xD110"),
            (WalPageHeader { flags: 1, ..sound() }, "0x0001", "0x0002"),
            (WalPageHeader { segment_bytes: 1 << 20, ..sound() }, "1048576", "16777216"),
            (
                WalPageHeader { page_address: Lsn(0x16_B200_0000), ..sound() },
                "16/B2000000",
                "16/B3000000",
            ),
            (WalPageHeader { timeline: TimelineId(3), ..sound() }, "timeline 3", "timeline 2"),
            (WalPageHeader { timeline: TimelineId(0), ..sound() }, "timeline 0", "timeline 2"),
            (WalPageHeader { block_bytes: 0, ..sound() }, "0 bytes", "power of two"),
        ] {
            let complaint = complaint(header);
            assert!(complaint.contains(found) && complaint.contains(wanted), "{complaint}");
        }
    }

    #[test]
    fn a_file_of_another_size_is_no_segment() {
        for bytes in [0, 40, 8192, SEGMENT_BYTES - 1, SEGMENT_BYTES * 2, 3 << 20] {
            assert!(sound().check(&segment(), bytes).is_err(), "{bytes}");
        }
    }

    #[test]
    fn a_name_that_no_segment_of_that_size_has_is_refused() {
        let header = WalPageHeader { segment_bytes: 1 << 30, ..sound() };
        let error = header.check(&segment(), 1 << 30).unwrap_err();
        assert!(error.detail().unwrap().contains("no segment of that name"), "{error:?}");
    }

    #[test]
    fn a_segment_of_another_cluster_is_told_by_both_identifiers() {
        sound().check_system_identifier(&segment(), sound().system_identifier).unwrap();
        let error = sound().check_system_identifier(&segment(), SystemIdentifier(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let detail = error.detail().unwrap();
        assert!(detail.contains("7000000000000000001") && detail.contains("has 5"), "{detail}");
    }
}
