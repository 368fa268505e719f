//! WAL archiving while the store misbehaves: whatever goes wrong on the way,
//! the archive has every segment as it is, the server goes on undisturbed, and
//! the statistics say how it went.

use std::thread;
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::fault_proxy::{Fault, FaultProxy};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::random::seeded;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::witness::Witness;
use wal_e_e2e::workload::Workload;

/// Transactions a second during the faults.
const RATE: u32 = 100;

/// What the request line of the begin of an upload in parts contains.
const BEGIN_OF_PARTS: &str = "?uploads";

/// How long the store is away where that has to be shorter than the
/// archiver's patience.
const SHORT_OUTAGE: Duration = Duration::from_secs(3);

/// A server under load that archives through a proxy.
struct Scene {
    archive: Archive,
    cluster: Cluster,
    witness: Witness,
    load: Workload,
    first_segment: String,
}

impl Scene {
    fn new(version: PgVersion, segment_size_mb: u32) -> Scene {
        let archive = Archive::s3();
        let cluster = Cluster::build(version)
            .wal_segment_size_mb(segment_size_mb)
            .configuration("wal_keep_size = '8GB'")
            .configuration("max_wal_size = '1GB'")
            .configuration("min_wal_size = '128MB'")
            .archiving_to(&archive)
            .start();
        let first_segment = cluster.current_segment();
        cluster.pgbench_init(1);
        cluster.archive_current_wal();
        let load = cluster.start_pgbench_at(RATE);
        let witness = cluster.witness();
        Scene { archive, cluster, witness, load, first_segment }
    }

    fn proxy(&self) -> &FaultProxy {
        self.archive.proxy()
    }

    /// Archives a segment that has so much in it while `fault` happens to the
    /// next `count` requests whose line contains `matching`.
    #[track_caller]
    fn archive_through(
        &self,
        name: &str,
        kilobytes: u32,
        count: u32,
        matching: &str,
        fault: Fault,
    ) {
        self.cluster.write_incompressible_wal(kilobytes);
        self.proxy().next(count, matching, fault);
        self.cluster.archive_current_wal();
        assert_eq!(self.proxy().faults_to_come(), 0, "{name}: the fault did not happen");
        let failed = self.cluster.archiver_count("failed_count");
        assert_eq!(failed, 0, "{name}: the archiver has more patience than that");
    }

    /// Asserts what has to hold after each kind of fault.
    #[track_caller]
    fn assert_sound(mut self) {
        self.load.end();
        let last = self.cluster.archive_current_wal();
        let compared =
            self.cluster.assert_archived_without_gap(&self.archive, &self.first_segment, &last);
        println!("{compared} segments");
        // An upload in parts whose beginning was not confirmed stays open: its
        // number was in the answer. It has no part and so costs nothing.
        let unfinished = self.archive.unfinished_uploads();
        let lost = self.proxy().count_lost_answers(BEGIN_OF_PARTS);
        assert!(unfinished.len() <= lost, "{unfinished:?}, although only {lost} are excused");
        self.witness.assert_unharmed(&self.cluster);
    }
}

#[test]
fn faults_of_single_requests_are_overcome() {
    let scene = Scene::new(PgVersion::oldest(), 16);
    for (name, count, fault) in [
        ("a burst of 503", 5, Fault::Answer503),
        ("a reset before the body", 2, Fault::ResetAfterUpload(0)),
        ("a reset in the body", 2, Fault::ResetAfterUpload(100_000)),
        ("a reset after the head was read", 2, Fault::Refuse),
        ("a reset in the head of the answer", 2, Fault::ResetInAnswerHead),
        ("no answer", 2, Fault::CutAnswerAfter(0)),
        ("half an answer", 2, Fault::CutAnswerAfter(40)),
        ("a lost answer", 1, Fault::HangUpAfterCommit),
        ("a late answer", 1, Fault::Delay(Duration::from_secs(2))),
        ("a slow line", 1, Fault::Throttle(500_000)),
    ] {
        scene.archive_through(name, 1000, count, "PUT ", fault);
    }
    scene.assert_sound();
}

