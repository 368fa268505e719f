//! wal_e measured against pgBackRest, on the same cluster, in one run.
//!
//! Three tasks that an administrator waits for: a backlog of WAL segments is
//! archived, a base backup is taken, and it is restored. Prints a table and
//! judges nothing: two cores of somebody's machine prove nothing by themselves.
//!
//! `WALE_BENCH_SCALE` is pgbench's scale (110, a database of 1.6 GB),
//! `WALE_BENCH_SEGMENTS` the least number of WAL segments in the backlog (64),
//! `WALE_BENCH_ROUNDS` how often the whole is measured (1).
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod backlog;
mod meter;
mod pgbackrest;
mod table;
mod wal_e;

use std::path::Path;
use std::process::Command;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;

use backlog::Backlog;
use pgbackrest::{Archiving, PgBackRest};
use table::Table;
use wal_e::WalE;

/// Tar partitions, or processes, at a time.
pub const PROCESSES: u32 = 4;

/// Somebody who archives, backs up and restores.
pub trait Contender {
    /// As the table names it.
    fn name(&self) -> String;
    /// The lines of `postgresql.conf` with which the server is started, and
    /// still archives nothing.
    fn settings_idle(&self) -> Vec<String>;
    /// The line that makes archiving begin at the next reload.
    fn setting_to_begin(&self) -> String;
    /// What has to exist in the store before.
    fn prepare(&mut self, cluster: &Cluster);
    /// Whose memory counts.
    fn watched(&self) -> meter::Watched;
    /// Takes a base backup; returns when it is complete.
    fn back_up(&self, cluster: &Cluster);
    /// Restores the newest backup into a new directory.
    fn restore(&self, target: &Path);
    /// Whether only its way of archiving differs from another one's.
    fn differs_only_in_archiving(&self) -> bool {
        false
    }
    /// Bytes stored now, for WAL and for base backups.
    fn stored_bytes(&self) -> Stored;
}

/// Bytes in a store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored {
    pub wal: u64,
    pub backups: u64,
}

fn main() {
    let scale = number_from_environment("WALE_BENCH_SCALE", 110);
    let segments = number_from_environment("WALE_BENCH_SEGMENTS", 64) as usize;
    let rounds = number_from_environment("WALE_BENCH_ROUNDS", 1);

    meter::adopt_orphans();
    println!("{}", description_of_the_machine());
    println!("loading pgbench at scale {scale}, then writing at least {segments} WAL segments ...");
    let mut cluster = Cluster::build(PgVersion::V15)
        .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
        .start();
    cluster.pgbench_init(scale);
    let backlog = Backlog::write(&mut cluster, segments);
    let data_bytes = data_bytes(cluster.data_directory());
    println!(
        "backlog: {} segments; cluster without WAL: {:.0} MB; {PROCESSES} processes where there can be several",
        backlog.len(),
        data_bytes as f64 / 1e6
    );

    let mut table = Table::default();
    for round in 1..=rounds {
        let mut contenders: Vec<Box<dyn Contender>> = vec![
            Box::new(WalE::on_file()),
            Box::new(PgBackRest::new(&cluster, Archiving::OneAtATime)),
            Box::new(PgBackRest::new(&cluster, Archiving::Ahead)),
            Box::new(WalE::on_s3()),
        ];
        // Whoever is first has the colder caches: turn the order round.
        if round % 2 == 0 {
            contenders.reverse();
        }
        for contender in &mut contenders {
            println!("round {round} of {rounds}: {} ...", contender.name());
            measure(contender.as_mut(), &mut cluster, &backlog, data_bytes, &mut table);
        }
    }
    println!("\n{table}");
    println!("{NOTES}");
}

const NOTES: &str = "\
CPU: user and system time of the tool's processes, and of the server's on its behalf.
Memory: the most at one time, summed over the tool's processes; for processes of the server,
what they hold above an idle one.
On S3 the server is an in-process one that takes a part of the same cores; pgBackRest speaks S3
over TLS only, so it has no row there.";

/// As a production server would have it where it matters for archiving.
const SERVER: [&str; 11] = [
    "fsync = on",
    "shared_buffers = '256MB'",
    "max_wal_size = '16GB'",
    "checkpoint_timeout = '1d'",
    // The backlog is archived again by each contender.
    "wal_keep_size = '16GB'",
    "autovacuum = off",
    "synchronous_commit = off",
    "archive_mode = on",
    // Archives nothing, and says that it is done, while the data is loaded.
    "archive_command = 'true'",
    "archive_library = ''",
    "max_worker_processes = 8",
];

fn measure(
    contender: &mut dyn Contender,
    cluster: &mut Cluster,
    backlog: &Backlog,
    data_bytes: u64,
    table: &mut Table,
) {
    backlog.stop_archiving(cluster);
    for line in contender.settings_idle() {
        cluster.configure(&line);
    }
    cluster.restart();
    contender.prepare(cluster);
    backlog.restore(cluster);

    let before = contender.stored_bytes();
    let run = meter::measure(contender.watched(), || {
        cluster.configure(&contender.setting_to_begin());
        cluster.reload();
        backlog.wait_until_archived(cluster);
    });
    let drained = contender.stored_bytes().wal - before.wal;
    table.add("WAL backlog", contender, run, backlog.bytes(), drained);

    if contender.differs_only_in_archiving() {
        return;
    }

    warm_cache(cluster.data_directory());
    cluster.execute("CHECKPOINT");
    let run = meter::measure(contender.watched(), || contender.back_up(cluster));
    let backed_up = contender.stored_bytes().backups - before.backups;
    table.add("base backup", contender, run, data_bytes, backed_up);

    let scratch = wal_e_e2e::scratch::Scratch::new();
    let target = scratch.create("restored");
    // No server takes part in it.
    let program = meter::Watched { server_processes: &[], ..contender.watched() };
    let run = meter::measure(program, || contender.restore(&target));
    table.add("restore", contender, run, data_bytes, backed_up);
}

fn number_from_environment(name: &str, default: u32) -> u32 {
    match std::env::var(name) {
        Ok(value) => {
            value.parse().unwrap_or_else(|_| panic!("{name} is not a number: \"{value}\""))
        }
        Err(_) => default,
    }
}

fn description_of_the_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kb = meter::field_of("/proc/meminfo", "MemTotal:");
    let pgbackrest = run(Command::new("pgbackrest").arg("version")).success();
    format!("{cores} cores, {:.0} GB of memory, {}", memory_kb as f64 / 1e6, pgbackrest.trim())
}

/// Bytes of the files of a cluster, `pg_wal` left out.
fn data_bytes(data_directory: &Path) -> u64 {
    let wal = data_directory.join("pg_wal");
    files_below(data_directory)
        .into_iter()
        .filter(|(path, _)| !path.starts_with(&wal))
        .map(|(_, bytes)| bytes)
        .sum()
}

/// Reads the files of a cluster once, so that no contender pays for a cold cache.
fn warm_cache(data_directory: &Path) {
    for (path, _) in files_below(&data_directory.join("base")) {
        if let Ok(mut file) = std::fs::File::open(path) {
            // A file may vanish, and only the cache matters.
            let _ = std::io::copy(&mut file, &mut std::io::sink());
        }
    }
}

/// All files below a directory, with their sizes.
pub fn files_below(directory: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => directories.push(entry.path()),
                Ok(facts) if facts.is_file() => files.push((entry.path(), facts.len())),
                _ => {}
            }
        }
    }
    files
}
