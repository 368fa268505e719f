//! `global/pg_control`, as far as it says what it is and whether it is sound.
//!
//! `src/include/catalog/pg_control.h`, `ControlFileData`. The struct differs
//! between versions, but its beginning does not, its last field is the CRC-32C of
//! all before it, and the sizes of blocks and segments follow a number that is
//! always the same. Numbers are in the byte order of the machine.
//!
//! A file that ends with its own CRC always has the same CRC-32C, with any content:
//! a backup manifest cannot show that one sound control file was replaced by another.

use super::{Lsn, RequiredSettings, SegmentSize, SystemIdentifier};
use crate::error::{Error, ErrorKind, Result};

/// The size of the file in bytes (`PG_CONTROL_FILE_SIZE`).
const FILE_BYTES: usize = 8192;

/// The struct is smaller than this (`PG_CONTROL_MAX_SAFE_SIZE`), so that it is
/// written in one piece.
const LARGEST_STRUCT_BYTES: usize = 512;

/// No version's struct was smaller than this: it holds a checkpoint.
const SMALLEST_STRUCT_BYTES: usize = 128;

/// Where `catalog_version_no` is, after identifier and `pg_control_version`.
const CATALOG_VERSION: usize = 12;

/// Where `checkPoint` is, after identifier, versions, state and time.
const CHECKPOINT: usize = 32;

/// Where `checkPointCopy.redo` is.
const REDO: usize = 40;

/// `FLOATFORMAT_VALUE`, which shows how the machine stores numbers.
const FLOAT_FORMAT: f64 = 1_234_567.0;

/// From there to `xlog_seg_size`: itself, `blcksz`, `relseg_size`, `xlog_blcksz`.
const FLOAT_FORMAT_TO_SEGMENT_SIZE: usize = 8 + 3 * 4;

/// From there to `blcksz`, which `relseg_size` follows.
const FLOAT_FORMAT_TO_BLOCK_SIZE: usize = 8;

/// From there to `data_checksum_version`: eight sizes and `float8ByVal` lie between.
const FLOAT_FORMAT_TO_CHECKSUM_VERSION: usize = 8 + 8 * 4 + 4;

/// Back from there to `MaxConnections`: `max_worker_processes`, `max_wal_senders`,
/// `max_prepared_xacts`, `max_locks_per_xact`, `track_commit_timestamp` and `maxAlign`
/// lie between, in PostgreSQL 12 and later.
const MAX_CONNECTIONS_TO_FLOAT_FORMAT: usize = 7 * 4;

/// A control file whose CRC is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlFile {
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// `pg_control_version`: the layout of the file.
    pub layout_version: u32,
    /// `catalog_version_no`, which is in the name of a tablespace's directory.
    pub catalog_version: u32,
    /// `checkPoint`: the record of the last checkpoint.
    pub checkpoint_lsn: Lsn,
    /// `checkPointCopy.redo`: where replay after it begins.
    pub redo_lsn: Lsn,
    /// Size of the cluster's WAL segments, when it could be made out.
    pub segment_size: Option<SegmentSize>,
    /// What a server that recovers must at least be set to, when it could be made out.
    pub required_settings: Option<RequiredSettings>,
    /// How pages are laid out, when it could be made out.
    pub pages: Option<PageLayout>,
}

/// How a cluster lays out its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLayout {
    /// `blcksz`: the size of a page in bytes.
    pub page_bytes: u32,
    /// `relseg_size`: how many pages a file of a relation has at most.
    pub pages_of_file: u32,
    /// `data_checksum_version`: whether pages carry checksums.
    pub checksums: bool,
}

impl ControlFile {
    /// Reads a control file.
    ///
    /// The place of the CRC is found by trying: that a damaged file passes is as
    /// unlikely as with a CRC of 25 bits.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for another size than a control file has, and when no
    /// field of it is the CRC of what is before it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| {
            Error::new(ErrorKind::Corrupt, format!("\"global/pg_control\" is damaged: {what}"))
        };
        if bytes.len() != FILE_BYTES {
            return Err(damaged(format!("it has {} bytes, not {FILE_BYTES}", bytes.len())));
        }
        let content = covered(bytes)
            .ok_or_else(|| damaged("its CRC does not match its content".to_owned()))?;
        let system_identifier = number(content, 0).map(u64::from_ne_bytes);
        let layout_version = number(content, 8).map(u32::from_ne_bytes);
        let catalog_version = number(content, CATALOG_VERSION).map(u32::from_ne_bytes);
        let checkpoint = number(content, CHECKPOINT).map(u64::from_ne_bytes);
        let redo = number(content, REDO).map(u64::from_ne_bytes);
        let (
            Some(system_identifier),
            Some(layout_version),
            Some(catalog_version),
            Some(checkpoint),
            Some(redo),
        ) = (system_identifier, layout_version, catalog_version, checkpoint, redo)
        else {
            return Err(damaged("it is too short".to_owned()));
        };
        Ok(ControlFile {
            system_identifier: SystemIdentifier(system_identifier),
            layout_version,
            catalog_version,
            checkpoint_lsn: Lsn(checkpoint),
            redo_lsn: Lsn(redo),
            segment_size: segment_size(content),
            required_settings: required_settings(content),
            pages: page_layout(content),
        })
    }
}

