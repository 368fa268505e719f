//! WAL records as `pg_waldump` prints them.

use std::path::Path;

use time::OffsetDateTime;
use time::PrimitiveDateTime;
use time::macros::format_description;
use wal_e_core::postgres::{Lsn, SegmentSize, TimelineId, WalSegment};

use super::model::Transaction;
use crate::cluster::Cluster;
use crate::installation::{Installation, PgVersion};
use crate::process::run;

/// A record, as far as recovery asks for it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where it begins.
    pub lsn: Lsn,
    /// What it says.
    pub kind: Kind,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A transaction was committed.
    Commit(Transaction),
    /// A transaction was rolled back.
    Abort(Transaction),
    /// `pg_create_restore_point`.
    RestorePoint(String),
    /// The end of the base backup that began at this LSN.
    BackupEnd(Lsn),
    /// Anything else.
    Other,
}

/// The records from `start` to `end`, as far as they follow one another, in a directory with
/// segments of timeline 1; none when no record begins at `start`. `end` is where the segments
/// end: without it, pg_waldump waits five seconds for one more.
pub fn records(directory: &Path, start: Lsn, end: Lsn) -> Vec<Record> {
    let installation = Installation::get(PgVersion::oldest());
    let records = dump(installation, directory, 1, &start.to_string(), &end.to_string());
    match records.first() {
        // It looks for the next record when there is no record at this place; one at the
        // beginning of a page comes after the page's header.
        Some(first) if first.lsn.0 <= start.0 + 40 => records,
        _ => Vec::new(),
    }
}

/// Where the transaction `xid` was committed in the WAL of a running server, after `start`.
///
/// # Panics
///
/// When it was not.
pub fn commit(cluster: &Cluster, start: &str, xid: u32) -> (Lsn, Transaction) {
    let segment = cluster.current_segment();
    let timeline = u32::from_str_radix(&segment[..8], 16).expect("it begins with a timeline");
    let end = cluster.query_one("SELECT pg_current_wal_flush_lsn()");
    let wal = cluster.data_directory().join("pg_wal");
    let records = dump(cluster.installation(), &wal, timeline, start, &end);
    let found = records.iter().find_map(|record| match &record.kind {
        Kind::Commit(transaction) if transaction.xid == xid => Some((record.lsn, *transaction)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no commit of {xid} after {start}: {records:?}"))
}

fn dump(from: &Installation, wal: &Path, timeline: u32, start: &str, end: &str) -> Vec<Record> {
    let mut command = from.command("pg_waldump");
    command.arg("--path").arg(wal).args(["--start", start, "--end", end]);
    let finished = run(command.args(segments(wal, TimelineId(timeline), start, end)));
    finished.stdout.lines().filter_map(record).collect()
}

/// The first and the last segment. If they are not named, pg_waldump learns the size of segments
/// from any file that it finds, also from one that the server has made for later and that is
/// zeros.
fn segments(wal: &Path, timeline: TimelineId, start: &str, end: &str) -> Vec<String> {
    let lsn = |text: &str| text.parse::<Lsn>().expect("an LSN is one");
    let files = std::fs::read_dir(wal).expect("WAL is in a directory").flatten();
    let names = files.filter(|file| file.file_name().len() == 24);
    let mut sizes = names.filter_map(|file| SegmentSize::new(file.metadata().ok()?.len()));
    let Some(size) = sizes.next() else { return Vec::new() };
    let first = WalSegment::containing(timeline, lsn(start), size);
    let last = WalSegment::before(timeline, lsn(end), size);
    [first, last].map(|segment| segment.file_name(size).to_string()).into()
}

fn record(line: &str) -> Option<Record> {
    let after = |label: &str| line.split_once(label).map(|(_, rest)| rest);
    let lsn = after("lsn: ")?.split(',').next()?.parse().ok()?;
    let xid = after("tx:")?.split(',').next()?.trim().parse().ok()?;
    let desc = after("desc: ")?;
    let (name, rest) = desc.split_once(' ').unwrap_or((desc, ""));
    let transaction = || Some(Transaction { xid, time: time(rest)? });
    let kind = match (line.starts_with("rmgr: Transaction"), name) {
        (true, "COMMIT") => Kind::Commit(transaction()?),
        (true, "ABORT") => Kind::Abort(transaction()?),
        (false, "RESTORE_POINT") => Kind::RestorePoint(rest.to_owned()),
        (false, "BACKUP_END") => Kind::BackupEnd(rest.trim().parse().ok()?),
        _ => Kind::Other,
    };
    Some(Record { lsn, kind })
}

/// Microseconds since 1970 of what begins with `2026-01-02 03:04:05.678901 UTC`.
fn time(text: &str) -> Option<i64> {
    let format =
        format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]");
    let time = PrimitiveDateTime::parse(text.get(..26)?, format).ok()?.assume_utc();
    Some(microseconds(time))
}

/// Microseconds since 1970.
pub fn microseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1000).expect("the times of a test are of this age")
}
