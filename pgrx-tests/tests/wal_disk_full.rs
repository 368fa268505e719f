//! A disk that is full of WAL: archiving needs no space in `pg_wal`, goes on
//! and so frees it.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, ClusterBuilder, StopMode};
use wal_e_e2e::disk_full::DiskOfWal;
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::archive_command;

/// Segments of 1 MB that wait when the disk is full.
const BACKLOG: u32 = 40;

/// What is kept of them once they are archived, in MB.
const KEPT_MB: usize = 8;

#[test]
fn the_archiver_frees_a_full_disk() {
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let cluster = Cluster::build(version).archiving_to(&archive);
        archiving_frees_a_full_disk(cluster.wal_segment_size_mb(1), &archive);
    }
}

#[test]
fn the_program_frees_a_full_disk() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("archive_mode = on")
        .configuration(format!("archive_command = '{}'", archive_command(&archive, "-p 4")));
    archiving_frees_a_full_disk(cluster.wal_segment_size_mb(1), &archive);
}

fn archiving_frees_a_full_disk(cluster: ClusterBuilder, archive: &Archive) {
    let disk = DiskOfWal::new();
    let mut cluster = cluster
        .configuration(format!("min_wal_size = '{KEPT_MB}MB'"))
        .configuration(format!("max_wal_size = '{KEPT_MB}MB'"))
        .configuration("checkpoint_timeout = '1h'")
        .create();
    disk.put_under(&mut cluster);
    cluster.start();
    let mut witness = cluster.witness();

    archive.proxy().set(Fault::Hang);
    let last = cluster.write_wal_segments(BACKLOG);
    let waiting = cluster.ready_files();
    assert!(waiting.len() >= BACKLOG as usize, "{waiting:?}");
    let files: Vec<_> = waiting
        .iter()
        .map(|name| (name.clone(), cluster.wal_file(name).expect("it waits to be archived")))
        .collect();
    // The segment that is written now has its blocks before there are no more.
    cluster.execute("CREATE TABLE before (id int)");
    let segments_of_full_disk = segments(&cluster).len();
    disk.fill();
    assert_is_full(&disk, &cluster);

    archive.proxy().set(Fault::None);
    cluster.wait_until_archived(&last);
    for (name, bytes) in &files {
        assert!(archive.wal_file(name) == *bytes, "{name} is archived with other bytes");
    }
    wait_for("the marks to become .done", || {
        let ready = cluster.ready_files();
        waiting.is_disjoint(&ready)
    });

    // Whole segments are freed, and the server goes on in recycled ones.
    cluster.execute("CHECKPOINT");
    let kept = segments(&cluster).len();
    assert!(kept < segments_of_full_disk - BACKLOG as usize / 2, "{kept} segments are kept");
    cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) i");
    witness.assert_unharmed(&cluster);
    assert_is_full(&disk, &cluster);

    disk.free();
    cluster.write_wal_segments(3);
    cluster.archive_current_wal();
    witness.assert_unharmed(&cluster);
    drop(witness);
    cluster.stop(StopMode::Fast);
}

/// The disk refuses new blocks, and takes what goes into old ones.
fn assert_is_full(disk: &DiskOfWal, cluster: &Cluster) {
    let pg_wal = cluster.data_directory().join("pg_wal");
    let shell = |script: &str| run(disk.command("sh").args(["-c", script]).current_dir(&pg_wal));
    for script in [
        "dd if=/dev/zero of=\"$PWD/new\" bs=1 count=1",
        "dd if=/dev/zero of=\"$PWD/archive_status/new\" bs=1 count=1",
    ] {
        let refused = shell(script);
        assert!(!refused.status.success(), "{refused}");
        assert!(refused.stderr.contains("No space left"), "{refused}");
    }
    shell("rm archive_status/new").success();
    // The oldest one, so that nothing else writes to it.
    let kept = segments(cluster).remove(0);
    let dd = "dd if=\"$PWD/$0\" of=\"$PWD/$0\" bs=8192 count=1 conv=notrunc";
    run(disk.command("sh").args(["-c", dd, &kept]).current_dir(&pg_wal)).success();
}

/// The names of the segments in `pg_wal`, future ones included.
fn segments(cluster: &Cluster) -> Vec<String> {
    let entries = std::fs::read_dir(cluster.data_directory().join("pg_wal"));
    let mut names: Vec<String> = entries
        .expect("pg_wal can be read")
        .filter_map(|entry| entry.expect("an entry can be read").file_name().into_string().ok())
        .filter(|name| name.len() == 24)
        .collect();
    names.sort();
    names
}
