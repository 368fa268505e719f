//! What a WAL record says that matters for a recovery: ends of transactions,
//! restore points, checkpoints, the beginning of a timeline, the end of a base backup,
//! and what replay needs beyond the data directory (settings, tablespaces).
//!
//! PostgreSQL 15 to 18, `src/include/access/xlogrecord.h` (header and data
//! headers), `src/include/access/xact.h` and `src/backend/access/rmgrdesc/xactdesc.c`
//! (what a commit or an abort holds), `src/include/access/xlog_internal.h`
//! (`xl_restore_point`, `xl_parameter_change`, `xl_end_of_recovery`),
//! `src/include/catalog/pg_control.h` (`CheckPoint`), `src/include/commands/tablespace.h`.
//! Numbers are in the byte order of the machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use time::{Duration, OffsetDateTime};

use super::{Lsn, RequiredSettings, TimelineId};

/// `SizeOfXLogRecord`.
pub(super) const HEADER_BYTES: usize = 24;

/// `XLogRecordMaxSize` of PostgreSQL 16 and later, rounded up.
pub(super) const LARGEST_RECORD_BYTES: u32 = 1 << 30;

/// How much of a record is looked at. Only a commit that drops hundreds of
/// thousands of tables at once is larger.
pub(super) const KEPT_BYTES: usize = 16 << 20;

/// `RM_XLOG_ID`, `RM_XACT_ID`, `RM_TBLSPC_ID`.
pub(super) const RMGR_XLOG: u8 = 0;
pub(super) const RMGR_XACT: u8 = 1;
/// `RM_TBLSPC_ID`.
pub const RMGR_TABLESPACE: u8 = 5;

/// Values of `xl_info` of `RM_XLOG_ID`, without the low bits.
const XLOG_CHECKPOINT_SHUTDOWN: u8 = 0x00;
const XLOG_CHECKPOINT_ONLINE: u8 = 0x10;
const XLOG_SWITCH: u8 = 0x40;
const XLOG_BACKUP_END: u8 = 0x50;
const XLOG_PARAMETER_CHANGE: u8 = 0x60;
const XLOG_RESTORE_POINT: u8 = 0x70;
const XLOG_END_OF_RECOVERY: u8 = 0x90;

/// Where `time` lies in `CheckPoint`, in seconds since 1970.
const CHECKPOINT_TIME: usize = 64;

/// Values of `xl_info` of `RM_TBLSPC_ID`.
pub(super) const XLOG_TABLESPACE_CREATE: u8 = 0x00;
const XLOG_TABLESPACE_DROP: u8 = 0x10;

/// Values of `xl_info` of `RM_XACT_ID`.
pub(super) const XACT_OPERATIONS: u8 = 0x70;
pub(super) const XACT_COMMIT: u8 = 0x00;
pub(super) const XACT_ABORT: u8 = 0x20;
pub(super) const XACT_COMMIT_PREPARED: u8 = 0x30;
pub(super) const XACT_ABORT_PREPARED: u8 = 0x40;
pub(super) const XACT_HAS_INFO: u8 = 0x80;

/// `XACT_XINFO_HAS_*`: which parts follow the time of a commit or an abort.
pub(super) const HAS_DBINFO: u32 = 1 << 0;
pub(super) const HAS_SUBXACTS: u32 = 1 << 1;
pub(super) const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWOPHASE: u32 = 1 << 4;
const HAS_DROPPED_STATS: u32 = 1 << 8;

/// `XLOG_PAGE_MAGIC` of PostgreSQL 17. Later, an item of dropped statistics has
/// 16 bytes instead of 12.
pub(super) const MAGIC_17: u16 = 0xD116;

/// Ids of data headers that stand for no block.
pub(super) const DATA_SHORT: u8 = 255;
pub(super) const DATA_LONG: u8 = 254;
pub(super) const ORIGIN: u8 = 253;
pub(super) const TOPLEVEL_XID: u8 = 252;

/// The fields of `XLogRecord` that are of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) total_bytes: u32,
    pub(super) xid: u32,
    pub(super) previous: Lsn,
    pub(super) info: u8,
    pub(super) rmgr: u8,
    pub(super) crc: u32,
}

impl RecordHeader {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut previous = [0; 8];
        previous.copy_from_slice(&bytes[8..16]);
        RecordHeader {
            total_bytes: word(0),
            xid: word(4),
            previous: Lsn(u64::from_ne_bytes(previous)),
            info: bytes[16],
            rmgr: bytes[17],
            crc: word(20),
        }
    }

    /// Whether a log begins with this record: initdb and pg_resetwal write one.
    pub(super) fn is_first_of_log(&self) -> bool {
        self.previous == Lsn(0)
            && self.rmgr == RMGR_XLOG
            && self.info & 0xF0 == XLOG_CHECKPOINT_SHUTDOWN
    }

    /// Whether the rest of the segment is empty after this record.
    pub(super) fn is_switch(&self) -> bool {
        self.rmgr == RMGR_XLOG && self.info & 0xF0 == XLOG_SWITCH
    }

    /// Whether [`RecordKind::read`] looks at the record's data.
    pub(super) fn matters(&self) -> bool {
        match self.rmgr {
            RMGR_XLOG => matches!(
                self.info & 0xF0,
                XLOG_CHECKPOINT_SHUTDOWN
                    | XLOG_CHECKPOINT_ONLINE
                    | XLOG_BACKUP_END
                    | XLOG_PARAMETER_CHANGE
                    | XLOG_RESTORE_POINT
                    | XLOG_END_OF_RECOVERY
            ),
            RMGR_XACT => matches!(
                self.info & XACT_OPERATIONS,
                XACT_COMMIT | XACT_ABORT | XACT_COMMIT_PREPARED | XACT_ABORT_PREPARED
            ),
            RMGR_TABLESPACE => {
                matches!(self.info & 0xF0, XLOG_TABLESPACE_CREATE | XLOG_TABLESPACE_DROP)
            }
            _ => false,
        }
    }
}

