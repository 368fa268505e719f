//! A backup and the archived WAL become the server that was lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::ServerUser;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::run_wal_e;

/// Backup under load, more load, loss of the server, restore: everything that
/// was committed until the clean stop is there.
fn a_lost_server_comes_back(version: PgVersion, archive: &Archive) {
    let mut cluster = Cluster::build(version).start_archiving_to(archive);
    let location = cluster.create_tablespace("extra");
    cluster.pgbench_init(3);
    cluster.execute(
        "CREATE TABLE in_extra TABLESPACE extra AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i; \
         CREATE INDEX ON in_extra (i) TABLESPACE extra; \
         CREATE UNLOGGED TABLE unlogged AS SELECT 1",
    );
    let load = cluster.start_pgbench();
    let name = cluster.backup_push();
    let tables_after = "CREATE TABLE after_backup AS SELECT generate_series(1, 1000) i; \
                        DELETE FROM in_extra WHERE i % 7 = 0";
    cluster.execute(tables_after);
    cluster.archive_current_wal();
    load.stop();
    cluster.execute("INSERT INTO after_backup VALUES (-1)");
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    drop(cluster);

    let restore = Restore::of(version, &name).tablespace(&location, "extra");
    let moved_to = restore.scratch().path().join("extra");
    let mut restored = restore.recover(archive);
    assert_eq!(restored.tablespace_location("extra"), moved_to.display().to_string());
    assert_eq!(restored.query_one("SELECT count(*) FROM unlogged"), "0");
    restored.assert_restored(&expected);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
}

#[test]
fn a_lost_server_comes_back_from_a_directory() {
    for version in PgVersion::tested() {
        a_lost_server_comes_back(version, &Archive::file());
    }
}

#[test]
fn a_lost_server_comes_back_from_s3() {
    for version in PgVersion::tested() {
        a_lost_server_comes_back(version, &Archive::s3());
    }
}

#[test]
fn latest_is_the_newest_backup_and_older_ones_stay_of_use() {
    let archive = Archive::file();
    let mut cluster =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE t AS SELECT 1 AS generation");
    let first = cluster.backup_push();
    cluster.execute("INSERT INTO t VALUES (2)");
    let second = cluster.backup_push();
    cluster.execute("INSERT INTO t VALUES (3)");
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);

    let label_of = |restore: Restore| {
        let fetched = restore.fetch(&archive);
        let label = fetched.data_directory().join("backup_label");
        let label = fs::read_to_string(label).expect("a fetched backup has a label");
        let (_, rest) = label.split_once("(file ").expect("the label names the start segment");
        (format!("base_{}", &rest[..24]), fetched)
    };
    let (name, _) = label_of(Restore::latest(PgVersion::oldest()));
    assert_eq!(name, second);
    let (name, mut old) = label_of(Restore::of(PgVersion::oldest(), &first));
    assert_eq!(name, first);
    old.start();
    old.wait_for_end_of_recovery();
    old.assert_restored(&expected);
}

#[test]
fn tablespaces_return_to_their_old_place_when_nothing_else_is_said() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let location = cluster.create_tablespace("extra");
    cluster.execute("CREATE TABLE t TABLESPACE extra AS SELECT generate_series(1, 5000) i");
    cluster.backup_push();
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);

    // The old files are still there: they must not be touched.
    let before = fs::read_dir(&location).expect("the tablespace is there").count();
    let refused = Restore::latest(PgVersion::oldest()).run(&archive).failure(1);
    assert!(refused.contains(&location.display().to_string()), "{refused}");
    assert_eq!(fs::read_dir(&location).expect("the tablespace is there").count(), before);

    fs::remove_dir_all(&location).expect("the old tablespace can be removed");
    ServerUser::get().create_directory(&location, 0o700);
    let mut restored = Restore::latest(PgVersion::oldest()).recover(&archive);
    restored.assert_restored(&expected);
}

