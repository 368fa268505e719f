//! Unlogged relations that come into being while a base backup is taken.

use std::thread;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::base_backup::BACKUP_WORKER;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;

/// The server's own message at the end of a recovery that finds such a file.
const IN_THE_WAY: &str = "could not create file \"base/";

/// A cluster with an unlogged table whose index takes as long as a session holds the
/// advisory lock 1.
fn cluster_with_a_slow_index(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Cluster::build(version)
        .wal_segment_size_mb(1)
        .configuration("wal_e.backup_read_rate_limit = 8000")
        .start_archiving_to(archive);
    cluster.execute(
        "CREATE FUNCTION slow(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN x; END $$; \
         CREATE UNLOGGED TABLE u AS SELECT 1 AS x; \
         CREATE TABLE kept AS SELECT 42 AS answer",
    );
    cluster
}

/// Takes a base backup during which an index of an unlogged table is being built.
/// `during` is called between the listing of the files and the end of the backup.
fn backup_during_an_index_build(cluster: &Cluster, outlives_the_backup: bool) {
    let mut holder = cluster.client();
    holder.batch_execute("SELECT pg_advisory_lock(1)").expect("the lock is free");
    let mut builder = cluster.client();
    let building = thread::spawn(move || builder.batch_execute("CREATE INDEX ON u (slow(x))"));
    wait_for("the index is being built", || {
        cluster.query_one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'")
            == "1"
    });

    cluster.execute("SELECT wale_backup_push(wait => false)");
    wait_for("the files are listed", || {
        cluster.backup_progress().get("partitions_total").is_some_and(|total| total != "0")
    });
    let end = |mut holder: postgres::Client| {
        holder.batch_execute("SELECT pg_advisory_unlock(1)").expect("the lock is held");
        building.join().expect("no panic").expect("the index is built");
    };
    let wait_for_backup = || {
        wait_for("the backup is done", || cluster.find_pid(BACKUP_WORKER).is_none());
        assert_eq!(cluster.backup_progress()["phase"], "done");
    };
    if outlives_the_backup {
        wait_for_backup();
        end(holder);
    } else {
        end(holder);
        assert_eq!(cluster.backup_progress()["phase"], "uploading files", "it was too quick");
        wait_for_backup();
    }
    cluster.archive_current_wal();
}

#[test]
fn an_unlogged_index_that_is_built_during_a_backup_does_not_end_recovery() {
    for &version in PgVersion::complete() {
        let archive = Archive::file();
        let cluster = cluster_with_a_slow_index(version, &archive);
        backup_during_an_index_build(&cluster, false);
        let restored = Restore::latest(version).recover_beside(&archive);
        assert_eq!(restored.query_one("SELECT answer FROM kept"), "42");
        restored.execute("INSERT INTO u VALUES (7)");
        let by_index = "SET enable_seqscan = off; SELECT x FROM u WHERE slow(x) = 7";
        assert_eq!(restored.query_one(by_index), "7");
        assert!(!restored.log().contains(IN_THE_WAY), "{}", restored.log_tail());
    }
}

/// What is being built when the backup ends cannot be distinguished from a logged index. The
/// server stops where it would end recovery, and ends it when it is started again.
#[test]
fn an_unlogged_index_that_outlives_the_backup_costs_a_second_start() {
    let archive = Archive::file();
    let cluster = cluster_with_a_slow_index(PgVersion::oldest(), &archive);
    backup_during_an_index_build(&cluster, true);
    let mut restored = Restore::latest(PgVersion::oldest()).fetch(&archive);
    restored.configure("archive_mode = off");
    if restored.try_start().is_ok() {
        wait_for("the server stops", || !restored.is_running());
    }
    assert!(restored.log().contains(IN_THE_WAY), "{}", restored.log_tail());
    restored.start();
    restored.wait_for_end_of_recovery();
    assert_eq!(restored.query_one("SELECT answer FROM kept"), "42");
    restored.execute("INSERT INTO u VALUES (7)");
}
