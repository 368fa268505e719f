//! Limits on bytes per second hold for all that share them, and can be changed at any time.
//!
//! What a limit must slow down has to take at least so long; how long it may take is only bounded
//! by how long the tests wait.

use std::time::{Duration, Instant};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::wait::{PATIENCE, wait_for};
use wal_e_e2e::wal_e::{run_wal_e, wal_e};

/// What comes at once after a pause, and what else is not counted to the byte: a part of a second.
const LEEWAY: Duration = Duration::from_millis(500);

fn cluster(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Cluster::build(version)
        .configuration("wal_e.wal_upload_concurrency = 2")
        .start_archiving_to(archive);
    cluster.archive_current_wal();
    cluster
}

/// Sets a setting while the server runs.
fn set(cluster: &Cluster, name: &str, value: &str) {
    cluster.execute(&format!("ALTER SYSTEM SET wal_e.{name} = '{value}'"));
    cluster.execute("SELECT pg_reload_conf()");
}

/// How long so many bytes have to take at least.
fn least_time(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64).saturating_sub(LEEWAY)
}

/// Waits until a base backup that runs has read something; the one before it is shown until then.
fn wait_until_backup_reads(cluster: &Cluster) {
    let reading = "SELECT phase FROM wale_backup_progress() WHERE phase = 'uploading files' AND bytes_read > 0";
    wait_for("the backup to read", || cluster.query(reading).len() == 1);
}

fn stored(archive: &Archive) -> u64 {
    archive.bytes_below("")
}

#[test]
fn a_backup_and_the_archiver_share_one_limit_and_the_archiver_is_not_starved() {
    for (version, archive) in
        [(PgVersion::oldest(), Archive::s3()), (PgVersion::newest(), Archive::file())]
    {
        let cluster = cluster(version, &archive);
        cluster.create_incompressible_table("noise", 24);
        cluster.archive_current_wal();
        set(&cluster, "upload_rate_limit", "2MB");
        let (before, begin) = (stored(&archive), Instant::now());
        let backup = cluster.backup_push_in_background();
        wait_until_backup_reads(&cluster);
        cluster.write_incompressible_wal(1024);
        // A second of its half of the limit, while the backup takes a quarter of a minute.
        cluster.archive_current_wal();
        assert!(!backup.is_finished(), "the WAL had to wait for the whole backup");
        backup.result().expect("the backup succeeds");
        let (bytes, took) = (stored(&archive) - before, begin.elapsed());
        assert!(bytes > 24 << 20, "{bytes}");
        assert!(took > least_time(bytes, 2 << 20), "{bytes} bytes in {took:?}");
    }
}

#[test]
fn limits_can_be_changed_while_a_backup_runs() {
    for (version, name) in [
        (PgVersion::oldest(), "upload_rate_limit"),
        (PgVersion::newest(), "upload_rate_limit"),
        (PgVersion::oldest(), "backup_read_rate_limit"),
    ] {
        let archive = Archive::s3();
        let cluster = cluster(version, &archive);
        cluster.create_incompressible_table("noise", 24);
        cluster.archive_current_wal();
        // It would take five times as long as the test waits.
        set(&cluster, name, "80kB");
        let backup = cluster.backup_push_in_background();
        wait_until_backup_reads(&cluster);
        let before = stored(&archive);
        assert!(!backup.is_finished());
        set(&cluster, name, "0");
        let begin = Instant::now();
        wait_for("the end of the backup", || backup.is_finished());
        backup.result().expect("the backup succeeds");
        let bytes = stored(&archive) - before;
        assert!(least_time(bytes, 80 << 10) > 3 * PATIENCE, "too little to see a difference");
        assert!(begin.elapsed() <= PATIENCE, "{:?}", begin.elapsed());
    }
}

#[test]
fn a_limit_can_be_changed_while_the_archiver_sends_a_file() {
    let archive = Archive::s3();
    let cluster = cluster(PgVersion::oldest(), &archive);
    set(&cluster, "upload_rate_limit", "1kB");
    cluster.write_incompressible_wal(4096);
    let segment = cluster.switch_wal();
    cluster.wait_until_archiver_works_on(&segment);
    assert!(cluster.ready_files().contains(&segment));
    set(&cluster, "upload_rate_limit", "100MB");
    cluster.wait_until_archived(&segment);
}