#[test]
fn a_fetch_without_recovery_options_says_how_to_go_on() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.backup_push();
    let restore = Restore::latest(PgVersion::oldest());
    let finished = restore.run(&archive);
    let said = format!("{}{}", finished.stdout, finished.stderr);
    finished.success();
    for word in ["restore_command", "wal-fetch", "recovery.signal", &archive.url()] {
        assert!(said.contains(word), "\"{word}\" is missing:\n{said}");
    }
    assert!(!said.contains(archive.server().secret_key()), "a secret was printed");
    assert!(!restore.target().join("recovery.signal").exists());
}

#[test]
fn the_restored_files_need_nothing_of_the_old_place() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE t (id int)");
    cluster.backup_push();
    let fetched = Restore::latest(PgVersion::oldest()).fetch(&archive);
    let data = fetched.data_directory();
    for absent in ["postmaster.pid", "postmaster.opts"] {
        assert!(!data.join(absent).exists(), "{absent} must not be in a backup");
    }
    for present in ["pg_wal", "pg_dynshmem", "pg_notify", "pg_replslot", "pg_stat_tmp"] {
        assert!(data.join(present).is_dir(), "{present} must be there, if empty");
    }
    let segments = fs::read_dir(data.join("pg_wal")).expect("pg_wal is there").flatten();
    let segments = segments.filter(|entry| entry.path().is_file()).count();
    assert_eq!(segments, 0, "WAL comes from the archive");
}

#[test]
fn a_cluster_that_its_group_may_read_comes_back_as_one() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).group_access().start_archiving_to(&archive);
    cluster.backup_push();
    let fetched = Restore::auto(PgVersion::oldest()).fetch(&archive);
    let data = fetched.data_directory();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    for entry in walk(data) {
        let expected = if entry.is_dir() { 0o750 } else { 0o640 };
        assert_eq!(mode(&entry), expected, "{}", entry.display());
    }
    for own in ["backup_label", "backup_manifest", "global/pg_control", "recovery.signal"] {
        assert!(data.join(own).exists(), "{own}");
    }
}

/// A directory and all that is below it.
/// What a server has summarized of its WAL is no part of a base backup, as in PostgreSQL's own.
#[test]
fn summaries_of_wal_are_made_anew() {
    for version in PgVersion::tested().into_iter().filter(|version| version.has_wal_summaries()) {
        let archive = Archive::file();
        let mut cluster = Cluster::build(version)
            .wal_segment_size_mb(1)
            .configuration("summarize_wal = on")
            .start_archiving_to(&archive);
        let summaries = |cluster: &Cluster| {
            let entries = fs::read_dir(cluster.data_directory().join("pg_wal/summaries"));
            entries.map_or(0, Iterator::count)
        };
        cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 5000) i; CHECKPOINT");
        wait_for("a summary", || summaries(&cluster) > 0);
        cluster.backup_push();
        let expected = cluster.fingerprint();
        cluster.stop(StopMode::Fast);

        let mut restored = Restore::latest(version).fetch(&archive);
        assert_eq!(summaries(&restored), 0);
        restored.start();
        restored.wait_for_end_of_recovery();
        restored.execute("CHECKPOINT");
        wait_for("a summary of the restored server", || summaries(&restored) > 0);
        restored.assert_restored(&expected);
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("it can be read").flatten();
    let below = entries.flat_map(|entry| match entry.path().is_dir() {
        true => walk(&entry.path()),
        false => vec![entry.path()],
    });
    std::iter::once(directory.to_owned()).chain(below).collect()
}

#[test]
fn the_servers_user_gets_to_what_was_restored_into_directories_that_were_not_there() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.backup_push();
    let scratch = archive.scratch().create("empty");
    let target = scratch.join("lib/postgresql/15/main");
    run_wal_e(&archive, ["backup-fetch", target.to_str().expect("it is text"), "LATEST"]).success();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&target), 0o700);
    for parent in target.ancestors().skip(1).take(3) {
        assert_eq!(mode(parent), 0o755, "{}", parent.display());
    }
}
