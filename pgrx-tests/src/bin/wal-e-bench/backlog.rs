//! WAL segments that wait to be archived, the same ones for each contender.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wal_e_e2e::cluster::Cluster;

use crate::contender::Archiver;
use crate::load::write_wal;
use crate::meter::{self, Cost};
use crate::on_one_cluster::megabytes;
use crate::table::{Column, Form, Ratio, against};
use crate::{bare, pgbackrest, wal_rus};

/// The longest that a backlog may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The archiver, as [`meter::Watched`] names it.
pub const ARCHIVER: &str = "postgres: archiver";

/// A table of backlogs.
pub const FORM: Form = Form {
    task: "backlog",
    columns: &[
        Column::with_spread("wall_s", "wall s", 2),
        Column::new("segments_per_s", "segments/s", 1),
        Column::new("mb_per_s", "MB/s", 0),
        Column::new("cpu_s_per_gb", "CPU s/GB", 2),
        Column::new("memory_mb", "memory MB", 0),
        Column::new("largest_mb", "largest MB", 0),
        Column::new("stored_of_raw", "stored/raw", 2),
    ],
    ratios: &[
        Ratio {
            key: "cpu_of_lz4",
            title: "x lz4 CPU",
            column: "cpu_s_per_gb",
            against: |name| against(name != bare::COMPRESSED, &[bare::COMPRESSED]),
        },
        Ratio {
            key: "rate_of_pgbackrest",
            title: "x pgBackRest",
            column: "segments_per_s",
            against: |name| against(name == "wal_e (file://)", &[pgbackrest::AHEAD]),
        },
        Ratio {
            key: "rate_of_wal_rus",
            title: "x wal-rus",
            column: "segments_per_s",
            against: wal_rus_at_the_same_latency,
        },
        Ratio {
            key: "cpu_of_wal_rus",
            title: "x its CPU",
            column: "cpu_s_per_gb",
            against: wal_rus_at_the_same_latency,
        },
        Ratio {
            key: "rate_without_latency",
            title: "x +0 ms",
            column: "segments_per_s",
            against: the_same_without_latency,
        },
    ],
    note: "x lz4 CPU: of CPU s/GB, less is better. x pgBackRest (async), x wal-rus (same latency), x +0 ms: of \
           segments/s.\nx its CPU: of CPU s/GB, against wal-rus. pgBackRest speaks S3 over TLS only, so it has \
           no row there.",
};

fn wal_rus_at_the_same_latency(name: &str) -> Vec<String> {
    name.strip_prefix("wal_e ")
        .map(|store| format!("{} {store}", wal_rus::NAME))
        .into_iter()
        .collect()
}

fn the_same_without_latency(name: &str) -> Vec<String> {
    let begin = name.split_once(", proxy +").map(|(begin, _)| begin);
    let other = begin.map(|begin| format!("{begin}, proxy +0 ms)"));
    other.filter(|other| other != name).into_iter().collect()
}

/// What it took to archive a backlog.
#[derive(Debug)]
pub struct Drained {
    pub cost: Cost,
    pub stored_bytes: u64,
}

impl Drained {
    /// The figures of [`FORM`].
    pub fn figures(&self, backlog: &Backlog) -> Vec<(&'static str, f64)> {
        let wall = self.cost.wall.as_secs_f64();
        let raw_bytes = backlog.bytes();
        let memory = &self.cost.memory;
        let mut figures = vec![
            ("wall_s", wall),
            ("segments_per_s", backlog.len() as f64 / wall),
            ("mb_per_s", megabytes(raw_bytes) / wall),
            ("cpu_s_per_gb", self.cost.cpu.as_secs_f64() * 1e9 / raw_bytes as f64),
            ("memory_mb", megabytes(memory.sum)),
            ("stored_of_raw", self.stored_bytes as f64 / raw_bytes as f64),
        ];
        let largest = memory.largest_of(ARCHIVER).or_else(|| memory.largest());
        figures.extend(largest.map(|bytes| ("largest_mb", megabytes(bytes))));
        figures
    }
}

