//! The page about an archive, loaded by a browser: it has the numbers that the commands have,
//! and nothing in it runs or is loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::browser::{self, Page};
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wal_e::run_wal_e;

const RULES: [&str; 3] = ["1", "--calendar", "1 daily"];

/// What somebody with access to the bucket may have written there.
const HOSTILE: &str = "</td></table></style><script>document.title = 'owned'</script><img src=x \
                       onerror=\"document.title = 'owned'\">";

/// A failover with a hole, four base backups of which one is permanent, and two runs by schedule.
fn eventful(version: PgVersion, archive: &Archive) -> Cluster {
    let mut old = Cluster::build(version)
        .wal_segment_size_mb(1)
        .configuration("autovacuum = off")
        .start_archiving_to(archive);
    old.execute("CREATE TABLE t AS SELECT 1 AS x");
    let permanent = old.backup_push();
    old.execute(&format!("SELECT wale_backup_mark('{permanent}', true)"));
    old.backup_push();
    let mut standby = old.make_standby();
    standby.start();
    standby.wait_for_replay_of(&old);
    standby.stop_streaming();
    old.archive_current_wal();
    old.stop(StopMode::Fast);
    standby.promote();
    standby.execute("INSERT INTO t VALUES (2)");
    standby.archive_current_wal();
    standby.execute("INSERT INTO t VALUES (3)");
    let lost = standby.archive_current_wal();
    standby.execute("INSERT INTO t VALUES (4)");
    standby.archive_current_wal();
    standby.backup_push();
    standby.backup_push();
    archive.remove_object(&format!("wal_005/{lost}.lz4"));
    for (slot, end, ok) in [("20261128", "done", true), ("20261129", "failed", false)] {
        let entry = serde_json::json!({
            "job": "backup", "attempt": 1, "host": HOSTILE, "ok": ok, "detail": HOSTILE,
            "started": "2026-11-28T02:00:01.5Z", "finished": "2026-11-28T02:00:09Z", "bytes": 7,
        });
        let key = format!("wal_e/jobs/backup/{slot}T020000Z/0001.{end}");
        archive.replace_object(&key, entry.to_string().into_bytes());
    }
    age(archive);
    standby
}

/// All WAL was archived an hour ago: nothing is on its way any more.
fn age(archive: &Archive) {
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for object in archive.wal_objects() {
        let file = fs::File::options().append(true).open(archive.directory().join(object));
        file.and_then(|file| file.set_modified(an_hour_ago)).expect("a file gets another time");
    }
}

/// The page as `wal-e report` writes it.
fn report(archive: &Archive, scratch: &Scratch, rules: &[&str]) -> PathBuf {
    let file = scratch.path().join("report.html");
    let path = file.to_str().expect("a path in UTF-8");
    let words = ["report", "-o", path].into_iter().chain(rules.iter().copied());
    run_wal_e(archive, words).success();
    file
}

#[track_caller]
fn open(file: &Path) -> Page {
    let page = browser::open(file);
    assert_eq!(page.complaints, Vec::<String>::new());
    assert!(!page.dom.contains("<script") && !page.dom.contains("<img"), "{}", page.dom);
    page
}

/// The answer of a command, which may be a failure: WAL is missing.
fn json(archive: &Archive, words: &[&str]) -> Vec<Value> {
    let finished = run_wal_e(archive, words.iter().copied().chain(["--json"]));
    match serde_json::from_str(&finished.stdout) {
        Ok(Value::Array(rows)) => rows,
        other => panic!("{other:?}: {finished}"),
    }
}

/// The rows of a kind on the page are those of a command, with the same values in `columns`.
/// The page also shows them: `shown` are columns that stand there as they are.
#[track_caller]
fn assert_same(page: &Page, kind: &str, rows: &[Value], columns: &[&str], shown: &[&str]) {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let mut expected: Vec<Vec<Option<String>>> =
        rows.iter().map(|row| columns.iter().map(|column| text(&row[column])).collect()).collect();
    let attribute = |column: &&str| format!("data-{}", column.replace('_', "-"));
    let mut found: Vec<Vec<Option<String>>> = page
        .rows(kind)
        .iter()
        .map(|row| columns.iter().map(|column| row.get(&attribute(column)).cloned()).collect())
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{kind}");
    assert!(!rows.is_empty(), "{kind}");
    for value in rows.iter().flat_map(|row| shown.iter().filter_map(|column| text(&row[column]))) {
        assert!(page.dom.contains(&format!(">{value}<")), "{kind}: {value}");
    }
}

const BACKUP: [&str; 7] = [
    "backup_name",
    "backup_type",
    "start_time",
    "finish_time",
    "uncompressed_bytes",
    "compressed_bytes",
    "permanent",
];
const WINDOW: [&str; 6] = ["timeline", "from_time", "to_time", "from_lsn", "to_lsn", "backup_name"];
const TIMELINE: [&str; 8] = [
    "timeline",
    "parent_timeline",
    "switch_lsn",
    "first_segment",
    "last_segment",
    "segments",
    "missing",
    "status",
];
const HOLE: [&str; 5] = ["timeline", "first_segment", "last_segment", "segments", "status"];
const ITEM: [&str; 5] = ["object_name", "kind", "objects", "bytes", "action"];
const JOB: [&str; 8] =
    ["job", "slot", "attempt", "hostname", "started_at", "finished_at", "ok", "bytes"];

