//! Several writers on one prefix: the archive keeps one consistent history, and
//! a cluster that does not fit into it gets the reason.

use std::collections::BTreeMap;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode, rows};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wait::wait_for;

/// Every object with its bytes.
fn content(archive: &Archive) -> BTreeMap<String, Vec<u8>> {
    let bytes = |name: &String| archive.object(name).expect("it is listed");
    archive.objects().into_iter().map(|name| (name.clone(), bytes(&name))).collect()
}

/// Those objects that `before` had are as they were.
#[track_caller]
fn assert_unchanged(archive: &Archive, before: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in before {
        assert!(archive.object(name).as_ref() == Some(bytes), "{name} was changed");
    }
}

fn system_identifier(cluster: &Cluster) -> String {
    cluster.query_one("SELECT system_identifier FROM pg_control_system()")
}

#[test]
fn another_cluster_is_refused_before_it_writes_a_byte() {
    for archive in [Archive::file(), Archive::s3()] {
        let owner = Cluster::build(PgVersion::oldest()).archiving_to(&archive).start();
        owner.archive_current_wal();
        let before = content(&archive);

        // Its segments have names that the archive does not have yet.
        let other = Cluster::build(PgVersion::oldest())
            .wal_segment_size_mb(1)
            .archiving_to(&archive)
            .start();
        let mut witness = other.witness();
        let waiting = other.write_wal_segments(5);
        other.wait_for_archiver_count("failed_count", 0);
        assert!(other.last_failed_wal() <= waiting);
        let log = other.log();
        for identifier in [system_identifier(&owner), system_identifier(&other)] {
            assert!(log.contains(&identifier), "{identifier} must be named:\n{log}");
        }
        assert!(content(&archive) == before, "{:?}", archive.objects());
        assert_eq!(other.archiver_count("archived_count"), 0);
        assert!(other.ready_files().contains(&waiting));
        witness.assert_unharmed(&other);

        owner.execute("CREATE TABLE t (id int)");
        owner.archive_current_wal();
        assert_eq!(owner.archiver_count("failed_count"), 0);

        // With a prefix of its own it goes on.
        let own = Archive::file();
        for line in own.settings() {
            other.configure(&line);
        }
        other.reload();
        other.switch_wal();
        other.wait_until_archived(&waiting);
        assert!(own.wal_object(&waiting).is_some());
    }
}

#[test]
fn a_different_file_under_an_archived_name_is_refused() {
    for archive in [Archive::file(), Archive::s3()] {
        let mut original = Cluster::build(PgVersion::oldest()).archiving_to(&archive).start();
        original.archive_current_wal();
        original.stop(StopMode::Fast);

        // The same cluster twice, as when a copy of a machine is started.
        let scratch = Scratch::new();
        let copied_data = scratch.path().join("data");
        let mut copying = ServerUser::get().command("cp");
        run(copying.arg("-a").arg(original.data_directory()).arg(&copied_data)).success();
        let mut copy = Cluster::adopt(PgVersion::oldest(), scratch, copied_data);

        original.start();
        original.execute("CREATE TABLE t AS SELECT 'the original' AS who");
        let segment = original.archive_current_wal();
        let stored = archive.wal_file(&segment);
        original.stop(StopMode::Fast);

        copy.start();
        let postmaster = copy.query_one("SELECT pg_postmaster_start_time()");
        let failed = copy.archiver_count("failed_count");
        copy.execute("CREATE TABLE t AS SELECT 'the copy' AS who");
        assert_eq!(copy.switch_wal(), segment, "both clusters write the same segment");
        // Their names belong to what the original has yet to write.
        copy.write_wal_segments(12);
        // More than one attempt, so that whatever else it would send is sent.
        copy.wait_for_archiver_count("failed_count", failed + 1);

        let log = copy.log();
        let reports = log.lines().filter(|line| line.contains(&segment)).collect::<Vec<_>>();
        assert!(!reports.is_empty(), "{log}");
        let checksums = hexadecimal_words(&log);
        assert!(checksums.len() >= 2, "both checksums must be named:\n{log}");
        assert!(copy.ready_files().contains(&segment), "it still waits");
        assert!(archive.wal_file(&segment) == stored, "the archived file stays as it was");
        assert_eq!(copy.query_one("SELECT who FROM t"), "the copy");
        assert_eq!(copy.query_one("SELECT pg_postmaster_start_time()"), postmaster);
        copy.stop(StopMode::Fast);

        original.start();
        let last = original.write_wal_segments(12);
        original.wait_until_archived(&last);
        assert_eq!(original.archiver_count("failed_count"), 0, "{}", original.log_tail());
    }
}

