//! What `wal-fetch` gives to a server in recovery, and what it answers when
//! there is nothing to give: never the end of the WAL where it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use wal_e_core::postgres::{SegmentSize, WalFileName, WalSegment};
use wal_e_e2e::archive::{Archive, decompress};
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{send_signal, wait_for_end};
use wal_e_e2e::restore::{Restore, restore_command};
use wal_e_e2e::s3_server::Refusal;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::{run_wal_e, wal_e};

/// A backup, and twelve segments after it. Returns the names of those in the archive.
fn write_archive(archive: &Archive, settings: &[&str]) -> Vec<String> {
    let mut builder = Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1);
    for setting in settings {
        builder = builder.configuration(*setting);
    }
    let mut cluster = builder.start_archiving_to(archive);
    cluster.execute("CREATE TABLE t (i int)");
    cluster.backup_push();
    for i in 1..=12 {
        cluster.execute(&format!("INSERT INTO t VALUES ({i})"));
        if i == 6 {
            cluster.write_incompressible_wal(600);
        }
        cluster.switch_wal();
    }
    cluster.stop(StopMode::Fast);
    let objects = archive.wal_objects().into_iter();
    let names = objects.filter_map(|object| {
        let file = object.strip_prefix("wal_005/")?;
        let name = file.split('.').next()?;
        (file.split('.').count() <= 2 && name.len() == 24).then(|| name.to_owned())
    });
    names.collect()
}

fn restored(archive: &Archive, restore: Restore) -> Cluster {
    let cluster = restore.fetch(archive);
    cluster.configure("archive_mode = off");
    cluster
}

/// Starts recovery, which must stop, without having opened the database, and say
/// `reason`.
#[track_caller]
fn assert_recovery_stops(cluster: &mut Cluster, reason: &str) {
    cluster.spawn();
    wait_for("the server to end", || !cluster.is_running());
    // Its children may still be at it.
    cluster.wait_for_end_of_prefetch();
    let log = cluster.log();
    assert!(log.contains(reason), "no \"{reason}\" in the log:\n{log}");
    assert!(log.contains("with exit code 200"), "{log}");
    assert!(!log.contains("selected new timeline ID"), "it was promoted:\n{log}");
    assert!(cluster.data_directory().join("recovery.signal").exists());
}

/// The segment in the middle of those that a recovery needs.
fn in_the_middle(names: &[String]) -> &str {
    &names[names.len() - 6]
}

fn object(name: &str) -> String {
    format!("wal_005/{name}.lz4")
}

#[test]
fn a_segment_that_is_missing_in_the_middle_does_not_end_recovery() {
    let archive = Archive::file();
    let names = write_archive(&archive, &[]);
    let missing = in_the_middle(&names);
    fs::remove_file(archive.directory().join(object(missing))).expect("it is archived");
    let reason = format!("WAL segment \"{missing}\" is missing");
    let mut cluster = restored(&archive, Restore::latest(PgVersion::oldest()));
    assert_recovery_stops(&mut cluster, &reason);
    let mut with_target = restored(&archive, Restore::latest(PgVersion::oldest()));
    with_target.configure("recovery_target_lsn = '0/FF000000'");
    assert_recovery_stops(&mut with_target, &reason);

    // An option gives the database as it was before the gap.
    let command = restore_command(&archive).replace("wal-fetch", "wal-fetch --end-at-gap");
    cluster.configure(&format!("restore_command = '{command}'"));
    cluster.start();
    cluster.wait_for_end_of_recovery();
    let rows: u32 = cluster.query_one("SELECT count(*) FROM t").parse().expect("a number");
    assert!((1..12).contains(&rows), "{rows}");
    cluster.wait_for_end_of_prefetch();
}

/// A cluster whose timeline 1 lost its end, and was followed by timeline 2.
struct LostEnd {
    archive: Archive,
    /// On timeline 1. After it, a row was added in each segment, ten in all.
    backup: String,
    /// The first segment that is missing.
    missing: String,
}

