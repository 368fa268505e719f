use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::notice;

fn cluster(data_directory: &Path) -> Cluster {
    Cluster {
        data_directory: data_directory.to_owned(),
        pg_version: 150_018,
        log_directory: None,
        exclude: Exclusions::default(),
    }
}

fn paths(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn a_cluster_is_listed_without_what_the_server_makes_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let space = dir.path().join("space");
    for directory in ["base/5", "pg_wal", "pg_tblspc", "global", "base/pgsql_tmp", "log"] {
        fs::create_dir_all(data.join(directory)).unwrap();
    }
    for version in ["PG_15_202209061/5", "PG_14_202107181/5"] {
        fs::create_dir_all(space.join(version)).unwrap();
        fs::write(space.join(version).join("16390"), b"x").unwrap();
    }
    symlink(&space, data.join("pg_tblspc/16384")).unwrap();
    symlink("/etc/passwd", data.join("base/5/link")).unwrap();
    for file in [
        "PG_VERSION",
        "postmaster.pid",
        "base/5/1",
        "base/5/2",
        "base/5/2_fsm",
        "base/5/2_init",
        "base/5/t1_3",
        "pg_wal/000000010000000000000001",
        "base/pgsql_tmp/pgsql_tmp1.0",
        "global/pg_control",
        "log/postgresql.log",
    ] {
        fs::write(data.join(file), b"content").unwrap();
    }

    let (notices, queue) = notice::channel();
    let listing = walk(&cluster(&data), &notices).unwrap();
    assert_eq!(
        paths(&listing.files),
        ["PG_VERSION", "base/5/1", "base/5/2_init", "pg_tblspc/16384/PG_15_202209061/5/16390"]
    );
    assert_eq!(
        paths(&listing.directories),
        [
            "",
            "base",
            "base/5",
            "global",
            "log",
            "pg_tblspc",
            "pg_wal",
            "pg_tblspc/16384/PG_15_202209061",
            "pg_tblspc/16384/PG_15_202209061/5"
        ]
    );
    assert_eq!(listing.tablespaces[&16384], space);
    let warnings = queue.drain();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("base/5/link"));
}

#[test]
fn what_is_not_postgresql_s_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for directory in ["base/1", "logs/old", "lost+found/1", ".snapshot/daily", "dumps"] {
        fs::create_dir_all(data.join(directory)).unwrap();
    }
    for file in
        ["base/1/1", "base/core.1", "logs/a.log", "logs/old/b.log", "dumps/all.sql", "core.12"]
    {
        fs::write(data.join(file), b"content").unwrap();
    }
    let (notices, _queue) = notice::channel();
    let plain = walk(&cluster(&data), &notices).unwrap();
    assert_eq!(
        paths(&plain.files),
        ["base/1/1", "base/core.1", "core.12", "dumps/all.sql", "logs/a.log", "logs/old/b.log"]
    );

    for log_directory in [PathBuf::from("logs"), data.join("logs"), PathBuf::from("logs/")] {
        let cluster = Cluster {
            log_directory: Some(log_directory),
            exclude: "core.*, dumps".parse().unwrap(),
            ..cluster(&data)
        };
        let listing = walk(&cluster, &notices).unwrap();
        // Excluded names are those at the top alone.
        assert_eq!(paths(&listing.files), ["base/1/1", "base/core.1"]);
        assert_eq!(paths(&listing.directories), ["", "base", "base/1", "logs"]);
    }
}

#[test]
fn logs_elsewhere_or_among_postgresql_s_own_files_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (dir.path().join("data"), dir.path().join("elsewhere"));
    fs::create_dir_all(data.join("base")).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    symlink(&elsewhere, data.join("logs")).unwrap();
    for (log_directory, expected) in [
        (elsewhere.clone(), None),
        (PathBuf::from("../elsewhere"), None),
        (PathBuf::from("."), None),
        (PathBuf::from("base"), None),
        (PathBuf::from("pg_wal/x"), None),
        (PathBuf::from("logs"), Some("logs")),
        (PathBuf::from("a/b"), Some("a/b")),
    ] {
        let cluster = Cluster { log_directory: Some(log_directory), ..cluster(&data) };
        assert_eq!(cluster.log_path().as_deref(), expected, "{cluster:?}");
    }
}

#[test]
fn the_place_of_the_wal_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let (data, wal) = (dir.path().join("data"), dir.path().join("wal"));
    fs::create_dir_all(&data).unwrap();
    fs::create_dir_all(&wal).unwrap();
    symlink(&wal, data.join("pg_wal")).unwrap();
    let listing = walk(&cluster(&data), &notice::channel().0).unwrap();
    assert_eq!(listing.wal_directory, Some(wal));
    assert_eq!(paths(&listing.directories), ["", "pg_wal"]);
}

#[test]
fn a_tablespace_whose_name_no_object_can_hold_is_refused() {
    use std::os::unix::ffi::OsStringExt;

    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let space = dir.path().join(std::ffi::OsString::from_vec(b"B\xfcro".to_vec()));
    fs::create_dir_all(data.join("pg_tblspc")).unwrap();
    fs::create_dir_all(&space).unwrap();
    symlink(&space, data.join("pg_tblspc/16384")).unwrap();
    let error = walk(&cluster(&data), &notice::channel().0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("tablespace 16384"), "{error}");
}