/// What the CRC covers, if it fits.
fn covered(bytes: &[u8]) -> Option<&[u8]> {
    let mut crc = crc32c::crc32c(bytes.get(..SMALLEST_STRUCT_BYTES)?);
    for end in (SMALLEST_STRUCT_BYTES..LARGEST_STRUCT_BYTES).step_by(4) {
        let field: [u8; 4] = number(bytes, end)?;
        if u32::from_ne_bytes(field) == crc {
            return bytes.get(..end);
        }
        crc = crc32c::crc32c_append(crc, &field);
    }
    None
}

fn float_format(content: &[u8]) -> Option<usize> {
    let mark = FLOAT_FORMAT.to_ne_bytes();
    let (words, _) = content.as_chunks::<8>();
    words.iter().position(|word| *word == mark)?.checked_mul(8)
}

fn segment_size(content: &[u8]) -> Option<SegmentSize> {
    let at = float_format(content)?.checked_add(FLOAT_FORMAT_TO_SEGMENT_SIZE)?;
    SegmentSize::new(u64::from(u32::from_ne_bytes(number(content, at)?)))
}

fn required_settings(content: &[u8]) -> Option<RequiredSettings> {
    let first = float_format(content)?.checked_sub(MAX_CONNECTIONS_TO_FLOAT_FORMAT)?;
    let field = |index: usize| {
        let value = i32::from_ne_bytes(number(content, first.checked_add(index * 4)?)?);
        // `MAX_BACKENDS` and the other limits are below this; more is another layout.
        u32::try_from(value).ok().filter(|value| *value < 1 << 30)
    };
    Some(RequiredSettings {
        max_connections: field(0)?,
        max_worker_processes: field(1)?,
        max_wal_senders: field(2)?,
        max_prepared_transactions: field(3)?,
        max_locks_per_transaction: field(4)?,
    })
}

fn page_layout(content: &[u8]) -> Option<PageLayout> {
    let mark = float_format(content)?;
    let field = |offset: usize| number(content, mark.checked_add(offset)?).map(u32::from_ne_bytes);
    Some(PageLayout {
        page_bytes: field(FLOAT_FORMAT_TO_BLOCK_SIZE)?,
        pages_of_file: field(FLOAT_FORMAT_TO_BLOCK_SIZE + 4)?,
        checksums: field(FLOAT_FORMAT_TO_CHECKSUM_VERSION)? != 0,
    })
}

/// The `N` bytes at `offset`.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// A control file in PostgreSQL 15's layout, for tests.
#[cfg(test)]
pub fn sample(system_identifier: SystemIdentifier, segment_bytes: u32, checkpoint: Lsn) -> Vec<u8> {
    let mut bytes = vec![0; FILE_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &system_identifier.0.to_ne_bytes());
    put(8, &1300_u32.to_ne_bytes());
    put(16, &6_u32.to_ne_bytes());
    put(CHECKPOINT, &checkpoint.0.to_ne_bytes());
    put(208, &FLOAT_FORMAT.to_ne_bytes());
    put(208 + FLOAT_FORMAT_TO_SEGMENT_SIZE, &segment_bytes.to_ne_bytes());
    put(208 + FLOAT_FORMAT_TO_BLOCK_SIZE, &8192_u32.to_ne_bytes());
    put(208 + FLOAT_FORMAT_TO_BLOCK_SIZE + 4, &131_072_u32.to_ne_bytes());
    put(208 + FLOAT_FORMAT_TO_CHECKSUM_VERSION, &1_u32.to_ne_bytes());
    let crc = crc32c::crc32c(&bytes[..288]);
    bytes[288..292].copy_from_slice(&crc.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: SystemIdentifier = SystemIdentifier(7_300_000_000_000_000_007);

    #[test]
    fn a_sound_control_file_tells_cluster_and_segment_size() {
        let control = ControlFile::parse(&sample(CLUSTER, 64 << 20, Lsn(9))).unwrap();
        assert_eq!(control.system_identifier, CLUSTER);
        assert_eq!((control.layout_version, control.checkpoint_lsn), (1300, Lsn(9)));
        assert_eq!(control.segment_size, SegmentSize::new(64 << 20));
        let layout = PageLayout { page_bytes: 8192, pages_of_file: 131_072, checksums: true };
        assert_eq!(control.pages, Some(layout));
        let odd = ControlFile::parse(&sample(CLUSTER, 3, Lsn(9))).unwrap();
        assert_eq!(odd.segment_size, None);
    }

    #[test]
    fn it_tells_what_a_server_that_recovers_needs() {
        let mut bytes = sample(CLUSTER, 16 << 20, Lsn(9));
        for (index, value) in [300_u32, 8, 10, 2, 64].into_iter().enumerate() {
            bytes[180 + index * 4..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..288]);
        bytes[288..292].copy_from_slice(&crc.to_ne_bytes());
        let required = ControlFile::parse(&bytes).unwrap().required_settings.unwrap();
        assert_eq!(required.named().map(|(_, value)| value), [300, 8, 10, 2, 64]);
    }

    #[test]
    fn every_changed_byte_up_to_the_crc_is_noticed() {
        let whole = sample(CLUSTER, 16 << 20, Lsn(9));
        for position in 0..292 {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x10;
            let error = ControlFile::parse(&damaged).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {position}");
        }
        for length in [0, 292, 512, 8191, 8193] {
            let mut other = whole.clone();
            other.resize(length, 0);
            assert!(ControlFile::parse(&other).is_err(), "{length}");
        }
        assert!(ControlFile::parse(&[0; FILE_BYTES]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(beginning in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = beginning;
            let _ = ControlFile::parse(&bytes);
            bytes.resize(FILE_BYTES, 0);
            let _ = ControlFile::parse(&bytes);
        }
    }
}
