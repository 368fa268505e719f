//! What can be reached is known before anything is restored, and is what the server
//! then does.

use std::fs;

use serde_json::Value;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::restore::{Restore, restore_command};
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::{run_wal_e, wal_e};

/// A cluster with two backups, and moments before, between and after them. At each,
/// the rows of the table `moments` are what a recovery to it must have.
struct Life {
    cluster: Cluster,
    archive: Archive,
    backups: [String; 2],
    before_all: String,
    one: String,
    /// The transaction that added "two".
    two: String,
    three: String,
    /// The WAL segment in which "three" was added.
    segment_of_three: String,
    four: String,
}

const RESTORE_POINT: &str = "after one";

fn live(version: PgVersion) -> Life {
    let archive = Archive::file();
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
    let now = || cluster.query_one("SELECT clock_timestamp()");
    let add = |name: &str| cluster.execute(&format!("INSERT INTO moments VALUES ('{name}')"));
    cluster.execute("CREATE TABLE moments (name text)");
    let before_all = now();
    let first = cluster.backup_push();
    add("one");
    let one = now();
    cluster.query_one(&format!("SELECT pg_create_restore_point('{RESTORE_POINT}')"));
    let two = cluster.query_one(
        "WITH added AS (INSERT INTO moments VALUES ('two') RETURNING name) \
         SELECT pg_current_xact_id() FROM added",
    );
    cluster.archive_current_wal();
    add("three");
    let three = now();
    let segment_of_three = cluster.archive_current_wal();
    add("after three");
    cluster.archive_current_wal();
    let second = cluster.backup_push();
    add("four");
    let four = now();
    add("five");
    cluster.archive_current_wal();
    let backups = [first, second];
    Life { cluster, archive, backups, before_all, one, two, three, segment_of_three, four }
}

/// Restores, recovers to the target, and hands out the moments that are known there.
#[track_caller]
fn moments(restore: Restore, archive: &Archive) -> Vec<String> {
    let restored = restore.option("--recovery-target-action", "promote").recover_beside(archive);
    restored.query("SELECT name FROM moments").concat()
}

