//! An archive of many years: what it takes to look at it, to plan a deletion, and to delete.
//!
//! The archive is made up, and only its names are as they would be: the segments are empty
//! frames, so that `recovery-window` finds where WAL is and cannot read it.

use std::fmt;
use std::fs;
use std::time::Duration;

use serde_json::json;
use wal_e_e2e::archive::{Archive, compress};
use wal_e_e2e::process::run_within;
use wal_e_e2e::wal_e::wal_e;

use crate::meter::{self, Cost, Watched};
use crate::options::Options;

/// The longest that a command may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Segments of 16 MB that have one number in the first half of their names.
const SEGMENTS_PER_NAME: u64 = 256;

/// A file has at most so many names on most file systems.
const MOST_LINKS: u64 = 50_000;

/// Base backups that are kept.
const KEPT: &str = "30";

/// What is measured, in this order: the last deletes.
const COMMANDS: [&[&str]; 6] = [
    &["backup-list"],
    &["wal-show"],
    &["wal-verify"],
    &["recovery-window"],
    &["delete", "retain", KEPT],
    &["delete", "--confirm", "retain", KEPT],
];

fn segment(number: u64) -> String {
    format!("00000001{:08X}{:08X}", number / SEGMENTS_PER_NAME, number % SEGMENTS_PER_NAME)
}

/// Fills an archive.
fn fill(archive: &Archive, is_file: bool, options: &Options) {
    let frame = compress(b"");
    let mut source = String::new();
    for index in 0..options.archive_segments {
        let name = format!("wal_005/{}.lz4", segment(index + 1));
        if is_file && !index.is_multiple_of(MOST_LINKS) {
            let path = |name: &str| archive.directory().join(name);
            fs::hard_link(path(&source), path(&name)).expect("the directory takes another name");
        } else {
            archive.replace_object(&name, frame.clone());
            source = name;
        }
    }
    let apart = options.archive_segments / options.archive_backups.max(1);
    for index in 0..options.archive_backups {
        add_backup(archive, index * apart + 1);
    }
}

/// A base backup that begins in a segment, and ends in it.
fn add_backup(archive: &Archive, number: u64) {
    let name = format!("base_{}", segment(number));
    let start = number << 24;
    let sentinel = json!({
        "LSN": start + 0x28, "FinishLSN": start + 0x100, "PgVersion": 150_018,
        "SystemIdentifier": 7_000_000_000_000_000_001_u64, "Version": 2,
        "UncompressedSize": 1_u64 << 30, "CompressedSize": 1_u64 << 28,
        "FinishTime": "2026-01-02T03:04:05Z",
    });
    let metadata = json!({
        "start_lsn": start + 0x28, "finish_lsn": start + 0x100, "is_permanent": false,
        "finish_time": "2026-01-02T03:04:05Z",
    });
    let tar = compress(b"");
    let put = |object: &str, bytes: Vec<u8>| {
        archive.replace_object(&format!("basebackups_005/{name}{object}"), bytes);
    };
    for object in ["tar_partitions/part_001", "tar_partitions/pg_control"] {
        put(&format!("/{object}.tar.lz4"), tar.clone());
    }
    put("/files_metadata.json", b"{}".to_vec());
    put("/metadata.json", metadata.to_string().into_bytes());
    put("_backup_stop_sentinel.json", sentinel.to_string().into_bytes());
}

struct Row {
    command: String,
    store: &'static str,
    cost: Cost,
    requests: Option<usize>,
}

/// What looking at an archive and deleting from it cost.
pub struct CatalogueTable {
    segments: u64,
    backups: u64,
    rows: Vec<Row>,
}

/// Measures each command on each store.
pub fn measure(options: &Options) -> CatalogueTable {
    let (segments, backups) = (options.archive_segments, options.archive_backups);
    let mut table = CatalogueTable { segments, backups, rows: Vec::new() };
    for (store, is_file) in [("file://", true), ("s3://, http", false)] {
        println!("archive on {store}: {segments} segments, {backups} base backups ...");
        let archive = if is_file { Archive::file() } else { Archive::s3() };
        if !is_file {
            archive.write_variable("AWS_ENDPOINT_URL_S3", &archive.server().endpoint());
            archive.server().set_page_size(1000);
        }
        fill(&archive, is_file, options);
        let requests = || (!is_file).then(|| archive.server().requests().len());
        for arguments in COMMANDS {
            let before = requests();
            let watched = Watched { programs: &["wal-e"], server_processes: &[] };
            let cost = meter::measure(watched, || {
                run_within(PATIENCE, wal_e(&archive).args(arguments)).success();
            });
            let requests = requests().zip(before).map(|(after, before)| after - before);
            let row = Row { command: arguments.join(" "), store, cost, requests };
            println!("    {row}");
            table.rows.push(row);
        }
    }
    table
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.requests.map_or_else(|| "-".to_owned(), |number| number.to_string());
        write!(
            f,
            "{:32} {:12} {:8.1} {:8.1} {:10.0} {requests:>10}",
            self.command,
            self.store,
            self.cost.wall.as_secs_f64(),
            self.cost.cpu.as_secs_f64(),
            self.cost.memory.sum as f64 / 1e6,
        )
    }
}

impl fmt::Display for CatalogueTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "an archive of {} segments and {} base backups", self.segments, self.backups)?;
        writeln!(
            f,
            "{:32} {:12} {:>8} {:>8} {:>10} {:>10}",
            "command", "store", "wall s", "CPU s", "memory MB", "requests"
        )?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
