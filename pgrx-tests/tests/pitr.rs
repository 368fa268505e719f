//! Recovery to a chosen moment, and across timelines.
//!
//! Timelines are drawn with what is written on them from left to right: `B` is a base backup,
//! and `└` the place where a timeline left the one above.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::ServerUser;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;

/// The moments of a cluster's life that a recovery can go to. Before each, one
/// row was added to the table `moments`; after the last one the table was dropped.
struct History {
    archive: Archive,
    time: String,
    lsn: String,
}

const RESTORE_POINT: &str = "before the mistake";

fn history(version: PgVersion, archive: Archive) -> History {
    let mut cluster = Cluster::build(version).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE moments (name text)");
    cluster.pgbench_init(1);
    cluster.backup_push();
    cluster.pgbench(500);
    cluster.execute("INSERT INTO moments VALUES ('time')");
    let time = cluster.query_one("SELECT clock_timestamp()");
    cluster.execute("INSERT INTO moments VALUES ('lsn')");
    let lsn = cluster.query_one("SELECT pg_current_wal_insert_lsn()");
    cluster.archive_current_wal();
    cluster.execute("INSERT INTO moments VALUES ('name')");
    cluster.query_one(&format!("SELECT pg_create_restore_point('{RESTORE_POINT}')"));
    cluster.execute("DROP TABLE moments");
    cluster.pgbench(500);
    cluster.stop(StopMode::Fast);
    History { archive, time, lsn }
}

/// Restores, and hands out the moments that the restored cluster knows of.
#[track_caller]
fn moments_after(restore: Restore, archive: &Archive) -> Vec<String> {
    let mut restored = restore.fetch(archive);
    // Not to follow one another's timelines.
    restored.configure("archive_mode = off");
    restored.start();
    finish_recovery(&restored);
    restored.amcheck();
    restored.query("SELECT name FROM moments").concat()
}

/// Ends a recovery that has reached its target, whether it pauses there or not.
#[track_caller]
fn finish_recovery(cluster: &Cluster) {
    let mut resumed = false;
    wait_for("the end of recovery", || {
        let answer = cluster.try_query(
            "postgres",
            "SELECT pg_is_in_recovery() AND pg_get_wal_replay_pause_state() = 'paused', pg_is_in_recovery()",
        );
        let Ok(rows) = answer else { return false };
        if rows[0][0].as_deref() == Some("t") && !resumed {
            cluster.query_one("SELECT pg_wal_replay_resume()");
            resumed = true;
        }
        rows[0][1].as_deref() == Some("f")
    });
}

fn recovery_reaches_each_kind_of_target(version: PgVersion, archive: Archive) {
    let history = history(version, archive);
    let restore = || Restore::latest(version);
    let to_time = restore().option("--recovery-target-time", &history.time);
    assert_eq!(moments_after(to_time, &history.archive), ["time"]);
    let to_lsn = restore().option("--recovery-target-lsn", &history.lsn);
    assert_eq!(moments_after(to_lsn, &history.archive), ["time", "lsn"]);
    let to_name = restore().option("--recovery-target-name", RESTORE_POINT);
    assert_eq!(moments_after(to_name, &history.archive), ["time", "lsn", "name"]);
}

#[test]
fn recovery_reaches_a_time_an_lsn_and_a_restore_point() {
    for (version, archive) in Archive::for_tested_versions() {
        recovery_reaches_each_kind_of_target(version, archive);
    }
}

