//! The WAL summaries of a server, as wal_e reads them, against what the server says of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use tokio::time::Instant;
use wal_e_core::changed_blocks::summaries::{
    NotTold, Stretch, Uncovered, changed_since, covering, parse,
};
use wal_e_core::changed_blocks::{ChangedBlocks, RelationId};
use wal_e_core::postgres::wal_summary::{self, SummarizedFork};
use wal_e_core::postgres::{Lsn, TimelineId, WalSummaryName};
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::wait::PATIENCE;

const TIMELINE: TimelineId = TimelineId(1);

/// What is done to the database `work`, with a checkpoint after each group. Statements of one
/// text are one transaction.
const WORKLOAD: [&[&str]; 9] = [
    &[
        "CREATE TABLE t (id int PRIMARY KEY, x text) WITH (fillfactor = 50)",
        "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i",
        "CREATE UNLOGGED TABLE u AS SELECT 1 AS x",
        "CREATE INDEX ON u (x)",
    ],
    &["UPDATE t SET x = x || 'y' WHERE id % 500 = 0", "DELETE FROM t WHERE id > 10000"],
    &[
        "VACUUM t",
        "CREATE INDEX ON t (x)",
        "INSERT INTO t SELECT i, '' FROM generate_series(10001, 10100) i",
    ],
    &[
        "CREATE TABLE big (x text)",
        "ALTER TABLE big ALTER x SET STORAGE PLAIN",
        // A page for each, and more than a summary lists one by one.
        "INSERT INTO big SELECT repeat('x', 7000) FROM generate_series(1, 5000)",
    ],
    &["DELETE FROM big WHERE ctid >= '(4500,0)'", "ANALYZE t"],
    &["VACUUM big", "INSERT INTO big SELECT repeat('z', 7000) FROM generate_series(1, 10)"],
    &["VACUUM FULL t", "CREATE TABLE gone AS SELECT 1 AS x", "TRUNCATE u", "CREATE SEQUENCE s"],
    &[
        "DROP TABLE gone",
        "BEGIN; CREATE TABLE never AS SELECT 1 AS x; TRUNCATE t; ROLLBACK",
        "SELECT nextval('s')",
        "CREATE ROLE someone",
    ],
    &["TRUNCATE t, u", "REINDEX TABLE pg_class", "DROP TABLE big"],
];

/// What is done to databases, with a checkpoint after each.
const DATABASES: [&str; 5] = [
    "CREATE DATABASE logged TEMPLATE work STRATEGY wal_log",
    "CREATE DATABASE copied TEMPLATE work STRATEGY file_copy",
    "DROP DATABASE logged",
    "CREATE DATABASE elsewhere TEMPLATE work STRATEGY file_copy TABLESPACE other",
    "ALTER DATABASE copied SET TABLESPACE other",
];

/// Where the last checkpoint begins, which is where a summary ends.
fn checkpoint(cluster: &Cluster) -> Lsn {
    cluster.execute("CHECKPOINT");
    lsn(&cluster.query_one("SELECT redo_lsn FROM pg_control_checkpoint()"))
}

fn lsn(text: &str) -> Lsn {
    text.parse().expect("the server prints an LSN")
}

fn work(cluster: &Cluster) {
    for statements in WORKLOAD {
        for statement in statements {
            cluster.execute_in("work", statement);
        }
        cluster.execute("CHECKPOINT");
    }
    for statement in DATABASES {
        cluster.execute(statement);
        cluster.execute("CHECKPOINT");
    }
}

fn directory(cluster: &Cluster) -> PathBuf {
    cluster.data_directory().join("pg_wal/summaries")
}

fn told(cluster: &Cluster, stretch: Stretch) -> Result<ChangedBlocks, NotTold> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let deadline = Instant::now() + PATIENCE;
    let cancel = Default::default();
    let data_directory = cluster.data_directory();
    runtime
        .block_on(changed_since(data_directory, stretch, true, deadline, &cancel))
        .expect("it is not cancelled")
}

/// Tablespace, database, relation, fork, block, and whether that is a limit.
type Row = (u32, u32, u32, u32, u32, bool);

