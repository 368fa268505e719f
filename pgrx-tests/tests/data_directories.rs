//! Data directories as people have them: file systems with something of their own in them,
//! files that the server may not read, logs and dumps beside the data, links, names that are
//! not ASCII.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode, describe};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, is_root, run};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::backup_push;

fn make_file(path: &Path, mode: u32) {
    fs::write(path, b"something").expect("a file of the data directory can be written");
    ServerUser::get().own(path);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode can be set");
}

/// A directory that not even its owner may look into; root could.
fn make_directory(path: &Path, mode: u32) {
    ServerUser::get().create_directory(path, mode);
}

fn tars(archive: &Archive) -> usize {
    archive.objects().iter().filter(|name| name.contains("/tar_partitions/")).count()
}

#[test]
fn what_is_not_postgresql_s_is_left_out() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("logging_collector = on")
        .configuration("log_directory = 'serverlogs'")
        .configuration("wal_e.backup_exclude = 'core.*, dumps, *.1'")
        .start_archiving_to(&archive);
    let data = cluster.data_directory().to_owned();
    make_directory(&data.join("lost+found"), 0o000);
    make_directory(&data.join("dumps"), 0o000);
    make_file(&data.join("core.1234"), 0o000);
    make_file(&data.join("all.sql"), 0o600);
    make_file(&data.join("messages.1"), 0o000);
    // A pattern means names at the top. "16384.1" is the second gigabyte of a table.
    make_file(&data.join("base/1/16384.1"), 0o600);
    assert!(fs::read_dir(data.join("serverlogs")).expect("the server logs there").count() > 0);

    let look = |restored: &Path| {
        let is_there = |name: &str| restored.join(name).exists();
        assert!(is_there("all.sql") && is_there("serverlogs") && is_there("base/1/16384.1"));
        assert_eq!(fs::read_dir(restored.join("serverlogs")).expect("it is there").count(), 0);
        for name in ["lost+found", "dumps", "core.1234", "messages.1"] {
            assert!(!is_there(name), "{name}");
        }
    };
    cluster.backup_push();
    let restore = Restore::latest(PgVersion::oldest());
    restore.run(&archive).success();
    look(&restore.target());

    cluster.archive_current_wal();
    let mut push = backup_push(&cluster, &archive);
    run(push.args(["--exclude", "dumps,core.1234,*.1"])).success();
    let restore = Restore::latest(PgVersion::oldest());
    restore.run(&archive).success();
    look(&restore.target());

    let failure = cluster.failure_of("ALTER SYSTEM SET wal_e.backup_exclude = 'pg_*'");
    assert!(failure.text.contains("wal_e.backup_exclude"), "{failure:?}");
    // It may be removed where it is no secret to root's tests.
    fs::set_permissions(data.join("dumps"), fs::Permissions::from_mode(0o700)).expect("a mode");
    fs::set_permissions(data.join("lost+found"), fs::Permissions::from_mode(0o700))
        .expect("a mode");
}

#[test]
fn links_are_named_beforehand_and_what_they_held_is_missed_at_a_restore() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::newest()).start_archiving_to(&archive);
    let data = cluster.data_directory().to_owned();
    let elsewhere = cluster.scratch().create("etc");
    for name in ["pg_hba.conf", "postgresql.conf"] {
        fs::rename(data.join(name), elsewhere.join(name)).expect("it can be moved");
        symlink(elsewhere.join(name), data.join(name)).expect("a link can be made");
    }
    symlink("/nonexistent", data.join("dangling")).expect("a link can be made");
    let statistics = cluster.scratch().create("statistics");
    fs::remove_dir_all(data.join("pg_stat_tmp")).expect("the server does not use it now");
    symlink(&statistics, data.join("pg_stat_tmp")).expect("a link can be made");
    let row = "SELECT ok, detail FROM wale_check() WHERE check_name = 'data_directory'";
    let found = cluster.query(row).concat();
    assert_eq!(found[0], "t");
    for name in ["pg_hba.conf", "postgresql.conf", "dangling"] {
        let skipped = format!("skipping symbolic link \"{}\"", data.join(name).display());
        assert!(found[1].contains(&skipped), "{found:?}");
    }
    assert!(!found[1].contains("pg_stat_tmp"), "{found:?}");
    cluster.backup_push();
    let restore = Restore::latest(PgVersion::newest());
    let printed = restore.run(&archive).stderr;
    for name in ["pg_hba.conf", "postgresql.conf"] {
        assert!(printed.contains(&format!("the backup has no {name}")), "{printed}");
    }
    assert!(restore.target().join("pg_stat_tmp").is_dir());

    cluster.stop(StopMode::Fast);
    let transactions = cluster.scratch().path().join("transactions");
    fs::rename(data.join("pg_xact"), &transactions).expect("it can be moved");
    symlink(&transactions, data.join("pg_xact")).expect("a link can be made");
    cluster.start();
    cluster.execute("SELECT pg_switch_wal()");
    let failure = cluster.failure_of("SELECT wale_backup_push()");
    assert!(failure.text.contains("pg_xact\" is a symbolic link"), "{failure:?}");
}

