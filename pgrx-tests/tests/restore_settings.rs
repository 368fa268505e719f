//! The settings of a restored cluster make exactly the planned recovery happen, whatever the
//! configuration in the backup says, and does no harm to the original.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::{Installation, PgVersion};
use wal_e_e2e::process::{ServerUser, run};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::run_wal_e;

/// A cluster that archives, with a base backup and a table to which each moment adds a row.
fn live(version: PgVersion, archive: &Archive, configuration: &[&str]) -> Cluster {
    let lines = configuration.iter().map(|line| (*line).to_owned());
    let cluster = Cluster::build(version)
        .wal_segment_size_mb(1)
        .configuration_lines(lines)
        .start_archiving_to(archive);
    cluster.execute("CREATE TABLE moments (name text)");
    cluster
}

fn add(cluster: &Cluster, name: &str) {
    cluster.execute(&format!("INSERT INTO moments VALUES ('{name}')"));
}

fn moments(cluster: &Cluster) -> Vec<String> {
    cluster.query("SELECT name FROM moments").concat()
}

fn auto_conf(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.data_directory().join("postgresql.auto.conf"))
        .expect("postgresql.auto.conf can be read")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file of a data directory can be written");
    ServerUser::get().own(path);
}

/// Ends the pause at the target.
#[track_caller]
fn resume(cluster: &Cluster) {
    cluster.wait_for_recovery_pause();
    cluster.query_one("SELECT pg_wal_replay_resume()");
    cluster.wait_for_end_of_recovery();
}

/// The statement in the comment of `postgresql.auto.conf` that takes the settings out.
fn how_to_take_settings_out(cluster: &Cluster) -> String {
    let text = auto_conf(cluster);
    let comment = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let statement: Vec<&str> = comment.skip_while(|line| !line.starts_with("SELECT")).collect();
    format!("{}\n", statement.join("\n"))
}

/// Runs a statement as a person does in psql.
#[track_caller]
fn run_in_psql(cluster: &Cluster, statement: &str) {
    let script = cluster.scratch().path().join("statement.sql");
    write(&script, statement);
    let mut psql = cluster.client_program("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f"]).arg(&script);
    run(&mut psql).success();
}

fn settings_left_behind_do_not_change_the_recovery(version: PgVersion) {
    let archive = Archive::file();
    let mut original = live(version, &archive, &[]);
    original.configure("include_dir = 'conf.d'");
    let conf = original.data_directory().join("conf.d");
    ServerUser::get().create_directory(&conf, 0o700);
    let ran = original.scratch().path().join("ran");
    let command = format!("touch {}", ran.display());
    let left = format!(
        "Recovery_Target_Time = '2020-01-01 00:00:00+00'\nrecovery_target_action = shutdown\n\
         recovery_target_inclusive = off\nrecovery_target_timeline = '9'\nrestore_command = 'false'\n\
         recovery_end_command = '{command}'\narchive_cleanup_command = '{command}'\n\
         recovery_min_apply_delay = '1d'\nprimary_slot_name = 'of_another'\nhot_standby = off\n"
    );
    write(&conf.join("left.conf"), &left);
    original.restart();
    original.backup_push();
    add(&original, "one");
    original.query_one("SELECT pg_create_restore_point('here')");
    add(&original, "two");
    original.archive_current_wal();

    let mut to_name = Restore::auto(version)
        .option("--recovery-target-name", "here")
        .option("--archive-mode", "off")
        .fetch(&archive);
    to_name.start();
    resume(&to_name);
    assert_eq!(moments(&to_name), ["one"]);
    // ALTER SYSTEM drops comments, and the server still starts with what is left.
    let statement = how_to_take_settings_out(&to_name);
    to_name.execute("ALTER SYSTEM SET work_mem = '5MB'");
    to_name.restart();
    run_in_psql(&to_name, &statement);
    let settings = auto_conf(&to_name);
    assert!(settings.contains("work_mem"), "{settings}");
    assert!(!settings.contains("recovery_") && !settings.contains("restore_command"), "{settings}");
    drop(to_name);

    let mut to_end = Restore::auto(version).option("--archive-mode", "off").fetch(&archive);
    to_end.start();
    to_end.wait_for_end_of_recovery();
    assert_eq!(moments(&to_end), ["one", "two"]);
    assert!(!ran.exists(), "a command of an earlier restore ran");
    original.stop(StopMode::Fast);
}

