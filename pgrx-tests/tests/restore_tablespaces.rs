//! Tablespaces go where a specification says, or stay in the data directory.

use std::fs;
use std::path::PathBuf;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fingerprint::Fingerprint;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::ServerUser;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;

/// A stopped cluster with a tablespace and a backup of it.
fn lost(version: PgVersion, archive: &Archive) -> (Cluster, String, PathBuf, Fingerprint) {
    let mut cluster = Cluster::build(version).start_archiving_to(archive);
    let location = cluster.create_tablespace("extra");
    cluster.execute("CREATE TABLE t TABLESPACE extra AS SELECT generate_series(1, 20000) i");
    let oid = cluster.query_one("SELECT oid FROM pg_tablespace WHERE spcname = 'extra'");
    cluster.backup_push();
    cluster.execute("INSERT INTO t VALUES (-1)");
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    (cluster, oid, location, expected)
}

#[track_caller]
fn assert_same(restored: &mut Cluster, expected: &Fingerprint) {
    assert_eq!(&restored.fingerprint(), expected);
    restored.execute("CREATE TABLE after_restore TABLESPACE extra AS SELECT 1 AS one");
    restored.stop(StopMode::Fast);
    restored.check_page_checksums().success();
    restored.start();
    assert_eq!(restored.query_one("SELECT one FROM after_restore"), "1");
}

#[test]
fn a_specification_says_where_tablespaces_go() {
    let archive = Archive::file();
    let (_cluster, oid, location, expected) = lost(PgVersion::oldest(), &archive);
    let restore = Restore::latest(PgVersion::oldest());
    let (place, file) = (restore.scratch().path().join("given"), archive.scratch().path());
    let file = file.join("spec.json");
    let spec = format!(
        "{{\"base_prefix\": \"/unused\", \"tablespaces\": [\"{oid}\"], \
         \"{oid}\": {{\"loc\": \"{}/\", \"link\": \"pg_tblspc/{oid}\"}}}}",
        place.display()
    );
    fs::write(&file, spec).expect("a specification can be written");
    ServerUser::get().own(&file);
    let given = restore.option("--restore-spec", file.display().to_string());
    let mut restored = given.recover_beside(&archive);
    assert_eq!(restored.tablespace_location("extra"), place.display().to_string());
    assert_same(&mut restored, &expected);

    // SOURCE is where they were, and something is there.
    let source = Restore::latest(PgVersion::oldest()).option("--restore-spec", "SOURCE");
    let refused = source.run(&archive).failure(1);
    assert!(refused.contains(&location.display().to_string()), "{refused}");
    fs::remove_dir_all(&location).expect("the old tablespace can be removed");
    ServerUser::get().create_directory(&location, 0o700);
    let mut restored = source.recover_beside(&archive);
    assert_eq!(restored.tablespace_location("extra"), location.display().to_string());
    assert_same(&mut restored, &expected);
}

fn a_blind_restore_keeps_tablespaces_inside(version: PgVersion) {
    let archive = Archive::file();
    let (_cluster, oid, location, expected) = lost(version, &archive);
    let count = || fs::read_dir(&location).expect("the tablespace is there").count();
    let before = count();
    let mut restored = Restore::latest(version).flag("--blind-restore").recover(&archive);
    let place = restored.data_directory().join("pg_tblspc").join(&oid);
    assert!(place.symlink_metadata().expect("the tablespace is there").is_dir());
    assert_eq!(restored.tablespace_location("extra"), format!("pg_tblspc/{oid}"));
    assert_same(&mut restored, &expected);
    assert_eq!(count(), before, "the old place is left alone");
}

#[test]
fn a_blind_restore_of_the_oldest_version_keeps_tablespaces_inside() {
    a_blind_restore_keeps_tablespaces_inside(PgVersion::oldest());
}

#[test]
fn a_blind_restore_of_the_newest_version_keeps_tablespaces_inside() {
    a_blind_restore_keeps_tablespaces_inside(PgVersion::newest());
}

#[test]
fn a_tablespace_that_was_made_in_place_is_restored() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let allow = |cluster: &Cluster, change: &str, value: &str| {
        cluster.execute(&format!("ALTER SYSTEM {change}"));
        cluster.execute("SELECT pg_reload_conf()");
        wait_for("the setting", || cluster.query_one("SHOW allow_in_place_tablespaces") == value);
    };
    allow(&cluster, "SET allow_in_place_tablespaces = on", "on");
    cluster.execute("CREATE TABLESPACE extra LOCATION ''");
    cluster.execute("CREATE TABLE t TABLESPACE extra AS SELECT generate_series(1, 1000) i");
    allow(&cluster, "RESET allow_in_place_tablespaces", "off");
    cluster.backup_push();
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    let mut restored = Restore::latest(PgVersion::oldest()).recover(&archive);
    assert_same(&mut restored, &expected);
}
