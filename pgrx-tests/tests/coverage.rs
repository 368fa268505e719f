//! What wal_e says of the WAL in an archive: which is there, which is not, and to which moments
//! a restore is possible. Restores show that it is true.

use std::fs;
use std::time::{Duration, SystemTime};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::run_wal_e;

/// No transaction ends that a test does not know.
fn primary(version: PgVersion, archive: &Archive) -> Cluster {
    let primary = Cluster::build(version)
        .wal_segment_size_mb(1)
        .configuration("autovacuum = off")
        .configuration("wal_keep_size = 64MB")
        .start_archiving_to(archive);
    primary.execute("CREATE TABLE t AS SELECT 1 AS x");
    primary
}

fn insert(cluster: &Cluster, value: u32) {
    cluster.execute(&format!("INSERT INTO t VALUES ({value})"));
}

/// The values in what is restored with these options.
#[track_caller]
fn restored(version: PgVersion, archive: &Archive, options: &[(&str, &str)]) -> String {
    let restore = Restore::auto(version).option("--recovery-target-action", "promote");
    let restore =
        options.iter().fold(restore, |restore, (name, value)| restore.option(name, *value));
    let mut cluster = restore.recover_beside(archive);
    let values = cluster.query_one("SELECT string_agg(x::text, ' ' ORDER BY x) FROM t");
    cluster.stop(StopMode::Immediate);
    values
}

fn remove_segment(archive: &Archive, name: &str) {
    archive.remove_object(&format!("wal_005/{name}.lz4"));
}

/// All WAL was archived an hour ago: nothing is on its way any more.
fn age(archive: &Archive) {
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for object in archive.wal_objects() {
        let file = fs::File::options().append(true).open(archive.directory().join(object));
        file.and_then(|file| file.set_modified(an_hour_ago)).expect("a file gets another time");
    }
}

const WINDOW: [&str; 7] = [
    "timeline bigint",
    "from_time timestamptz",
    "to_time timestamptz",
    "from_lsn pg_lsn",
    "to_lsn pg_lsn",
    "backup_name text",
    "ends_because text",
];

const SHOW: [&str; 9] = [
    "timeline bigint",
    "parent_timeline bigint",
    "switch_lsn pg_lsn",
    "first_segment text",
    "last_segment text",
    "segments bigint",
    "missing bigint",
    "status text",
    "encryption text",
];

const VERIFY: [&str; 6] = [
    "timeline bigint",
    "first_segment text",
    "last_segment text",
    "segments bigint",
    "status text",
    "advice text",
];

/// The program prints what the function returns; in words of its own where it advises.
#[track_caller]
fn assert_same(cluster: &Cluster, archive: &Archive, function: &str, columns: &[&str]) {
    let command = function.trim_start_matches("wale_").replace('_', "-");
    let json = run_wal_e(archive, [command.as_str(), "--json"]).stdout;
    let names: Vec<&str> = columns
        .iter()
        .filter_map(|column| column.split(' ').next())
        .filter(|name| *name != "advice")
        .collect();
    let (names, columns) = (names.join(", "), columns.join(", "));
    let of_program = format!("json_to_recordset('{json}') AS program({columns})");
    let rows = |of: &str| cluster.query(&format!("SELECT {names} FROM {of}"));
    assert_eq!(rows(&format!("{function}()")), rows(&of_program), "{json}");
}

