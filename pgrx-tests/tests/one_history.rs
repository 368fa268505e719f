//! WAL and base backups belong together: those of a copy that has gone another way are
//! distinguished from the original's, and a plan has read what a server will replay.

use std::path::Path;

use serde_json::Value;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run};
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wal_e::{backup_push, run_wal_e, wal_e};

fn live(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(archive);
    cluster.execute("CREATE TABLE moments (name text)");
    cluster
}

fn add(cluster: &Cluster, name: &str) {
    cluster.execute(&format!("INSERT INTO moments VALUES ('{name}')"));
}

fn copied(from: &Path, to: &Path) {
    run(ServerUser::get().command("cp").arg("-a").arg(from).arg(to)).success();
}

fn plan_as_json(archive: &Archive, options: &[&str]) -> Value {
    let arguments = ["restore-plan", "--json"].iter().chain(options).copied();
    let text = run_wal_e(archive, arguments).success();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_backup_of_an_abandoned_history_is_neither_completed_nor_called_sound() {
    let (archive, own) = (Archive::file(), Archive::file());
    let mut original = live(PgVersion::oldest(), &archive);
    let sound = original.backup_push();
    original.archive_current_wal();
    original.stop(StopMode::Fast);
    let scratch = Scratch::new();
    let data = scratch.path().join("data");
    copied(original.data_directory(), &data);
    original.start();
    for number in 0..8 {
        add(&original, &format!("original {number}"));
        original.archive_current_wal();
    }
    let mut copy = Cluster::adopt(PgVersion::oldest(), scratch, data);
    copy.start();
    add(&copy, "copy");

    // The archive has segments of the names that the copy is about to write.
    let failure = copy.failure_of("SELECT wale_backup_push()");
    assert!(failure.text.contains("has not finished it"), "{failure:?}");
    assert!(failure.text.contains("prefix of its own"), "{failure:?}");
    let text = run(&mut backup_push(&copy, &archive)).failure(1);
    assert!(text.contains("has not finished it"), "{text}");
    assert_eq!(archive.backups(), [sound.as_str()]);
    let others = archive.objects().into_iter().filter(|name| name.starts_with("basebackups_005/"));
    assert!(others.filter(|name| !name.contains(&sound)).count() == 0, "nothing was uploaded");

    // One that got there without these checks.
    for line in own.settings() {
        copy.configure(&line);
    }
    copy.restart();
    let other = copy.backup_push();
    let folder = "basebackups_005";
    copied(&own.directory().join(folder).join("."), &archive.directory().join(folder));
    let text = run_wal_e(&own, ["backup-verify", &other]).success();
    assert!(!text.contains("failed"), "{text}");
    let verified = run_wal_e(&archive, ["backup-verify", &other]);
    assert_eq!(verified.code(), Some(1), "{verified}");
    let told = |line: &str| line.starts_with("failed: wal: ") && line.contains("00000001");
    assert!(verified.stdout.lines().any(told), "{verified}");
    let text = run_wal_e(&archive, ["restore-plan", &other]).failure(1);
    assert!(text.contains("cannot be used"), "{text}");
    let plan = plan_as_json(&archive, &["AUTO"]);
    assert_eq!(plan["backup_name"], sound.as_str());
    assert!(plan["notes"][0].as_str().is_some_and(|note| note.contains(&other)), "{plan}");
}

/// Has the stopped server begin another log.
fn reset_wal(cluster: &mut Cluster, options: &[&str]) {
    cluster.stop(StopMode::Fast);
    let mut reset = cluster.installation().command("pg_resetwal");
    run(reset.args(options).arg("-D").arg(cluster.data_directory())).success();
    // What segments of this size ask for at least.
    cluster.configure("min_wal_size = '256MB'");
    cluster.configure("max_wal_size = '512MB'");
    cluster.start();
}

#[test]
fn another_size_of_segments_is_refused_and_named() {
    for (version, megabytes) in [(PgVersion::oldest(), 64), (PgVersion::newest(), 1)] {
        let archive = Archive::file();
        let mut cluster = Cluster::build(version).start_archiving_to(&archive);
        let backup = cluster.backup_push();
        let last = cluster.archive_current_wal();
        reset_wal(&mut cluster, &[&format!("--wal-segsize={megabytes}")]);
        let before = archive.objects();
        let what =
            format!("the WAL segments of this cluster had 16 MB, and have {megabytes} MB now");
        let segment = cluster.switch_wal();
        cluster.wait_for_log(&what);

        let mut said = vec![cluster.failure_of("SELECT wale_backup_push()").text];
        said.push(run(&mut backup_push(&cluster, &archive)).failure(1));
        let path = cluster.data_directory().join("pg_wal").join(segment);
        said.push(run(wal_e(&archive).arg("wal-push").arg(path)).failure(1));
        said.push(
            cluster.query("SELECT detail, hint FROM wale_check() WHERE NOT ok").concat().concat(),
        );
        for said in said {
            assert!(said.contains(&what) && said.contains("new prefix"), "{said}");
        }
        assert_eq!(archive.objects(), before);
        let plan = plan_as_json(&archive, &[]);
        assert_eq!(plan["backup_name"], backup.as_str());
        assert_eq!(plan["last_segment"], last.as_str());

        // What it says to do.
        let own = Archive::file();
        own.settings().iter().for_each(|line| cluster.configure(line));
        cluster.restart();
        cluster.backup_push();
    }
}

#[test]
fn a_log_that_was_begun_anew_is_named() {
    for &version in PgVersion::complete() {
        let archive = Archive::file();
        let mut cluster = Cluster::build(version).start_archiving_to(&archive);
        let old = cluster.backup_push();
        let end = cluster.query_one("SELECT pg_current_wal_insert_lsn()");
        cluster.archive_current_wal();
        reset_wal(&mut cluster, &["-f"]);
        let first = cluster.archive_current_wal();
        let new = cluster.backup_push();
        cluster.archive_current_wal();
        assert_eq!(plan_as_json(&archive, &[])["backup_name"], new.as_str());
        let refused = run_wal_e(&archive, ["restore-plan", &old]).failure(1);
        let what = format!("the WAL of the cluster begins anew with segment \"{first}\"");
        assert!(refused.contains(&what) && refused.contains(&new), "{refused}");
        for wrong in ["missing", "breaks off", "sound copy", "on its way"] {
            assert!(!refused.contains(wrong), "\"{wrong}\" in {refused}");
        }
        let plan = plan_as_json(&archive, &[&old, "--recovery-target-lsn", &end]);
        assert_eq!(plan["backup_name"], old.as_str());
    }
}

#[test]
fn damage_between_backup_and_target_is_known_beforehand() {
    let archive = Archive::file();
    let cluster = live(PgVersion::oldest(), &archive);
    cluster.backup_push();
    add(&cluster, "one");
    let before = cluster.query_one("SELECT pg_current_wal_insert_lsn()");
    cluster.archive_current_wal();
    add(&cluster, "two");
    let damaged = cluster.archive_current_wal();
    for name in ["three", "four"] {
        add(&cluster, name);
        cluster.archive_current_wal();
    }
    let end = plan_as_json(&archive, &[]);
    assert_eq!(end["wal_segments_read"], end["wal_segments"]);
    archive.corrupt_object(&format!("wal_005/{damaged}.lz4"));
    let text = run_wal_e(&archive, ["restore-plan"]).failure(1);
    assert!(text.contains(&damaged) && text.contains("nearest"), "{text}");
    let row = cluster.query_one("SELECT to_jsonb(p) FROM wale_restore_plan() p");
    let row: Value = serde_json::from_str(&row).expect("to_jsonb makes JSON");
    assert_eq!(row["reachable"], false);
    assert!(row["reason"].as_str().is_some_and(|reason| reason.contains(&damaged)), "{row}");
    plan_as_json(&archive, &["--recovery-target-lsn", &before]);
    // What is not read is not known, and the plan says so.
    let plan = plan_as_json(&archive, &["--read-wal", "1"]);
    assert_eq!(plan["wal_segments_read"], 1);
    assert!(plan["notes"].to_string().contains("unknown"), "{plan}");
}

#[track_caller]
fn what_replay_needs_is_in_the_plan(version: PgVersion) {
    let archive = Archive::file();
    let mut cluster = live(version, &archive);
    cluster.backup_push();
    let before = cluster.query_one("SELECT pg_current_wal_insert_lsn()");
    let location = cluster.create_tablespace("fast");
    let oid = cluster.query_one("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'");
    cluster.configure("max_connections = 137");
    cluster.restart();
    cluster.configure("max_connections = 40");
    cluster.restart();
    add(&cluster, "one");
    cluster.archive_current_wal();
    let plan = plan_as_json(&archive, &[]);
    assert_eq!(plan["raised_settings"]["max_connections"], 137);
    assert_eq!(plan["raised_settings"]["max_locks_per_transaction"], 64);
    let tablespace = &plan["new_tablespaces"][0];
    assert_eq!(tablespace["oid"].to_string(), oid);
    assert_eq!(tablespace["location"], location.display().to_string());
    let notes = cluster.query_one("SELECT notes FROM wale_restore_plan()");
    assert!(notes.contains("max_connections = 137"), "{notes}");
    assert!(notes.contains(&location.display().to_string()), "{notes}");
    let plan = plan_as_json(&archive, &["--recovery-target-lsn", &before]);
    assert_eq!(plan["raised_settings"], Value::Null);
}

#[test]
fn what_replay_needs_is_in_the_plan_of_the_oldest_version() {
    what_replay_needs_is_in_the_plan(PgVersion::oldest());
}

#[test]
fn what_replay_needs_is_in_the_plan_of_the_newest_version() {
    what_replay_needs_is_in_the_plan(PgVersion::newest());
}
