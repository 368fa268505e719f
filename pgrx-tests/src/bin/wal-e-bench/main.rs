//! wal_e measured against its peers, on the same cluster, in one run.
//!
//! Tasks that an administrator waits for: a backlog of WAL segments is archived
//! (against `cp`, pgBackRest, wal-rus, and the CPU time of bare `lz4`), a base backup is
//! taken, and it is restored (against pgBackRest), archived WAL is replayed (against
//! `cp`), and a large archive is looked at and cleared. Prints tables and judges
//! nothing: two cores of one machine prove nothing by themselves.
//! `wal-e-bench --help` lists the options.
#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

mod backlog;
mod bare;
mod catalogue;
mod load;
mod meter;
mod options;
mod pgbackrest;
mod replay;
mod table;
mod wal_e;
mod wal_rus;

use std::path::Path;
use std::process::Command;

use clap::Parser;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{proc_field, run};

use backlog::Backlog;
use bare::Copying;
use meter::Watched;
use options::{Options, Task};
use pgbackrest::{Archiving, PgBackRest};
use table::{BacklogTable, Table};
use wal_e::WalE;
use wal_rus::WalRus;

/// Tar partitions, or processes of a base backup or a restore, at a time.
pub const PROCESSES: u32 = 4;

/// WAL segments at a time, for those who archive several.
pub const WAL_PROCESSES: u32 = 8;

/// A product that archives WAL.
pub trait Archiver {
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
    fn watched(&self) -> Watched;
    /// Bytes stored now for WAL.
    fn stored_wal_bytes(&self) -> u64;
}

/// A product that also takes base backups.
pub trait BackupTool: Archiver {
    /// Takes a base backup; returns when it is complete.
    fn back_up(&self, cluster: &Cluster);
    /// Restores the newest backup into a new directory.
    fn restore(&self, target: &Path);
    /// Bytes stored now for base backups.
    fn stored_backup_bytes(&self) -> u64;
}

/// Who takes part in which task.
enum Contender {
    Archiving(Box<dyn Archiver>),
    All(Box<dyn BackupTool>),
}

impl Contender {
    fn archiver(&mut self) -> &mut dyn Archiver {
        match self {
            Contender::Archiving(archiver) => archiver.as_mut(),
            Contender::All(tool) => tool.as_mut(),
        }
    }
}

/// Makes a contender when its turn has come, so that only one store holds
/// anything at a time.
type Entry = Box<dyn Fn(&Cluster) -> Contender>;

fn entries(options: &Options) -> Vec<Entry> {
    let mut entries: Vec<Entry> = vec![
        Box::new(|_| Contender::Archiving(Box::new(Copying::new()))),
        Box::new(|_| Contender::All(Box::new(WalE::on_file()))),
        Box::new(|cluster| {
            Contender::All(Box::new(PgBackRest::new(cluster, Archiving::OneAtATime)))
        }),
        Box::new(|cluster| {
            Contender::Archiving(Box::new(PgBackRest::new(cluster, Archiving::Ahead)))
        }),
        Box::new(|_| Contender::All(Box::new(WalE::on_s3()))),
    ];
    for latency in options.latencies() {
        entries.push(Box::new(move |_| {
            Contender::Archiving(Box::new(WalE::on_s3_with_latency(latency)))
        }));
        entries.push(Box::new(move |_| {
            Contender::Archiving(Box::new(WalRus::on_s3_with_latency(latency)))
        }));
    }
    entries
}