/// Has a contender begin to archive.
pub fn begin(archiver: &dyn Archiver, cluster: &Cluster) {
    cluster.configure(&archiver.setting_to_begin());
    cluster.reload();
}

/// Names of segments that are still in `pg_wal`.
#[derive(Debug)]
pub struct Backlog {
    segments: BTreeSet<String>,
    segment_bytes: u64,
}

impl Backlog {
    /// No segment.
    pub fn empty() -> Backlog {
        Backlog { segments: BTreeSet::new(), segment_bytes: 0 }
    }

    /// Has pgbench write until at least `count` segments are full.
    pub fn write(cluster: &mut Cluster, count: usize) -> Backlog {
        Backlog::of(cluster, |cluster| {
            write_wal(cluster, count, PATIENCE, || cluster.ready_files().len());
        })
    }

    /// The segments that `write` fills, and the one that it ends in.
    pub fn of(cluster: &mut Cluster, write: impl FnOnce(&mut Cluster)) -> Backlog {
        let settled = cluster.switch_wal();
        cluster.wait_until_archived(&settled);
        cluster.configure("archive_command = ''");
        cluster.reload();
        write(cluster);
        cluster.switch_wal();
        cluster.execute("CHECKPOINT");
        let segments = cluster.ready_files();
        let segment_bytes = cluster
            .query_one("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
            .parse()
            .expect("a size is a number");
        Backlog { segments, segment_bytes }
    }

    /// How many segments.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(String::as_str)
    }

    /// Their size together.
    pub fn bytes(&self) -> u64 {
        self.segments.len() as u64 * self.segment_bytes
    }

    /// Has all of it wait for a contender, which does not archive yet.
    pub fn make_ready(&self, archiver: &mut dyn Archiver, cluster: &mut Cluster) {
        self.stop_archiving(cluster);
        for line in archiver.settings_idle() {
            cluster.configure(&line);
        }
        cluster.restart();
        archiver.prepare(cluster);
        self.restore(cluster);
    }

    /// Has the contender that is [ready](Self::make_ready) archive all of it.
    pub fn drain(&self, archiver: &dyn Archiver, cluster: &Cluster) -> Drained {
        let before = archiver.stored_wal_bytes();
        let cost = meter::measure(archiver.watched(), || {
            begin(archiver, cluster);
            self.wait_until_archived(cluster);
        });
        Drained { cost, stored_bytes: archiver.stored_wal_bytes() - before }
    }

    /// Sets both ways of archiving to none. The server may still run.
    fn stop_archiving(&self, cluster: &Cluster) {
        cluster.configure("shared_preload_libraries = ''");
        cluster.configure("archive_library = ''");
        cluster.configure("archive_command = ''");
        cluster.reload();
    }

    /// Has exactly this backlog wait again. Nothing may be archiving now.
    fn restore(&self, cluster: &Cluster) {
        let status = cluster.data_directory().join("pg_wal/archive_status");
        let mark = |name: &str, from: &str, to: &str| {
            let path = |suffix: &str| -> PathBuf { status.join(format!("{name}{suffix}")) };
            fs::rename(path(from), path(to))
                .unwrap_or_else(|error| panic!("could not mark {name} as {to}: {error}"));
        };
        for name in cluster.ready_files().difference(&self.segments) {
            mark(name, ".ready", ".done");
        }
        for name in cluster.done_files().intersection(&self.segments) {
            mark(name, ".done", ".ready");
        }
        assert_eq!(cluster.ready_files(), self.segments, "segments of the backlog are gone");
    }

    /// Waits until all of it is archived.
    fn wait_until_archived(&self, cluster: &Cluster) {
        let begin = Instant::now();
        while !cluster.ready_files().is_disjoint(&self.segments) {
            assert!(begin.elapsed() < PATIENCE, "still not archived:\n{}", cluster.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