#[track_caller]
fn plan_as_json(archive: &Archive, options: &[&str]) -> Value {
    let arguments = ["restore-plan", "--json"].iter().chain(options).copied();
    let text = run_wal_e(archive, arguments).success();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The row of `wale_restore_plan()` as JSON.
#[track_caller]
fn plan_in_sql(cluster: &Cluster, argument: &str) -> Value {
    let row =
        cluster.query_one(&format!("SELECT to_jsonb(p) FROM wale_restore_plan({argument}) p"));
    serde_json::from_str(&row).expect("to_jsonb makes JSON")
}

fn plans_come_true(version: PgVersion) {
    let life = live(version);
    let archive = &life.archive;
    let [first, second] = &life.backups;
    for (option, target, backup, expected) in [
        ("--recovery-target-time", life.one.as_str(), first, &["one"][..]),
        ("--recovery-target-name", RESTORE_POINT, first, &["one"]),
        ("--recovery-target-xid", &life.two, first, &["one", "two"]),
        ("--recovery-target-time", &life.three, first, &["one", "two", "three"]),
        (
            "--recovery-target-time",
            &life.four,
            second,
            &["one", "two", "three", "after three", "four"],
        ),
    ] {
        let plan = plan_as_json(archive, &[option, target]);
        assert_eq!(plan["backup_name"], backup.as_str(), "{option} {target}: {plan}");
        let text = run_wal_e(archive, ["restore-plan", option, target]).success();
        for fact in ["backup_name", "first_segment", "last_segment", "consistent_lsn"] {
            assert!(text.contains(plan[fact].as_str().expect("a text")), "{fact}: {text}");
        }
        let found = moments(Restore::auto(version).option(option, target), archive);
        assert_eq!(found, expected, "{option} {target}");
    }

    // The function and the program say the same.
    for (argument, options) in [
        (format!("target_time => '{}'", life.one), ["--recovery-target-time", life.one.as_str()]),
        (format!("target_name => '{RESTORE_POINT}'"), ["--recovery-target-name", RESTORE_POINT]),
    ] {
        let (row, plan) = (plan_in_sql(&life.cluster, &argument), plan_as_json(archive, &options));
        for fact in ["reachable", "backup_name", "first_segment", "last_segment", "wal_segments"]
            .into_iter()
            .chain(["wal_bytes", "backup_bytes", "consistent_lsn", "reached_lsn"])
        {
            assert_eq!(row[fact], plan[fact], "{argument}: {fact}");
        }
        assert_eq!(row["timelines"], serde_json::json!([1]));
        assert_eq!(row["reason"], Value::Null);
    }
    let lsn = plan_as_json(archive, &["--recovery-target-time", &life.four])["reached_lsn"]
        .as_str()
        .expect("an LSN")
        .to_owned();
    assert_eq!(plan_in_sql(&life.cluster, &format!("target_lsn => '{lsn}'"))["reachable"], true);
    assert_eq!(plan_in_sql(&life.cluster, "")["backup_name"], second.as_str());
    let two = "SELECT * FROM wale_restore_plan(now(), '0/1')";
    assert_eq!(life.cluster.failure_of(two).sqlstate, "22023");

    // Before all backups, and past the end.
    for (time, word) in
        [(life.before_all.as_str(), first.as_str()), ("2100-01-01 00:00Z", "end of the archive")]
    {
        let restore = Restore::auto(version).option("--recovery-target-time", time);
        let refused = restore.run(archive).failure(1);
        assert!(
            refused.contains(word) && refused.contains("nearest reachable target"),
            "{refused}"
        );
        assert!(!restore.target().exists(), "something was written");
        let row = plan_in_sql(&life.cluster, &format!("'{time}'"));
        assert_eq!(row["reachable"], false);
        assert!(row["reason"].as_str().expect("a reason").contains(word), "{row}");
        assert!(
            row["nearest"].as_str().expect("what can be reached").contains("reachable"),
            "{row}"
        );
    }
    a_hole_is_refused(version, life);
}

fn a_hole_is_refused(version: PgVersion, life: Life) {
    let archive = &life.archive;
    let missing = format!("wal_005/{}.lz4", life.segment_of_three);
    fs::remove_file(archive.directory().join(missing)).expect("the segment is there");
    let restore = Restore::auto(version).option("--recovery-target-time", &life.three);
    let refused = restore.run(archive).failure(1);
    for word in [&life.segment_of_three, "not in the archive", &life.backups[1]] {
        assert!(refused.contains(word), "\"{word}\" is missing: {refused}");
    }
    assert!(!restore.target().exists(), "something was written");
    let row = plan_in_sql(&life.cluster, &format!("'{}'", life.three));
    assert!(row["reason"].as_str().expect("a reason").contains(&life.segment_of_three), "{row}");
    let plan = run(wal_e(archive).args(["restore-plan", &life.backups[0], "--json"]));
    let text = plan.stdout.clone();
    plan.failure(1);
    let plan: Value = serde_json::from_str(&text).expect("a refusal is JSON, too");
    assert_eq!(plan["reachable"], false);
    assert!(plan["nearest"][0]["lsn"].is_string(), "{plan}");

    // Before and after it, all is well.
    let to = |time: &str| {
        moments(Restore::auto(version).option("--recovery-target-time", time), archive)
    };
    assert_eq!(to(&life.one), ["one"]);
    assert_eq!(to(&life.four).len(), 5);

    // Files alone can be had, with a warning; and PostgreSQL opens no database there.
    let restore = Restore::of(version, &life.backups[0]);
    let finished = restore.run(archive);
    assert!(finished.stderr.contains(&life.segment_of_three), "{finished}");
    finished.success();
    let mut by_hand = Restore::of(version, &life.backups[0]).fetch(archive);
    by_hand.configure(&format!("recovery_target_time = '{}'", life.three));
    let command = restore_command(archive).replace("wal-fetch", "wal-fetch --end-at-gap");
    by_hand.configure(&format!("restore_command = '{command}'"));
    by_hand.spawn();
    by_hand.wait_for_log("recovery ended before configured recovery target was reached");
    wait_for("the server to end", || !by_hand.is_running());
}

#[test]
fn plans_of_the_oldest_version_come_true() {
    plans_come_true(PgVersion::oldest());
}

#[test]
fn plans_of_the_newest_version_come_true() {
    plans_come_true(PgVersion::newest());
}

/// Timelines that begin with a checkpoint have whole seconds only: what was written
/// in the same second on the timeline that they left may be later.
fn wait_for_the_next_second(cluster: &Cluster) {
    let second = || cluster.query_one("SELECT date_trunc('second', clock_timestamp())");
    let now = second();
    wait_for("the next second", || second() != now);
}

/// Timeline 2 leaves 1, and 3 leaves 2; each has transactions of its own.
fn two_switches_are_crossed(version: PgVersion) {
    let archive = Archive::file();
    let mut first = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
    let add = |cluster: &Cluster, name: &str| {
        cluster.execute(&format!("INSERT INTO moments VALUES ('{name}')"));
        cluster.query_one("SELECT clock_timestamp()")
    };
    first.execute("CREATE TABLE moments (name text)");
    let backup = first.backup_push();
    let on_first = add(&first, "on 1");
    let left = add(&first, "left on 1");
    add(&first, "end of 1");
    wait_for_the_next_second(&first);
    first.archive_current_wal();
    first.stop(StopMode::Fast);

    let continue_from = |time: &str| {
        let mut next = Restore::auto(version)
            .option("--recovery-target-time", time)
            .option("--recovery-target-action", "promote")
            .fetch(&archive);
        next.start();
        next.wait_for_end_of_recovery();
        next
    };
    let mut second = continue_from(&on_first);
    let on_second = add(&second, "on 2");
    add(&second, "left on 2");
    wait_for_the_next_second(&second);
    second.archive_current_wal();
    second.stop(StopMode::Fast);
    let mut third = continue_from(&on_second);
    let on_third = add(&third, "on 3");
    add(&third, "end of 3");
    third.archive_current_wal();
    third.stop(StopMode::Fast);

    let to = |time: &str| Restore::auto(version).option("--recovery-target-time", time);
    assert_eq!(moments(to(&on_third), &archive), ["on 1", "on 2", "on 3"]);
    let plan = plan_as_json(&archive, &["--recovery-target-time", &on_third]);
    let timelines: Vec<_> = plan["timelines"].as_array().expect("a list").iter().collect();
    assert_eq!(timelines.len(), 3, "{plan}");
    assert_eq!((&plan["timeline"], &plan["backup_name"]), (&Value::from(3), &Value::from(backup)));
    assert_eq!(timelines[1]["begin_lsn"], timelines[0]["end_lsn"]);

    // A time of what was left is not a time of the newest timeline.
    let refused = to(&left).run(&archive).failure(1);
    assert!(refused.contains("--recovery-target-timeline 1"), "{refused}");
    let on_old = to(&left).option("--recovery-target-timeline", "1");
    assert_eq!(moments(on_old, &archive), ["on 1", "left on 1"]);

    // All switches are in one segment: the newest timeline's file has all of it, and
    // those that its ancestors have cannot replace it.
    let segments = archive.wal_objects();
    let of_timeline = |timeline: u32| {
        let beginning = format!("wal_005/{timeline:08X}");
        let found =
            segments.iter().find(|name| name.starts_with(&beginning) && !name.contains("history"));
        found.unwrap_or_else(|| panic!("timeline {timeline} has no segment: {segments:?}"))
    };
    let (second_s, third_s) = (of_timeline(2), of_timeline(3));
    assert_eq!(second_s[16..], third_s[16..]);
    fs::remove_file(archive.directory().join(third_s)).expect("it can be removed");
    let refused = to(&on_third).run(&archive).failure(1);
    let file = third_s.trim_start_matches("wal_005/").trim_end_matches(".lz4");
    assert!(refused.contains("not in the archive") && refused.contains(file), "{refused}");
    let refused = Restore::auto(version).run(&archive).failure(1);
    assert!(refused.contains("would leave timeline 3"), "{refused}");
}

#[test]
fn two_switches_of_the_oldest_version_are_crossed() {
    two_switches_are_crossed(PgVersion::oldest());
}

#[test]
fn two_switches_of_the_newest_version_are_crossed() {
    two_switches_are_crossed(PgVersion::newest());
}

#[test]
fn a_standby_follows_the_archive_until_it_is_promoted() {
    for &version in PgVersion::complete() {
        let archive = Archive::file();
        let primary = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
        primary.execute("CREATE TABLE t AS SELECT 1 AS i");
        primary.backup_push();
        let mut standby = Restore::auto(version).flag("--standby").fetch(&archive);
        assert!(standby.data_directory().join("standby.signal").exists());
        assert!(!standby.data_directory().join("recovery.signal").exists());
        standby.configure("archive_mode = off");
        standby.start();
        primary.execute("INSERT INTO t VALUES (2)");
        primary.archive_current_wal();
        wait_for("the standby to replay what was archived later", || {
            let answer = standby.try_query("postgres", "SELECT count(*) FROM t");
            answer.is_ok_and(|rows| rows[0][0].as_deref() == Some("2"))
        });
        assert_eq!(standby.query_one("SELECT pg_is_in_recovery()"), "t");
        standby.promote();
        standby.execute("INSERT INTO t VALUES (3)");
    }
}