/// What the server says of a summary.
fn rows_of_server(cluster: &Cluster, name: WalSummaryName) -> Vec<Row> {
    let mut rows: Vec<Row> = cluster
        .query(&format!(
            "SELECT reltablespace, reldatabase, relfilenode, relforknumber, relblocknumber, \
             is_limit_block FROM pg_wal_summary_contents({}, '{}', '{}')",
            name.timeline, name.start, name.end
        ))
        .iter()
        .map(|row| {
            let number = |column: usize| row[column].parse().expect("a number");
            (number(0), number(1), number(2), number(3), number(4), row[5] == "t")
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// What wal_e reads in a summary.
fn rows_of_file(path: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    wal_summary::read(path, open(path), |fork: SummarizedFork| {
        let row =
            |block, limit| (fork.tablespace, fork.database, fork.relation, fork.fork, block, limit);
        rows.extend(fork.limit.map(|limit| row(limit, true)));
        rows.extend(fork.blocks.iter().map(|block| row(block, false)));
    })
    .unwrap_or_else(|error| panic!("{error:?}"));
    rows.sort_unstable();
    rows
}

fn open(path: &Path) -> BufReader<File> {
    BufReader::new(File::open(path).expect("the server has made it"))
}

/// What these rows say has changed.
fn changed(rows: &[Row]) -> ChangedBlocks {
    let mut changed = ChangedBlocks::default();
    for &(tablespace, database, number, _, block, limit) in rows.iter().filter(|row| row.3 == 0) {
        let relation = RelationId { tablespace, database, number };
        match (number, limit) {
            (0, _) => changed.note_database(tablespace, database),
            (_, true) => changed.note_limit(relation, block),
            (_, false) => changed.note_block(relation, block),
        }
    }
    changed
}

/// The summaries of a stretch, as the server lists them.
fn listed(cluster: &Cluster, stretch: Stretch) -> Vec<WalSummaryName> {
    let rows = cluster.query(&format!(
        "SELECT start_lsn, end_lsn FROM pg_available_wal_summaries() \
         WHERE tli = {} AND start_lsn < '{}' AND end_lsn > '{}' ORDER BY start_lsn",
        stretch.timeline, stretch.to, stretch.from
    ));
    let name = |row: &Vec<String>| WalSummaryName {
        start: lsn(&row[0]),
        end: lsn(&row[1]),
        timeline: TIMELINE,
    };
    rows.iter().map(name).collect()
}

/// The summaries that there are, by the names of their files.
fn names(cluster: &Cluster) -> Vec<WalSummaryName> {
    let entries = fs::read_dir(directory(cluster)).expect("the server has a directory for them");
    let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(|entry| name(entry.expect("it can be listed"))).collect()
}

fn summarizing_cluster(version: PgVersion) -> Cluster {
    Cluster::build(version)
        .configuration("summarize_wal = on")
        .configuration("wal_summary_keep_time = 0")
        .start()
}

fn versions() -> impl Iterator<Item = PgVersion> {
    PgVersion::tested().into_iter().filter(|version| version.has_wal_summaries())
}

#[test]
fn summaries_are_read_as_the_server_reads_them() {
    for version in versions() {
        let cluster = summarizing_cluster(version);
        cluster.create_tablespace("other");
        cluster.execute("CREATE DATABASE work");
        let from = checkpoint(&cluster);
        work(&cluster);
        let to = checkpoint(&cluster);
        let stretch = Stretch { timeline: TIMELINE, from, to };
        let told = told(&cluster, stretch).unwrap_or_else(|reason| panic!("{reason}"));

        let needed = listed(&cluster, stretch);
        assert!(needed.len() >= WORKLOAD.len() + DATABASES.len(), "{needed:?}");
        assert_eq!(covering(&names(&cluster), stretch), Ok(needed.clone()));
        let mut all = Vec::new();
        for name in needed {
            let path = directory(&cluster).join(name.to_string());
            let rows = rows_of_server(&cluster, name);
            assert_eq!(rows_of_file(&path), rows, "{name}");
            let parsed = parse(&path, open(&path)).unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(parsed, changed(&rows), "{name}");
            all.extend(rows);
        }
        assert_eq!(told, changed(&all));

        // The workload has made all that there can be in a summary.
        let forks: BTreeSet<u32> = all.iter().map(|row| row.3).collect();
        assert_eq!(forks, BTreeSet::from([0, 2, 3]));
        assert!(all.iter().any(|row| row.2 == 0 && row.5), "a whole database");
        assert!(all.iter().any(|row| row.1 == 0 && !row.5), "a shared relation");
        assert!(all.iter().any(|row| row.3 == 0 && row.5 && row.4 > 0), "a truncation");
        assert!(told.relations().any(|(_, changes)| changes.blocks().len() > 4096), "a bitmap");
    }
}

#[test]
fn what_the_server_has_not_summarized_is_a_gap() {
    for version in versions() {
        let mut cluster = summarizing_cluster(version);
        cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) x");
        let before = checkpoint(&cluster);
        cluster.execute("INSERT INTO t VALUES (1)");
        let end_of_first = checkpoint(&cluster);
        let first = Stretch { timeline: TIMELINE, from: before, to: end_of_first };
        told(&cluster, first).unwrap_or_else(|reason| panic!("{reason}"));

        // With this level of WAL nothing is summarized.
        for line in ["summarize_wal = off", "wal_level = minimal", "max_wal_senders = 0"] {
            cluster.configure(line);
        }
        cluster.restart();
        cluster.execute("INSERT INTO t VALUES (2)");
        checkpoint(&cluster);
        for line in ["wal_level = replica", "summarize_wal = on"] {
            cluster.configure(line);
        }
        cluster.restart();
        let after = checkpoint(&cluster);
        cluster.execute("INSERT INTO t VALUES (3)");
        let end = checkpoint(&cluster);
        let last = Stretch { timeline: TIMELINE, from: after, to: end };
        told(&cluster, last).unwrap_or_else(|reason| panic!("{reason}"));

        let whole = Stretch { from: before, ..last };
        let Err(NotTold::Gap { timeline, at }) = told(&cluster, whole) else {
            panic!("{:?}", listed(&cluster, whole));
        };
        assert_eq!(timeline, TIMELINE);
        assert_eq!(covering(&names(&cluster), whole), Err(Uncovered { at }));
        // It begins where a summary ends, and no other goes on from there.
        let summaries = listed(&cluster, whole);
        assert!(at >= end_of_first && at < after, "{at} {summaries:?}");
        assert!(summaries.iter().any(|name| name.end == at), "{at} {summaries:?}");
        assert!(!summaries.iter().any(|name| name.start <= at && name.end > at), "{summaries:?}");
    }
}
