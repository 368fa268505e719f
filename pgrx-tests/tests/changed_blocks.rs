//! Which blocks WAL changes, by the maps of its segments, against what PostgreSQL's own programs
//! say of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use wal_e_core::changed_blocks::{
    ChangedBlocks, RelationId, SegmentMap, SegmentMapper, changed_between,
};
use wal_e_core::postgres::{Lsn, SegmentSize, WalFileName, WalSegment};
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::wait::wait_for;

const SEGMENT_SIZE: SegmentSize = SegmentSize::SMALLEST;

/// Statements whose records are of as many kinds as can be had quickly.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE t (i int, a int[], p point, r text, s text, at timestamp)",
    "CREATE INDEX t_i ON t USING btree (i)",
    "CREATE INDEX ON t USING gin (a)",
    "CREATE INDEX ON t USING gist (p)",
    "CREATE INDEX ON t USING spgist (r)",
    "CREATE INDEX ON t USING brin (at)",
    "CREATE INDEX ON t USING hash (r)",
    "CREATE SEQUENCE q",
    "CREATE TABLE big (i int, x text)",
    "ALTER TABLE big ALTER x SET STORAGE EXTERNAL",
    "INSERT INTO t SELECT g, ARRAY[g % 100, g % 7, g], point(g % 1000, g / 1000), md5(g::text), \
     repeat(md5(g::text), g % 50), now() FROM generate_series(1, 6000) g",
    "SELECT nextval('q') FROM generate_series(1, 100)",
    "INSERT INTO big SELECT g, repeat(md5(g::text), 2000) FROM generate_series(1, 20) g",
    "CHECKPOINT",
    "UPDATE t SET p = point(i % 777, i % 333) WHERE i % 5 = 0",
    "DELETE FROM t WHERE i % 3 = 0",
    "VACUUM t",
    "VACUUM FULL big",
    "CREATE TABLE d AS SELECT generate_series(1, 3000) i",
    "BEGIN; DROP TABLE d; ROLLBACK",
    "BEGIN; CREATE TABLE rolled AS SELECT generate_series(1, 3000) i; ROLLBACK",
    "TRUNCATE d",
    "INSERT INTO d SELECT generate_series(1, 3000)",
    "DELETE FROM d WHERE i > 1000",
    "VACUUM d",
    "BEGIN; CREATE TABLE one AS SELECT generate_series(1, 3000) i; DROP TABLE d; \
     PREPARE TRANSACTION 'one'",
    "BEGIN; CREATE TABLE two AS SELECT generate_series(1, 3000) i; PREPARE TRANSACTION 'two'",
    "COMMIT PREPARED 'one'",
    "ROLLBACK PREPARED 'two'",
    "BEGIN; SAVEPOINT a; CREATE TABLE sub (i int); SAVEPOINT b; DROP TABLE sub; \
     ROLLBACK TO b; RELEASE a; COMMIT; DROP TABLE sub",
    "DO $$ BEGIN FOR n IN 1..100 LOOP \
     EXECUTE 'CREATE TABLE many' || n || ' (i serial PRIMARY KEY, x text)'; END LOOP; END $$",
    "DO $$ BEGIN FOR n IN 1..100 LOOP EXECUTE 'DROP TABLE many' || n; END LOOP; END $$",
    "SELECT pg_logical_emit_message(true, 'x', repeat('x', 2500000))",
    "CREATE TABLE moved TABLESPACE elsewhere AS SELECT generate_series(1, 3000) i",
    "ALTER TABLE moved SET TABLESPACE pg_default",
    "CREATE DATABASE logged TEMPLATE template1 STRATEGY wal_log",
    "CREATE DATABASE copied TEMPLATE template1 STRATEGY file_copy",
    "ALTER DATABASE copied SET TABLESPACE elsewhere",
    "DROP DATABASE copied",
    "DROP DATABASE logged",
    "CLUSTER t USING t_i",
    "REINDEX TABLE t",
    "CHECKPOINT",
    "UPDATE t SET i = i + 1",
];

#[test]
fn maps_say_which_blocks_pg_waldump_names() {
    for &version in PgVersion::complete() {
        for compression in ["off", "on"] {
            compare(version, compression);
        }
    }
}

