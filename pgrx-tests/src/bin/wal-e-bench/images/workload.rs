//! The same transactions on copies of the same cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run_within};
use wal_e_e2e::scratch::Scratch;

use crate::recovery::lsn;
use crate::{SERVER, disk, meter};

/// A checkpoint comes before each of so many parts of the workload, so that pages have
/// images again.
const CHECKPOINTS: u32 = 4;

/// Sessions of pgbench.
const SESSIONS: u32 = 4;

/// The longest that one command may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A cluster with the tables of pgbench, stopped.
pub struct Base {
    cluster: Cluster,
    compressions: Vec<String>,
}

impl Base {
    /// Loads it.
    pub fn load(scale: u32) -> Base {
        let mut cluster = Cluster::build(PgVersion::oldest())
            .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
            // The copies need no WAL of the load.
            .configuration("wal_keep_size = 0")
            .start();
        cluster.pgbench_init(scale);
        cluster.archive_current_wal();
        cluster.execute("CHECKPOINT");
        let known = cluster
            .query("SELECT unnest(enumvals) FROM pg_settings WHERE name = 'wal_compression'");
        let known: Vec<String> = known.into_iter().flatten().collect();
        let wanted = ["off", "pglz", "lz4", "zstd"].into_iter();
        let compressions = wanted.filter(|name| known.iter().any(|known| known == name));
        let compressions = compressions.map(str::to_owned).collect();
        cluster.stop(StopMode::Fast);
        Base { cluster, compressions }
    }

    /// The values of `wal_compression` that the server was built with.
    pub fn compressions(&self) -> Vec<String> {
        self.compressions.clone()
    }

    /// Its files.
    pub fn directory(&self) -> &Path {
        self.cluster.data_directory()
    }

    /// A running copy with these lines of `postgresql.conf`, which keeps all its WAL.
    pub fn copy(&self, settings: &[&str]) -> Cluster {
        let scratch = Scratch::new();
        let data: PathBuf = scratch.path().join("data");
        let mut copy = ServerUser::get().command("cp");
        run_within(PATIENCE, copy.arg("-a").arg(self.directory()).arg(&data)).success();
        let mut cluster = Cluster::adopt(PgVersion::oldest(), scratch, data);
        cluster.configure("wal_keep_size = '64GB'");
        for line in settings {
            cluster.configure(line);
        }
        disk::sync();
        cluster.start();
        cluster
    }
}

/// What the workload left in `pg_wal`, and what it cost.
pub struct Written {
    begin: u64,
    /// The end of its WAL.
    pub end: u64,
    /// Bytes of full-page images, as they are in the WAL.
    pub image_bytes: u64,
    /// Of the server's processes.
    pub server_cpu: Duration,
    pub wall: Duration,
}

impl Written {
    /// Runs so many transactions.
    pub fn by(cluster: &Cluster, transactions: u32) -> Written {
        let begin = current_lsn(cluster);
        let postmaster = postmaster(cluster);
        let cpu_before = meter::cpu_of(postmaster);
        let began = Instant::now();
        for part in 0..CHECKPOINTS {
            cluster.execute("CHECKPOINT");
            let each = transactions / CHECKPOINTS / SESSIONS;
            let mut pgbench = cluster.client_program("pgbench");
            pgbench.args(["--no-vacuum", "--jobs=2", "postgres"]);
            pgbench.arg(format!("--client={SESSIONS}")).arg(format!("--transactions={each}"));
            pgbench.arg(format!("--random-seed={part}"));
            run_within(PATIENCE, &mut pgbench).success();
        }
        let wall = began.elapsed();
        let server_cpu = meter::cpu_of(postmaster).saturating_sub(cpu_before);
        let end = current_lsn(cluster);
        let image_bytes = image_bytes(cluster, &begin, &end);
        let [begin, end] = [begin, end].map(|text| lsn(&text).expect("it is an LSN"));
        Written { begin, end, image_bytes, server_cpu, wall }
    }

    /// Bytes of its WAL.
    pub fn wal_bytes(&self) -> u64 {
        self.end - self.begin
    }
}

/// The end of what is written out: a commit need not have waited for that.
fn current_lsn(cluster: &Cluster) -> String {
    // The record of a transaction that is waited for comes after all others.
    cluster.execute("SET synchronous_commit = on; SELECT txid_current()");
    cluster.query_one("SELECT pg_current_wal_flush_lsn()")
}

fn postmaster(cluster: &Cluster) -> u32 {
    let file = cluster.data_directory().join("postmaster.pid");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
    pid.unwrap_or_else(|| panic!("no process id in {}", file.display()))
}

/// The full-page images from one LSN to another, as `pg_waldump` adds them up.
fn image_bytes(cluster: &Cluster, begin: &str, end: &str) -> u64 {
    let mut waldump = cluster.installation().command("pg_waldump");
    waldump.args(["--stats", "--start", begin, "--end", end, "--path"]);
    waldump.arg(cluster.data_directory().join("pg_wal"));
    let printed = run_within(PATIENCE, &mut waldump).success();
    let total = printed.lines().find(|line| line.starts_with("Total"));
    let total = total.unwrap_or_else(|| panic!("no total in\n{printed}"));
    // Records, their bytes without images, images, both together; shares are in brackets.
    let numbers: Vec<u64> = total.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    numbers[2]
}