/// The snapshots of network storage cannot be removed.
#[test]
fn a_restore_begins_beside_what_a_file_system_has_at_its_top() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE t AS SELECT 1 AS one");
    cluster.backup_push();
    let restore = Restore::latest(PgVersion::oldest());
    let target = restore.target();
    for place in ["", ".snapshot", ".snapshot/daily", "lost+found", "pg_wal"] {
        make_directory(&target.join(place), 0o700);
    }
    let restored = restore.recover_beside(&archive);
    assert_eq!(restored.query_one("SELECT one FROM t"), "1");
    assert!(target.join(".snapshot/daily").is_dir());

    // Where the WAL cannot be, what is said is about the WAL.
    let inside = Restore::latest(PgVersion::oldest());
    let wal = inside.target().join("wal");
    let said = inside.option("--waldir", wal.display().to_string()).run(&archive).failure(1);
    assert!(said.contains("WAL directory") && !said.contains("tablespace"), "{said}");
}

#[test]
fn files_that_cannot_be_read_are_found_before_anything_is_stored() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::newest()).start_archiving_to(&archive);
    let data = cluster.data_directory().to_owned();
    make_file(&data.join("server.key.bak"), 0o000);
    make_directory(&data.join("base/private"), 0o000);
    make_file(&data.join("global/core.77"), 0o000);
    let assert_named = |text: &str| {
        for name in ["server.key.bak", "base/private", "global/core.77"] {
            assert!(text.contains(&format!("\"{name}\"")), "{name} is missing in {text}");
        }
    };

    let failure = cluster.failure_of("SELECT wale_backup_push()");
    assert_eq!(failure.sqlstate, "42501", "{failure:?}");
    assert_named(&failure.text);
    assert!(failure.text.contains("wal_e.backup_exclude"), "{failure:?}");
    assert_eq!(tars(&archive), 0);
    cluster.archive_current_wal();
    let error = run(&mut backup_push(&cluster, &archive)).failure(1);
    assert_named(&error);
    assert!(error.contains("--exclude"), "{error}");
    assert_eq!(tars(&archive), 0);

    let row = "SELECT ok, detail FROM wale_check() WHERE check_name = 'data_directory'";
    let found = cluster.query(row);
    assert_eq!(found[0][0], "f");
    assert_named(&found[0][1]);

    fs::remove_file(data.join("server.key.bak")).expect("it is there");
    fs::remove_file(data.join("global/core.77")).expect("it is there");
    fs::set_permissions(data.join("base/private"), fs::Permissions::from_mode(0o700))
        .expect("a mode");
    assert_eq!(cluster.query(row)[0][0], "t");
    cluster.backup_push();
}

#[test]
fn an_archive_inside_of_the_cluster_is_refused() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let location = cluster.create_tablespace("extra");
    let row = "SELECT ok, detail FROM wale_check() WHERE check_name = 'data_directory'";
    assert_eq!(cluster.query(row)[0][0], "t");
    let link = archive.scratch().path().join("link");
    symlink(cluster.data_directory(), &link).expect("a link can be made");
    for (inside, through) in [
        (cluster.data_directory().join("backups"), link.join("backups")),
        (location.join("backups"), location.join("backups")),
    ] {
        ServerUser::get().create_directory(&inside, 0o700);
        cluster.execute(&format!("ALTER SYSTEM SET wal_e.prefix = 'file://{}'", through.display()));
        cluster.reload();
        let found = cluster.query(row);
        assert_eq!(found[0][0], "f", "{found:?}");
        assert!(found[0][1].contains("is inside"), "{found:?}");
        cluster.execute("SELECT pg_switch_wal()");
        let failure = cluster.failure_of("SELECT wale_backup_push()");
        assert!(failure.text.contains("is inside"), "{failure:?}");
        let below = walk(&inside);
        assert!(!below.iter().any(|path| path.contains("tar_partitions")), "{below:?}");
    }
}

/// All below a directory.
fn walk(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| [vec![path.display().to_string()], walk(&path)].concat()).collect()
}

