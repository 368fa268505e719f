//! A full base backup out of a delta and those that it builds on: it restores to the same, takes
//! the place of the chain, and an attempt that ends early leaves nothing behind that counts.

use std::fs;
use std::process::Stdio;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::chains::{end_of_wal, let_databases_age, push_incremental, restore_to};
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::pages::assert_same_pages;
use wal_e_e2e::process::{ServerUser, run, send_signal, wait_for_end};
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wait::{PATIENCE, wait_for};
use wal_e_e2e::wal_e::{run_wal_e, wal_e};

/// A cluster with a tablespace and a chain of three backups in several tars each; returns the
/// name of the last one.
fn chain(version: PgVersion, archive: &Archive) -> (Cluster, String) {
    let cluster = Cluster::build(version)
        .configuration("wal_e.backup_max_deltas = 10")
        .start_archiving_to(archive);
    cluster.create_tablespace("extra");
    cluster.create_incompressible_table("noise", 70);
    cluster.execute("CREATE TABLE t TABLESPACE extra AS SELECT generate_series(1, 50000) i");
    let_databases_age(&cluster);
    let mut last = cluster.backup_push();
    for share in [7, 11] {
        cluster.execute(&format!(
            "UPDATE noise SET noise = sha512(noise) || substr(noise, 65) WHERE id % {share} = 0; \
             INSERT INTO t SELECT generate_series(1, 9000) i; \
             CREATE TABLE since_{share} TABLESPACE extra AS SELECT generate_series(1, 5000) i"
        ));
        last = push_incremental(&cluster);
        assert!(last.contains("_D_"), "{last}");
    }
    (cluster, last)
}

/// The name of the backup that a delta is merged into.
fn full_name(delta: &str) -> &str {
    &delta[..29]
}

#[track_caller]
fn merge(archive: &Archive) -> String {
    run_wal_e(archive, ["backup-merge"]).success().trim().to_owned()
}

/// Nothing is where changed pages waited.
fn is_empty(scratch: &Scratch) -> bool {
    fs::read_dir(scratch.path()).expect("it is a directory").next().is_none()
}

#[test]
fn a_merged_backup_takes_the_place_of_its_chain() {
    for (version, archive) in Archive::for_tested_versions() {
        let (cluster, delta) = chain(version, &archive);
        let merged = merge(&archive);
        assert_eq!(merged, full_name(&delta));
        let sentinel = archive.backup_sentinel(&merged);
        assert_eq!(sentinel["MergedFrom"], delta);
        assert_eq!(sentinel["LSN"], archive.backup_sentinel(&delta)["LSN"]);
        assert!(sentinel.get("DeltaFrom").is_none(), "{sentinel}");

        // The chain may go, and the next delta builds on what was made of it.
        cluster.query("SELECT * FROM wale_retain(1, dry_run => false)");
        assert_eq!(archive.backups(), std::slice::from_ref(&merged));
        cluster.execute("UPDATE t SET i = i + 1 WHERE i % 3 = 0; DROP TABLE since_7");
        let next = push_incremental(&cluster);
        assert_eq!(archive.backup_sentinel(&next)["DeltaFrom"], merged);
        assert_eq!(cluster.query("SELECT * FROM wale_backup_verify() WHERE NOT ok").len(), 0);
        let again = merge(&archive);
        let full = cluster.backup_push();
        let (lsn, end) = end_of_wal(&cluster);
        let expected = restore_to(&cluster, &archive, &full, &lsn);
        for name in [merged, next, again] {
            let restored = restore_to(&cluster, &archive, &name, &lsn);
            assert_same_pages(restored.data_directory(), expected.data_directory(), end);
            run_wal_e(&archive, ["backup-verify", &name]).success();
        }
        let mut restored = expected;
        restored.start();
        restored.amcheck();
        assert_eq!(restored.fingerprint(), cluster.fingerprint());
    }
}

#[test]
fn a_merge_that_is_killed_is_begun_anew() {
    let archive = Archive::s3();
    let (cluster, delta) = chain(PgVersion::oldest(), &archive);
    let merged = full_name(&delta).to_owned();
    let tars = format!("/{merged}/tar_partitions/");
    let begun = format!("basebackups_005/{merged}/begun.json");
    for signal in [9, 2, 15] {
        let scratch = Scratch::new();
        ServerUser::get().own(scratch.path());
        archive.proxy().set(Fault::Throttle(3 << 20));
        let mut command = wal_e(&archive);
        command.arg("backup-merge").arg("--temporary-directory").arg(scratch.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program can be run");
        let own = format!(" {}\"}}", child.id());
        wait_for("a tar of the new backup", || {
            // What the one before has left goes first.
            let begun = archive.object(&begun).unwrap_or_default();
            String::from_utf8_lossy(&begun).contains(&own)
                && archive.objects().iter().any(|object| object.contains(&tars))
        });
        send_signal(child.id() as i32, signal);
        let status = wait_for_end(&mut child, PATIENCE).expect("it ends");
        assert!(!archive.backups().contains(&merged), "it was killed too late");
        archive.proxy().set(Fault::None);
        if signal != 9 {
            assert_eq!(status.code(), Some(128 + signal));
            assert!(is_empty(&scratch));
        }
    }
    assert_eq!(merge(&archive), merged);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
    run_wal_e(&archive, ["backup-verify", &merged]).success();
    let (lsn, end) = end_of_wal(&cluster);
    let expected = restore_to(&cluster, &archive, &delta, &lsn);
    let restored = restore_to(&cluster, &archive, &merged, &lsn);
    assert_same_pages(restored.data_directory(), expected.data_directory(), end);
}

#[test]
fn what_cannot_be_merged_is_refused_in_words_that_help() {
    let archive = Archive::file();
    let (_cluster, delta) = chain(PgVersion::oldest(), &archive);
    let full = archive.backups().first().expect("there are backups").clone();
    let refused = run_wal_e(&archive, ["backup-merge", &full]).failure(1);
    assert!(refused.contains("is a full one: there is nothing to merge"), "{refused}");
    run_wal_e(&archive, ["backup-merge", "base_0000000100000000000000FF"]).failure(74);
    let refused =
        run_wal_e(&archive, ["backup-merge", "--temporary-directory", "/nowhere"]).failure(1);
    assert!(refused.contains("\"/nowhere\""), "{refused}");

    // Damage is named, and there is no backup of it.
    let before = archive.backups();
    let parent = archive.backup_sentinel(&delta)["DeltaFrom"].as_str().map(str::to_owned);
    let parent = parent.expect("a delta has a parent");
    let tar = format!("{parent}/tar_partitions/part_001.tar.lz4");
    let objects = archive.objects();
    let tar = objects.iter().find(|object| object.contains(&tar)).expect("it has a tar");
    archive.truncate_object(tar);
    let refused = run_wal_e(&archive, ["backup-merge"]).failure(1);
    assert!(refused.contains(tar), "{refused}");
    assert_eq!(archive.backups(), before);
    let garbage = run(wal_e(&archive).args(["delete", "garbage", "--confirm"]));
    garbage.success();
    let name = format!("/{}/", full_name(&delta));
    assert!(archive.objects().iter().all(|object| !object.contains(&name)));
}
