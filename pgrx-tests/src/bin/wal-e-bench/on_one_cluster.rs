//! A backlog, base backups and restores: one cluster for all contenders.

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::scratch::Scratch;

use crate::backlog::{self, Backlog, Drained};
use crate::contender::{BackupTool, Contender, entries};
use crate::disk::{self, DataFiles};
use crate::meter::{self, Cost, Watched};
use crate::options::{Options, Task};
use crate::table::{Column, Form, Ratio, Table, against};
use crate::{PROCESSES, SERVER, WAL_PROCESSES, bare, pgbackrest};

/// The worker that takes a base backup, as [`Watched`] names it.
pub const BACKUP_WORKER: &str = "postgres: wal_e base backup";

const BASE_BACKUP: Form = Form {
    task: "base-backup",
    columns: &COLUMNS,
    ratios: &[
        OF_PGBACKREST,
        // What no tool can be faster than.
        Ratio {
            key: "rate_of_disk_or_lz4",
            title: "x min(disk, lz4)",
            column: "mb_per_s",
            against: |name| against(name.starts_with("wal_e"), &[disk::WRITTEN, disk::COMPRESSED]),
        },
    ],
    note: "x: of MB/s. min(disk, lz4): the slower one of the first two rows. They read the same files; what this\n\
           program takes to hand them to lz4 is in the time and not in the CPU time.",
};

const RESTORE: Form = Form {
    task: "restore",
    columns: &COLUMNS,
    ratios: &[
        OF_PGBACKREST,
        Ratio {
            key: "rate_of_tar",
            title: "x tar",
            column: "mb_per_s",
            against: |name| against(name != disk::UNPACKED, &[disk::UNPACKED]),
        },
    ],
    note: "x: of MB/s. All of them sync what they wrote: wal_e and pgBackRest each file and directory, tar the \
           file system.",
};

const OF_PGBACKREST: Ratio = Ratio {
    key: "rate_of_pgbackrest",
    title: "x pgBackRest",
    column: "mb_per_s",
    against: |name| against(name.starts_with("wal_e"), &[pgbackrest::ONE_AT_A_TIME]),
};

const COLUMNS: [Column; 7] = [
    Column::with_spread("wall_s", "wall s", 2),
    Column::new("mb_per_s", "MB/s", 0),
    Column::new("cpu_s", "CPU s", 2),
    Column::new("memory_mb", "memory MB", 0),
    Column::new("largest_mb", "largest MB", 0),
    Column::new("stored_mb", "stored MB", 0),
    Column::new("stored_of_raw", "stored/raw", 2),
];

/// What is measured, and what came out.
struct Bench<'a> {
    options: &'a Options,
    cluster: Cluster,
    backlog: Backlog,
    /// Bytes of the cluster without its WAL.
    data_bytes: u64,
    backlogs: Table,
    base_backups: Table,
    restores: Table,
}

/// Measures the tasks among `backlog` and `base-backup` that are wanted.
pub fn measure(options: &Options) -> Vec<Table> {
    println!("loading pgbench at scale {} ...", options.scale);
    let mut cluster = Cluster::build(PgVersion::oldest())
        .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
        .start();
    cluster.pgbench_init(options.scale);
    let mut backlog = Backlog::empty();
    if options.wants(Task::Backlog) {
        println!("writing at least {} WAL segments ...", options.segments);
        backlog = Backlog::write(&mut cluster, options.segments);
    }
    let data_bytes = DataFiles::of(cluster.data_directory()).bytes();
    println!(
        "backlog: {} segments; cluster without WAL: {:.0} MB; where there can be several at a time: \
         {WAL_PROCESSES} segments, {PROCESSES} processes for base backups",
        backlog.len(),
        megabytes(data_bytes)
    );
    let title = format!("backlog of {} segments", backlog.len());
    let mut bench = Bench {
        options,
        cluster,
        backlog,
        data_bytes,
        backlogs: Table::new(&backlog::FORM, title),
        base_backups: Table::new(
            &BASE_BACKUP,
            format!("base backup, {:.0} MB", megabytes(data_bytes)),
        ),
        restores: Table::new(&RESTORE, format!("restore, {:.0} MB", megabytes(data_bytes))),
    };
    bench.measure_rounds();
    let wanted = |task, table| options.wants(task).then_some(table);
    let tables = [
        wanted(Task::Backlog, bench.backlogs),
        wanted(Task::BaseBackup, bench.base_backups),
        wanted(Task::BaseBackup, bench.restores),
    ];
    tables.into_iter().flatten().collect()
}

