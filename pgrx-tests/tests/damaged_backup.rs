//! Base backups of which something is damaged or cannot be read: all of it is named, the
//! rest is restored and kept, and no other backup is hidden by it.

use std::path::PathBuf;

use serde_json::{Value, json};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::Finished;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::run_wal_e;

fn start(archive: &Archive) -> Cluster {
    Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("wal_e.tar_size_threshold = '4MB'")
        .start_archiving_to(archive)
}

fn note(restore: &Restore) -> PathBuf {
    restore.target().join("wal_e.unfinished_restore")
}

/// The tar of a backup that has a file.
#[track_caller]
fn tar_of(archive: &Archive, backup: &str, path: &str) -> String {
    let files = archive.backup_json(backup, "files_metadata.json");
    let sets = files["TarFileSets"].as_object().expect("an object");
    let has_it = |names: &Value| names.as_array().is_some_and(|names| names.contains(&path.into()));
    let found = sets.iter().find(|(_, names)| has_it(names));
    found.unwrap_or_else(|| panic!("no tar has {path}")).0.clone()
}

/// What an event says of a damaged object.
#[track_caller]
fn damage_of<'a>(event: &'a Value, name: &str) -> &'a Value {
    let is_of = |object: &&Value| object["object"].as_str().is_some_and(|url| url.ends_with(name));
    let mut damaged = event["damaged"].as_array().expect("a list").iter();
    damaged.find(is_of).unwrap_or_else(|| panic!("{name} is not named in {event}"))
}

/// The last event that `--json` printed.
#[track_caller]
fn last_event(finished: &Finished) -> Value {
    let line = finished.stdout.lines().last().unwrap_or_else(|| panic!("no event: {finished}"));
    serde_json::from_str(line).expect("an object")
}

#[test]
fn a_restore_names_all_damage_and_fetches_only_that_once_it_is_mended() {
    let archive = Archive::s3();
    let mut cluster = start(&archive);
    let paths = ["noise", "more"].map(|table| {
        cluster.create_incompressible_table(table, 8);
        cluster.query_one(&format!("SELECT '/' || pg_relation_filepath('{table}')"))
    });
    let backup = cluster.backup_push();
    cluster.execute("CREATE TABLE later AS SELECT 1 i");
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    let tar = |name: &str| format!("basebackups_005/{backup}/tar_partitions/{name}");
    let [noise, more] = paths.clone().map(|path| tar(&tar_of(&archive, &backup, &path)));
    let damaged = [noise, more, tar("backup_label.tar.lz4")];
    let sound = damaged.clone().map(|name| archive.object(&name).expect("the backup has it"));
    damaged[..2].iter().for_each(|name| archive.corrupt_object(name));
    archive.truncate_object(&damaged[2]);

    let restore = Restore::latest(PgVersion::oldest());
    let said = restore.run(&archive).failure(1);
    for word in damaged.iter().chain(&paths).map(String::as_str).chain(["--resume"]) {
        assert!(said.contains(word), "\"{word}\" is missing in:\n{said}");
    }
    assert!(!restore.target().join("global/pg_control").exists(), "it could be started");
    assert!(note(&restore).exists(), "what is sound stays");

    // One is repaired, and programs are told about the others.
    let [part, others @ ..] = &sound;
    archive.replace_object(&damaged[0], part.clone());
    let again = wal_e_e2e::process::run(restore.command(&archive).args(["--resume", "--json"]));
    let event = last_event(&again);
    assert_eq!(event["event"], "error", "{again}");
    assert_eq!(event["damaged"].as_array().map(Vec::len), Some(2), "{event}");
    assert_eq!(damage_of(&event, &damaged[1])["member"], paths[1]);
    assert!(damage_of(&event, &damaged[2])["cause"].is_string());

    for (name, bytes) in damaged[1..].iter().zip(others) {
        archive.replace_object(name, bytes.clone());
    }
    let requests = || damaged.clone().map(|name| archive.proxy().count_requests("GET", &name));
    let before = requests();
    let mut restored = restore.flag("--resume").recover(&archive);
    assert_eq!(restored.fingerprint(), expected);
    restored.amcheck();
    let after = requests();
    assert_eq!(before[0], after[0], "it was on disk");
    assert!(before[1] < after[1]);
    restored.stop(StopMode::Fast);
}

