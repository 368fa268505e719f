//! Several WAL segments on their way at the same time: they overlap, a bad one
//! holds up no other, and what was sent before it was asked for is never sent twice.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, ClusterBuilder};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::ServerUser;
use wal_e_e2e::wait::wait_for;

const BACKLOG: u32 = 40;

/// Of each request. One segment after the other, the backlog would take
/// [`BACKLOG`] times as long.
const LATENCY: Duration = Duration::from_millis(300);

/// The default of `wal_e.wal_upload_concurrency`.
const CONCURRENCY: usize = 8;

fn cluster(version: PgVersion) -> ClusterBuilder {
    Cluster::build(version).wal_segment_size_mb(1).configuration("wal_keep_size = '4GB'")
}

/// Has the archiver do nothing until [`begin`].
fn pause(cluster: &Cluster) {
    cluster.configure("wal_e.prefix = ''");
    cluster.reload();
}

fn begin(cluster: &Cluster, archive: &Archive) {
    for line in archive.settings() {
        cluster.configure(&line);
    }
    cluster.reload();
}

#[test]
fn uploads_overlap_as_far_as_the_setting_allows() {
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let cluster = cluster(version).archiving_to(&archive).start();
        let first = cluster.archive_current_wal();
        archive.proxy().set(Fault::Delay(LATENCY));

        pause(&cluster);
        let last = cluster.write_wal_segments(BACKLOG);
        archive.proxy().count_objects_under_way("/wal_005/");
        let start = Instant::now();
        begin(&cluster, &archive);
        cluster.wait_until_archived(&last);
        let elapsed = start.elapsed();
        let most = archive.proxy().most_objects_under_way();
        assert!((4..=CONCURRENCY).contains(&most), "{most} objects at one time");
        assert!(elapsed < LATENCY * BACKLOG / 2, "the backlog took {elapsed:?}");

        pause(&cluster);
        cluster.configure("wal_e.wal_upload_concurrency = 1");
        let last = cluster.write_wal_segments(10);
        archive.proxy().count_objects_under_way("/wal_005/");
        begin(&cluster, &archive);
        cluster.wait_until_archived(&last);
        assert_eq!(archive.proxy().most_objects_under_way(), 1);

        cluster.assert_archived_without_gap(&archive, &first, &last);
        assert_eq!(cluster.archiver_count("failed_count"), 0);
    }
}

/// A file in `pg_wal` that says that it waits to be archived.
struct Planted {
    file: PathBuf,
    mark: PathBuf,
}

impl Planted {
    fn new(cluster: &Cluster, name: &str, content: &[u8]) -> Planted {
        let pg_wal = cluster.data_directory().join("pg_wal");
        let mark = pg_wal.join("archive_status").join(format!("{name}.ready"));
        let planted = Planted { file: pg_wal.join(name), mark };
        for (path, content) in [(&planted.file, content), (&planted.mark, b"".as_slice())] {
            fs::write(path, content).expect("a file of pg_wal can be written");
            ServerUser::get().own(path);
        }
        planted
    }

    fn remove(self) {
        fs::remove_file(self.file).expect("the server does not remove what is not archived");
        fs::remove_file(self.mark).expect("the server does not remove what is not archived");
    }
}