/// Two backups, and a segment between them that gets lost.
fn a_window_ends_where_restores_end(version: PgVersion, archive: &Archive) {
    let cluster = primary(version, archive);
    let first = cluster.backup_push();
    insert(&cluster, 2);
    insert(&cluster, 3);
    cluster.archive_current_wal();
    insert(&cluster, 4);
    let in_hole = cluster.query_one("SELECT clock_timestamp()");
    insert(&cluster, 5);
    let lost = cluster.archive_current_wal();
    insert(&cluster, 6);
    cluster.archive_current_wal();
    let whole = cluster.query("SELECT * FROM wale_recovery_window()");
    assert_eq!(whole.len(), 1, "{whole:?}");
    let second = cluster.backup_push();
    insert(&cluster, 7);
    insert(&cluster, 8);
    cluster.archive_current_wal();
    assert_same(&cluster, archive, "wale_recovery_window", &WINDOW);
    remove_segment(archive, &lost);
    assert_same(&cluster, archive, "wale_recovery_window", &WINDOW);

    let windows = cluster.query(
        "SELECT backup_name, from_time, to_time, to_lsn, ends_because FROM wale_recovery_window()",
    );
    let [before, after] = windows.as_slice() else { panic!("{windows:?}") };
    assert_eq!([&before[0], &after[0]], [&first, &second]);
    assert!(before[4].contains(&lost), "{windows:?}");
    assert!(after[4].contains("no more of timeline 1"), "{windows:?}");
    let time = "--recovery-target-time";
    assert_eq!(restored(version, archive, &[(time, &before[2])]), "1 2");
    assert_eq!(restored(version, archive, &[(time, &after[1])]), "1 2 3 4 5 6");
    assert_eq!(restored(version, archive, &[(time, &after[2])]), "1 2 3 4 5 6 7");
    let lsn = "--recovery-target-lsn";
    assert_eq!(restored(version, archive, &[(lsn, &before[3])]), "1 2 3");
    let refused = run_wal_e(archive, ["restore-plan", time, &in_hole]).failure(1);
    assert!(refused.contains(&lost), "{refused}");
}

#[test]
fn a_window_of_a_directory_ends_where_restores_end() {
    a_window_ends_where_restores_end(PgVersion::oldest(), &Archive::file());
}

#[test]
fn a_window_of_a_bucket_ends_where_restores_end() {
    a_window_ends_where_restores_end(PgVersion::newest(), &Archive::s3());
}

/// First segment, number and status of all ranges that are not there.
fn holes(cluster: &Cluster) -> Vec<Vec<String>> {
    cluster.query(
        "SELECT first_segment, segments, status FROM wale_wal_verify() WHERE status <> 'found'",
    )
}