fn main() {
    let options = Options::parse();
    meter::adopt_orphans();
    println!("{}", description_of_the_machine());
    if options.wants(Task::Catalogue) {
        println!("\n{}", catalogue::measure(&options));
    }
    if options.wants(Task::Replay) {
        println!("\n{}", replay::measure(&options));
    }
    if !options.wants(Task::Backlog) && !options.wants(Task::BaseBackup) {
        return;
    }
    println!("loading pgbench at scale {} ...", options.scale);
    let mut cluster = Cluster::build(PgVersion::oldest())
        .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
        .start();
    cluster.pgbench_init(options.scale);
    let mut bench = Bench {
        backlog: Backlog::empty(),
        data_bytes: 0,
        backlog_table: BacklogTable::default(),
        table: Table::default(),
    };
    if options.wants(Task::Backlog) {
        println!("writing at least {} WAL segments ...", options.segments);
        bench.backlog = Backlog::write(&mut cluster, options.segments);
    }
    bench.data_bytes = data_bytes(cluster.data_directory());
    println!(
        "backlog: {} segments; cluster without WAL: {:.0} MB; where there can be several at a time: \
         {WAL_PROCESSES} segments, {PROCESSES} processes for base backups",
        bench.backlog.len(),
        bench.data_bytes as f64 / 1e6
    );

    for round in 1..=options.rounds {
        if options.wants(Task::Backlog) {
            println!("round {round} of {}: lz4 ...", options.rounds);
            let (cost, stored) = bare::compress(&cluster, &bench.backlog);
            bench.backlog_table.add_yardstick(cost, &bench.backlog, stored);
        }
        let mut entries = entries(&options);
        // The first has the colder caches: turn the order round.
        if round % 2 == 0 {
            entries.reverse();
        }
        for entry in entries {
            let mut contender = entry(&cluster);
            let name = contender.archiver().name();
            let takes_part = options.wants(Task::Backlog) || matches!(contender, Contender::All(_));
            if takes_part && options.wants_tool(&name) {
                println!("round {round} of {}: {name} ...", options.rounds);
                bench.measure(&mut contender, &mut cluster, &options);
            }
        }
    }
    if options.wants(Task::Backlog) {
        println!("\n{}", bench.backlog_table);
    }
    if options.wants(Task::BaseBackup) {
        println!("\n{}", bench.table);
    }
    println!("{NOTES}");
}

const NOTES: &str = "\
CPU: user and system time of the tool's processes, and of the server's on its behalf; GB: 10^9 bytes of WAL.
Memory: the most at one time, summed over the tool's processes; for processes of the server,
what they hold above an idle one.
The S3 server and the proxy before it are in this process: what they use of the cores is not counted, but
it is not there for the tool either.
pgBackRest speaks S3 over TLS only, so it has no row there.";

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

/// What is measured, and what came out.
struct Bench {
    backlog: Backlog,
    data_bytes: u64,
    backlog_table: BacklogTable,
    table: Table,
}

impl Bench {
    fn measure(&mut self, contender: &mut Contender, cluster: &mut Cluster, options: &Options) {
        let archiver = contender.archiver();
        self.backlog.stop_archiving(cluster);
        for line in archiver.settings_idle() {
            cluster.configure(&line);
        }
        cluster.restart();
        archiver.prepare(cluster);
        self.backlog.restore(cluster);

        let before = archiver.stored_wal_bytes();
        let begin_archiving = || {
            cluster.configure(&archiver.setting_to_begin());
            cluster.reload();
        };
        if options.wants(Task::Backlog) {
            let cost = meter::measure(archiver.watched(), || {
                begin_archiving();
                self.backlog.wait_until_archived(cluster);
            });
            let stored = archiver.stored_wal_bytes() - before;
            self.backlog_table.add(archiver.name(), cost, &self.backlog, stored);
        } else {
            begin_archiving();
        }
        if let Contender::All(tool) = contender
            && options.wants(Task::BaseBackup)
        {
            self.measure_base_backup(tool.as_ref(), cluster);
        }
    }

    fn measure_base_backup(&mut self, tool: &dyn BackupTool, cluster: &Cluster) {
        let before = tool.stored_backup_bytes();
        warm_cache(cluster.data_directory());
        cluster.execute("CHECKPOINT");
        let cost = meter::measure(tool.watched(), || tool.back_up(cluster));
        let stored = tool.stored_backup_bytes() - before;
        self.table.add("base backup", tool.name(), cost, self.data_bytes, stored);

        let scratch = wal_e_e2e::scratch::Scratch::new();
        let target = scratch.create("restored");
        // No server takes part in it.
        let program = Watched { server_processes: &[], ..tool.watched() };
        let cost = meter::measure(program, || tool.restore(&target));
        self.table.add("restore", tool.name(), cost, self.data_bytes, stored);
    }
}

fn description_of_the_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kb = proc_field("/proc/meminfo", "MemTotal:").unwrap_or(0);
    let pgbackrest = run(Command::new("pgbackrest").arg("version")).success();
    let peers = [pgbackrest.trim(), &wal_rus::version()].join(", ");
    format!("{cores} cores, {:.0} GB of memory, {peers}", memory_kb as f64 / 1e6)
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