impl Bench<'_> {
    fn measure_rounds(&mut self) {
        let (options, rounds) = (self.options, self.options.rounds);
        for round in 1..=rounds {
            println!("round {round} of {rounds}: what no tool can be faster than ...");
            if options.wants(Task::Backlog) {
                let drained = bare::compress(&self.cluster, &self.backlog);
                self.add_backlog(bare::COMPRESSED, &drained);
            }
            if options.wants(Task::BaseBackup) {
                self.measure_disk();
            }
            let mut entries = entries(options);
            // The first has the colder caches: turn the order round.
            if round % 2 == 0 {
                entries.reverse();
            }
            for entry in entries {
                let mut contender = entry(&self.cluster);
                let name = contender.archiver().name();
                let takes_part =
                    options.wants(Task::Backlog) || matches!(contender, Contender::All(_));
                if takes_part && options.wants_tool(&name) {
                    println!("round {round} of {rounds}: {name} ...");
                    self.measure(&mut contender);
                }
            }
        }
    }

    fn measure(&mut self, contender: &mut Contender) {
        let archiver = contender.archiver();
        self.backlog.make_ready(archiver, &mut self.cluster);
        if self.options.wants(Task::Backlog) {
            let drained = self.backlog.drain(archiver, &self.cluster);
            let name = archiver.name();
            self.add_backlog(&name, &drained);
        } else {
            backlog::begin(archiver, &self.cluster);
        }
        if let Contender::All(tool) = contender
            && self.options.wants(Task::BaseBackup)
        {
            self.measure_base_backup(tool.as_ref());
        }
    }

    fn measure_base_backup(&mut self, tool: &dyn BackupTool) {
        let before = tool.stored_backup_bytes();
        disk::settle(&self.cluster);
        let cost = meter::measure(tool.watched(), || tool.back_up(&self.cluster));
        let stored = tool.stored_backup_bytes() - before;
        let largest = cost.memory.largest_of(BACKUP_WORKER);
        self.base_backups.add(&tool.name(), figures(&cost, largest, self.data_bytes, Some(stored)));
        println!("    base backup: {cost}");

        let scratch = Scratch::new();
        let target = scratch.create("restored");
        // No server takes part in it.
        let program = Watched { server_processes: &[], ..tool.watched() };
        disk::sync();
        let cost = meter::measure(program, || tool.restore(&target));
        let largest = cost.memory.largest();
        self.restores.add(&tool.name(), figures(&cost, largest, self.data_bytes, Some(stored)));
        println!("    restore: {cost}");
    }

    /// What the disk and lz4 make of the same files.
    fn measure_disk(&mut self) {
        disk::settle(&self.cluster);
        let files = DataFiles::of(self.cluster.data_directory());
        for (name, measured) in
            [(disk::WRITTEN, disk::write(&files)), (disk::COMPRESSED, disk::compress(&files))]
        {
            println!("    {name}: {measured}");
            self.base_backups.add(name, figures(&measured, None, self.data_bytes, None));
        }
        let tar = disk::Tar::of(self.cluster.data_directory());
        for (name, (measured, stored)) in
            [(disk::UNPACKED, tar.unpack()), (disk::DECOMPRESSED, tar.decompress_and_unpack())]
        {
            println!("    {name}: {measured}");
            self.restores.add(name, figures(&measured, None, self.data_bytes, Some(stored)));
        }
    }

    fn add_backlog(&mut self, name: &str, drained: &Drained) {
        println!("    backlog: {}", drained.cost);
        self.backlogs.add(name, drained.figures(&self.backlog));
    }
}

/// `raw_bytes` went in or came out; `stored_bytes` of a store held them.
fn figures(
    cost: &Cost,
    largest: Option<u64>,
    raw_bytes: u64,
    stored_bytes: Option<u64>,
) -> Vec<(&'static str, f64)> {
    let mut figures = vec![
        ("wall_s", cost.wall.as_secs_f64()),
        ("mb_per_s", megabytes(raw_bytes) / cost.wall.as_secs_f64()),
        ("cpu_s", cost.cpu.as_secs_f64()),
        ("memory_mb", megabytes(cost.memory.sum)),
    ];
    let largest = largest.or_else(|| cost.memory.largest());
    figures.extend(largest.map(|bytes| ("largest_mb", megabytes(bytes))));
    if let Some(bytes) = stored_bytes {
        figures.push(("stored_mb", megabytes(bytes)));
        figures.push(("stored_of_raw", bytes as f64 / raw_bytes as f64));
    }
    figures
}

/// 10^6 bytes.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
