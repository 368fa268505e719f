//! Replay of archived WAL: a cluster recovers through a `restore_command`.
//!
//! The same base backup and the same segments for each contender. What counts is
//! the time from the start of the server to the end of redo; the checkpoint that
//! follows has nothing to do with where the WAL came from.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run_within};
use wal_e_e2e::restore::restore_command;
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wait::wait_until;
use wal_e_e2e::wal_e::wal_e;

use crate::load::write_wal;
use crate::options::Options;

/// The longest that anything here may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(3600);

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

    /// Recovers a copy of the base backup; says how long that took.
    fn recover(&self, restore_command: &str) -> Duration {
        let scratch = Scratch::new();
        let data = scratch.path().join("data");
        let mut copy = ServerUser::get().command("cp");
        run_within(PATIENCE, copy.arg("-a").arg(&self.base).arg(&data)).success();
        let signal = data.join("recovery.signal");
        fs::write(&signal, "").expect("the directory is ours");
        ServerUser::get().own(&signal);
        let mut cluster = Cluster::adopt(PgVersion::oldest(), scratch, data);
        cluster.configure("archive_mode = off");
        cluster.configure(&format!("restore_command = '{restore_command}'"));
        // What others left to be written is not this one's business.
        run_within(PATIENCE, &mut ServerUser::get().command("sync")).success();
        let began = Instant::now();
        cluster.spawn();
        wait_until("the end of redo", PATIENCE, || {
            assert!(cluster.is_running(), "recovery failed:\n{}", cluster.log_tail());
            cluster.log().contains("redo done at").then_some(())
        });
        let elapsed = began.elapsed();
        cluster.wait_for_end_of_recovery();
        cluster.stop(StopMode::Fast);
        elapsed
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

/// The first is what the others are held against: nothing is compressed, and all is
/// on one disk.
fn contenders(material: &Material, options: &Options) -> Vec<Contender> {
    let cp = format!("cp {}/%f %p", material.segments.display());
    let mut contenders =
        vec![Contender { name: "cp".to_owned(), restore_command: cp, _archive: None }];
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
pub fn measure(options: &Options) -> ReplayTable {
    println!("replay: writing a base backup and at least {} WAL segments ...", options.segments);
    let material = Material::write(options);
    println!("replay: archiving {} segments ...", material.names.len());
    let contenders = contenders(&material, options);
    let mut table = ReplayTable { segments: material.names.len(), rows: Vec::new() };
    for contender in &contenders {
        table.rows.push((contender.name.clone(), Vec::new()));
    }
    for round in 1..=options.rounds {
        for (row, contender) in table.rows.iter_mut().zip(&contenders) {
            let elapsed = material.recover(&contender.restore_command);
            println!("round {round}: {}: {:.1} s", contender.name, elapsed.as_secs_f64());
            row.1.push(elapsed);
        }
    }
    table
}

/// Times of replay, the shortest of all rounds.
pub struct ReplayTable {
    segments: usize,
    rows: Vec<(String, Vec<Duration>)>,
}

impl fmt::Display for ReplayTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("replay of {} segments", self.segments);
        writeln!(f, "{title:32} {:>8} {:>10} {:>8}", "wall s", "segments/s", "x cp")?;
        let shortest = |times: &[Duration]| times.iter().min().copied().unwrap_or_default();
        let of_cp = self.rows.first().map(|(_, times)| shortest(times)).unwrap_or_default();
        for (name, times) in &self.rows {
            let wall = shortest(times).as_secs_f64();
            writeln!(
                f,
                "{name:32} {wall:8.1} {:10.1} {:8.2}",
                self.segments as f64 / wall,
                wall / of_cp.as_secs_f64()
            )?;
        }
        Ok(())
    }
}