fn assert_page_is_true(page: &Page, archive: &Archive, rules: &[&str]) {
    let not_there = |row: &Value| row["status"] != "found";
    let holes: Vec<Value> = json(archive, &["wal-verify"]).into_iter().filter(not_there).collect();
    let retain: Vec<&str> = ["delete", "retain"].iter().chain(rules).copied().collect();
    let items = json(archive, &retain);
    let same = |kind, rows: &[Value], columns: &[&str], shown: &[&str]| {
        assert_same(page, kind, rows, columns, shown);
    };
    same("backup", &json(archive, &["backup-list"]), &BACKUP, &["backup_name"]);
    same("window", &json(archive, &["recovery-window"]), &WINDOW, &["backup_name"]);
    let segments = ["first_segment", "last_segment", "segments"];
    same("timeline", &json(archive, &["wal-show"]), &TIMELINE, &segments);
    same("hole", &holes, &HOLE, &[&segments[..], &["status", "advice"]].concat());
    same("item", &items, &ITEM, &["object_name", "objects", "action", "reason"]);
    same("job", &json(archive, &["job-history"]), &JOB, &[]);

    let sum = |column: &str, action: &str| -> u64 {
        let with = items.iter().filter(|row| row["action"] == action);
        with.map(|row| row[column].as_u64().expect("a number")).sum()
    };
    let retention = page.rows("retention");
    let [retention] = retention.as_slice() else { panic!("{retention:?}") };
    for (attribute, column, action) in [
        ("data-deleted-objects", "objects", "delete"),
        ("data-deleted-bytes", "bytes", "delete"),
        ("data-kept-objects", "objects", "keep"),
        ("data-kept-bytes", "bytes", "keep"),
    ] {
        assert_eq!(retention[attribute], sum(column, action).to_string(), "{attribute}");
    }
    assert!(sum("bytes", "delete") > 0, "{items:?}");
}

#[test]
fn every_number_of_the_page_is_what_the_commands_say() {
    let archive = Archive::file();
    let _cluster = eventful(PgVersion::oldest(), &archive);
    let scratch = Scratch::new();
    let file = report(&archive, &scratch, &RULES);
    let page = open(&file);
    assert_page_is_true(&page, &archive, &RULES);
    assert!(page.dom.contains("<title>wal_e: "), "{}", page.dom);
    assert_eq!(page.rows("check").len(), 0);
    for (width, height) in [(375, 800), (1280, 900)] {
        let image = scratch.path().join(format!("{width}.png"));
        browser::draw(&file, (width, height), &image);
        let bytes = fs::read(&image).expect("the browser has drawn the page");
        assert!(bytes.starts_with(b"\x89PNG"));
    }
    let printed = scratch.path().join("printed.html");
    let text = run_wal_e(&archive, ["report"].into_iter().chain(RULES)).success();
    fs::write(&printed, text).expect("the page can be written");
    assert_page_is_true(&open(&printed), &archive, &RULES);
}

#[test]
fn the_page_of_the_server_has_its_checks_and_its_settings() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::newest())
        .wal_segment_size_mb(1)
        .configuration("wal_e.retain_full_backups = 1")
        .start_archiving_to(&archive);
    for _ in 0..3 {
        cluster.backup_push();
    }
    cluster.archive_current_wal();
    let scratch = Scratch::new();
    let file = scratch.path().join("report.html");
    fs::write(&file, cluster.query_one("SELECT wale_report()")).expect("the page can be written");
    let page = open(&file);
    let checks: Vec<[String; 2]> = cluster
        .query("SELECT check_name, coalesce(ok::text, '') FROM wale_check()")
        .into_iter()
        .map(|row| [row[0].clone(), row[1].clone()])
        .collect();
    let shown = page.rows("check").into_iter().map(|mut row| {
        ["data-check-name", "data-ok"].map(|name| row.remove(name).unwrap_or_default())
    });
    assert_eq!(shown.collect::<Vec<_>>(), checks);
    assert_same(&page, "backup", &json(&archive, &["backup-list"]), &BACKUP, &["backup_name"]);
    let items = json(&archive, &["delete", "retain", "1"]);
    assert_same(&page, "item", &items, &ITEM, &["object_name"]);
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let archive = Archive::file();
    let scratch = Scratch::new();
    let missing = scratch.path().join("missing/report.html");
    let path = missing.to_str().expect("a path in UTF-8");
    let refused = run_wal_e(&archive, ["report", "-o", path]).failure(1);
    assert!(refused.contains("could not write file"), "{refused}");
    let page = open(&report(&archive, &scratch, &[]));
    assert!(page.dom.contains("No restore is possible."), "{}", page.dom);
    let files = fs::read_dir(scratch.path()).expect("the directory is there").count();
    assert_eq!(files, 1, "nothing else is left behind");
}
