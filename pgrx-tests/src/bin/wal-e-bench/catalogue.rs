//! An archive of many years: what it takes to look at it, to plan a deletion, and to delete.

use std::fmt;
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::large_archive;
use wal_e_e2e::process::run_within;
use wal_e_e2e::wal_e::wal_e;

use crate::meter::{self, Cost, Watched};
use crate::options::Options;

/// The longest that a command may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Base backups that are kept.
const KEPT: &str = "30";

/// What is measured, in this order: the last deletes.
const COMMANDS: [&[&str]; 7] = [
    &["backup-list"],
    &["wal-show"],
    &["wal-verify"],
    &["recovery-window"],
    &["report", KEPT],
    &["delete", "retain", KEPT],
    &["delete", "--confirm", "retain", KEPT],
];

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
        large_archive::fill(&archive, segments, backups);
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
