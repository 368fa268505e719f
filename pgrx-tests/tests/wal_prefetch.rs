//! Segments that are fetched ahead of a server that recovers: that they are used,
//! that only sound ones are, and that nothing of it stays.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, is_running, send_signal};
use wal_e_e2e::restore::{Restore, restore_command};
use wal_e_e2e::wait::wait_for;

/// How many segments each archive has after its backup, at least.
const SEGMENTS: u32 = 40;

/// A backup, and WAL after it with a row at its beginning and one at its end.
fn write_archive(version: PgVersion, archive: &Archive) {
    let mut cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(archive);
    cluster.execute("CREATE TABLE t (i int)");
    cluster.backup_push();
    cluster.execute("INSERT INTO t VALUES (1)");
    cluster.write_wal_segments(SEGMENTS);
    cluster.execute("INSERT INTO t VALUES (2)");
    cluster.stop(StopMode::Fast);
}

/// A restored cluster that is not started, and that will not archive.
fn restored(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Restore::latest(version).fetch(archive);
    cluster.configure("archive_mode = off");
    cluster
}

#[track_caller]
fn assert_recovered(cluster: &Cluster) {
    cluster.wait_for_end_of_recovery();
    assert_eq!(cluster.query("SELECT i FROM t ORDER BY i").concat(), ["1", "2"]);
    cluster.wait_for_end_of_prefetch();
}

/// How often each WAL file was asked for, and how often it was not there.
fn requests(archive: &Archive) -> BTreeMap<String, (usize, usize)> {
    let mut files: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for request in archive.server().requests() {
        let Some((_, file)) = request.key.split_once("/wal_005/") else { continue };
        if request.method == "GET" {
            let counts = files.entry(file.to_owned()).or_default();
            counts.0 += 1;
            counts.1 += usize::from(request.status == 404);
        }
    }
    files
}

fn segments_are_fetched_ahead(version: PgVersion) {
    let archive = Archive::s3();
    write_archive(version, &archive);
    let mut cluster = restored(version, &archive);
    let before = requests(&archive);
    archive.proxy().count_objects_under_way("/wal_005/");
    let latency = Duration::from_millis(400);
    archive.proxy().set(Fault::Delay(latency));
    let began = Instant::now();
    cluster.start();
    cluster.wait_for_end_of_recovery();
    let elapsed = began.elapsed();
    archive.proxy().set(Fault::None);
    assert_recovered(&cluster);

    // One after the other they would have taken longer.
    assert!(elapsed < latency * SEGMENTS, "{elapsed:?}");
    let under_way = archive.proxy().most_objects_under_way();
    assert!((2..=8).contains(&under_way), "{under_way} at a time");
    let mut after = requests(&archive);
    for (file, counts) in before {
        let now = after.get_mut(&file).expect("a log only grows");
        *now = (now.0 - counts.0, now.1 - counts.1);
    }
    let segments = after.iter().filter(|(file, _)| file.len() == "0".repeat(24).len() + 4);
    let (there, absent): (Vec<_>, Vec<_>) = segments.partition(|(_, counts)| counts.1 == 0);
    let asked: usize = there.iter().map(|(_, counts)| counts.0).sum();
    let used = there.iter().filter(|(_, counts)| counts.0 > 0).count();
    // The last segment is read twice, and the helper and the first call may meet.
    assert!(used >= SEGMENTS as usize && asked <= used + 3, "{asked} requests for {used} files");
    // The helper learns by one answer where the end is, while at most three others
    // are under way, and does not ask again; the server does, two or three times.
    let missed: usize = absent.iter().map(|(_, counts)| counts.1).sum();
    assert!(absent.len() <= 4 && missed <= 7, "{absent:?}");
}

#[test]
fn segments_are_fetched_ahead_of_the_oldest_version() {
    segments_are_fetched_ahead(PgVersion::oldest());
}

#[test]
fn segments_are_fetched_ahead_of_the_newest_version() {
    segments_are_fetched_ahead(PgVersion::newest());
}

/// Before each segment is asked for, everything that was fetched ahead is damaged
/// in one of several ways.
const DAMAGE: &str = r#"#!/bin/sh
n=0
for f in pg_wal/.wal-e/prefetch/0*; do
    [ -f "$f" ] || continue
    echo "$f" >> "$1"
    n=$((n + 1))
    case $n in
    1) : > "$f" ;;
    2) truncate -s 524288 "$f" ;;
    3) dd if=/dev/zero of="$f" bs=1 count=64 seek=500000 conv=notrunc 2>/dev/null ;;
    4) dd if=/dev/zero of="$f" bs=1 count=64 conv=notrunc 2>/dev/null ;;
    *) echo x >> "$f" ;;
    esac
