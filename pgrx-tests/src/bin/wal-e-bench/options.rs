//! What is measured.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// A thing that an administrator waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// WAL segments that wait are archived.
    Backlog,
    /// A base backup is taken, and restored.
    BaseBackup,
    /// A cluster recovers from archived WAL.
    Replay,
    /// A large archive is looked at, and most of it is deleted.
    Catalogue,
}

/// Measures wal_e against cp, pgBackRest and bare lz4 on the same cluster.
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

    /// How often the whole is measured.
    #[arg(long, env = "WALE_BENCH_ROUNDS", default_value_t = 1)]
    pub rounds: u32,

    /// Milliseconds that are added to each request to the S3 server; a row of
    /// the backlog and of replay for each.
    #[arg(long = "latency", value_delimiter = ',', default_values_t = [0, 50, 100])]
    latencies_ms: Vec<u64>,

    /// The WAL segments of the archive that is looked at.
    #[arg(long, env = "WALE_BENCH_ARCHIVE_SEGMENTS", default_value_t = 1_000_000)]
    pub archive_segments: u64,

    /// The base backups of the archive that is looked at.
    #[arg(long, env = "WALE_BENCH_ARCHIVE_BACKUPS", default_value_t = 1000)]
    pub archive_backups: u64,

    /// Only tools whose name in the table contains this.
    #[arg(long)]
    only: Option<String>,
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