fn compare(version: PgVersion, compression: &str) {
    let mut builder = Cluster::build(version)
        .wal_segment_size_mb(1)
        .configuration("wal_keep_size = '2GB'")
        .configuration("max_prepared_transactions = 5")
        .configuration(format!("wal_compression = {compression}"));
    if version.has_wal_summaries() {
        builder = builder.configuration("summarize_wal = on");
    }
    let mut cluster = builder.start();
    cluster.switch_wal();
    let from = lsn_of(&cluster.query_one("SELECT pg_current_wal_lsn()"));
    cluster.create_tablespace("elsewhere");
    for statement in STATEMENTS {
        cluster.execute(statement);
    }
    cluster.stop(StopMode::Immediate);
    cluster.start();
    cluster.execute("DELETE FROM t WHERE i % 2 = 0");
    cluster.switch_wal();
    let to = lsn_of(&cluster.query_one("SELECT pg_current_wal_lsn()"));
    cluster.execute("CHECKPOINT");

    let wal = cluster.data_directory().join("pg_wal");
    let maps = maps_of(&wal, from, to);
    let name = |map: &SegmentMap| map.segment().file_name(SEGMENT_SIZE);
    let (first, last) = (maps.first().expect("there are some"), maps.last().expect("there are"));
    let waldump = cluster.installation().command("pg_waldump");
    let text = run({ waldump }
        .arg("--bkp-details")
        .arg("--path")
        .arg(&wal)
        .args([name(first), name(last)]))
    .success();
    let start = first.segment().number.start_lsn(SEGMENT_SIZE);
    let changed = changed_between(maps.into_iter().map(Ok), start, to).expect("they are whole");

    let (got, expected) = (in_words(&changed), in_words(&named_in(&text)));
    let differences: Vec<_> = got.symmetric_difference(&expected).take(10).collect();
    assert!(differences.is_empty(), "{version:?}, compression {compression}: {differences:?}");
    assert!(got.len() > 1000, "{} lines", got.len());
    if version.has_wal_summaries() {
        compare_with_summaries(&cluster, &changed, start, to);
    }
}

fn lsn_of(text: &str) -> Lsn {
    text.parse().expect("it is an LSN")
}

/// The maps of the segments in `pg_wal` from that of an LSN to the one before another LSN's.
fn maps_of(wal: &Path, from: Lsn, to: Lsn) -> Vec<SegmentMap> {
    let mut maps: Vec<_> = fs::read_dir(wal)
        .expect("it is there")
        .filter_map(|entry| {
            let path = entry.expect("it can be listed").path();
            let name: WalFileName = path.file_name()?.to_str()?.parse().ok()?;
            let number = name.segment_number(SEGMENT_SIZE)?;
            let is_wanted =
                number.end_lsn(SEGMENT_SIZE) > from && number.end_lsn(SEGMENT_SIZE) <= to;
            is_wanted.then(|| map_of(&path, WalSegment { timeline: name.timeline(), number }))
        })
        .collect();
    maps.sort_unstable_by_key(SegmentMap::segment);
    maps
}

fn map_of(path: &Path, segment: WalSegment) -> SegmentMap {
    let bytes = fs::read(path).expect("it can be read");
    let mut mapper = SegmentMapper::new(segment, SEGMENT_SIZE);
    for piece in bytes.chunks(100_000) {
        mapper.feed(piece).expect("a server wrote it");
    }
    let map = mapper.finish().expect("it is whole");
    let read = SegmentMap::parse("map", &map.to_bytes()).expect("it was just made");
    assert_eq!(read, map);
    map
}

/// All changes, a line each.
fn in_words(changed: &ChangedBlocks) -> BTreeSet<String> {
    let databases =
        changed.databases().map(|(tablespace, database)| format!("{tablespace}/{database}"));
    let relations = changed.relations().flat_map(|(relation, changes)| {
        let name = format!("{}/{}/{}", relation.tablespace, relation.database, relation.number);
        let limit = changes.limit().map(|limit| format!("{name} to {limit}"));
        let blocks = changes.blocks().iter().map(|block| format!("{name} {block}"));
        limit.into_iter().chain(blocks.collect::<Vec<_>>())
    });
    databases.chain(relations).collect()
}