/// Words of a log that look like a checksum: hexadecimal, of 16 digits at
/// least, and not the name of a WAL file.
fn hexadecimal_words(log: &str) -> std::collections::BTreeSet<String> {
    log.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| word.len() >= 8 && word.len() != 24)
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .filter(|word| word.bytes().any(|byte| byte.is_ascii_alphabetic()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn after_a_split_both_histories_are_in_the_archive() {
    for (version, archive) in
        [(PgVersion::oldest(), Archive::s3()), (PgVersion::newest(), Archive::file())]
    {
        let mut primary = Cluster::build(version)
            .configuration("wal_keep_size = '4GB'")
            .start_archiving_to(&archive);
        let first = primary.current_segment();
        primary.execute("CREATE TABLE events (who text, what int)");
        primary.backup_push();
        let mut standby = primary.make_standby();
        standby.start();
        primary.execute("INSERT INTO events VALUES ('both', 0)");
        standby.wait_for_replay_of(&primary);

        standby.promote();
        for round in 1..=3 {
            for (cluster, who) in [(&primary, "old primary"), (&standby, "promoted standby")] {
                cluster.execute(&format!("INSERT INTO events VALUES ('{who}', {round})"));
                cluster.archive_current_wal();
            }
        }
        for cluster in [&primary, &standby] {
            assert_eq!(cluster.archiver_count("failed_count"), 0, "{}", cluster.log_tail());
        }
        let last = primary.archive_current_wal();
        primary.assert_archived_without_gap(&archive, &first, &last);
        assert!(archive.wal_object("00000002.history").is_some());
        assert!(standby.assert_done_files_are_archived(&archive) >= 4);
        for cluster in [&mut primary, &mut standby] {
            cluster.stop(StopMode::Fast);
        }

        for (timeline, who) in [("1", "old primary"), ("latest", "promoted standby")] {
            let restored = Restore::latest(version)
                .option("--recovery-target-timeline", timeline)
                .recover_beside(&archive);
            let events =
                restored.query("SELECT what::text FROM events WHERE who <> 'both' ORDER BY 1");
            assert_eq!(events.concat(), ["1", "2", "3"], "timeline {timeline}");
            let authors = restored.query("SELECT DISTINCT who FROM events WHERE what > 0");
            assert_eq!(authors.concat(), [who], "timeline {timeline}");
        }
    }
}

#[test]
fn of_two_promoted_standbys_one_gets_the_timeline() {
    for archive in [Archive::file(), Archive::s3()] {
        let primary = Cluster::build(PgVersion::oldest())
            .configuration("wal_keep_size = '4GB'")
            .archiving_to(&archive)
            .start();
        let mut standbys = [primary.make_standby(), primary.make_standby()];
        standbys.iter_mut().for_each(Cluster::start);
        let [winner, loser] = &standbys;
        primary.execute("CREATE TABLE t AS SELECT 'both' AS who");
        winner.wait_for_replay_of(&primary);
        winner.stop_streaming();
        // Its timeline begins later, so that its history is a different one.
        primary.execute("INSERT INTO t VALUES ('only one')");
        loser.wait_for_replay_of(&primary);

        winner.promote();
        winner.archive_current_wal();
        let history = archive.wal_file("00000002.history");
        let before = content(&archive);
        let mut witness = loser.witness();
        loser.promote();
        // Segments that the winner has not archived yet: they are not free to take.
        let waiting = loser.write_wal_segments(12);
        // More than one attempt, so that whatever else it would send is sent.
        loser.wait_for_archiver_count("failed_count", 1);
        assert_eq!(loser.last_failed_wal(), "00000002.history");
        let log = loser.log();
        let tells = |line: &str| line.contains("WARNING") && line.contains("00000002.history");
        assert!(log.lines().any(tells), "{log}");
        assert!(log.contains("different file is archived"), "{log}");
        assert!(loser.ready_files().contains(&waiting));
        assert_eq!(archive.wal_file("00000002.history"), history);
        assert_unchanged(&archive, &before);
        let of_loser: Vec<_> =
            content(&archive).into_keys().filter(|name| !before.contains_key(name)).collect();
        assert!(
            of_loser.iter().all(|name| !name.contains("/00000002")),
            "segments of a timeline that is not its own: {of_loser:?}"
        );
        witness.assert_unharmed(loser);

        // The winner goes on as if nothing had been.
        winner.write_wal_segments(12);
        winner.archive_current_wal();
        assert_eq!(winner.archiver_count("failed_count"), 0, "{}", winner.log_tail());
        winner.assert_done_files_are_archived(&archive);
    }
}

#[test]
fn a_standby_that_always_archives_finds_what_the_primary_has_archived() {
    for (version, archive) in
        [(PgVersion::oldest(), Archive::s3()), (PgVersion::newest(), Archive::file())]
    {
        let primary = Cluster::build(version)
            .wal_segment_size_mb(1)
            .configuration("wal_keep_size = '4GB'")
            .archiving_to(&archive)
            .start();
        let mut standby = primary.make_standby();
        standby.configure("archive_mode = always");
        standby.configure("wal_e.prefix = ''");
        standby.start();
        let mut session = standby.client();
        let last = primary.write_wal_segments(20);
        primary.wait_until_archived(&last);
        standby.wait_for_replay_of(&primary);
        wait_for("the standby to have the last segment", || standby.ready_files().contains(&last));
        let before = content(&archive);

        for line in archive.settings() {
            standby.configure(&line);
        }
        standby.reload();
        standby.wait_until_archived(&last);
        assert!(standby.archiver_count("archived_count") >= 20);
        assert!(standby.assert_done_files_are_archived(&archive) >= 20);
        assert!(content(&archive) == before, "{:?}", archive.objects());

        // From now on both archive at the same time.
        let last = primary.write_wal_segments(20);
        primary.wait_until_archived(&last);
        standby.wait_for_replay_of(&primary);
        wait_for("the standby to archive too", || standby.done_files().contains(&last));
        assert!(standby.assert_done_files_are_archived(&archive) >= 40);
        assert!(primary.assert_done_files_are_archived(&archive) >= 40);
        for cluster in [&primary, &standby] {
            assert_eq!(cluster.archiver_count("failed_count"), 0, "{}", cluster.log_tail());
        }
        assert_unchanged(&archive, &before);
        rows(&mut session, "SELECT 1").expect("the session of the standby is still there");
    }
}