#[test]
fn what_the_server_still_has_is_archived_again_and_what_it_has_not_is_lost() {
    let archive = Archive::file();
    let cluster = primary(PgVersion::oldest(), &archive);
    cluster.backup_push();
    let segments: Vec<String> = (0..6).map(|_| cluster.archive_current_wal()).collect();
    let none: Vec<Vec<String>> = Vec::new();
    assert_eq!(holes(&cluster), none);
    assert_same(&cluster, &archive, "wale_wal_verify", &VERIFY);
    assert_same(&cluster, &archive, "wale_wal_show", &SHOW);
    run_wal_e(&archive, ["wal-verify"]).success();
    assert_eq!(cluster.query("SELECT * FROM wale_wal_repair()"), none);

    for segment in [&segments[1], &segments[3]] {
        remove_segment(&archive, segment);
    }
    let of_server = |name: &str| cluster.data_directory().join("pg_wal").join(name);
    fs::remove_file(of_server(&segments[3])).expect("the server still has it");
    let row = |segment: &str, status: &str| -> Vec<String> {
        [segment, "1", status].map(str::to_owned).to_vec()
    };
    let expected = [row(&segments[1], "missing"), row(&segments[3], "lost")];
    assert_eq!(holes(&cluster), expected);
    let advice = "SELECT advice FROM wale_wal_verify() WHERE status";
    let missing = cluster.query_one(&format!("{advice} = 'missing'"));
    assert!(missing.contains("wale_wal_repair()"), "{missing}");
    let lost = cluster.query_one(&format!("{advice} = 'lost'"));
    assert!(lost.contains("take a new base backup with wale_backup_push()"), "{lost}");
    let state = "SELECT missing, status FROM wale_wal_show()";
    assert_eq!(cluster.query(state), [["2", "lost"]]);
    let in_flight = run_wal_e(&archive, ["wal-verify"]).success();
    assert_eq!(in_flight.matches("  in flight").count(), 2, "{in_flight}");
    age(&archive);
    let refused = run_wal_e(&archive, ["wal-verify"]);
    assert_eq!(refused.stdout.matches("  missing").count(), 2, "{refused:?}");
    assert!(refused.stdout.contains("wal-e wal-repair, there"), "{refused:?}");
    let refused = refused.failure(1);
    assert!(refused.contains("the archive lacks WAL"), "{refused}");

    let marks = (cluster.ready_files(), cluster.done_files());
    let repaired = cluster.query("SELECT * FROM wale_wal_repair()");
    assert_eq!(repaired, [[segments[1].as_str(), "archived"]]);
    let content = fs::read(of_server(&segments[1])).expect("the server has it");
    assert!(archive.wal_file(&segments[1]) == content, "it is the server's");
    assert_eq!(holes(&cluster), [row(&segments[3], "lost")]);
    remove_segment(&archive, &segments[1]);
    let directory = cluster.data_directory().to_str().expect("a path in UTF-8");
    let repaired = run_wal_e(&archive, ["wal-repair", directory]).success();
    assert_eq!(repaired, format!("{} archived\n", segments[1]));
    remove_segment(&archive, &segments[1]);
    let repaired = run_wal_e(&archive, ["wal-repair", "--json", directory]).success();
    let repaired: serde_json::Value = serde_json::from_str(&repaired).expect("it is JSON");
    let row = serde_json::json!({ "segment": segments[1], "outcome": "archived" });
    assert_eq!(repaired, serde_json::json!([row]));
    let nothing = run_wal_e(&archive, ["wal-repair", "--json", directory]).success();
    assert_eq!(nothing, "[]\n");
    let nothing = run_wal_e(&archive, ["wal-repair", directory]).success();
    assert_eq!(nothing, "nothing to archive again\n");
    assert_eq!((cluster.ready_files(), cluster.done_files()), marks);

    let next = cluster.backup_push();
    let lost = cluster.query_one(&format!("{advice} = 'lost'"));
    assert!(lost.contains(&next) && !lost.contains("take a new base backup"), "{lost}");
    // Nothing is archived for now.
    cluster.execute("ALTER SYSTEM SET archive_library = ''");
    cluster.reload();
    wal_e_e2e::wait::wait_for("the new setting", || {
        cluster.query_one("SHOW archive_library").is_empty()
    });
    let waiting = cluster.write_wal_segments(2);
    let last = holes(&cluster).pop().expect("some are in flight");
    assert_eq!((last[1].as_str(), last[2].as_str()), ("2", "in flight"), "{last:?}");
    assert!(last[0] < waiting, "{last:?}");
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_not_archived_again() {
    let archive = Archive::file();
    let cluster = primary(PgVersion::oldest(), &archive);
    cluster.backup_push();
    let segments: Vec<String> = (0..3).map(|_| cluster.archive_current_wal()).collect();
    remove_segment(&archive, &segments[1]);
    let of_server = |name: &str| cluster.data_directory().join("pg_wal").join(name);
    fs::copy(of_server(&segments[0]), of_server(&segments[1])).expect("it can be copied");
    assert_eq!(holes(&cluster)[0][2], "lost");
    assert!(cluster.query("SELECT * FROM wale_wal_repair()").is_empty());
    let directory = cluster.data_directory().to_str().expect("a path in UTF-8");
    let nothing = run_wal_e(&archive, ["wal-repair", directory]).success();
    assert_eq!(nothing, "nothing to archive again\n");

    // Another cluster's prefix.
    let other = primary(PgVersion::oldest(), &Archive::file());
    let directory = other.data_directory().to_str().expect("a path in UTF-8");
    let nothing = run_wal_e(&archive, ["wal-repair", directory]).success();
    assert_eq!(nothing, "nothing to archive again\n");
}

/// A standby is promoted when its primary has died, with WAL that the standby lacks.
fn the_timelines_of_a_failover_are_told_apart(version: PgVersion, archive: &Archive) {
    let mut old = primary(version, archive);
    let backup = old.backup_push();
    let mut standby = old.make_standby();
    standby.start();
    insert(&old, 2);
    standby.wait_for_replay_of(&old);
    standby.stop_streaming();
    insert(&old, 90);
    insert(&old, 91);
    old.archive_current_wal();
    old.stop(StopMode::Fast);
    standby.promote();
    insert(&standby, 3);
    insert(&standby, 4);
    standby.archive_current_wal();

    let shown =
        standby.query("SELECT timeline, parent_timeline, missing, status FROM wale_wal_show()");
    assert_eq!(shown, [["1", "", "0", "found"], ["2", "1", "0", "found"]]);
    assert_eq!(holes(&standby), Vec::<Vec<String>>::new());
    assert_same(&standby, archive, "wale_wal_show", &SHOW);
    assert_same(&standby, archive, "wale_wal_verify", &VERIFY);
    assert_same(&standby, archive, "wale_recovery_window", &WINDOW);
    let windows = standby.query(
        "SELECT timeline, backup_name, from_lsn, to_time, to_lsn FROM wale_recovery_window()",
    );
    let [new, left] = windows.as_slice() else { panic!("{windows:?}") };
    assert_eq!([&new[..2], &left[..2]], [["2", &backup], ["1", &backup]]);
    let switch = standby.query_one("SELECT switch_lsn FROM wale_wal_show() WHERE timeline = 2");
    assert_eq!(left[2], switch);
    let (time, timeline) = ("--recovery-target-time", "--recovery-target-timeline");
    assert_eq!(restored(version, archive, &[(time, &new[3])]), "1 2 3");
    let options = [(timeline, "1"), (time, left[3].as_str())];
    assert_eq!(restored(version, archive, &options), "1 2 90");
    let options = [(timeline, "1"), ("--recovery-target-lsn", left[4].as_str())];
    assert_eq!(restored(version, archive, &options), "1 2 90 91");

    // The beginning of the new timeline is lost, and the server knows it by its own history.
    let first = standby.query_one("SELECT first_segment FROM wale_wal_show() WHERE timeline = 2");
    remove_segment(archive, &first);
    assert_eq!(holes(&standby), [[first.as_str(), "1", "missing"]]);
    let repaired = standby.query("SELECT * FROM wale_wal_repair()");
    assert_eq!(repaired, [[first.as_str(), "archived"]]);
    assert_eq!(holes(&standby), Vec::<Vec<String>>::new());
}

#[test]
fn the_timelines_of_a_failover_of_the_oldest_version_are_told_apart() {
    the_timelines_of_a_failover_are_told_apart(PgVersion::oldest(), &Archive::file());
}

#[test]
fn the_timelines_of_a_failover_of_the_newest_version_are_told_apart() {
    the_timelines_of_a_failover_are_told_apart(PgVersion::newest(), &Archive::file());
}

#[test]
fn without_a_backup_nothing_can_be_restored_and_that_is_said() {
    let archive = Archive::file();
    let cluster = primary(PgVersion::oldest(), &archive);
    cluster.archive_current_wal();
    assert!(cluster.query("SELECT * FROM wale_recovery_window()").is_empty());
    assert_eq!(run_wal_e(&archive, ["recovery-window"]).success(), "no restore is possible\n");
    assert_eq!(run_wal_e(&archive, ["recovery-window", "--json"]).success(), "[]\n");
    let failure = cluster.failure_of("SELECT * FROM wale_wal_verify()");
    assert!(failure.text.contains("no base backup with all of its WAL"), "{}", failure.text);
    run_wal_e(&archive, ["wal-verify"]).failure(1);
    assert_eq!(cluster.query("SELECT status FROM wale_wal_show()"), [["found"]]);
    assert_same(&cluster, &archive, "wale_wal_show", &SHOW);
}
