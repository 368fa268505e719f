//! WAL segments that wait to be archived, the same ones for each contender.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wal_e_e2e::cluster::Cluster;

use crate::load::write_wal;

/// The longest that a backlog may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(1800);

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
        let settled = cluster.switch_wal();
        cluster.wait_until_archived(&settled);
        cluster.configure("archive_command = ''");
        cluster.reload();
        write_wal(cluster, count, PATIENCE, || cluster.ready_files().len());
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

    /// Sets both ways of archiving to none. The server may still run.
    pub fn stop_archiving(&self, cluster: &Cluster) {
        cluster.configure("shared_preload_libraries = ''");
        cluster.configure("archive_library = ''");
        cluster.configure("archive_command = ''");
        cluster.reload();
    }

    /// Has exactly this backlog wait again. Nothing may be archiving now.
    pub fn restore(&self, cluster: &Cluster) {
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
    pub fn wait_until_archived(&self, cluster: &Cluster) {
        let begin = Instant::now();
        while !cluster.ready_files().is_disjoint(&self.segments) {
            assert!(begin.elapsed() < PATIENCE, "still not archived:\n{}", cluster.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
