//! WAL from the archiver into the store.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::wait::wait_for;

#[test]
fn segments_of_every_size_are_archived_as_they_are() {
    let tested = Archive::for_tested_versions();
    let usual = tested.map(|(version, archive)| (version, 16, archive));
    let others = [1, 64].map(|size| (PgVersion::oldest(), size, Archive::s3()));
    for (version, segment_size_mb, archive) in usual.chain(others) {
        let cluster = Cluster::build(version)
            .wal_segment_size_mb(segment_size_mb)
            .configuration("wal_keep_size = '1GB'")
            .configuration("min_wal_size = '128MB'")
            .archiving_to(&archive)
            .start();
        cluster.pgbench_init(1);
        cluster.archive_current_wal();
        cluster.execute("UPDATE pgbench_accounts SET abalance = 1 WHERE aid < 1000");
        let last = cluster.archive_current_wal();

        let compared = cluster.assert_done_files_are_archived(&archive);
        assert!(compared >= 2, "{compared} segments of {segment_size_mb} MB were compared");
        assert_eq!(archive.wal_file(&last).len(), segment_size_mb as usize * 1024 * 1024);
        assert_eq!(cluster.archiver_count("failed_count"), 0);
        assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
    }
}

#[test]
fn backup_history_files_are_archived() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("wal_keep_size = '1GB'")
        .archiving_to(&archive)
        .start();
    let mut client = cluster.client();
    client.batch_execute("SELECT pg_backup_start('by hand', true)").expect("backup mode begins");
    client.batch_execute("SELECT pg_backup_stop()").expect("backup mode ends");
    cluster.archive_current_wal();
    let is_history = |name: &String| name.ends_with(".backup");
    wait_for("a backup history file in the archive", || {
        cluster.done_files().iter().any(is_history)
    });
    let name = cluster.done_files().into_iter().find(is_history).expect("it was there");
    assert!(String::from_utf8_lossy(&archive.wal_file(&name)).contains("LABEL: by hand"));
    cluster.assert_done_files_are_archived(&archive);
}

#[test]
fn each_archived_file_has_a_line_in_the_log_in_the_order_of_their_names() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("wal_keep_size = '100MB'")
        .archiving_to(&archive)
        .start();
    let first = cluster.current_segment();
    let last = cluster.write_wal_segments(8);
    cluster.wait_until_archived(&last);
    let logged = |log: &str| -> Vec<String> {
        let lines = log.lines().filter_map(|line| line.split_once("archived WAL file \""));
        lines.filter_map(|(_, rest)| Some(rest.split_once('"')?.0.to_owned())).collect()
    };
    wait_for("a line for the last file", || logged(&cluster.log()).contains(&last));
    let names = logged(&cluster.log());
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(names, sorted);
    assert_eq!((names.first(), names.last()), (Some(&first), Some(&last)));
    let line = cluster.wait_for_log(&format!("archived WAL file \"{last}\""));
    let stored = archive.wal_object(&last).expect("it is archived").len();
    let sizes =
        format!("LOG:  archived WAL file \"{last}\": 1048576 bytes, {stored} bytes stored, ");
    assert!(line.contains(&sizes) && line.ends_with(" s"), "{line}");

    // One that is there already is not said to have been stored.
    let path = cluster.data_directory().join("pg_wal/archive_status");
    std::fs::rename(path.join(format!("{last}.done")), path.join(format!("{last}.ready")))
        .expect("the server keeps the file");
    cluster.switch_wal();
    let again = format!("WAL file \"{last}\" was in the archive already: 1048576 bytes, the same");
    cluster.wait_for_log(&again);

    cluster.configure("wal_e.log_archived_files = off");
    cluster.reload();
    let offset = cluster.log_offset();
    cluster.archive_current_wal();
    cluster.archive_current_wal();
    assert_eq!(logged(&cluster.log()[offset..]), Vec::<String>::new());
}