/// What the output of `pg_waldump --bkp-details` names.
fn named_in(text: &str) -> ChangedBlocks {
    let mut changed = ChangedBlocks::default();
    for line in text.lines() {
        if let Some((_, block)) = line.split_once("blkref #") {
            let words: Vec<&str> = block.split_ascii_whitespace().collect();
            let after = |word: &str| {
                let at = words.iter().position(|found| *found == word).expect("it is named");
                words[at + 1].trim_end_matches(';')
            };
            if after("fork") == "main" {
                let numbers = numbers(after("rel"));
                let [tablespace, database, number] = numbers[..] else { panic!("{line}") };
                let relation = RelationId { tablespace, database, number };
                changed.note_block(relation, after("blk").parse().expect("a number"));
            }
        } else if let Some((head, description)) = line.split_once(", desc: ") {
            let manager = head.trim_start_matches("rmgr:").split_ascii_whitespace().next();
            match manager.expect("it is named") {
                "Storage" => note_storage(&mut changed, description),
                "Transaction" => note_transaction(&mut changed, description),
                "Database" => note_database(&mut changed, description),
                _ => {}
            }
        }
    }
    changed
}

fn numbers(text: &str) -> Vec<u32> {
    text.split('/').map(|number| number.parse().expect("a number")).collect()
}

/// The relation of a path, if it is that of a main fork.
fn main_fork(path: &str) -> Option<RelationId> {
    (!path.contains('_') || path.starts_with("pg_tblspc") && !path.ends_with(char::is_alphabetic))
        .then(|| RelationId::of_path(path).expect("it is a relation's"))
}

/// `CREATE base/5/16384`, `TRUNCATE base/5/16384 to 7 blocks flags 7`.
fn note_storage(changed: &mut ChangedBlocks, description: &str) {
    let words: Vec<&str> = description.split_ascii_whitespace().collect();
    let blocks = match words[..] {
        ["CREATE", _] => Some(0),
        ["TRUNCATE", _, "to", blocks, "blocks", "flags", flags] => {
            let flags: u32 = flags.parse().expect("a number");
            (flags & 1 == 1).then(|| blocks.parse().expect("a number"))
        }
        _ => panic!("{description}"),
    };
    if let (Some(relation), Some(blocks)) = (main_fork(words[1]), blocks) {
        changed.note_limit(relation, blocks);
    }
}

/// `COMMIT 2026-01-01 00:00:00 UTC; rels: base/5/16384 base/5/16387; inval msgs: ...`.
fn note_transaction(changed: &mut ChangedBlocks, description: &str) {
    let part = description.split("; ").find_map(|part| part.strip_prefix("rels: "));
    for path in part.unwrap_or_default().split_ascii_whitespace() {
        changed.note_limit(RelationId::of_path(path).expect("it is a relation's"), 0);
    }
}

/// `CREATE_FILE_COPY copy dir 1663/1 to 1663/16384`, `CREATE_WAL_LOG create dir 1663/16384`,
/// `DROP dir 1663/16384 1700/16384`.
fn note_database(changed: &mut ChangedBlocks, description: &str) {
    let (_, directories) = description.split_once("dir ").expect("it names directories");
    let directories = directories.split_once(" to ").map_or(directories, |(_, to)| to);
    for directory in directories.split_ascii_whitespace() {
        let [tablespace, database] = numbers(directory)[..] else { panic!("{description}") };
        changed.note_database(tablespace, database);
    }
}

/// All that the server's own summaries of the same WAL say is in the maps, too.
fn compare_with_summaries(cluster: &Cluster, changed: &ChangedBlocks, from: Lsn, to: Lsn) {
    let within = format!("start_lsn >= '{from}' AND end_lsn <= '{to}'");
    let reached =
        format!("SELECT count(*) FROM pg_available_wal_summaries() WHERE end_lsn > '{to}'");
    wait_for("the summaries", || cluster.query_one(&reached) != "0");
    let rows = cluster.query(&format!(
        "SELECT reltablespace, reldatabase, relfilenode, relblocknumber, is_limit_block \
         FROM pg_available_wal_summaries() s, \
         pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) \
         WHERE relforknumber = 0 AND {within}"
    ));
    assert!(rows.len() > 1000, "{} rows", rows.len());
    for row in &rows {
        let numbers: Vec<u32> = row[..4].iter().map(|text| text.parse().expect("it")).collect();
        let [tablespace, database, number, block] = numbers[..] else { panic!("{row:?}") };
        let changes = changed.of(RelationId { tablespace, database, number });
        let is_told = match (row[4].as_str(), number) {
            ("t" | "true", 0) => changed.is_new_database(tablespace, database),
            ("t" | "true", _) => {
                changes.and_then(|changes| changes.limit()).is_some_and(|limit| limit <= block)
            }
            _ => changes.is_some_and(|changes| changes.has(block)),
        };
        assert!(is_told, "{row:?}");
    }
}