#[test]
fn settings_left_behind_do_not_change_the_recovery_of_the_oldest_version() {
    settings_left_behind_do_not_change_the_recovery(PgVersion::oldest());
}

#[test]
fn settings_left_behind_do_not_change_the_recovery_of_the_newest_version() {
    settings_left_behind_do_not_change_the_recovery(PgVersion::newest());
}

#[test]
fn a_restore_of_files_alone_names_what_would_change_a_recovery() {
    let archive = Archive::file();
    let original = live(PgVersion::oldest(), &archive, &[]);
    original.configure("recovery_target_time = '2020-01-01 00:00:00+00'");
    original.backup_push();
    let conf = fs::read_to_string(original.data_directory().join("postgresql.conf"));
    let line = conf.expect("it can be read").lines().count();
    let finished = Restore::latest(PgVersion::oldest()).run(&archive);
    let place = format!("recovery_target_time in \"postgresql.conf\", line {line}");
    assert!(finished.stderr.contains(&place), "{finished}");
    finished.success();
}

#[test]
fn a_copy_does_not_open_the_data_directory_of_the_original() {
    let archive = Archive::file();
    let mut original = live(PgVersion::oldest(), &archive, &[]);
    original.configure(&format!("data_directory = '{}'", original.data_directory().display()));
    original.restart();
    add(&original, "one");
    original.backup_push();
    add(&original, "two");
    original.stop(StopMode::Fast);
    let mut copy = Restore::auto(PgVersion::oldest())
        .option("--recovery-target", "immediate")
        .option("--archive-mode", "off")
        .fetch(&archive);
    copy.start();
    let own = copy.data_directory().display().to_string();
    assert_eq!(copy.query_one("SHOW data_directory"), own);
    resume(&copy);
    assert_eq!(moments(&copy), ["one"]);
}

/// The settings of the running server are in the control file, whatever the files say.
fn settings_that_the_server_had_are_written(version: PgVersion) {
    let archive = Archive::file();
    let original = live(version, &archive, &["max_connections = 60"]);
    original.configure("max_connections = 30");
    original.backup_push();
    original.query_one("SELECT pg_create_restore_point('here')");
    original.archive_current_wal();
    let mut copy = Restore::auto(version)
        .option("--recovery-target-name", "here")
        .option("--recovery-target-action", "promote")
        .option("--archive-mode", "off")
        .fetch(&archive);
    copy.start();
    copy.wait_for_end_of_recovery();
    assert_eq!(copy.query_one("SHOW max_connections"), "60");
}

#[test]
fn settings_that_the_server_of_the_oldest_version_had_are_written() {
    settings_that_the_server_had_are_written(PgVersion::oldest());
}

#[test]
fn settings_that_the_server_of_the_newest_version_had_are_written() {
    settings_that_the_server_had_are_written(PgVersion::newest());
}

/// The WAL has a record of settings that were raised after the base backup.
fn settings_that_were_raised_later_are_written(version: PgVersion) {
    let archive = Archive::file();
    let mut original = live(version, &archive, &[]);
    original.backup_push();
    original.execute("ALTER SYSTEM SET max_connections = 60");
    original.execute("ALTER SYSTEM SET max_locks_per_transaction = 100");
    original.restart();
    add(&original, "one");
    original.query_one("SELECT pg_create_restore_point('here')");
    original.archive_current_wal();
    let mut copy = Restore::auto(version)
        .option("--recovery-target-name", "here")
        .option("--recovery-target-action", "promote")
        .option("--archive-mode", "off")
        .fetch(&archive);
    copy.start();
    copy.wait_for_end_of_recovery();
    assert_eq!(moments(&copy), ["one"]);
    let values = ["max_connections", "max_locks_per_transaction"]
        .map(|name| copy.query_one(&format!("SHOW {name}")));
    assert_eq!(values, ["60", "100"]);
}

#[test]
fn settings_that_were_raised_later_on_the_oldest_version_are_written() {
    settings_that_were_raised_later_are_written(PgVersion::oldest());
}

