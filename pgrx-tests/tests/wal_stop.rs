//! Stopping a server that archives: a store that does not answer holds up no
//! stop, one that does gets everything, and what was left is archived after
//! the next start.

use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;

/// A stop has to be prompt whatever the store does: this is the longest it may
/// take, on a machine that is busy with other tests.
const PROMPT: Duration = Duration::from_secs(15);

/// More than are uploaded at one time.
const BACKLOG: u32 = 20;

fn cluster_of(version: PgVersion, archive: &Archive) -> Cluster {
    Cluster::build(version)
        .wal_segment_size_mb(1)
        .configuration("wal_keep_size = '4GB'")
        .archiving_to(archive)
        .start()
}

#[test]
fn smart_and_fast_stops_are_prompt_while_the_store_fails_and_say_what_is_left() {
    for (version, mode, fault) in [
        (PgVersion::oldest(), StopMode::Smart, Fault::Hang),
        (PgVersion::oldest(), StopMode::Fast, Fault::Answer503),
        (PgVersion::newest(), StopMode::Smart, Fault::ResetAfterUpload(1000)),
        (PgVersion::newest(), StopMode::Fast, Fault::Hang),
    ] {
        let archive = Archive::s3();
        let mut cluster = cluster_of(version, &archive);
        let first = cluster.archive_current_wal();

        archive.proxy().set(fault);
        let last = cluster.write_wal_segments(BACKLOG);
        let oldest = cluster.ready_files().into_iter().next().expect("nothing can be archived");
        cluster.wait_until_archiver_works_on(&oldest);
        let offset = cluster.log_offset();
        let elapsed = cluster.stop(mode);
        assert!(elapsed < PROMPT, "with {fault:?} the {mode:?} stop took {elapsed:?}");
        let left = cluster.ready_files();
        assert!(left.len() >= BACKLOG as usize, "not archived, and not said to be: {left:?}");
        let log = cluster.log().split_off(offset);
        let tells = |line: &str| line.contains("archiver gave up") && line.contains("stopping");
        assert_eq!(log.lines().filter(|line| tells(line)).count(), 1, "{log}");
        assert!(log.contains(&oldest), "the oldest file must be named:\n{log}");
        assert!(log.contains(&format!("({})", left.len())), "{} must be named:\n{log}", left.len());

        archive.proxy().set(Fault::None);
        cluster.start();
        cluster.wait_until_archived(&last);
        cluster.assert_archived_without_gap(&archive, &first, &last);
    }
}

#[test]
fn an_immediate_stop_is_prompt_while_the_store_hangs() {
    for &version in PgVersion::complete() {
        let archive = Archive::s3();
        let mut cluster = cluster_of(version, &archive);
        let first = cluster.archive_current_wal();
        archive.proxy().set(Fault::Hang);
        let last = cluster.write_wal_segments(BACKLOG);
        let oldest = cluster.ready_files().into_iter().next().expect("nothing can be archived");
        cluster.wait_until_archiver_works_on(&oldest);
        let elapsed = cluster.stop(StopMode::Immediate);
        assert!(elapsed < PROMPT, "the stop took {elapsed:?}");

        archive.proxy().set(Fault::None);
        cluster.start();
        cluster.wait_until_archived(&last);
        cluster.assert_archived_without_gap(&archive, &first, &last);
    }
}

#[test]
fn a_stop_waits_for_a_slow_store_that_answers() {
    let archive = Archive::s3();
    let mut cluster = cluster_of(PgVersion::oldest(), &archive);
    let first = cluster.archive_current_wal();
    // One at a time this takes longer than a store without an answer is given.
    archive.proxy().set(Fault::Delay(Duration::from_millis(400)));
    let last = cluster.write_wal_segments(BACKLOG);
    cluster.stop(StopMode::Fast);
    assert_eq!(cluster.ready_files().len(), 0, "{:?}", cluster.ready_files());
    cluster.assert_archived_without_gap(&archive, &first, &last);
}

#[test]
fn a_clean_stop_archives_everything() {
    for (version, mode) in
        [(PgVersion::oldest(), StopMode::Fast), (PgVersion::newest(), StopMode::Smart)]
    {
        let archive = Archive::s3();
        let mut cluster = cluster_of(version, &archive);
        let first = cluster.current_segment();
        cluster.execute("CREATE TABLE t (id int)");
        let last = cluster.current_segment();
        let elapsed = cluster.stop(mode);
        assert!(elapsed < PROMPT, "the stop took {elapsed:?}");
        assert_eq!(cluster.ready_files().len(), 0, "{:?}", cluster.ready_files());
        cluster.assert_archived_without_gap(&archive, &first, &last);
    }
}