#[test]
fn archiving_the_same_file_again_succeeds() {
    for archive in [Archive::file(), Archive::s3()] {
        let cluster = Cluster::build(PgVersion::oldest())
            .configuration("wal_keep_size = '1GB'")
            .archiving_to(&archive)
            .start();
        let segment = cluster.archive_current_wal();
        let stored = archive.wal_object(&segment);
        assert!(stored.is_some());

        // What a crash between the upload and the server's own note leaves.
        let status = cluster.data_directory().join("pg_wal/archive_status");
        let before = cluster.archiver_count("archived_count");
        std::fs::rename(
            status.join(format!("{segment}.done")),
            status.join(format!("{segment}.ready")),
        )
        .expect("the status file can be renamed");
        // The end of another segment wakes the archiver.
        cluster.execute("CREATE TABLE t (id int)");
        cluster.archive_current_wal();
        cluster.wait_for_archiver_count("archived_count", before + 1);

        assert_eq!(cluster.archiver_count("failed_count"), 0);
        assert!(cluster.done_files().contains(&segment));
        assert!(archive.wal_object(&segment) == stored, "the object was written again");
    }
}

#[test]
fn without_a_prefix_archiving_waits_until_there_is_one() {
    for version in PgVersion::tested() {
        let (first, second) = (Archive::file(), Archive::file());
        let cluster = Cluster::build(version).archiving().start();
        let waiting = cluster.switch_wal();
        // The server's own words for an archive module that is not configured.
        cluster.wait_for_log("archiving is not configured");
        assert!(cluster.ready_files().contains(&waiting));

        for archive in [&first, &second] {
            for line in archive.settings() {
                cluster.configure(&line);
            }
            cluster.reload();
            cluster.execute("CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1)");
            let segment = cluster.archive_current_wal();
            assert!(
                archive.wal_object(&segment).is_some(),
                "{segment} is not in {}",
                archive.url()
            );
        }
        assert!(first.wal_object(&waiting).is_some());
        assert!(second.wal_object(&waiting).is_none());
    }
}

#[test]
fn a_refused_secret_is_reported_once_and_the_right_one_taken_up_without_a_reload() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).archiving_to(&archive).start();
    cluster.archive_current_wal();

    archive.server().change_secret_key("another/secret+key");
    cluster.execute("CREATE TABLE t (id int)");
    let segment = cluster.switch_wal();
    // The server tries three times in a row before it waits.
    cluster.wait_for_archiver_count("failed_count", 2);
    let log = cluster.log();
    let reports = log.lines().filter(|line| line.contains("WARNING:  could not")).count();
    assert_eq!(reports, 1, "one report of the one cause:\n{log}");
    assert!(log.contains("403"), "the HTTP status must be named:\n{log}");
    assert!(log.contains("env_dir"), "the source of the credentials must be named:\n{log}");
    assert!(!log.contains(archive.server().secret_key()), "a secret was logged");

    archive.write_variable("AWS_SECRET_ACCESS_KEY", "another/secret+key");
    // Wakes the archiver, which otherwise looks again after a minute.
    cluster.execute("INSERT INTO t VALUES (1)");
    cluster.archive_current_wal();
    assert!(archive.wal_object(&segment).is_some());
}

#[test]
fn an_unreachable_store_is_reported_and_archiving_goes_on_when_it_is_back() {
    for version in PgVersion::tested() {
        let archive = Archive::s3();
        let cluster = Cluster::build(version).archiving_to(&archive).start();
        let archiver = cluster.pid_of("archiver");
        cluster.archive_current_wal();

        archive.proxy().set(Fault::Refuse);
        cluster.execute("CREATE TABLE t (id int)");
        let segment = cluster.switch_wal();
        cluster.wait_for_archiver_count("failed_count", 0);
        let log = cluster.log();
        let object = format!("wal_005/{segment}.lz4");
        assert!(
            log.lines().any(|line| line.contains("WARNING") && line.contains(&object)),
            "the object must be named:\n{log}"
        );
        assert!(log.contains(&archive.proxy().endpoint()), "the endpoint must be named:\n{log}");
        cluster.execute("INSERT INTO t VALUES (1)");

        archive.proxy().set(Fault::None);
        // Wakes the archiver, which otherwise looks again after a minute.
        cluster.archive_current_wal();
        assert!(archive.wal_object(&segment).is_some());
        assert_eq!(cluster.pid_of("archiver"), archiver, "the archiver ended");
    }
}