#[test]
fn settings_that_were_raised_later_on_the_newest_version_are_written() {
    settings_that_were_raised_later_are_written(PgVersion::newest());
}

/// What `restore-plan --json` says with these options.
#[track_caller]
fn plan(archive: &Archive, options: &[&str]) -> Value {
    let arguments = ["restore-plan", "AUTO", "--json"].into_iter().chain(options.iter().copied());
    serde_json::from_str(&run_wal_e(archive, arguments).success()).expect("the plan is JSON")
}

#[test]
fn a_copy_of_a_server_that_archives_does_not_archive_unless_it_is_said() {
    let archive = Archive::file();
    let original = live(PgVersion::oldest(), &archive, &[]);
    original.backup_push();
    original.archive_current_wal();
    assert_eq!(plan(&archive, &[])["archive_mode"], "off");
    let restore = Restore::auto(PgVersion::oldest()).deciding_archiving();
    let finished = restore.run(&archive);
    let said = finished.stderr.matches("its server may be alive").count();
    assert_eq!(said, 2, "it is said before and after: {finished}");
    finished.success();
    let mut copy = restore.adopt();
    copy.start();
    copy.wait_for_end_of_recovery();
    assert_eq!(copy.query_one("SHOW archive_mode"), "off");
    original.archive_current_wal();
    let of_copy = |name: &String| name.starts_with("wal_005/00000002");
    copy.switch_wal();
    assert!(!archive.wal_objects().iter().any(of_copy), "the copy archived");

    // Files alone, which are recovered by hand, are the same copy.
    let plain = Restore::latest(PgVersion::oldest()).deciding_archiving();
    plain.run(&archive).success();
    assert!(auto_conf(&plain.adopt()).contains("\narchive_mode = 'off'\n"));
}

#[test]
fn after_a_long_silence_the_restored_cluster_archives_on() {
    let archive = Archive::file();
    let mut original = live(PgVersion::oldest(), &archive, &[]);
    original.backup_push();
    original.stop(StopMode::Fast);
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    for name in archive.objects() {
        let file = fs::File::open(archive.directory().join(name)).expect("an object is a file");
        file.set_modified(yesterday).expect("its time can be set");
    }
    assert_eq!(plan(&archive, &[])["archive_mode"], "preserve");
    let restore = Restore::auto(PgVersion::oldest()).deciding_archiving().flag("--json");
    let said = restore.run(&archive).success();
    let done = said.lines().last().expect("an event a line");
    let done: Value = serde_json::from_str(done).expect("the event is JSON");
    assert_eq!(done["archive_mode"], "preserve");
    let mut restored = restore.adopt();
    assert!(!auto_conf(&restored).contains("\narchive_mode"));
    restored.start();
    restored.wait_for_end_of_recovery();
    assert!(restored.archive_current_wal().starts_with("00000002"));
    // The other way round when it is said.
    assert_eq!(plan(&archive, &[])["archive_mode"], "off", "WAL has come now");
}

#[test]
fn recovery_can_end_with_the_base_backup() {
    let archive = Archive::file();
    let mut original = live(PgVersion::oldest(), &archive, &[]);
    add(&original, "one");
    let backup = original.backup_push();
    add(&original, "two");
    let broken = original.archive_current_wal();
    add(&original, "three");
    original.archive_current_wal();
    original.stop(StopMode::Fast);
    // Nothing after the backup is needed.
    archive.remove_object(&format!("wal_005/{broken}.lz4"));
    let planned = plan(&archive, &["--recovery-target", "immediate"]);
    assert_eq!(planned["backup_name"], backup.as_str());
    assert_eq!(planned["reached_lsn"], planned["consistent_lsn"]);
    let mut copy = Restore::auto(PgVersion::oldest())
        .option("--recovery-target", "immediate")
        .option("--archive-mode", "off")
        .fetch(&archive);
    copy.start();
    resume(&copy);
    assert_eq!(moments(&copy), ["one"]);
}

