//! What one record changes, by its headers.
//!
//! `DecodeXLogRecord` of xlogreader.c, `src/include/access/xlogrecord.h`, which are the same
//! from PostgreSQL 15 to 18; `src/include/catalog/storage_xlog.h`,
//! `src/include/commands/dbcommands_xlog.h`, `src/include/access/xact.h`,
//! `src/include/catalog/pg_control.h`.

use super::{BlockSink, HEAD_BYTES, MAGIC_17};
use crate::postgres::wal_record::{
    DATA_LONG, DATA_SHORT, HAS_DBINFO, HAS_RELATIONS, HAS_SUBXACTS, HEADER_BYTES, ORIGIN,
    RMGR_XACT, RMGR_XLOG, TOPLEVEL_XID, XACT_ABORT, XACT_ABORT_PREPARED, XACT_COMMIT,
    XACT_COMMIT_PREPARED, XACT_HAS_INFO, XACT_OPERATIONS,
};
use crate::postgres::{BLOCK_SIZE, Lsn, RelationId};

/// How much of one record is read: a commit that drops more than a million relations has more.
pub const MOST_KEPT_BYTES: usize = 16 << 20;

/// `xl_info`: the record changes files of relations in other ways than its references say.
const SPECIAL_REL_UPDATE: u8 = 0x01;

/// More resource managers: `src/include/access/rmgrlist.h`.
const RMGR_SMGR: u8 = 2;
const RMGR_DBASE: u8 = 4;
const LAST_RMGR: u8 = 21;
/// `RM_MIN_CUSTOM_ID`: those of extensions. They have to refer to blocks as all do.
const FIRST_CUSTOM_RMGR: u8 = 128;

/// The highest id of a reference to a block.
const LAST_BLOCK: u8 = 32;

/// `fork_flags`.
const FORK: u8 = 0x0F;
const MAIN_FORK: u8 = 0;
const LAST_FORK: u8 = 3;
const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const SAME_RELATION: u8 = 0x80;

/// `bimg_info`.
const HAS_HOLE: u8 = 0x01;
const COMPRESSED: u8 = 0x04 | 0x08 | 0x10;
const KNOWN_IMAGE_FLAGS: u8 = 0x1F;

/// `xl_info` of `RM_XLOG_ID`.
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
const CHECKPOINT_ONLINE: u8 = 0x10;
const SWITCH: u8 = 0x40;
const PARAMETER_CHANGE: u8 = 0x60;
const END_OF_RECOVERY: u8 = 0x90;
const CHECKPOINT_REDO: u8 = 0xE0;

/// More of `xl_info` of `RM_XACT_ID`.
const XACT_PREPARE: u8 = 0x10;
const XACT_ASSIGNMENT: u8 = 0x50;
const XACT_INVALIDATIONS: u8 = 0x60;

/// `xl_info` of `RM_SMGR_ID`.
const SMGR_CREATE: u8 = 0x10;
const SMGR_TRUNCATE: u8 = 0x20;
/// `SMGR_TRUNCATE_HEAP`: of the main fork.
const TRUNCATES_MAIN_FORK: u32 = 1;

/// `xl_info` of `RM_DBASE_ID`.
const CREATE_FILE_COPY: u8 = 0x00;
const CREATE_WAL_LOG: u8 = 0x10;
const DROP: u8 = 0x20;

/// `WAL_LEVEL_MINIMAL`.
const MINIMAL: u32 = 0;

/// Bytes of a relation's three numbers.
const RELATION_BYTES: usize = 12;

/// Whether a record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// All that it changes was said.
    Done,
    /// For that, this many of its bytes have to be there.
    Needs(usize),
}

/// Why reading stops.
enum Stop {
    Needs(usize),
    Invalid(&'static str),
}

const SHORT: Stop = Stop::Invalid("a record is shorter than its headers say");

/// Whether the rest of the segment is empty after a record with this header.
pub(super) fn is_switch(record: &[u8]) -> bool {
    record.len() >= HEADER_BYTES && record[17] == RMGR_XLOG && record[16] & 0xF0 == SWITCH
}

/// Which record a record with this header, which is there, names as the one before it.
#[inline(always)]
pub(super) fn previous(header: &[u8]) -> Lsn {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[8..16]);
    Lsn(u64::from_ne_bytes(bytes))
}

/// Says to `sink` what a record of `total` bytes changes, of which `record` is there: at least
/// its header, and the first [`HEAD_BYTES`] if it has as many.
pub(super) fn read<S: BlockSink>(
    record: &[u8],
    total: usize,
    magic: u16,
    sink: &mut S,
) -> Result<Reading, &'static str> {
    match references(record, total, sink).and_then(|main| special(&main, magic, sink)) {
        Ok(()) => Ok(Reading::Done),
        Err(Stop::Needs(bytes)) if bytes <= MOST_KEPT_BYTES => Ok(Reading::Needs(bytes)),
        Err(Stop::Needs(_)) => Err("a record is too long to be read"),
        Err(Stop::Invalid(reason)) => Err(reason),
    }
}

