//! An archive of many years: what it takes to look at it, to plan a deletion, and to delete.

use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::large_archive;
use wal_e_e2e::process::run_within;
use wal_e_e2e::wal_e::wal_e;

use crate::meter::{self, Cost, Watched};
use crate::on_one_cluster::megabytes;
use crate::options::Options;
use crate::table::{Column, Form, Table};

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

const FORM: Form = Form {
    task: "catalogue",
    columns: &[
        Column::with_spread("wall_s", "wall s", 2),
        Column::new("cpu_s", "CPU s", 2),
        Column::new("memory_mb", "memory MB", 0),
        Column::new("requests", "requests", 0),
    ],
    ratios: &[],
    note: "Most of the archive is deleted by the last command, and nothing by the others. A page of a listing on \
           S3 has 1,000 names.",
};

/// Measures each command on each store, and fills the store anew for each round.
pub fn measure(options: &Options) -> Table {
    let (segments, backups) = (options.archive_segments, options.archive_backups);
    let title = format!("archive of {segments} segments and {backups} base backups");
    let mut table = Table::new(&FORM, title);
    for round in 1..=options.rounds {
        for (store, is_file) in [("file://", true), ("s3://, http", false)] {
            println!("round {round} of {}: archive on {store} ...", options.rounds);
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
                let command = arguments.join(" ");
                println!("    {command}: {cost}");
                table.add(&format!("{command} ({store})"), figures(&cost, requests));
            }
        }
    }
    table
}

fn figures(cost: &Cost, requests: Option<usize>) -> Vec<(&'static str, f64)> {
    let mut figures = vec![("wall_s", cost.wall.as_secs_f64()), ("cpu_s", cost.cpu.as_secs_f64())];
    figures.extend(cost.memory.largest().map(|bytes| ("memory_mb", megabytes(bytes))));
    figures.extend(requests.map(|number| ("requests", number as f64)));
    figures
}