/// One WAL record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRecord {
    /// Where it begins.
    pub start: Lsn,
    /// The byte after it, rounded up as the next record's start is; of a switch, the
    /// end of the segment.
    pub end: Lsn,
    /// What it says.
    pub kind: RecordKind,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKind {
    /// The end of a transaction, also of a prepared one: a commit or an abort.
    /// PostgreSQL stops at either for a target time or transaction.
    TransactionEnd {
        /// The transaction; `None` when it is not in the first 16 MB of a record.
        xid: Option<u32>,
        /// When, by the server's clock.
        time: OffsetDateTime,
        /// Whether it was a commit.
        committed: bool,
    },
    /// `pg_create_restore_point()`.
    RestorePoint {
        /// Its name.
        name: String,
        /// When, by the server's clock.
        time: OffsetDateTime,
    },
    /// The end of a base backup.
    BackupEnd {
        /// The start LSN of that backup.
        start: Lsn,
    },
    /// A checkpoint; also the one with which a timeline may begin.
    Checkpoint {
        /// Where a recovery that begins with it begins to replay.
        redo: Lsn,
        /// The timeline on which it was made.
        timeline: TimelineId,
        /// Whether the server was shut down with it.
        shutdown: bool,
        /// When it began, by the server's clock, without the fraction of the second.
        time: OffsetDateTime,
    },
    /// The beginning of a timeline after a promotion without such a checkpoint.
    EndOfRecovery {
        /// When, by the server's clock.
        time: OffsetDateTime,
    },
    /// The server was started with other settings than before.
    ParameterChange(ParameterChange),
    /// `CREATE TABLESPACE`. Replay makes the directory of this version in the location,
    /// and replaces the link `pg_tblspc/OID` in the data directory by one to it.
    TablespaceCreate {
        /// Its object identifier.
        oid: u32,
        /// Its directory; empty for one that lies in `pg_tblspc` itself
        /// (`allow_in_place_tablespaces`).
        location: PathBuf,
    },
    /// `DROP TABLESPACE`: replay removes its files and the link.
    TablespaceDrop {
        /// Its object identifier.
        oid: u32,
    },
    /// Anything else.
    Other,
}

/// What `xl_parameter_change` says of the server's settings from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterChange {
    /// Those that a server that replays it must not fall below.
    pub required: RequiredSettings,
    /// Whether `wal_level` is `minimal`: not everything that changes afterwards is in the WAL.
    pub wal_level_is_minimal: bool,
}

impl RecordKind {
    /// Reads a record of which `bytes` are the header, the magic number of its page and
    /// the data.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of_made_up(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let (magic, data) = rest.split_first_chunk::<2>()?;
        Some(Self::read(&RecordHeader::parse(header), data, u16::from_le_bytes(*magic)))
    }

    /// Reads the data of a record, or as much of it as was kept. `magic` is that
    /// of the page where the record ends.
    pub(super) fn read(header: &RecordHeader, data: &[u8], magic: u16) -> Self {
        let read = || {
            let data = main_data(data)?;
            match (header.rmgr, header.info & 0xF0) {
                (RMGR_XACT, _) => transaction_end(header, data, magic),
                (RMGR_XLOG, XLOG_RESTORE_POINT) => restore_point(data),
                (RMGR_XLOG, XLOG_PARAMETER_CHANGE) => parameter_change(data),
                (RMGR_XLOG, operation @ (XLOG_CHECKPOINT_SHUTDOWN | XLOG_CHECKPOINT_ONLINE)) => {
                    checkpoint(data, operation == XLOG_CHECKPOINT_SHUTDOWN)
                }
                (RMGR_XLOG, XLOG_END_OF_RECOVERY) => {
                    Some(RecordKind::EndOfRecovery { time: timestamp(data)? })
                }
                (RMGR_TABLESPACE, XLOG_TABLESPACE_CREATE) => tablespace_create(data),
                (RMGR_TABLESPACE, XLOG_TABLESPACE_DROP) => {
                    word(data).map(|(oid, _)| RecordKind::TablespaceDrop { oid })
                }
                (RMGR_XLOG, XLOG_BACKUP_END) => {
                    let start = u64::from_ne_bytes(*data.first_chunk()?);
                    Some(RecordKind::BackupEnd { start: Lsn(start) })
                }
                _ => None,
            }
        };
        if header.matters() { read().unwrap_or(RecordKind::Other) } else { RecordKind::Other }
    }
}