#[test]
fn what_is_in_cold_storage_is_named_before_the_first_byte() {
    let archive = Archive::s3();
    let mut cluster = start(&archive);
    cluster.create_incompressible_table("noise", 8);
    let backup = cluster.backup_push();
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    let name = |rest: &str| format!("basebackups_005/{backup}{rest}");
    let cold = [
        name("_backup_stop_sentinel.json"),
        name("/tar_partitions/part_001.tar.lz4"),
        name("/tar_partitions/part_003.tar.lz4"),
    ];
    cold.iter().for_each(|name| archive.set_storage_class(name, "GLACIER"));
    for wanted in [backup.as_str(), "LATEST"] {
        let restore = Restore::of(PgVersion::oldest(), wanted);
        let said = restore.run(&archive).failure(1);
        for name in &cold {
            assert!(said.contains(name), "{name} is not named in:\n{said}");
        }
        assert!(!restore.target().exists(), "something was written");
    }
    // A copy that can be read for some days is as good as any object; listings do not show it.
    archive.restore_object(&cold[0]);
    archive.restore_object(&cold[1]);
    let restore = Restore::latest(PgVersion::oldest());
    let said = restore.run(&archive).failure(1);
    assert!(said.contains(&cold[2]) && !said.contains(&cold[1]), "{said}");
    archive.restore_object(&cold[2]);
    let mut restored = restore.recover(&archive);
    assert_eq!(restored.fingerprint(), expected);
    restored.stop(StopMode::Fast);
}

/// Rows of `wal-e backup-list --json` by the names of the backups.
#[track_caller]
fn listed(archive: &Archive, name: &str) -> Value {
    let list = run_wal_e(archive, ["backup-list", "--json"]);
    assert!(list.status.success(), "{list}");
    let rows: Value = serde_json::from_str(&list.stdout).expect("a list");
    let row = rows.as_array().expect("a list").iter().find(|row| row["backup_name"] == name);
    row.unwrap_or_else(|| panic!("{name} is not listed: {list}")).clone()
}

#[test]
fn a_backup_that_cannot_be_read_is_listed_as_damaged_and_hides_no_other() {
    let archive = Archive::file();
    let mut cluster = start(&archive);
    let older = cluster.backup_push();
    cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) i");
    let newer = cluster.backup_push();
    cluster.execute("INSERT INTO t VALUES (-1)");
    cluster.archive_current_wal();
    let expected = cluster.fingerprint();
    let name = |backup: &str, rest: &str| format!("basebackups_005/{backup}{rest}");
    let sentinel = name(&newer, "_backup_stop_sentinel.json");
    let whole = archive.object(&sentinel).expect("the backup has one");
    archive.replace_object(&name(&older, "/metadata.json"), Vec::new());

    for damaged in [&b""[..], &whole[..whole.len() / 2], b"{\"LSN\": []}", b"<html>"] {
        archive.replace_object(&sentinel, damaged.to_vec());
        for options in [&["backup-list"][..], &["backup-list", "--detail"]] {
            let list = run_wal_e(&archive, options.iter().copied());
            assert!(list.status.success(), "{list}");
            assert_eq!(list.stdout.lines().count(), 3, "{list}");
            assert!(list.stdout.contains(&older) && list.stdout.contains(&newer), "{list}");
            assert!(list.stdout.contains("  damaged  "), "{list}");
            assert!(list.stderr.contains("warning") && list.stderr.contains(&sentinel), "{list}");
        }
        let row = listed(&archive, &newer);
        assert_eq!(row["backup_type"], "damaged", "{row}");
        assert!(row["damage"].as_str().is_some_and(|damage| damage.contains(&sentinel)), "{row}");
        assert!(row["start_lsn"].is_string() && row["hostname"].is_string(), "{row}");
    }
    let row = listed(&archive, &older);
    assert_eq!(row["backup_type"], "full", "{row}");
    assert!(row["damage"].as_str().is_some_and(|damage| damage.contains("metadata.json")));

    // The latest backup is never silently an older one.
    for wanted in ["LATEST", &newer] {
        let said = Restore::of(PgVersion::oldest(), wanted).run(&archive).failure(1);
        assert!(said.contains(&sentinel) && said.contains(&older), "{said}");
    }
    // The server's own list says the same, of deltas, too.
    let delta = format!("{older}_D_000000010000000000000001");
    let object = name(&delta, "_backup_stop_sentinel.json");
    let json = json!({"DeltaFrom": older, "DeltaFullName": older, "DeltaLSN": 1, "DeltaCount": 1});
    archive.replace_object(&object, json.to_string().into_bytes());
    let kind = |name: &str| {
        cluster.query_one(&format!(
            "SELECT backup_type || ' ' || (damage IS NOT NULL) FROM wale_backup_list() \
             WHERE backup_name = '{name}'"
        ))
    };
    assert_eq!(
        [kind(&older), kind(&newer), kind(&delta)],
        ["full true", "damaged true", "delta false"]
    );
    assert_eq!(listed(&archive, &delta)["backup_type"], "delta");
    archive.remove_object(&object);
    cluster.stop(StopMode::Fast);

    // The older one has what a restore needs.
    let mut restored = Restore::auto(PgVersion::oldest()).recover(&archive);
    assert_eq!(restored.fingerprint(), expected);
    restored.stop(StopMode::Fast);
}
