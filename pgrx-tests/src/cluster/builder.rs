//! How a cluster is made.

use crate::installation::{Installation, PgVersion};
use crate::process::run;
use crate::scratch::Scratch;

use super::{Cluster, SUPERUSER};

/// How a cluster is made: options of initdb and lines of configuration.
#[derive(Debug)]
pub struct ClusterBuilder {
    version: PgVersion,
    wal_segment_size_mb: u32,
    data_checksums: bool,
    group_access: bool,
    configuration: Vec<String>,
}

impl ClusterBuilder {
    pub(super) fn new(version: PgVersion) -> ClusterBuilder {
        ClusterBuilder {
            version,
            wal_segment_size_mb: 16,
            data_checksums: true,
            group_access: false,
            configuration: Vec::new(),
        }
    }

    /// `initdb --wal-segsize`, in megabytes; 16 when not called.
    pub fn wal_segment_size_mb(mut self, megabytes: u32) -> Self {
        self.wal_segment_size_mb = megabytes;
        self
    }

    /// A cluster without data page checksums; with them when not called.
    pub fn without_data_checksums(mut self) -> Self {
        self.data_checksums = false;
        self
    }

    /// A cluster that the group of its user may read.
    pub fn group_access(mut self) -> Self {
        self.group_access = true;
        self
    }

    /// A line of `postgresql.conf`.
    pub fn configuration(mut self, line: impl Into<String>) -> Self {
        self.configuration.push(line.into());
        self
    }

    /// Lines of `postgresql.conf`.
    pub fn configuration_lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.configuration.extend(lines);
        self
    }

    /// The configuration of a cluster that archives with wal_e.
    pub fn archiving(self) -> Self {
        self.configuration("shared_preload_libraries = 'wal_e'")
            .configuration("archive_mode = on")
            .configuration("archive_library = 'wal_e'")
    }

    /// Makes the cluster and starts it.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = self.create();
        cluster.start();
        cluster
    }

    /// Makes the cluster.
    #[track_caller]
    pub fn create(self) -> Cluster {
        let installation = Installation::get(self.version);
        let scratch = Scratch::new();
        let data_directory = scratch.path().join("data");
        let mut initdb = installation.command("initdb");
        initdb
            .args([
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C",
                "--auth=trust",
            ])
            .arg(format!("--username={SUPERUSER}"))
            .arg(format!("--wal-segsize={}", self.wal_segment_size_mb))
            .arg("--pgdata")
            .arg(&data_directory);
        if self.group_access {
            initdb.arg("--allow-group-access");
        }
        if self.data_checksums {
            initdb.arg("--data-checksums");
        } else if self.version.has_checksums_by_default() {
            initdb.arg("--no-data-checksums");
        }
        run(&mut initdb).success();
        let cluster = Cluster::adopt(self.version, scratch, data_directory);
        for line in BASE_CONFIGURATION {
            cluster.configure(line);
        }
        for line in &self.configuration {
            cluster.configure(line);
        }
        cluster
    }
}

/// Small, quiet and quick. The tests kill processes, never the machine, so
/// nothing is lost by leaving fsync out.
const BASE_CONFIGURATION: [&str; 9] = [
    "fsync = off",
    "shared_buffers = '32MB'",
    "max_wal_size = '256MB'",
    "max_connections = 30",
    "jit = off",
    "log_line_prefix = '%m [%p] %b '",
    "log_checkpoints = off",
    "restart_after_crash = on",
    "timezone = 'UTC'",
];