#[test]
fn recovery_can_end_just_before_a_transaction_an_lsn_or_a_time() {
    let archive = Archive::file();
    let mut original = live(PgVersion::oldest(), &archive, &["track_commit_timestamp = on"]);
    original.backup_push();
    add(&original, "one");
    let lsn = original.query_one("SELECT pg_current_wal_insert_lsn()");
    let xid = original.query_one(
        "WITH added AS (INSERT INTO moments VALUES ('two') RETURNING name) \
         SELECT pg_current_xact_id() FROM added",
    );
    let time = original.query_one(&format!("SELECT pg_xact_commit_timestamp('{xid}'::xid)"));
    add(&original, "three");
    original.archive_current_wal();
    original.stop(StopMode::Fast);
    let until = |option: &str, value: &str, inclusive: &str| {
        let options = [option, value, "--recovery-target-inclusive", inclusive];
        assert_eq!(plan(&archive, &options)["reachable"], true);
        let mut copy = Restore::auto(PgVersion::oldest())
            .option(option, value)
            .option("--recovery-target-inclusive", inclusive)
            .option("--archive-mode", "off")
            .fetch(&archive);
        copy.start();
        resume(&copy);
        moments(&copy)
    };
    assert_eq!(until("--recovery-target-xid", &xid, "false"), ["one"]);
    assert_eq!(until("--recovery-target-xid", &xid, "true"), ["one", "two"]);
    assert_eq!(until("--recovery-target-lsn", &lsn, "false"), ["one"]);
    assert_eq!(until("--recovery-target-time", &time, "false"), ["one"]);
    assert_eq!(until("--recovery-target-time", &time, "true"), ["one", "two"]);
}

#[test]
fn a_restore_that_does_not_fit_is_refused_before_the_first_byte() {
    let archive = Archive::file();
    let mut original = live(PgVersion::oldest(), &archive, &[]);
    let backup = original.backup_push();
    original.stop(StopMode::Fast);
    archive.remove_object(&format!("basebackups_005/{backup}/backup_manifest.lz4"));
    let sentinel = format!("basebackups_005/{backup}_backup_stop_sentinel.json");
    let json = archive.object(&sentinel).expect("the sentinel is there");
    let mut json: Value = serde_json::from_slice(&json).expect("it is JSON");
    json["UncompressedSize"] = Value::from(1_u64 << 60);
    archive.replace_object(&sentinel, json.to_string().into_bytes());

    let restore = Restore::auto(PgVersion::oldest());
    let refused = restore.run(&archive).failure(1);
    assert!(refused.contains("too little space") && refused.contains("MB are free"), "{refused}");
    assert!(!restore.target().exists(), "something was made");
    restore.flag("--ignore-free-space").run(&archive).success();
}

#[test]
fn the_wrong_postgresql_is_named_before_a_restore() {
    let archive = Archive::file();
    let mut original = live(PgVersion::oldest(), &archive, &[]);
    original.backup_push();
    original.stop(StopMode::Fast);
    let said = |directory: &Path| {
        let directory = directory.display().to_string();
        let restore = Restore::auto(PgVersion::oldest()).option("--pg-bindir", directory);
        let finished = restore.run(&archive);
        assert_eq!(finished.code(), Some(0), "{finished}");
        finished.stderr
    };
    // All that is asked of it is its version.
    let other = archive.scratch().create("other");
    let program = other.join("postgres");
    fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n").expect("it is written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be executed");
    let major = PgVersion::oldest().major();
    let named = format!("the base backup is of PostgreSQL {major}, and");
    let other = said(&other);
    assert!(other.contains(&named) && other.contains("is 99.1"), "{other}");
    let same = said(Installation::get(PgVersion::oldest()).programs());
    assert!(!same.contains("the base backup is of PostgreSQL"), "{same}");
}

#[test]
fn a_standby_is_made_that_streams() {
    let archive = Archive::file();
    let primary = live(PgVersion::oldest(), &archive, &[]);
    primary.backup_push();
    let conninfo = format!(
        "host={} port={} user=postgres",
        primary.socket_directory().display(),
        primary.query_one("SHOW port")
    );
    let mut standby = Restore::latest(PgVersion::oldest())
        .flag("--standby")
        .option("--primary-conninfo", conninfo)
        .fetch(&archive);
    standby.start();
    add(&primary, "one");
    standby.wait_for_replay_of(&primary);
    assert_eq!(moments(&standby), ["one"]);
    wait_for("streaming", || standby.query_one("SELECT count(*) FROM pg_stat_wal_receiver") == "1");
}