#[test]
fn a_bad_file_holds_up_no_other() {
    // A name that comes before all that the server still writes.
    let segment = "000000010000000000000000";
    let foreign = Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start();
    let of_other_cluster = foreign.wal_file(&foreign.current_segment()).expect("it is written");
    let garbage = vec![0xab; 1024 * 1024];
    let bad_files: [&[u8]; 4] = [b"", &garbage[..1000], &garbage, &of_other_cluster];

    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let cluster = cluster(version).archiving_to(&archive).start();
        let mut witness = cluster.witness();
        let first = cluster.archive_current_wal();
        for content in bad_files {
            let failed = cluster.archiver_count("failed_count");
            let offset = cluster.log_offset();
            let planted = Planted::new(&cluster, segment, content);
            let last = cluster.write_wal_segments(20);
            cluster.wait_for_archiver_count("failed_count", failed);
            assert_eq!(cluster.last_failed_wal(), segment);
            cluster.wait_for_log_after(offset, segment);
            wait_for("the other segments to be in the archive", || {
                archive.wal_object(&last).is_some()
            });
            assert!(cluster.ready_files().contains(&last), "the server has not asked for it");

            planted.remove();
            // Wakes the archiver, which otherwise looks again after a minute.
            cluster.switch_wal();
            cluster.wait_until_archived(&last);
            cluster.assert_archived_without_gap(&archive, &first, &last);
            assert!(!archive.wal_objects().iter().any(|object| object.contains(segment)));
        }
        for object in archive.wal_objects() {
            assert_eq!(archive.proxy().count_requests("PUT", &object), 1, "{object}");
        }
        witness.assert_unharmed(&cluster);
    }
}

/// Only people read backup history files, and one that a crash or a snapshot of
/// the storage left empty would keep the server from all that comes after it.
#[test]
fn an_empty_backup_history_file_is_archived_and_told() {
    let history = "000000010000000000000000.00000028.backup";
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let cluster = cluster(version).archiving_to(&archive).start();
        let offset = cluster.log_offset();
        Planted::new(&cluster, history, b"");
        let last = cluster.archive_current_wal();
        cluster.wait_for_log_after(offset, "is empty and is archived as it is");
        assert!(archive.wal_file(history).is_empty());
        assert!(archive.wal_object(&last).is_some());
        assert_eq!(cluster.archiver_count("failed_count"), 0);
    }
}

#[test]
fn history_files_are_stored_before_segments_of_their_timeline() {
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let primary = cluster(version).archiving_to(&archive).start();
        let mut standby = primary.make_standby();
        standby.configure("wal_e.prefix = ''");
        standby.start();
        primary.archive_current_wal();
        standby.wait_for_replay_of(&primary);
        standby.promote();
        let last = standby.write_wal_segments(20);

        archive.proxy().set(Fault::Delay(LATENCY));
        begin(&standby, &archive);
        standby.wait_until_archived(&last);
        let stored: Vec<String> = archive
            .server()
            .requests()
            .into_iter()
            .filter(|request| request.method == "PUT" && request.status == 200)
            .filter_map(|request| Some(request.key.split_once("/wal_005/")?.1.to_owned()))
            .collect();
        let of_new_timeline = stored.iter().find(|name| name.starts_with("00000002"));
        assert_eq!(of_new_timeline.map(String::as_str), Some("00000002.history.lz4"));
        assert_eq!(standby.archiver_count("failed_count"), 0);
        standby.assert_done_files_are_archived(&archive);
    }
}

#[test]
fn what_a_killed_archiver_had_sent_is_not_sent_again() {
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let cluster = cluster(version).archiving_to(&archive).start();
        let first = cluster.archive_current_wal();
        // The server is stuck at this one, and so acknowledges none of the rest.
        let planted = Planted::new(&cluster, "000000010000000000000000", b"");
        let last = cluster.write_wal_segments(BACKLOG);
        wait_for("half of the backlog to be in the archive", || {
            archive.wal_objects().len() > BACKLOG as usize / 2
        });
        cluster.kill_process(cluster.pid_of("archiver"));
        let sent = archive.wal_objects();
        let puts = |object: &String| archive.proxy().count_requests("PUT", object);
        let before: Vec<usize> = sent.iter().map(puts).collect();
        assert!(cluster.ready_files().len() >= BACKLOG as usize);

        planted.remove();
        cluster.wait_for_archiver();
        cluster.wait_until_archived(&last);
        assert_eq!(sent.iter().map(puts).collect::<Vec<_>>(), before, "{sent:?}");
        cluster.assert_archived_without_gap(&archive, &first, &last);
        assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
    }
}