/// What follows the data headers. These records refer to no block.
pub(super) fn main_data(mut data: &[u8]) -> Option<&[u8]> {
    loop {
        let (&id, rest) = data.split_first()?;
        data = match id {
            ORIGIN => rest.get(2..)?,
            TOPLEVEL_XID => rest.get(4..)?,
            DATA_SHORT => return rest.get(1..),
            DATA_LONG => return rest.get(4..),
            _ => return None,
        };
    }
}

fn transaction_end(header: &RecordHeader, data: &[u8], magic: u16) -> Option<RecordKind> {
    let operation = header.info & XACT_OPERATIONS;
    let time = timestamp(data)?;
    let prepared = matches!(operation, XACT_COMMIT_PREPARED | XACT_ABORT_PREPARED);
    let has_info = header.info & XACT_HAS_INFO != 0;
    let xid = if prepared {
        // The record itself carries the number of the session's own transaction, if any.
        data.get(8..).filter(|_| has_info).and_then(|rest| prepared_xid(rest, magic))
    } else {
        Some(header.xid)
    };
    let committed = matches!(operation, XACT_COMMIT | XACT_COMMIT_PREPARED);
    Some(RecordKind::TransactionEnd { xid, time, committed })
}

/// The transaction of a record about a prepared one: `data` begins with `xl_xact_xinfo`.
fn prepared_xid(data: &[u8], magic: u16) -> Option<u32> {
    let (parts, mut rest) = word(data)?;
    if parts & HAS_DBINFO != 0 {
        rest = rest.get(8..)?;
    }
    let stats_item_bytes = if magic > MAGIC_17 { 16 } else { 12 };
    for (part, item_bytes) in [
        (HAS_SUBXACTS, 4),
        (HAS_RELATIONS, 12),
        (HAS_DROPPED_STATS, stats_item_bytes),
        (HAS_INVALIDATIONS, 16),
    ] {
        if parts & part != 0 {
            let (count, items) = word(rest)?;
            rest = items.get(usize::try_from(count).ok()?.checked_mul(item_bytes)?..)?;
        }
    }
    if parts & HAS_TWOPHASE == 0 {
        return None;
    }
    word(rest).map(|(xid, _)| xid)
}

/// `xl_restore_point`: a time, and a name of up to 64 bytes with its zero.
fn restore_point(data: &[u8]) -> Option<RecordKind> {
    let time = timestamp(data)?;
    let name = data.get(8..)?;
    let name = name.get(..64).unwrap_or(name);
    let name = name.split(|byte| *byte == 0).next()?;
    Some(RecordKind::RestorePoint { name: String::from_utf8_lossy(name).into_owned(), time })
}

/// `xl_parameter_change`: six numbers and two booleans in every version from 15 to 18.
fn parameter_change(data: &[u8]) -> Option<RecordKind> {
    let number = |index: usize| {
        let bytes = data.get(index * 4..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let required = RequiredSettings {
        max_connections: number(0)?,
        max_worker_processes: number(1)?,
        max_wal_senders: number(2)?,
        max_prepared_transactions: number(3)?,
        max_locks_per_transaction: number(4)?,
    };
    let wal_level_is_minimal = number(5)? == 0;
    Some(RecordKind::ParameterChange(ParameterChange { required, wal_level_is_minimal }))
}

/// `CheckPoint`, whose first two fields are the same in every version.
fn checkpoint(data: &[u8], shutdown: bool) -> Option<RecordKind> {
    let redo = Lsn(u64::from_ne_bytes(*data.first_chunk()?));
    let (timeline, _) = word(data.get(8..)?)?;
    let seconds = i64::from_ne_bytes(*data.get(CHECKPOINT_TIME..)?.first_chunk()?);
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some(RecordKind::Checkpoint { redo, timeline: TimelineId(timeline), shutdown, time })
}

/// `xl_tblspc_create_rec`: an OID and a path that ends with a zero.
fn tablespace_create(data: &[u8]) -> Option<RecordKind> {
    let (oid, path) = word(data)?;
    let length = path.iter().position(|byte| *byte == 0)?;
    let location = PathBuf::from(OsStr::from_bytes(path.get(..length)?));
    Some(RecordKind::TablespaceCreate { oid, location })
}

fn word(data: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = data.split_first_chunk()?;
    Some((u32::from_ne_bytes(*word), rest))
}

/// The `TimestampTz` at the beginning of `data`: microseconds since 2000.
fn timestamp(data: &[u8]) -> Option<OffsetDateTime> {
    let microseconds = i64::from_ne_bytes(*data.first_chunk()?);
    POSTGRES_EPOCH.checked_add(Duration::microseconds(microseconds))
}

/// Where `TimestampTz` counts from.
const POSTGRES_EPOCH: OffsetDateTime = time::macros::datetime!(2000-01-01 00:00:00 UTC);

#[cfg(test)]
mod tests;
