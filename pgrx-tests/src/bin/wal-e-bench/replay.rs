//! Replay of archived WAL: a cluster recovers through a `restore_command`.
//!
//! The same base backup and the same segments for each contender.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run_within;
use wal_e_e2e::restore::restore_command;
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wal_e::wal_e;

use crate::load::write_wal;
use crate::meter::Cost;
use crate::on_one_cluster::megabytes;
use crate::options::Options;
use crate::recovery;
use crate::table::{Column, Form, Ratio, Table, against};

/// The longest that anything here may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(3600);

const FORM: Form = Form {
    task: "replay",
    columns: &[
        Column::with_spread("wall_s", "wall s", 2),
        Column::new("segments_per_s", "segments/s", 1),
        Column::new("cpu_s", "CPU s", 1),
        Column::new("memory_mb", "memory MB", 0),
        Column::new("largest_mb", "largest MB", 0),
    ],
    ratios: &[Ratio {
        key: "time_of_cp",
        title: "x cp's time",
        column: "wall_s",
        against: |name| against(name != CP, &[CP]),
    }],
    note: "From the start of the server to the end of redo. Less of cp's time is better. largest: one process of \
           wal-e, with what it fetches ahead.",
};

/// The contender that the others are held against: nothing is compressed, and all is on one disk.
const CP: &str = "cp";

/// As a production server would have it where it matters for replay.
const SERVER: [&str; 7] = [
    "fsync = on",
    "shared_buffers = '512MB'",
    "max_wal_size = '16GB'",
    "checkpoint_timeout = '1d'",
    "autovacuum = off",
    "synchronous_commit = off",
    "hot_standby = off",
];

/// A base backup, and the segments that were written after it.
struct Material {
    base: PathBuf,
    segments: PathBuf,
    names: Vec<String>,
    // Removed with this value.
    _scratch: Scratch,
}

impl Material {
    fn write(options: &Options) -> Material {
        let scratch = Scratch::new();
        let segments = scratch.create("segments");
        let mut cluster = Cluster::build(PgVersion::oldest())
            .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
            .configuration("archive_mode = on")
            .configuration("archive_command = 'true'")
            .start();
        cluster.pgbench_init(options.scale);
        cluster.execute("CHECKPOINT");
        cluster.configure(&format!("archive_command = 'cp %p {}/%f'", segments.display()));
        cluster.reload();
        cluster.archive_current_wal();
        let base = scratch.path().join("base");
        let mut backup = cluster.client_program("pg_basebackup");
        backup.args(["--checkpoint=fast", "--wal-method=none", "--no-sync", "--pgdata"]).arg(&base);
        run_within(PATIENCE, &mut backup).success();
        let before = names_in(&segments).len();
        let written = || names_in(&segments).len() - before;
        write_wal(&cluster, options.segments, PATIENCE, written);
        cluster.archive_current_wal();
        cluster.stop(StopMode::Fast);
        Material { base, names: names_in(&segments), segments, _scratch: scratch }
    }

    /// Puts the segments into an archive.
    fn push(&self, archive: &Archive) {
        for name in &self.names {
            let mut push = wal_e(archive);
            push.args(["wal-push", "-p", "1"]).arg(self.segments.join(name));
            run_within(PATIENCE, &mut push).success();
        }
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.len() == 24).collect();
    names.sort();
    names
}

/// Where the WAL comes from.
struct Contender {
    name: String,
    restore_command: String,
    // Lives as long as the measurements.
    _archive: Option<Archive>,
}

/// All who take part.
fn contenders(material: &Material, options: &Options) -> Vec<Contender> {
    let cp = format!("cp {}/%f %p", material.segments.display());
    let mut contenders =
        vec![Contender { name: CP.to_owned(), restore_command: cp, _archive: None }];
    let mut add = |name: String, archive: Archive, latency: Duration| {
        if options.wants_tool(&name) {
            material.push(&archive);
            if !latency.is_zero() {
                archive.proxy().set(Fault::Delay(latency));
            }
            let restore_command = restore_command(&archive);
            contenders.push(Contender { name, restore_command, _archive: Some(archive) });
        }
    };
    add("wal-fetch (file://)".to_owned(), Archive::file(), Duration::ZERO);
    for latency in options.latencies() {
        let name = format!("wal-fetch (s3://, +{} ms)", latency.as_millis());
        add(name, Archive::s3(), latency);
    }
    contenders
}

/// Measures all contenders, in turns.
pub fn measure(options: &Options) -> Table {
    println!("replay: writing a base backup and at least {} WAL segments ...", options.segments);
    let material = Material::write(options);
    let segments = material.names.len();
    println!("replay: archiving {segments} segments ...");
    let mut contenders = contenders(&material, options);
    let mut table = Table::new(&FORM, format!("replay of {segments} segments"));
    for round in 1..=options.rounds {
        for contender in &contenders {
            let recovered = recovery::measure(&material.base, &contender.restore_command);
            println!("round {round} of {}: {}: {}", options.rounds, contender.name, recovered.cost);
            table.add(&contender.name, figures(&recovered.cost, segments));
        }
        // As with the backlog, nobody is always the first.
        contenders.reverse();
    }
    table
}

fn figures(cost: &Cost, segments: usize) -> Vec<(&'static str, f64)> {
    let wall = cost.wall.as_secs_f64();
    let mut figures = vec![
        ("wall_s", wall),
        ("segments_per_s", segments as f64 / wall),
        ("cpu_s", cost.cpu.as_secs_f64()),
        ("memory_mb", megabytes(cost.memory.sum)),
    ];
    figures.extend(cost.memory.largest().map(|bytes| ("largest_mb", megabytes(bytes))));
    figures
}