/// Archives a file that the limit has to slow down.
fn assert_archiving_is_limited(cluster: &Cluster, archive: &Archive, bytes_per_second: u64) {
    let (before, begin) = (stored(archive), Instant::now());
    cluster.write_incompressible_wal(1024);
    cluster.archive_current_wal();
    let (bytes, took) = (stored(archive) - before, begin.elapsed());
    assert!(bytes > 1 << 20, "{bytes}");
    assert!(took > least_time(bytes, bytes_per_second), "{bytes} bytes in {took:?}");
}

#[test]
fn a_limit_outlasts_a_crash() {
    let archive = Archive::file();
    let cluster = cluster(PgVersion::newest(), &archive);
    set(&cluster, "upload_rate_limit", "300kB");
    cluster.kill_process(cluster.pid_of("archiver"));
    cluster.wait_for_archiver();
    assert_archiving_is_limited(&cluster, &archive, 300 << 10);
}

#[test]
fn a_limit_holds_in_an_archiver_that_loads_the_library_by_itself() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .archiving_to(&archive)
        .configuration("shared_preload_libraries = ''")
        .start();
    cluster.archive_current_wal();
    cluster.configure("wal_e.upload_rate_limit = '300kB'");
    cluster.reload();
    // Between two files the archiver reads its configuration.
    cluster.archive_current_wal();
    assert_archiving_is_limited(&cluster, &archive, 300 << 10);
}

#[test]
fn a_backup_that_is_held_back_can_be_canceled_at_once() {
    let archive = Archive::s3();
    let cluster = cluster(PgVersion::oldest(), &archive);
    cluster.create_incompressible_table("noise", 24);
    cluster.archive_current_wal();
    for name in ["upload_rate_limit", "backup_read_rate_limit"] {
        set(&cluster, name, "10kB");
        let backup = cluster.backup_push_in_background();
        wait_until_backup_reads(&cluster);
        let begin = Instant::now();
        backup.cancel();
        assert_eq!(backup.failure().sqlstate, "57014");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
        assert_eq!(archive.backups(), Vec::<String>::new());
        set(&cluster, name, "0");
    }
    cluster.backup_push();
}

#[test]
fn a_stop_does_not_wait_for_a_limit_and_archives_everything() {
    for (version, archive) in
        [(PgVersion::oldest(), Archive::s3()), (PgVersion::newest(), Archive::file())]
    {
        let mut cluster = cluster(version, &archive);
        set(&cluster, "upload_rate_limit", "10kB");
        cluster.write_incompressible_wal(8192);
        let segment = cluster.switch_wal();
        cluster.wait_until_archiver_works_on(&segment);
        let begin = Instant::now();
        cluster.stop(StopMode::Fast);
        // With the limit it would be a quarter of an hour.
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        assert_eq!(cluster.ready_files().len(), 0, "{:?}", cluster.ready_files());
        assert!(archive.wal_object(&segment).is_some());
    }
}

#[test]
fn the_limits_of_the_program_hold_for_each_process() {
    let archive = Archive::s3();
    let cluster = cluster(PgVersion::oldest(), &archive);
    let other = Archive::file();
    cluster.write_incompressible_wal(1024);
    let segment = cluster.archive_current_wal();
    let path = cluster.data_directory().join("pg_wal").join(&segment);
    let path = path.to_str().expect("a path of a test is UTF-8");
    let begin = Instant::now();
    run_wal_e(&other, ["wal-push", "--upload-rate-limit", "300000", "-p", "1", path]).success();
    let bytes = other.bytes_below("wal_005");
    assert!(bytes > 1 << 20, "{bytes}");
    assert!(begin.elapsed() > least_time(bytes, 300_000), "{:?}", begin.elapsed());

    cluster.create_incompressible_table("noise", 4);
    cluster.archive_current_wal();
    let before = stored(&archive);
    let begin = Instant::now();
    let mut push = wal_e(&archive);
    push.env("PGHOST", cluster.socket_directory())
        .env("PGUSER", "postgres")
        .args(["backup-push", "--upload-rate-limit", "1000000"])
        .arg(cluster.data_directory());
    run(&mut push).success();
    let bytes = archive.bytes_below("basebackups_005");
    assert!(bytes > 4 << 20 && stored(&archive) >= before + bytes, "{bytes}");
    assert!(begin.elapsed() > least_time(bytes, 1_000_000), "{:?}", begin.elapsed());
}