/// As if a server died that had not archived its last segments, and its standby was
/// promoted: within a segment, or at the end of one. It had all the rows.
fn lose_the_end_of_a_timeline(within_segment: bool) -> LostEnd {
    let archive = Archive::file();
    let mut first =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(&archive);
    first.execute("CREATE TABLE t (i int)");
    let backup = first.backup_push();
    for i in 1..=9 {
        first.execute(&format!("INSERT INTO t VALUES ({i})"));
        first.switch_wal();
    }
    first.execute("INSERT INTO t VALUES (10)");
    let switch = first.query_one("SELECT pg_current_wal_insert_lsn()");
    first.execute("CREATE TABLE not_on_timeline_2 ()");
    first.stop(StopMode::Fast);

    let mut standby = Restore::of(PgVersion::oldest(), &backup);
    if within_segment {
        standby = standby
            .option("--recovery-target-lsn", switch)
            .option("--recovery-target-action", "promote");
    }
    let mut second = standby.recover(&archive);
    assert_eq!(second.query_one("SELECT count(*) FROM t"), "10");
    second.archive_current_wal();
    second.stop(StopMode::Fast);
    second.wait_for_end_of_prefetch();

    let history = String::from_utf8(archive.wal_file("00000002.history")).expect("it is text");
    let left = history.split_ascii_whitespace().nth(1).expect("an LSN").to_owned();
    let (_, low) = left.split_once('/').expect("it has two halves");
    let low = u32::from_str_radix(low, 16).expect("hexadecimal digits");
    assert_eq!(low % (1 << 20) != 0, within_segment, "{history}");
    // Segments that timeline 1 filled before it was left.
    let whole = low >> 20;
    let number = |object: &str| u32::from_str_radix(object.get(24..32)?, 16).ok();
    let first_missing = whole - 2;
    for object in archive.wal_objects() {
        let is_lost = number(&object).is_some_and(|number| number >= first_missing);
        if object.starts_with("wal_005/00000001") && is_lost {
            fs::remove_file(archive.directory().join(object)).expect("it is archived");
        }
    }
    assert!(archive.wal_objects().iter().any(|object| object.starts_with("wal_005/000000020")));
    LostEnd { archive, backup, missing: format!("0000000100000000{first_missing:08X}") }
}

fn a_lost_end_does_not_end_recovery(within_segment: bool) {
    let LostEnd { archive, backup, missing } = lose_the_end_of_a_timeline(within_segment);
    // The files alone can be had.
    let mut cluster = restored(&archive, Restore::of(PgVersion::oldest(), &backup));
    assert_recovery_stops(&mut cluster, &format!("WAL segment \"{missing}\" is missing"));
    assert!(cluster.log().contains("history file \"00000002.history\""), "{}", cluster.log_tail());

    let command = restore_command(&archive).replace("wal-fetch", "wal-fetch --end-at-gap");
    cluster.configure(&format!("restore_command = '{command}'"));
    cluster.start();
    cluster.wait_for_end_of_recovery();
    let rows: u32 = cluster.query_one("SELECT count(*) FROM t").parse().expect("a number");
    assert!((1..10).contains(&rows), "{rows}");
    cluster.wait_for_end_of_prefetch();

    // No end of a timeline is taken for a lost one.
    let newest = run_wal_e(&archive, ["wal-fetch", "0000000200000000000000FF", "/nowhere/x"]);
    newest.failure(74);
    let by_hand = run_wal_e(&archive, ["wal-fetch", "0000000100000000000000FF", "/nowhere/x"]);
    by_hand.failure(74);
}

#[test]
fn a_timeline_that_lost_its_end_and_was_left_within_a_segment_does_not_end_recovery() {
    a_lost_end_does_not_end_recovery(true);
}

#[test]
fn a_timeline_that_lost_its_end_and_was_left_between_segments_does_not_end_recovery() {
    a_lost_end_does_not_end_recovery(false);
}

/// A copy was recovered to an earlier moment and opened, and has not filled its first
/// segment yet. A server that follows it would take the one of the timeline that it left.
fn recovery_does_not_stray_onto_the_timeline_that_was_left(version: PgVersion) {
    let archive = Archive::file();
    let mut first = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
    first.execute("CREATE TABLE t (i int)");
    let backup = first.backup_push();
    first.execute("INSERT INTO t VALUES (1)");
    let switch = first.query_one("SELECT pg_current_wal_insert_lsn()");
    first.execute("INSERT INTO t VALUES (100)");
    let segment = first.archive_current_wal();
    first.stop(StopMode::Fast);
    let mut second = Restore::of(version, &backup)
        .option("--recovery-target-lsn", switch)
        .option("--recovery-target-action", "promote")
        .recover(&archive);
    second.execute("DELETE FROM t WHERE i = 100; INSERT INTO t VALUES (2)");
    let history = "wal_005/00000002.history.lz4".to_owned();
    wait_for("the history", || archive.wal_objects().contains(&history));
    let on_second = segment.replacen("00000001", "00000002", 1);
    assert!(archive.wal_object(&segment).is_some() && archive.wal_object(&on_second).is_none());

    let mut cluster = restored(&archive, Restore::of(version, &backup));
    assert_recovery_stops(&mut cluster, "and recovery would leave timeline 2 there");
    let log = cluster.log();
    assert!(log.contains(&on_second) && log.contains("pg_switch_wal()"), "{log}");
    // That is what it would do.
    let mut astray = restored(&archive, Restore::of(version, &backup));
    let command = restore_command(&archive).replace("wal-fetch", "wal-fetch --end-at-gap");
    astray.configure(&format!("restore_command = '{command}'"));
    astray.start();
    astray.wait_for_end_of_recovery();
    assert_eq!(astray.query("SELECT i FROM t").concat(), ["1", "100"]);
    astray.wait_for_end_of_prefetch();

    // As the hint says.
    assert_eq!(second.archive_current_wal(), on_second);
    let expected = second.query("SELECT i FROM t").concat();
    second.stop(StopMode::Fast);
    cluster.start();
    cluster.wait_for_end_of_recovery();
    assert_eq!(cluster.query("SELECT i FROM t").concat(), expected);
    cluster.wait_for_end_of_prefetch();

    // The old timeline has not ended where it was left, if the newer one has more of it.
    fs::remove_file(archive.directory().join(object(&segment))).expect("it is archived");
    let mut old = restored(&archive, Restore::of(version, &backup));
    old.configure("recovery_target_timeline = '1'");
    assert_recovery_stops(&mut old, &format!("WAL segment \"{segment}\" is missing"));
    assert!(old.log().contains(&format!("\"{on_second}\" has the same WAL")), "{}", old.log_tail());
}

