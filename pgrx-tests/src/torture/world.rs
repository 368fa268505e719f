//! The servers of a history, their archive, and what is known of both.

use std::time::Duration;

use time::OffsetDateTime;

use super::model::{Model, Rows};
use super::waldump::microseconds;
use crate::archive::Archive;
use crate::cluster::{Cluster, StopMode};
use crate::installation::PgVersion;
use crate::keys::Keys;
use crate::wait::wait_until;
use crate::wal_e::run_wal_e;

/// How long an archiver may take for what is ready; the postmaster starts one that
/// was killed only after ten seconds.
const ARCHIVING_PATIENCE: Duration = Duration::from_secs(60);

/// A data directory and its server.
pub struct Node {
    /// Its letter in the script.
    pub name: char,
    /// Directory and server.
    pub cluster: Cluster,
    /// What it is.
    pub role: Role,
    /// The branch on which it writes, or that it follows.
    pub branch: usize,
    /// Whether its archiver has met another's file in the place of its own.
    pub stuck: bool,
    /// Tablespaces that it has, in its scratch.
    pub tablespaces: Vec<String>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Running,
    /// Follows the node of this index.
    Standby(usize),
    /// Was shut down in order.
    Stopped,
    /// Was killed, or stopped at once.
    Dead,
    /// Was a standby, and has ended by itself: it cannot follow.
    Lost,
}

/// All of it.
pub struct World {
    /// Where all servers archive.
    pub archive: Archive,
    /// With what that is encrypted.
    pub keys: Keys,
    /// The servers, the first of all first.
    pub nodes: Vec<Node>,
    /// What was written.
    pub model: Model,
    /// What was done, a line each.
    pub script: Vec<String>,
    /// Promises that were broken.
    pub broken: Vec<String>,
    /// Objects that were taken away or damaged.
    pub harmed: Vec<String>,
    /// Base backups that are marked as permanent.
    pub permanent: Vec<String>,
    next_row: u32,
}

impl World {
    /// One running server that archives.
    pub fn new(archive: Archive, keys: Keys) -> World {
        let lines = CONFIGURATION.iter().map(|line| (*line).to_owned());
        let cluster = Cluster::build(PgVersion::oldest())
            .wal_segment_size_mb(1)
            .configuration_lines(lines)
            .start_archiving_to(&archive);
        cluster.execute("CREATE TABLE moments (n int, filler text)");
        let mut model = Model::default();
        let now = now();
        let branch = model.add_branch(1, Rows::new(), (now, now));
        let (role, tablespaces) = (Role::Running, Vec::new());
        let first = Node { name: 'a', cluster, role, branch, stuck: false, tablespaces };
        let (script, broken) = (Vec::new(), Vec::new());
        let (harmed, permanent) = (Vec::new(), Vec::new());
        let nodes = vec![first];
        World { archive, keys, nodes, model, script, broken, harmed, permanent, next_row: 1 }
    }

    /// Adds a line to the script.
    pub fn note(&mut self, line: impl Into<String>) {
        self.script.push(line.into());
    }

    /// Adds a broken promise.
    pub fn breach(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// The number of a new row.
    pub fn new_row(&mut self) -> u32 {
        self.next_row += 1;
        self.next_row - 1
    }

    /// Adds a node.
    pub fn add_node(&mut self, cluster: Cluster, role: Role, branch: usize) -> usize {
        let name = char::from(b'a' + u8::try_from(self.nodes.len()).unwrap_or(25).min(25));
        let tablespaces = Vec::new();
        self.nodes.push(Node { name, cluster, role, branch, stuck: false, tablespaces });
        self.nodes.len() - 1
    }

    /// The nodes for which `wanted` holds.
    pub fn nodes_where(&self, wanted: impl Fn(&Node) -> bool) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| wanted(&self.nodes[*index])).collect()
    }

    /// The nodes that take writes.
    pub fn running(&self) -> Vec<usize> {
        self.nodes_where(|node| node.role == Role::Running)
    }

    /// Whether a running node has tablespaces, those among them that a restored copy came with.
    pub fn has_tablespaces(&self, index: usize) -> bool {
        let sql = "SELECT count(*) FROM pg_tablespace WHERE spcname NOT LIKE 'pg_%'";
        self.nodes[index].cluster.query_one(sql) != "0"
    }

    /// Whether a standby follows the node.
    pub fn has_standby(&self, index: usize) -> bool {
        self.nodes.iter().any(|node| node.role == Role::Standby(index))
    }

    /// Waits until all that is ready on a node is archived, or its archiver is in the way
    /// of another's, which only two branches of one timeline may bring about.
    pub fn wait_for_archiver_of(&mut self, index: usize) {
        let node = &self.nodes[index];
        if node.stuck {
            return;
        }
        let failed = || node.cluster.archiver_count("failed_count");
        let (before, limit) = (failed(), ARCHIVING_PATIENCE);
        let stuck = wait_until(&format!("the archiver of {}", node.name), limit, || {
            let done = node.cluster.ready_files().is_empty();
            let stuck = !done && failed() > before;
            (done || stuck).then_some(stuck)
        });
        if stuck {
            let name = node.name;
            let file = node.cluster.last_failed_wal();
            // Its archiver turns to the history file of a promotion before it tries again.
            wait_until(&format!("the history files of {name}"), ARCHIVING_PATIENCE, || {
                let ready = node.cluster.ready_files();
                (!ready.iter().any(|file| file.contains(".history"))).then_some(())
            });
            let timeline = u32::from_str_radix(&file[..8], 16).expect("a file has a timeline");
            let contested = self.model.is_contested(timeline);
            self.nodes[index].stuck = true;
            self.note(format!("    (the archive has another {file} than {name})"));
            if !contested {
                let log = self.nodes[index].cluster.log_tail();
                self.breach(format!("the archiver of {name} cannot go on with {file}:\n{log}"));
            }
        }
    }

    /// The rows that a running node has now.
    pub fn rows_of(&self, index: usize) -> Rows {
        rows_of(&self.nodes[index].cluster)
    }

    /// Stops a node in order.
    pub fn stop(&mut self, index: usize, mode: StopMode) {
        self.nodes[index].cluster.stop(mode);
        self.nodes[index].role = if mode == StopMode::Fast { Role::Stopped } else { Role::Dead };
    }

    /// Whether the program has an option.
    pub fn knows(&self, command: &str, option: &str) -> bool {
        run_wal_e(&self.archive, [command, "--help"]).success().contains(option)
    }
}

/// The rows of a server, which may be in recovery.
pub fn rows_of(cluster: &Cluster) -> Rows {
    let rows = cluster.query("SELECT n FROM moments");
    rows.iter().map(|row| row[0].parse().expect("n is a number")).collect()
}

/// The time in microseconds since 1970.
pub fn now() -> i64 {
    microseconds(OffsetDateTime::now_utc())
}

/// Small; and nothing writes WAL that the model does not know of.
const CONFIGURATION: [&str; 9] = [
    "shared_buffers = '8MB'",
    "autovacuum = off",
    "checkpoint_timeout = '1d'",
    "track_commit_timestamp = on",
    "wal_keep_size = '256MB'",
    "wal_retrieve_retry_interval = '100ms'",
    "hot_standby = on",
    "max_worker_processes = 6",
    "max_connections = 20",
];