/// Between the plan and the start of the server, another copy is recovered to an earlier
/// moment and opened: the newest timeline does not have the target any more.
fn a_target_is_reached_though_a_newer_timeline_left_before_it(version: PgVersion) {
    // 1  B── early ── on 1 ── end of 1
    // 2             └─ on 2 ── end of 2
    // 3             └─                      left timeline 1, too
    let archive = Archive::file();
    let mut first = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
    let add = |cluster: &Cluster, name: &str| {
        cluster.execute(&format!("INSERT INTO moments VALUES ('{name}')"));
        cluster.query_one("SELECT clock_timestamp()")
    };
    first.execute("CREATE TABLE moments (name text)");
    first.backup_push();
    let early = add(&first, "early");
    let on_first = add(&first, "on 1");
    add(&first, "end of 1");
    first.archive_current_wal();
    first.stop(StopMode::Fast);
    let to = |time: &str| Restore::latest(version).option("--recovery-target-time", time);
    let open_early = || {
        let promoted = to(&early).option("--recovery-target-action", "promote").recover(&archive);
        assert_eq!(promoted.query("SELECT name FROM moments").concat(), ["early"]);
        promoted
    };
    #[track_caller]
    fn assert_reaches(mut planned: Cluster, timeline: &str, moments: &[&str]) {
        let settings =
            std::fs::read_to_string(planned.data_directory().join("postgresql.auto.conf"))
                .expect("backup-fetch wrote it");
        let setting = format!("recovery_target_timeline = '{timeline}'\n");
        assert!(settings.contains(&setting), "{settings}");
        planned.configure("archive_mode = off");
        planned.start();
        finish_recovery(&planned);
        assert_eq!(planned.query("SELECT name FROM moments").concat(), moments);
    }

    let planned = to(&on_first).fetch(&archive);
    let mut second = open_early();
    let on_second = add(&second, "on 2");
    add(&second, "end of 2");
    second.archive_current_wal();
    second.stop(StopMode::Fast);
    assert_reaches(planned, "current", &["early", "on 1"]);

    let planned = to(&on_second).fetch(&archive);
    let mut third = open_early();
    third.archive_current_wal();
    third.stop(StopMode::Fast);
    assert!(archive.wal_objects().contains(&"wal_005/00000003.history.lz4".to_owned()));
    assert_reaches(planned, "2", &["early", "on 2"]);
}

#[test]
fn a_target_of_the_oldest_version_is_reached_though_a_newer_timeline_left_before_it() {
    a_target_is_reached_though_a_newer_timeline_left_before_it(PgVersion::oldest());
}

#[test]
fn a_target_of_the_newest_version_is_reached_though_a_newer_timeline_left_before_it() {
    a_target_is_reached_though_a_newer_timeline_left_before_it(PgVersion::newest());
}

#[test]
fn a_target_that_the_archive_does_not_reach_opens_no_server() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE t (id int)");
    cluster.backup_push();
    cluster.stop(StopMode::Fast);
    let time = "2100-01-01 00:00:00+00";
    let restore = Restore::latest(PgVersion::oldest()).option("--recovery-target-time", time);
    let refused = restore.run(&archive).failure(1);
    assert!(refused.contains("is past the end of the archive"), "{refused}");
    assert!(!restore.target().exists(), "something was written");

    // Nor does a server that was set up by hand.
    let mut restored = Restore::latest(PgVersion::oldest()).fetch(&archive);
    restored.configure(&format!("recovery_target_time = '{time}'"));
    restored.spawn();
    restored.wait_for_log("recovery ended before configured recovery target was reached");
    wait_for("the server to end", || !restored.is_running());
}

#[test]
fn wal_that_the_lost_server_had_not_archived_can_be_added_by_hand() {
    let archive = Archive::s3();
    let mut lost = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    lost.execute("CREATE TABLE t AS SELECT 1 AS i");
    lost.backup_push();
    lost.execute("INSERT INTO t VALUES (2)");
    let expected = lost.fingerprint();
    let segment = lost.query_one("SELECT pg_walfile_name(pg_current_wal_lsn())");
    lost.kill_postmaster();
    assert!(archive.wal_object(&segment).is_none(), "{segment} is not full and not archived");

    let mut restored = Restore::latest(PgVersion::oldest()).fetch(&archive);
    let saved = restored.data_directory().join("pg_wal").join(&segment);
    std::fs::write(&saved, lost.wal_file(&segment).expect("the last segment is in pg_wal"))
        .expect("the restored directory is ours");
    ServerUser::get().own(&saved);
    restored.start();
    restored.wait_for_end_of_recovery();
    assert_eq!(restored.fingerprint(), expected);

    // It was the end of timeline 1, and is archived as what it is: part of a segment.
    restored.archive_current_wal();
    let partial = format!("{segment}.partial");
    assert!(restored.done_files().contains(&partial), "{:?}", restored.done_files());
    assert!(restored.wal_file(&partial) == Some(archive.wal_file(&partial)));
    assert!(archive.wal_object(&segment).is_none());
    restored.stop(StopMode::Fast);
    drop(restored);

    let again = Restore::latest(PgVersion::oldest()).recover(&archive);
    assert_eq!(again.fingerprint(), expected);
}