#[test]
fn recovery_of_the_oldest_version_does_not_stray_onto_the_timeline_that_was_left() {
    recovery_does_not_stray_onto_the_timeline_that_was_left(PgVersion::oldest());
}

#[test]
fn recovery_of_the_newest_version_does_not_stray_onto_the_timeline_that_was_left() {
    recovery_does_not_stray_onto_the_timeline_that_was_left(PgVersion::newest());
}

#[test]
fn a_damaged_segment_stops_recovery_and_a_sound_copy_lets_it_go_on() {
    let archive = Archive::s3();
    let names = write_archive(&archive, &[]);
    let damaged = in_the_middle(&names).to_owned();
    let content = archive.wal_file(&damaged);
    archive.corrupt_object(&object(&damaged));
    let mut cluster = restored(&archive, Restore::latest(PgVersion::oldest()));
    let reason = format!("{}/{}\" is damaged", archive.url(), object(&damaged));
    assert_recovery_stops(&mut cluster, &reason);

    // The same file in another encoding is as good.
    let compressed = zstd::encode_all(content.as_slice(), 3).expect("memory can be written");
    archive.replace_object(&format!("wal_005/{damaged}.zst"), compressed);
    cluster.start();
    cluster.wait_for_end_of_recovery();
    assert_eq!(cluster.query_one("SELECT count(*) FROM t"), "12");
    assert!(cluster.log().contains(&format!("{damaged}.zst\" instead")));
    cluster.wait_for_end_of_prefetch();
}

#[test]
fn a_segment_of_another_cluster_or_place_stops_recovery() {
    let archive = Archive::file();
    let names = write_archive(&archive, &[]);
    let elsewhere = Archive::file();
    write_archive(&elsewhere, &[]);
    let place = in_the_middle(&names);
    let own = archive.object(&object(place)).expect("it is archived");

    let foreign = elsewhere.object(&object(place)).expect("both archives have as many");
    archive.replace_object(&object(place), foreign);
    let mut cluster = restored(&archive, Restore::latest(PgVersion::oldest()));
    assert_recovery_stops(&mut cluster, "is WAL of another cluster");

    let next = archive.object(&object(&names[names.len() - 5])).expect("it is archived");
    archive.replace_object(&object(place), next);
    let mut cluster = restored(&archive, Restore::latest(PgVersion::oldest()));
    assert_recovery_stops(&mut cluster, "is not the WAL segment of that name");

    archive.replace_object(&object(place), own);
    cluster.start();
    cluster.wait_for_end_of_recovery();
    assert_eq!(cluster.query_one("SELECT count(*) FROM t"), "12");
}

#[test]
fn a_store_that_is_lost_in_the_middle_stops_recovery_until_it_is_back() {
    let archive = Archive::s3();
    write_archive(&archive, &[]);
    let mut cluster = restored(&archive, Restore::latest(PgVersion::oldest()));
    // Slow enough for the refusal to come before the end.
    archive.proxy().set(Fault::Delay(Duration::from_millis(300)));
    cluster.spawn();
    cluster.wait_for_log("restored log file");
    archive.server().refuse(Some(Refusal::AccessDenied));
    wait_for("the server to end", || !cluster.is_running());
    let log = cluster.log();
    assert!(log.contains("wal-e: error: ") && log.contains("with exit code 200"), "{log}");
    assert!(!log.contains("selected new timeline ID"), "{log}");

    archive.server().refuse(None);
    archive.proxy().set(Fault::None);
    cluster.start();
    cluster.wait_for_end_of_recovery();
    assert_eq!(cluster.query_one("SELECT count(*) FROM t"), "12");
}

fn temporary_files(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there").flatten();
    let is_temporary = |path: &PathBuf| path.to_string_lossy().contains("wal-e-tmp");
    entries.map(|entry| entry.path()).filter(is_temporary).collect()
}