#[test]
fn faults_of_uploads_in_parts_are_overcome() {
    let scene = Scene::new(PgVersion::newest(), 64);
    let (begin, part, complete) = (BEGIN_OF_PARTS, "partNumber=", "POST /wale-tests/");
    for (name, count, matching, fault) in [
        ("503 at the begin", 2, begin, Fault::Answer503),
        ("a reset at the begin", 2, begin, Fault::Refuse),
        ("a lost answer to the begin", 1, begin, Fault::HangUpAfterCommit),
        ("503 at a part", 4, part, Fault::Answer503),
        ("a reset in a part", 3, part, Fault::ResetAfterUpload(1_000_000)),
        ("a reset in the answer to a part", 3, part, Fault::ResetInAnswerHead),
        ("a lost answer to a part", 3, part, Fault::HangUpAfterCommit),
    ] {
        scene.archive_through(name, 20_000, count, matching, fault);
    }
    for (name, fault) in [
        ("503 at the end", Fault::Answer503),
        ("a reset at the end", Fault::ResetAfterUpload(10)),
        ("a reset in the head of the last answer", Fault::ResetInAnswerHead),
        ("a reset in the body of the last answer", Fault::ResetInAnswerBody),
        ("a lost last answer", Fault::HangUpAfterCommit),
    ] {
        // The request that begins the upload is a POST too.
        scene.proxy().next(1, begin, Fault::None);
        scene.archive_through(name, 20_000, 1, complete, fault);
    }
    scene.cluster.write_incompressible_wal(60_000);
    let full = scene.cluster.archive_current_wal();
    assert!(scene.archive.wal_object(&full).is_some_and(|object| object.len() > 50_000_000));
    scene.assert_sound();
}

#[test]
fn a_short_outage_is_overcome_at_any_stage() {
    let scene = Scene::new(PgVersion::oldest(), 16);
    for fault in [Fault::Refuse, Fault::Hang, Fault::Answer503] {
        scene.proxy().set(fault);
        scene.cluster.write_incompressible_wal(1000);
        let segment = scene.cluster.switch_wal();
        scene.cluster.wait_until_archiver_works_on(&segment);
        thread::sleep(SHORT_OUTAGE);
        scene.proxy().set(Fault::None);
        scene.cluster.wait_until_archived(&segment);
        assert_eq!(scene.cluster.archiver_count("failed_count"), 0, "{fault:?}");
    }

    // The store stalls with a part of the body read.
    let before = scene.proxy().requests().len();
    scene.proxy().set(Fault::Throttle(1_000_000));
    scene.cluster.write_incompressible_wal(5000);
    let segment = scene.cluster.switch_wal();
    wait_for("an upload to begin", || {
        let requests = scene.proxy().requests();
        requests[before..].iter().any(|line| line.starts_with("PUT ") && line.contains(&segment))
    });
    scene.proxy().set(Fault::Hang);
    thread::sleep(SHORT_OUTAGE);
    assert!(scene.archive.wal_object(&segment).is_none(), "the body was to be cut by the stall");
    scene.proxy().set(Fault::None);
    scene.cluster.wait_until_archived(&segment);
    assert_eq!(scene.cluster.archiver_count("failed_count"), 0);
    scene.assert_sound();
}

#[test]
fn an_outage_longer_than_patience_is_counted_and_ends_without_a_gap() {
    for fault in [Fault::Answer503, Fault::Refuse] {
        let scene = Scene::new(PgVersion::oldest(), 1);
        scene.proxy().set(fault);
        let last = scene.cluster.write_wal_segments(10);
        scene.cluster.wait_for_archiver_count("failed_count", 0);
        let oldest = scene.cluster.ready_files().into_iter().next();
        assert_eq!(Some(scene.cluster.last_failed_wal()), oldest, "{fault:?}");
        let archived = scene.cluster.archiver_count("archived_count");

        scene.proxy().set(Fault::None);
        // Wakes the archiver, which otherwise looks again after a minute.
        scene.cluster.switch_wal();
        scene.cluster.wait_until_archived(&last);
        scene.cluster.wait_for_archiver_count("archived_count", archived + 9);
        let failed = scene.cluster.archiver_count("failed_count");
        scene.cluster.archive_current_wal();
        assert_eq!(scene.cluster.archiver_count("failed_count"), failed, "it is over");
        scene.assert_sound();
    }
}

#[test]
fn random_failures_for_the_length_of_a_pgbench_run_leave_no_trace() {
    for (version, segment_size_mb) in [(PgVersion::oldest(), 1), (PgVersion::newest(), 16)] {
        let scene = Scene::new(version, segment_size_mb);
        let seed = seeded().u64(..);
        scene.proxy().set(Fault::Random { seed, per_mille: 100 });
        let before = scene.proxy().requests().len();
        for _ in 0..6 {
            scene.cluster.pgbench(1000);
            scene.cluster.write_incompressible_wal(4000);
            scene.cluster.switch_wal();
        }
        scene.cluster.write_wal_segments(40);
        scene.cluster.archive_current_wal();
        let requests = scene.proxy().requests().len() - before;
        assert!(requests > 40, "only {requests} requests were at risk");
        assert_eq!(scene.cluster.archiver_count("failed_count"), 0, "each was to be overcome");
        scene.assert_sound();
    }
}
