//! What is measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// A thing that an administrator waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// WAL segments that wait are archived.
    Backlog,
    /// A segment is archived while nothing else waits.
    Acknowledge,
    /// A base backup is taken, and restored.
    BaseBackup,
    /// A cluster recovers from archived WAL.
    Replay,
    /// A large archive is looked at, and most of it is deleted.
    Catalogue,
    /// What full-page images cost, by wal_compression.
    Images,
    /// Some pages of a cluster change, and an incremental base backup is taken, and restored,
    /// on each PostgreSQL, with each way to know what has changed.
    Incremental,
    /// A backlog, a base backup and a restore, encrypted and not.
    Encryption,
}

/// Measures wal_e against pgBackRest, wal-rus and bare tools, and prints medians.
#[derive(Debug, Parser)]
#[command(name = "wal-e-bench")]
pub struct Options {
    /// What is measured; everything when not given. May be given again.
    #[arg(long = "task", value_enum)]
    tasks: Vec<Task>,

    /// The least number of WAL segments, of 16 MB, in the backlog and for replay.
    #[arg(long, env = "WALE_BENCH_SEGMENTS", default_value_t = 256)]
    pub segments: usize,

    /// pgbench's scale; 110 is a database of 1.6 GB.
    #[arg(long, env = "WALE_BENCH_SCALE", default_value_t = 110)]
    pub scale: u32,

    /// How often each task is measured; the tables have medians.
    #[arg(long, env = "WALE_BENCH_ROUNDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Milliseconds that are added to each request to the S3 server; a row of
    /// the backlog and of replay for each.
    #[arg(long = "latency", value_delimiter = ',', default_values_t = [0, 50, 100])]
    pub latencies_ms: Vec<u64>,

    /// The segments that are archived one at a time.
    #[arg(long, env = "WALE_BENCH_ACKNOWLEDGEMENTS", default_value_t = 50)]
    pub acknowledgements: usize,

    /// The transactions of pgbench that are run with each wal_compression.
    #[arg(long, env = "WALE_BENCH_TRANSACTIONS", default_value_t = 200_000)]
    pub transactions: u32,

    /// The WAL segments of the archive that is looked at.
    #[arg(long, env = "WALE_BENCH_ARCHIVE_SEGMENTS", default_value_t = 1_000_000)]
    pub archive_segments: u64,

    /// The base backups of the archive that is looked at.
    #[arg(long, env = "WALE_BENCH_ARCHIVE_BACKUPS", default_value_t = 1000)]
    pub archive_backups: u64,

    /// How many of a hundred pages change before an incremental base backup.
    #[arg(long = "changed", value_name = "PERCENT", value_delimiter = ',')]
    #[arg(default_values_t = [1.0, 5.0, 30.0], value_parser = percent)]
    pub changed_percents: Vec<f64>,

    /// Only contenders whose name in the table contains this, of the backlog, base backup,
    /// restore and replay, and of incremental backups the ways to know what has changed, such
    /// as "WAL summaries"; bare lz4, cat, tar, and replay by cp are measured all the same.
    #[arg(long)]
    only: Option<String>,

    /// Also writes all values of all rounds, the machine and the versions to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0);
    percent.ok_or_else(|| "it is more than 0, and at most 100".to_owned())
}

impl Options {
    /// Whether a task is wanted.
    pub fn wants(&self, task: Task) -> bool {
        self.tasks.is_empty() || self.tasks.contains(&task)
    }

    /// Whether a tool is wanted.
    pub fn wants_tool(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|part| name.contains(part))
    }

    /// The latencies of the S3 server.
    pub fn latencies(&self) -> impl Iterator<Item = Duration> {
        self.latencies_ms.iter().copied().map(Duration::from_millis)
    }
}