#[test]
fn a_stop_does_not_wait_for_a_store_that_hangs() {
    let archive = Archive::s3();
    let names = write_archive(&archive, &[]);
    let mut cluster = restored(&archive, Restore::latest(PgVersion::oldest()));
    archive.proxy().set(Fault::Delay(Duration::from_millis(200)));
    cluster.spawn();
    cluster.wait_for_log("restored log file");
    archive.proxy().set(Fault::Hang);
    let limit = Duration::from_secs(15);
    cluster.try_stop(StopMode::Fast, limit).expect("a stop takes no longer than that");
    let pg_wal = cluster.data_directory().join("pg_wal");
    assert_eq!(temporary_files(&pg_wal), Vec::<PathBuf>::new());
    cluster.wait_for_end_of_prefetch();

    // The program by itself, in the middle of the body.
    let directory = archive.scratch().create("by-hand");
    let destination = directory.join("segment");
    archive.proxy().set(Fault::Throttle(20_000));
    let bytes = |name: &&String| archive.object(&object(name)).map_or(0, |bytes| bytes.len());
    let large = names.iter().max_by_key(bytes).expect("there are segments");
    let mut fetch = wal_e(&archive)
        .args(["wal-fetch", large])
        .arg(&destination)
        .spawn()
        .expect("the program can be started");
    wait_for("a temporary file", || !temporary_files(&directory).is_empty());
    send_signal(fetch.id() as i32, libc::SIGTERM);
    let status = wait_for_end(&mut fetch, Duration::from_secs(5)).expect("it ends at once");
    assert_eq!(status.code(), Some(143));
    assert_eq!(fs::read_dir(&directory).expect("the directory is there").count(), 0);
}

#[test]
fn an_archive_in_another_encoding_is_not_listed_for_each_segment() {
    for method in ["zstd", "none"] {
        let archive = Archive::s3();
        let setting = format!("wal_e.compression = '{method}'");
        write_archive(&archive, &[&setting]);
        let cluster = restored(&archive, Restore::latest(PgVersion::oldest()));
        let lists = || {
            let requests = archive.server().requests();
            requests.iter().filter(|request| request.query.contains("list-type")).count()
        };
        let before = lists();
        let mut cluster = cluster;
        cluster.start();
        cluster.wait_for_end_of_recovery();
        assert_eq!(cluster.query_one("SELECT count(*) FROM t"), "12");
        // The first segment, the end of the WAL, and histories that are not there.
        let listed = lists() - before;
        assert!(listed < 10, "{listed} requests that list with {method}");
        cluster.wait_for_end_of_prefetch();
    }
}

#[test]
fn a_file_fetched_by_hand_brings_nothing_with_it() {
    let archive = Archive::file();
    let names = write_archive(&archive, &[]);
    let directory = archive.scratch().create("by-hand");
    let destination = directory.join("RECOVERYXLOG");
    let path = destination.to_str().expect("it is text");
    run_wal_e(&archive, ["wal-fetch", in_the_middle(&names), path]).success();
    assert_eq!(fs::read_dir(&directory).expect("the directory is there").count(), 1);
}

#[test]
fn a_miss_on_a_directory_does_not_read_it() {
    let archive = Archive::file();
    let names = write_archive(&archive, &[]);
    let directory = archive.scratch().create("by-hand");
    let destination = directory.join("RECOVERYXLOG");
    let path = destination.to_str().expect("it is text");
    let [missing, last] = [in_the_middle(&names), &names[names.len() - 1]];
    fs::remove_file(archive.directory().join(object(missing))).expect("it is archived");
    let last_object = archive.directory().join(object(last));
    let with_dot = archive.directory().join(format!("wal_005/{last}."));
    fs::rename(&last_object, &with_dot).expect("an archived file can be renamed");
    fs::write(&with_dot, archive_content(&with_dot)).expect("an archived file can be written");
    let end = WalFileName::from_str(last).expect("a WAL file's name");
    let size = SegmentSize::SMALLEST;
    let number = end.segment_number(size).expect("a segment of this size");
    let next = WalSegment { timeline: end.timeline(), number }.next().file_name(size);

    // Its names may be asked for, and it may not be read.
    let wal = archive.directory().join("wal_005");
    fs::set_permissions(&wal, fs::Permissions::from_mode(0o300)).expect("it is ours");
    let fetch = |name: &str| run_wal_e(&archive, ["wal-fetch", name, path]);
    fetch(&next).failure(74);
    let said = fetch(missing).failure(200);
    assert!(said.contains("is missing in"), "{said}");
    fetch(last).success();
}

/// The content of an archived file.
fn archive_content(path: &Path) -> Vec<u8> {
    decompress(&fs::read(path).expect("an archived file can be read"))
}