done
shift
exec "$@"
"#;

#[test]
fn what_was_damaged_after_it_was_fetched_is_not_used() {
    let archive = Archive::file();
    write_archive(PgVersion::oldest(), &archive);
    let mut cluster = restored(PgVersion::oldest(), &archive);
    let script = cluster.scratch().path().join("damage");
    let damaged = cluster.scratch().path().join("damaged");
    for (path, content) in [(&script, DAMAGE), (&damaged, "")] {
        fs::write(path, content).expect("the directory is ours");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        ServerUser::get().own(path);
    }
    cluster.configure(&format!(
        "restore_command = '{} {} {}'",
        script.display(),
        damaged.display(),
        restore_command(&archive)
    ));
    cluster.start();
    assert_recovered(&cluster);
    let damaged = fs::read_to_string(&damaged).expect("the script wrote it").lines().count();
    assert!(damaged > 5, "only {damaged} files were there to be damaged");
    let log = cluster.log();
    assert!(log.contains("is damaged or from another archive"), "{log}");
}

#[test]
fn a_killed_helper_is_replaced_and_nothing_stays() {
    let archive = Archive::s3();
    write_archive(PgVersion::oldest(), &archive);
    let mut cluster = restored(PgVersion::oldest(), &archive);
    archive.proxy().set(Fault::Delay(Duration::from_millis(300)));
    cluster.spawn();
    for _ in 0..3 {
        cluster.wait_for_prefetched_segment();
        let helpers = cluster.prefetch_helpers();
        assert!(!helpers.is_empty(), "it ended by itself");
        for pid in helpers {
            send_signal(pid, libc::SIGKILL);
            wait_for("the end of a killed helper", || !is_running(pid));
        }
    }
    archive.proxy().set(Fault::None);
    assert_recovered(&cluster);
}

#[test]
fn a_server_that_stops_takes_its_helper_along() {
    let archive = Archive::s3();
    write_archive(PgVersion::oldest(), &archive);
    let mut cluster = restored(PgVersion::oldest(), &archive);
    for kill in [false, true] {
        archive.proxy().set(Fault::Delay(Duration::from_millis(500)));
        cluster.spawn();
        cluster.wait_for_prefetched_segment();
        if kill {
            cluster.kill_postmaster();
        } else {
            let limit = Duration::from_secs(20);
            cluster.try_stop(StopMode::Fast, limit).expect("it does not wait for the helper");
        }
        let began = Instant::now();
        archive.proxy().set(Fault::Hang);
        cluster.wait_for_end_of_prefetch();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    archive.proxy().set(Fault::None);
    cluster.start();
    assert_recovered(&cluster);
}

#[test]
fn a_standby_waits_at_the_end_of_the_archive_and_goes_on() {
    let archive = Archive::s3();
    let primary =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(&archive);
    primary.execute("CREATE TABLE t (i int)");
    primary.backup_push();
    primary.execute("INSERT INTO t VALUES (1)");
    primary.write_wal_segments(10);
    primary.archive_current_wal();

    let mut standby = restored(PgVersion::oldest(), &archive);
    let data = standby.data_directory().to_owned();
    fs::rename(data.join("recovery.signal"), data.join("standby.signal"))
        .expect("the data directory is ours");
    standby.configure("wal_retrieve_retry_interval = '300ms'");
    standby.start();
    let has = |count: &str| {
        wait_for("the standby to replay", || standby.query_one("SELECT count(*) FROM t") == count);
    };
    has("1");
    let missed = || requests(&archive).values().map(|counts| counts.1).sum::<usize>();
    let (before, began) = (missed(), Instant::now());
    wait_for("some polls", || missed() >= before + 8);
    // The server itself asks for two files at a time: nothing else asks as well.
    let most = 2 * (began.elapsed().as_millis() / 300 + 2) as usize;
    assert!(missed() - before <= most, "{} requests, not {most}", missed() - before);

    primary.write_wal_segments(12);
    primary.execute("INSERT INTO t VALUES (2)");
    primary.archive_current_wal();
    has("2");

    // The store is away for a while.
    archive.proxy().set(Fault::Refuse);
    primary.execute("INSERT INTO t VALUES (3)");
    let segment = primary.switch_wal();
    let offset = standby.log_offset();
    standby.wait_for_log_after(offset, "wal-e: error: ");
    assert_eq!(standby.query_one("SELECT pg_is_in_recovery()"), "t");
    archive.proxy().set(Fault::None);
    primary.wait_until_archived(&segment);
    has("3");
    standby.promote();
    standby.wait_for_end_of_recovery();
    standby.wait_for_end_of_prefetch();
}