/// The data of a record that is not of a block.
struct MainData<'a> {
    record: &'a [u8],
    /// Where it begins in the record.
    begin: usize,
    length: usize,
}

impl<'a> MainData<'a> {
    /// `length` bytes at `at`.
    fn bytes(&self, at: usize, length: usize) -> Result<&'a [u8], Stop> {
        let end = at.checked_add(length).filter(|end| *end <= self.length).ok_or(SHORT)?;
        let (begin, end) = (self.begin + at, self.begin + end);
        self.record.get(begin..end).ok_or(Stop::Needs(end))
    }

    fn word(&self, at: usize) -> Result<u32, Stop> {
        Ok(word(self.bytes(at, 4)?))
    }

    fn relation(&self, at: usize) -> Result<RelationId, Stop> {
        Ok(relation(self.bytes(at, RELATION_BYTES)?))
    }
}

/// Goes through the headers, and finds the main data.
#[inline]
fn references<'a, S: BlockSink>(
    record: &'a [u8],
    total: usize,
    sink: &mut S,
) -> Result<MainData<'a>, Stop> {
    let short = || match record.len() {
        length if length >= total => SHORT,
        length if length >= HEAD_BYTES => Stop::Invalid("the headers of a record are too long"),
        _ => Stop::Needs(HEAD_BYTES.min(total)),
    };
    let mut rest = record.get(HEADER_BYTES..).ok_or(SHORT)?;
    let headers = |rest: &[u8]| record.len() - rest.len();
    // How many bytes of data the headers announce, and of them, the main data.
    let (mut data, mut length) = (0, 0);
    let mut same = None;
    let mut next_block = 0;
    while total - headers(rest) > data {
        let (&id, after) = rest.split_first().ok_or_else(short)?;
        rest = after;
        if id <= LAST_BLOCK {
            if id < next_block {
                return Err(Stop::Invalid("the blocks of a record are out of order"));
            }
            next_block = id + 1;
            let (&[flags, low, high], after) = rest.split_first_chunk().ok_or_else(short)?;
            rest = after;
            let block_data = u16::from_ne_bytes([low, high]);
            if (flags & HAS_DATA != 0) != (block_data > 0) || flags & FORK > LAST_FORK {
                return Err(Stop::Invalid("the header of a block is invalid"));
            }
            data += usize::from(block_data);
            if flags & HAS_IMAGE != 0 {
                let (image, after) = rest.split_first_chunk().ok_or_else(short)?;
                rest = after;
                let (length, has_hole_length) = image_header(image)?;
                data += length;
                if has_hole_length {
                    let (hole, after) = rest.split_first_chunk::<2>().ok_or_else(short)?;
                    rest = after;
                    if *hole == [0, 0] {
                        return Err(Stop::Invalid("the header of an image is invalid"));
                    }
                }
            }
            if flags & SAME_RELATION == 0 {
                let (numbers, after) =
                    rest.split_first_chunk::<RELATION_BYTES>().ok_or_else(short)?;
                rest = after;
                same = Some(relation(numbers));
            }
            let Some(relation) = &same else {
                return Err(Stop::Invalid("a block is said to be of the relation before"));
            };
            let (number, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            rest = after;
            let block = u32::from_ne_bytes(*number);
            if block == u32::MAX {
                return Err(Stop::Invalid("there is no block of such a number"));
            }
            if flags & FORK == MAIN_FORK {
                sink.block(relation, block);
            }
            continue;
        }
        let skipped = match id {
            DATA_SHORT => {
                let (&bytes, after) = rest.split_first().ok_or_else(short)?;
                (rest, length) = (after, usize::from(bytes));
                data += length;
                break;
            }
            DATA_LONG => {
                let (bytes, after) = rest.split_first_chunk().ok_or_else(short)?;
                // A record has less than 4 GB: that is seen below.
                (rest, length) = (after, u32::from_ne_bytes(*bytes) as usize);
                data += length;
                break;
            }
            ORIGIN => 2,
            TOPLEVEL_XID => 4,
            _ => return Err(Stop::Invalid("a part of a record is of an unknown kind")),
        };
        rest = rest.get(skipped..).ok_or_else(short)?;
    }
    if total - headers(rest) != data {
        return Err(SHORT);
    }
    Ok(MainData { record, begin: total - length, length })
}

/// How many bytes of an image are there, and whether the length of its hole follows.
/// `image` is `XLogRecordBlockImageHeader`.
fn image_header(image: &[u8; 5]) -> Result<(usize, bool), Stop> {
    let [low, high, hole_low, hole_high, flags] = *image;
    let length = usize::from(u16::from_ne_bytes([low, high]));
    let hole = u16::from_ne_bytes([hole_low, hole_high]);
    let (has_hole, compressed) = (flags & HAS_HOLE != 0, flags & COMPRESSED != 0);
    let whole = length == BLOCK_SIZE;
    let is_valid = flags & !KNOWN_IMAGE_FLAGS == 0
        && length <= BLOCK_SIZE
        && has_hole == (hole > 0)
        && whole == (!has_hole && !compressed);
    if !is_valid {
        return Err(Stop::Invalid("the header of an image is invalid"));
    }
    Ok((length, has_hole && compressed))
}