#[test]
fn a_restore_follows_the_timelines() {
    // 1  B── before the fork ── only on timeline 1
    // 2                       └─ on timeline 2
    // 3                                        └─ on timeline 3 ──B
    let archive = Archive::s3();
    let mut first = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("wal_keep_size = '1GB'")
        .start_archiving_to(&archive);
    first.execute("CREATE TABLE events (what text)");
    let old_backup = first.backup_push();
    first.execute("INSERT INTO events VALUES ('before the fork')");
    let fork = first.query_one("SELECT pg_current_wal_insert_lsn()");
    first.execute("INSERT INTO events VALUES ('only on timeline 1')");
    first.stop(StopMode::Fast);

    // Timeline 2 leaves timeline 1 in the middle of a segment.
    let mut second = Restore::of(PgVersion::oldest(), &old_backup)
        .option("--recovery-target-lsn", &fork)
        .fetch(&archive);
    second.start();
    finish_recovery(&second);
    second.execute("INSERT INTO events VALUES ('on timeline 2')");
    let segment = second.archive_current_wal();
    assert!(segment.starts_with("00000002"), "{segment}");
    assert_eq!(second.archiver_count("failed_count"), 0, "{}", second.log_tail());
    let expected = second.fingerprint();
    let wal_files = archive.wal_objects();
    assert!(wal_files.contains(&"wal_005/00000002.history.lz4".to_owned()), "{wal_files:?}");
    for name in second.done_files() {
        if let Some(file) = second.wal_file(&name) {
            assert!(archive.wal_file(&name) == file, "{name} is archived with other bytes");
        }
    }
    let history = archive.wal_file("00000002.history");
    assert!(String::from_utf8_lossy(&history).starts_with("1\t"), "timeline 1 is its parent");
    second.stop(StopMode::Fast);

    // By default recovery takes the newest timeline, from a backup of the old one.
    let mut third = Restore::of(PgVersion::oldest(), &old_backup).recover(&archive);
    assert_eq!(third.fingerprint(), expected);
    third.amcheck();
    third.execute("INSERT INTO events VALUES ('on timeline 3')");
    let new_backup = third.backup_push();
    assert!(new_backup.starts_with("base_00000003"), "{new_backup}");
    let listed = third.query("SELECT backup_name, timeline FROM wale_backup_list()");
    assert_eq!(listed, [[old_backup.as_str(), "1"], [new_backup.as_str(), "3"]]);
    let expected = third.fingerprint();
    third.stop(StopMode::Fast);

    let fourth = Restore::latest(PgVersion::oldest()).recover(&archive);
    assert_eq!(fourth.fingerprint(), expected);
    drop(fourth);

    // The abandoned end of timeline 1 can still be reached.
    let old = Restore::of(PgVersion::oldest(), &old_backup)
        .option("--recovery-target-timeline", "1")
        .recover_beside(&archive);
    let events = old.query("SELECT what FROM events").concat();
    assert_eq!(events, ["before the fork", "only on timeline 1"]);
}

/// A server reads WAL ahead of its replay, and would meet what is wrong there before it has
/// reached its target.
fn damage_after_the_target_is_not_met(version: PgVersion) {
    let archive = Archive::file();
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE moments (name text)");
    cluster.backup_push();
    cluster.execute("INSERT INTO moments VALUES ('one')");
    cluster.query_one(&format!("SELECT pg_create_restore_point('{RESTORE_POINT}')"));
    cluster.archive_current_wal();
    cluster.execute("INSERT INTO moments VALUES ('two')");
    let damaged = format!("wal_005/{}.lz4", cluster.archive_current_wal());
    cluster.execute("INSERT INTO moments VALUES ('three')");
    cluster.archive_current_wal();
    archive.corrupt_object(&damaged);
    let restore = || Restore::auto(version).option("--recovery-target-action", "promote");
    for lost in [false, true] {
        if lost {
            archive.remove_object(&damaged);
        }
        let immediate = restore().option("--recovery-target", "immediate");
        assert_eq!(moments_after(immediate, &archive), Vec::<String>::new());
        let named = restore().option("--recovery-target-name", RESTORE_POINT);
        assert_eq!(moments_after(named, &archive), ["one"]);
    }
}

#[test]
fn damage_after_the_target_is_not_met_by_the_oldest_version() {
    damage_after_the_target_is_not_met(PgVersion::oldest());
}

#[test]
fn damage_after_the_target_is_not_met_by_the_newest_version() {
    damage_after_the_target_is_not_met(PgVersion::newest());
}
