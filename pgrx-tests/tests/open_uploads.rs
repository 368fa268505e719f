//! What is under way when a process is killed, a key is replaced, or a proxy sends a
//! request twice.

use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::is_running;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;

/// A cluster with enough in it that its tars are sent in parts.
fn cluster(archive: &Archive) -> Cluster {
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(archive);
    cluster.create_incompressible_table("noise", 40);
    cluster.archive_current_wal();
    cluster
}

fn notes(cluster: &Cluster) -> Vec<String> {
    let entries = std::fs::read_dir(cluster.data_directory()).expect("the cluster is there");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("wal_e.unfinished")).collect()
}

#[test]
fn uploads_of_a_killed_backup_are_ended_though_they_may_not_be_listed() {
    let archive = Archive::s3();
    archive.server().refuse_to_list_uploads(true);
    let mut cluster = cluster(&archive);
    archive.proxy().set(Fault::Throttle(300_000));
    let session = cluster.backup_push_in_background();
    let worker = cluster.wait_for_running_upload(&archive);
    let note = cluster.data_directory().join("wal_e.unfinished_backup.server");
    wait_for("the upload to be noted", || {
        std::fs::read_to_string(&note).is_ok_and(|note| note.contains("\nupload "))
    });
    cluster.kill_process(worker);
    session.result().expect_err("the backup cannot have succeeded");
    archive.proxy().set(Fault::None);
    cluster.wait_for_archiver();
    assert_ne!(archive.unfinished_uploads(), Vec::<String>::new());

    cluster.stop(StopMode::Fast);
    cluster.start();
    for _ in 0..2 {
        cluster.backup_push();
        cluster.archive_current_wal();
        assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
        assert_eq!(notes(&cluster), Vec::<String>::new());
    }
    let complaints = cluster.log().matches("could not abort the unfinished uploads").count();
    assert_eq!(complaints, 2, "one for each backup");
}

#[test]
fn uploads_of_large_wal_segments_are_ended_by_the_next_archiver() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(64)
        .configuration("min_wal_size = '128MB'")
        .start_archiving_to(&archive);
    cluster.archive_current_wal();
    archive.proxy().set(Fault::Throttle(300_000));
    cluster.write_incompressible_wal(30_000);
    let segment = cluster.switch_wal();
    cluster.wait_for_open_upload(&archive);
    let archiver = cluster.pid_of("archiver");
    let note = cluster.data_directory().join("pg_wal/wal_e.unfinished_uploads");
    wait_for("the upload to be noted", || {
        std::fs::read_to_string(&note).is_ok_and(|note| note.contains("\nupload "))
    });
    cluster.kill_process(archiver);
    wait_for("the end of the archiver", || !is_running(archiver));
    assert_eq!(archive.unfinished_uploads().len(), 1);
    archive.proxy().set(Fault::None);
    cluster.wait_for_archiver();
    cluster.wait_until_archived(&segment);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
}

#[test]
fn a_backup_outlasts_keys_that_are_replaced_late() {
    let archive = Archive::s3();
    let cluster = cluster(&archive);
    archive.proxy().set(Fault::Throttle(300_000));
    let session = cluster.backup_push_in_background();
    cluster.wait_for_running_upload(&archive);
    archive.server().change_secret_key("another/secret+of/the/tests");
    archive.proxy().set(Fault::None);
    cluster.wait_for_log("trying again for up to 600 s");
    archive.write_variable("AWS_SECRET_ACCESS_KEY", "another/secret+of/the/tests");
    let name = session.result().expect("the backup goes on");
    assert_eq!(archive.backups(), [name]);
}

#[test]
fn requests_that_a_proxy_sends_twice_do_no_harm() {
    let archive = Archive::s3();
    archive.proxy().set(Fault::Repeat);
    let mut cluster = cluster(&archive);
    let name = cluster.backup_push();
    assert_eq!(archive.backups(), [name]);
    assert_eq!(cluster.archiver_count("failed_count"), 0);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
    let expected = cluster.fingerprint();
    let elapsed = cluster.stop(StopMode::Fast);
    assert!(elapsed < Duration::from_secs(60), "the stop took {elapsed:?}");
    Restore::latest(PgVersion::oldest()).recover(&archive).assert_restored(&expected);
}