/// What a record changes beyond the blocks to which it refers.
#[inline]
fn special<S: BlockSink>(main: &MainData<'_>, magic: u16, sink: &mut S) -> Result<(), Stop> {
    let (info, rmgr) = (main.record[16], main.record[17]);
    match rmgr {
        RMGR_XACT => transaction(main, info, sink),
        RMGR_XLOG => log(main, info, magic, sink),
        RMGR_SMGR => storage(main, info, sink),
        RMGR_DBASE => database(main, info, sink),
        _ if rmgr > LAST_RMGR && rmgr < FIRST_CUSTOM_RMGR => {
            Err(Stop::Invalid("a record is of an unknown resource manager"))
        }
        _ if info & SPECIAL_REL_UPDATE != 0 => {
            Err(Stop::Invalid("a record changes files in a way that is not known"))
        }
        _ => Ok(()),
    }
}

/// A commit or an abort may drop relations.
fn transaction<S: BlockSink>(main: &MainData<'_>, info: u8, sink: &mut S) -> Result<(), Stop> {
    let drops = match info & XACT_OPERATIONS {
        XACT_COMMIT | XACT_ABORT | XACT_COMMIT_PREPARED | XACT_ABORT_PREPARED => {
            info & XACT_HAS_INFO != 0 && main.word(8)? & HAS_RELATIONS != 0
        }
        XACT_PREPARE | XACT_ASSIGNMENT | XACT_INVALIDATIONS => false,
        _ => return Err(Stop::Invalid("a record about a transaction is of an unknown kind")),
    };
    if drops != (info & SPECIAL_REL_UPDATE != 0) {
        return Err(Stop::Invalid("a record about a transaction contradicts itself"));
    }
    if !drops {
        return Ok(());
    }
    let parts = main.word(8)?;
    let mut at = 12;
    if parts & HAS_DBINFO != 0 {
        at += 8;
    }
    if parts & HAS_SUBXACTS != 0 {
        at += (main.word(at)? as usize).saturating_mul(4).saturating_add(4);
    }
    let count = main.word(at)? as usize;
    for numbers in main
        .bytes(at.saturating_add(4), count.saturating_mul(RELATION_BYTES))?
        .chunks_exact(RELATION_BYTES)
    {
        sink.limit(&relation(numbers), 0);
    }
    Ok(())
}

/// A relation is created or truncated.
fn storage<S: BlockSink>(main: &MainData<'_>, info: u8, sink: &mut S) -> Result<(), Stop> {
    match info & 0xF0 {
        SMGR_CREATE => {
            let (relation, fork) = (main.relation(0)?, main.word(RELATION_BYTES)?);
            if fork == u32::from(MAIN_FORK) {
                sink.limit(&relation, 0);
            }
        }
        SMGR_TRUNCATE => {
            let (blocks, relation) = (main.word(0)?, main.relation(4)?);
            if main.word(4 + RELATION_BYTES)? & TRUNCATES_MAIN_FORK != 0 {
                sink.limit(&relation, blocks);
            }
        }
        _ => return Err(Stop::Invalid("a record about files is of an unknown kind")),
    }
    Ok(())
}

/// The files of a database are copied or removed.
fn database<S: BlockSink>(main: &MainData<'_>, info: u8, sink: &mut S) -> Result<(), Stop> {
    let database = main.word(0)?;
    match info & 0xF0 {
        CREATE_FILE_COPY | CREATE_WAL_LOG => sink.database(main.word(4)?, database),
        DROP => {
            let count = main.word(4)? as usize;
            for tablespace in main.bytes(8, count.saturating_mul(4))?.chunks_exact(4) {
                sink.database(word(tablespace), database);
            }
        }
        _ => return Err(Stop::Invalid("a record about a database is of an unknown kind")),
    }
    Ok(())
}

/// `wal_level` is told by changes of settings, and from PostgreSQL 17 on by checkpoints.
fn log<S: BlockSink>(main: &MainData<'_>, info: u8, magic: u16, sink: &mut S) -> Result<(), Stop> {
    let at = match info & 0xF0 {
        PARAMETER_CHANGE => 20,
        CHECKPOINT_REDO => 0,
        CHECKPOINT_SHUTDOWN | CHECKPOINT_ONLINE if magic >= MAGIC_17 => 20,
        END_OF_RECOVERY if magic >= MAGIC_17 => 16,
        0xC0 | 0xF0 => return Err(Stop::Invalid("a record about the log is of an unknown kind")),
        _ if info & SPECIAL_REL_UPDATE != 0 => {
            return Err(Stop::Invalid("a record changes files in a way that is not known"));
        }
        _ => return Ok(()),
    };
    if main.word(at)? == MINIMAL {
        sink.wal_level_is_minimal();
    }
    Ok(())
}

/// The first four bytes, which are there.
// Where size goes before speed, a call would take most of the time: this is done for each record.
#[inline(always)]
fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The first twelve bytes, which are there.
#[inline(always)]
fn relation(bytes: &[u8]) -> RelationId {
    RelationId { tablespace: word(bytes), database: word(&bytes[4..]), number: word(&bytes[8..]) }
}
