//! Archivers killed with SIGKILL at random moments while they drain a backlog
//! into a store that takes its time. [`kills.rs`](../kills.rs) kills other
//! processes too, and restores.
//!
//! `WALE_TEST_KILLS` is how many archivers are killed (24). PostgreSQL restarts
//! all its processes then and starts an archiver no sooner than 10 seconds
//! after the last one, so several clusters wait side by side.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, ClusterBuilder};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::wait_for_end;
use wal_e_e2e::random::{random_moment, seeded};
use wal_e_e2e::wal_e::wal_e;

const CLUSTERS: u32 = 6;

/// Segments that wait when a new archiver begins.
const BACKLOG: u32 = 48;

/// The store's answer takes so long that a drained backlog is a second's work.
const LATENCY: Duration = Duration::from_millis(100);

/// Kills come within this time after the archiver is seen.
const CYCLE_MS: u64 = 900;

/// How many `wal-e wal-push` are killed, and within which time of their start.
const PROGRAM_KILLS: u32 = 100;
const PROGRAM_MS: u64 = 500;

fn cluster(version: PgVersion) -> ClusterBuilder {
    Cluster::build(version).wal_segment_size_mb(1).configuration("wal_keep_size = '8GB'")
}

#[test]
fn killed_archivers_leave_no_gap() {
    let kills = std::env::var("WALE_TEST_KILLS")
        .map_or(24, |kills| kills.parse().expect("WALE_TEST_KILLS is a number"));
    let mut random = seeded();
    let busy = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..CLUSTERS {
            let random = Rng::with_seed(random.u64(..));
            let version = if number % 3 == 2 { PgVersion::newest() } else { PgVersion::oldest() };
            let kills = kills / CLUSTERS + u32::from(number < kills % CLUSTERS);
            let busy = &busy;
            scope.spawn(move || {
                busy.fetch_add(kill_archivers(version, kills, random), Ordering::Relaxed)
            });
        }
    });
    let busy = busy.into_inner();
    assert!(busy * 3 >= kills, "only {busy} of {kills} archivers had work when they were killed");
}

/// Says how many of the archivers had work when they were killed.
fn kill_archivers(version: PgVersion, kills: u32, mut random: Rng) -> u32 {
    let archive = Archive::s3();
    archive.proxy().set(Fault::Delay(LATENCY));
    let cluster = cluster(version).archiving_to(&archive).start();
    let first = cluster.current_segment();
    let mut busy = 0;
    for _ in 0..kills {
        cluster.write_incompressible_wal(random.u32(100..3000));
        cluster.write_wal_segments(BACKLOG);
        let archiver = cluster.pid_of("archiver");
        random_moment(&mut random, CYCLE_MS);
        busy += u32::from(!cluster.ready_files().is_empty());
        cluster.kill_process(archiver);
    }
    let last = cluster.switch_wal();
    cluster.wait_for_archiver();
    cluster.wait_until_archived(&last);
    let compared = cluster.assert_archived_without_gap(&archive, &first, &last);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
    println!("{kills} archivers killed, {busy} of them at work; {compared} segments");
    busy
}

#[test]
fn killed_programs_leave_no_gap() {
    let mut random = seeded();
    let archive = Archive::s3();
    archive.proxy().set(Fault::Delay(LATENCY));
    // The test is the archiver: after a program that was killed, the server's own
    // would take 10 seconds to begin again.
    let cluster = cluster(PgVersion::oldest())
        .configuration("archive_mode = on")
        .configuration("archive_command = ''")
        .start();
    let first = cluster.current_segment();
    let mut last = cluster.write_wal_segments(BACKLOG);
    let (mut kills, mut acknowledged) = (0, BTreeSet::new());
    while let Some(name) = cluster.ready_files().into_iter().next() {
        let mut program = wal_e(&archive)
            .args(["wal-push", "-p", "4"])
            .arg(format!("pg_wal/{name}"))
            .current_dir(cluster.data_directory())
            .spawn()
            .expect("the program can be started");
        let limit = if kills < PROGRAM_KILLS { random.u64(1..PROGRAM_MS) } else { 60_000 };
        match wait_for_end(&mut program, Duration::from_millis(limit)) {
            None => {
                assert!(kills < PROGRAM_KILLS, "the program hangs");
                program.kill().expect("a child can be killed");
                program.wait().expect("a child can be waited for");
                kills += 1;
            }
            Some(status) => {
                assert!(status.success(), "{name}: {status}");
                assert!(archive.wal_object(&name).is_some(), "{name} is not there");
                mark_as_done(&cluster, &name);
                acknowledged.insert(name);
            }
        }
        if kills < PROGRAM_KILLS && cluster.ready_files().len() < 6 {
            last = cluster.write_wal_segments(BACKLOG);
        }
    }
    let compared = cluster.assert_archived_without_gap(&archive, &first, &last);
    println!("{kills} programs killed, {} ended; {compared} segments", acknowledged.len());
    assert_eq!(kills, PROGRAM_KILLS);
    assert_eq!(archive.unfinished_uploads(), Vec::<String>::new());
}

/// What the server does after its archive_command has succeeded.
fn mark_as_done(cluster: &Cluster, name: &str) {
    let status = cluster.data_directory().join("pg_wal/archive_status");
    let path = |suffix: &str| status.join(format!("{name}{suffix}"));
    fs::rename(path(".ready"), path(".done")).expect("a mark can be renamed");
}
