//! Processes killed with SIGKILL at random moments under load. Whatever is
//! killed when, what was acknowledged is in the archive and a restore gives the
//! data of the server.

use std::time::{Duration, Instant};

use fastrand::Rng;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::base_backup::BACKUP_WORKER;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fingerprint::Fingerprint;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::random::{random_moment, seeded};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::{PATIENCE, wait_until};

/// How long processes are killed in one test; the rounds that have begun are ended.
const DURATION: Duration = Duration::from_secs(30);

/// How many kills are wanted at least, on a slow machine too.
const LEAST_ROUNDS: u32 = 9;

/// Transactions a second: enough to fill a segment of 1 MB every second or two.
const RATE: u32 = 400;

#[test]
fn nothing_is_lost_with_a_directory() {
    kill_at_random(Archive::file());
}

#[test]
fn nothing_is_lost_with_s3() {
    kill_at_random(Archive::s3());
}

fn kill_at_random(archive: Archive) {
    let mut random = seeded();

    let mut cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("wal_keep_size = '4GB'")
        .start_archiving_to(&archive);
    let first_segment = cluster.current_segment();
    cluster.pgbench_init(2);
    let first_backup = cluster.backup_push();

    let begin = Instant::now();
    let mut round = 0;
    while begin.elapsed() < DURATION || round < LEAST_ROUNDS {
        // Each kind of victim is sure to have its turn.
        match if round < 3 { round } else { random.u32(..3) } {
            0 => kill_archiver(&cluster, &mut random),
            1 => kill_backup_worker(&cluster, &mut random),
            _ => kill_postmaster(&mut cluster, &mut random),
        }
        round += 1;
    }
    println!("{round} kills, {} backups", archive.backups().len());

    // Backup mode has ended, whatever was killed: a new backup succeeds.
    let last_backup = cluster.backup_push();
    let last_segment = cluster.archive_current_wal();
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    assert_eq!(cluster.ready_files().len(), 0, "a clean stop archives everything");
    let compared = cluster.assert_archived_without_gap(&archive, &first_segment, &last_segment);
    assert!(compared > 10, "only {compared} segments were archived");
    drop(cluster);

    // The first one replays all WAL since; one in between was taken under fire.
    let backups = archive.backups();
    assert!(backups.contains(&first_backup) && backups.contains(&last_backup), "{backups:?}");
    let between = random.choice(&backups).expect("there are backups").clone();
    for name in [first_backup, between, last_backup] {
        restore_and_compare(&name, &archive, &expected);
    }
}

fn kill_archiver(cluster: &Cluster, random: &mut Rng) {
    for _ in 0..3 {
        let load = cluster.start_pgbench_at(RATE);
        random_moment(random, 400);
        // Ends a segment, so that the archiver is at work or just about to be.
        cluster.switch_wal();
        random_moment(random, 60);
        cluster.kill_process(cluster.pid_of("archiver"));
        load.stop();
    }
}

fn kill_backup_worker(cluster: &Cluster, random: &mut Rng) {
    let load = cluster.start_pgbench_at(RATE);
    let session = cluster.backup_push_in_background();
    let worker = wait_until("a backup worker, or the end of its backup", PATIENCE, || {
        cluster.find_pid(BACKUP_WORKER).map(Some).or(session.is_finished().then_some(None))
    });
    random_moment(random, 900);
    if let Some(worker) = worker {
        // It may be quicker than the signal.
        cluster.kill_process(worker);
    }
    let _ = session.result();
    load.stop();
}

fn kill_postmaster(cluster: &mut Cluster, random: &mut Rng) {
    let load = cluster.start_pgbench_at(RATE);
    let session = random.bool().then(|| cluster.backup_push_in_background());
    random_moment(random, 1500);
    cluster.kill_postmaster();
    load.stop();
    if let Some(session) = session {
        // It may have been quicker than the signal.
        let _ = session.result();
    }
    cluster.start();
}

fn restore_and_compare(name: &str, archive: &Archive, expected: &Fingerprint) {
    let mut restored = Restore::of(PgVersion::oldest(), name).recover_beside(archive);
    assert_eq!(&restored.fingerprint(), expected, "restored from {name}");
    restored.amcheck();
    restored.stop(StopMode::Fast);
    restored.check_page_checksums().success();
}