#[test]
fn wal_on_another_volume_is_named_when_it_is_restored() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest()).archiving_to(&archive).create();
    let wal = cluster.scratch().path().join("wal volume");
    let inside = cluster.data_directory().join("pg_wal");
    fs::rename(&inside, &wal).expect("WAL can be moved before the server starts");
    symlink(&wal, &inside).expect("a link can be made");
    cluster.start();
    cluster.execute("CREATE EXTENSION wal_e");
    cluster.execute("CREATE TABLE t AS SELECT 1 AS one");
    cluster.backup_push();
    let place = wal.display().to_string();
    let row = "SELECT detail FROM wale_check() WHERE check_name = 'data_directory'";
    assert!(cluster.query_one(row).contains(&place));
    cluster.stop(StopMode::Fast);

    let plain = Restore::latest(PgVersion::oldest());
    let printed = plain.run(&archive).stderr;
    assert!(printed.contains(&place) && printed.contains("--waldir"), "{printed}");

    // A volume is mounted there, and empty.
    let volume = Restore::latest(PgVersion::oldest());
    ServerUser::get().create_directory(&volume.target(), 0o700);
    make_directory(&volume.target().join("pg_wal"), 0o700);
    make_directory(&volume.target().join("pg_wal/lost+found"), 0o700);
    let restored = volume.recover_beside(&archive);
    assert_eq!(restored.query_one("SELECT one FROM t"), "1");

    let elsewhere = Restore::latest(PgVersion::oldest());
    let new = elsewhere.scratch().path().join("wal");
    let elsewhere = elsewhere.option("--waldir", new.display().to_string());
    let printed = elsewhere.run(&archive).stderr;
    assert!(!printed.contains(&place), "{printed}");
    assert_eq!(fs::read_link(elsewhere.target().join("pg_wal")).expect("a link"), new);
}

/// Names of tablespaces, labels and paths keep their characters in a database of any
/// encoding.
#[test]
fn databases_of_other_encodings_are_at_home() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let place = cluster.scratch().path().join("Büro");
    ServerUser::get().create_directory(&place, 0o700);
    cluster.execute(&format!("CREATE TABLESPACE extra LOCATION '{}'", place.display()));
    cluster.execute("CREATE TABLE t TABLESPACE extra AS SELECT 1 AS one");
    for (name, encoding) in [("latin", "LATIN1"), ("japan", "EUC_JP"), ("ascii", "SQL_ASCII")] {
        cluster.execute(&format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ));
        cluster.execute_in(name, "CREATE EXTENSION wal_e");
        let query = |sql: &str| {
            let rows = cluster
                .try_query(name, sql)
                .unwrap_or_else(|error| panic!("{name}: {sql}\n{}", describe(&error)));
            rows[0][0].clone().unwrap_or_default()
        };
        let label = if encoding == "EUC_JP" { "京都" } else { "Größe" };
        let backup = query(&format!("SELECT wale_backup_push('{label}')"));
        assert!(backup.starts_with("base_"), "{backup}");
        query(&format!("SELECT detail FROM wale_backup_verify('{backup}') LIMIT 1"));
        let unknown = format!("SELECT * FROM wale_backup_verify('{label}')");
        let failure = cluster.try_query(name, &unknown).expect_err("there is no such backup");
        let message = describe(&failure);
        assert!(message.contains("base backup") && !message.contains("panic"), "{message}");
        // The program connects to this database, too.
        cluster.archive_current_wal();
        let mut push = backup_push(&cluster, &archive);
        let pushed = run(push.env("PGDATABASE", name).args(["--label", label])).success();
        let backup = pushed.trim().to_owned();
        cluster.archive_current_wal();
        let label_file = Restore::of(PgVersion::oldest(), &backup).tablespace(&place, "Büro");
        label_file.run(&archive).success();
        let text =
            fs::read_to_string(label_file.target().join("backup_label")).expect("it is there");
        assert!(text.contains(&format!("LABEL: {label}\n")), "{text}");
        let mut restored = label_file.adopt();
        restored.configure("archive_mode = off");
        restored.configure(&format!(
            "restore_command = '{}'",
            wal_e_e2e::restore::restore_command(&archive)
        ));
        let signal = restored.data_directory().join("recovery.signal");
        fs::write(&signal, "").expect("a file of the data directory can be written");
        ServerUser::get().own(&signal);
        restored.start();
        restored.wait_for_end_of_recovery();
        assert_eq!(restored.query_one("SELECT one FROM t"), "1");
        assert!(restored.tablespace_location("extra").ends_with("Büro"));
    }
}

/// Who restores as root has made the parents, too, and the server's user must get through.
#[test]
fn a_restore_as_root_makes_parents_that_the_server_can_pass() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).group_access().start_archiving_to(&archive);
    cluster.backup_push();
    let restore = Restore::latest(PgVersion::oldest());
    let target: PathBuf = restore.scratch().path().join("lib/postgresql/15/main");
    let mut command = wal_e_e2e::wal_e::wal_e(&archive);
    if is_root() {
        command.uid(0);
        // SAFETY: between fork and exec, only the system is called.
        unsafe {
            command.pre_exec(|| {
                libc::umask(0o077);
                Ok(())
            });
        }
    }
    command.arg("backup-fetch").arg(&target).arg("LATEST");
    run(&mut command).success();
    let mode =
        |path: &Path| fs::metadata(path).expect("it was restored").permissions().mode() & 0o777;
    for parent in target.ancestors().skip(1).take(3) {
        assert_eq!(mode(parent), 0o755, "{}", parent.display());
    }
    assert_eq!(mode(&target), 0o750);
    for file in ["global/pg_control", "backup_label", "PG_VERSION"] {
        assert_eq!(mode(&target.join(file)), 0o640, "{file}");
    }
}
