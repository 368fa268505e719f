//! A prefix whose disk is gone: the directory is there, and empty. Unmounting is
//! played by moving the directory away, which looks the same to the server.

use std::fs;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::{backup_push, wal_e};

const OWNER: &str = "wal_e/owner.json";
const NOTE: &str = "wal_e.known_prefixes";

fn cluster(archive: &Archive) -> Cluster {
    let cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("wal_keep_size = '100MB'")
        .start_archiving_to(archive);
    cluster.archive_current_wal();
    cluster
}

fn unmount(archive: &Archive) {
    let aside = archive.scratch().path().join("aside");
    fs::rename(archive.directory(), aside).expect("a directory can be moved");
    archive.scratch().create("archive");
}

fn mount(archive: &Archive) {
    fs::remove_dir(archive.directory()).expect("nothing was put into it");
    let aside = archive.scratch().path().join("aside");
    fs::rename(aside, archive.directory()).expect("a directory can be moved");
}

/// A store that has refused is asked again within a minute, or when a setting changes.
fn ask_again(cluster: &Cluster, uploads: u32) {
    cluster.configure(&format!("wal_e.wal_upload_concurrency = {uploads}"));
    cluster.reload();
}

#[track_caller]
fn assert_owner_is_missed(cluster: &Cluster) {
    let row = "SELECT ok, detail, hint FROM wale_check() WHERE check_name = 'owner'";
    let row = cluster.query(row).remove(0);
    assert_eq!(row[0], "f", "{row:?}");
    assert!(row[1].contains("has lost its \"wal_e/owner.json\""), "{row:?}");
    assert!(row[2].contains("ring back what was below") && row[2].contains(NOTE), "{row:?}");
}

#[test]
fn nothing_is_acknowledged_onto_the_disk_below_a_prefix_that_is_not_mounted() {
    let archive = Archive::file();
    let mut cluster = cluster(&archive);
    let backup = cluster.backup_push();
    let archived = cluster.archiver_count("archived_count");
    unmount(&archive);

    // While the archive is open.
    let segment = cluster.switch_wal();
    cluster.wait_for_log(&format!("{OWNER}\" has gone, and nothing is stored without it"));
    assert_owner_is_missed(&cluster);
    let refused = cluster.failure_of("SELECT wale_backup_push()").text;
    assert!(refused.contains("has lost its \"wal_e/owner.json\""), "{refused}");

    // After a start, when it is opened anew.
    let offset = cluster.log_offset();
    cluster.restart();
    cluster.wait_for_log_after(offset, "has lost its \"wal_e/owner.json\"");
    cluster.wait_for_log_after(offset, NOTE);
    assert!(cluster.ready_files().contains(&segment));

    // By the program.
    let path = cluster.data_directory().join("pg_wal").join(&segment);
    let pushed = run(wal_e(&archive).arg("wal-push").arg(path));
    assert!(!pushed.status.success() && pushed.stderr.contains("has lost its"), "{pushed:?}");
    let pushed = run(&mut backup_push(&cluster, &archive));
    assert!(!pushed.status.success() && pushed.stderr.contains("has lost its"), "{pushed:?}");

    // Back again: nothing was put where it does not belong, and nothing is missing.
    mount(&archive);
    ask_again(&cluster, 3);
    cluster.wait_until_archived(&segment);
    cluster.archive_current_wal();
    assert!(archive.wal_object(&segment).is_some());
    assert!(cluster.archiver_count("archived_count") > archived);
    assert!(archive.backups().contains(&backup));
    cluster.assert_done_files_are_archived(&archive);
    // What the cluster remembers is its own, and not in its backups.
    let second = cluster.backup_push();
    let files = archive.backup_json(&second, "files_metadata.json");
    assert!(files["Files"].get(format!("/{NOTE}")).is_none(), "{files}");
    assert!(files["Files"].get("/PG_VERSION").is_some());
}

#[test]
fn an_archive_that_was_removed_on_purpose_is_begun_anew_when_its_memory_is_removed() {
    for archive in [Archive::file(), Archive::s3()] {
        let mut cluster = cluster(&archive);
        for object in archive.objects() {
            archive.remove_object(&object);
        }
        cluster.restart();
        let segment = cluster.switch_wal();
        cluster.wait_for_log("has lost its \"wal_e/owner.json\"");
        assert_owner_is_missed(&cluster);
        assert_eq!(archive.object(OWNER), None);

        fs::remove_file(cluster.data_directory().join(NOTE)).expect("the memory is there");
        ask_again(&cluster, 3);
        cluster.wait_until_archived(&segment);
        assert!(archive.object(OWNER).is_some());
        wait_for("it is remembered again", || cluster.data_directory().join(NOTE).exists());
    }
}

/// An archive of an earlier version, or one that the cluster has not met yet.
#[test]
fn an_archive_with_an_owner_needs_no_memory() {
    let archive = Archive::file();
    let mut cluster = cluster(&archive);
    fs::remove_file(cluster.data_directory().join(NOTE)).expect("the memory is there");
    cluster.restart();
    cluster.archive_current_wal();
    assert!(cluster.data_directory().join(NOTE).exists());
    cluster.assert_done_files_are_archived(&archive);
}
