//! What a server does by schedule: once for each slot, whatever servers share the prefix.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, ClusterBuilder, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::send_signal;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::{wait_for, wait_until};
use wal_e_e2e::wal_e::run_wal_e;

/// Slots come every few seconds here, and a backup takes about as long.
const PATIENCE: Duration = Duration::from_secs(180);

const EVERY_FIVE_SECONDS: &str = "*/5 * * * * *";

fn scheduled(version: PgVersion, schedule: &str) -> ClusterBuilder {
    Cluster::build(version)
        .wal_segment_size_mb(1)
        // So that the spread checkpoint of a backup takes no time.
        .configuration("checkpoint_completion_target = 0")
        .configuration(format!("wal_e.backup_schedule = '{schedule}'"))
}

/// How many runs there are like this.
fn runs(cluster: &Cluster, condition: &str) -> usize {
    let count = format!("SELECT count(*) FROM wale_job_history() WHERE {condition}");
    cluster.query_one(&count).parse().expect("a count is a number")
}

/// Waits until there are so many runs like this.
#[track_caller]
fn wait_for_runs(cluster: &Cluster, condition: &str, number: usize) {
    wait_until(&format!("{number} runs with {condition}"), PATIENCE, || {
        (runs(cluster, condition) >= number).then_some(())
    });
}

/// The objects of runs, as slot and attempt, whose names end so.
fn marks(archive: &Archive, job: &str, suffix: &str) -> Vec<String> {
    let below = format!("wal_e/jobs/{job}/");
    let objects = archive.objects();
    let names = objects.iter().filter_map(|object| object.strip_prefix(&below));
    names.filter_map(|name| Some(name.strip_suffix(suffix)?.to_owned())).collect()
}

fn backups_are_taken_and_kept(version: PgVersion, archive: &Archive) {
    let mut cluster = scheduled(version, EVERY_FIVE_SECONDS)
        .configuration("wal_e.retain_full_backups = 2")
        .start_archiving_to(archive);
    cluster.execute("CREATE TABLE t AS SELECT 1 AS a");
    wait_for_runs(&cluster, "job = 'backup' AND ok", 4);
    wait_for_runs(&cluster, "job = 'retention' AND ok AND bytes > 0", 1);

    cluster.execute("ALTER SYSTEM SET wal_e.backup_schedule = ''");
    cluster.reload();
    wait_for("the end of what runs", || runs(&cluster, "finished_at IS NULL") == 0);
    wait_for("retention after the last backup", || archive.backups().len() == 2);
    let taken = cluster.query(
        "SELECT substring(detail FROM '\"(.*)\"') FROM wale_job_history() \
         WHERE job = 'backup' AND ok LIMIT 2",
    );
    let newest: BTreeSet<String> = taken.into_iter().flatten().collect();
    assert_eq!(archive.backups().into_iter().collect::<BTreeSet<_>>(), newest);

    let twice = "SELECT count(*) FROM (SELECT FROM wale_job_history() WHERE ok \
                 GROUP BY job, slot HAVING count(*) > 1) s";
    assert_eq!(cluster.query_one(twice), "0");
    let shown = run_wal_e(archive, ["job-history", "--json"]).success();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("it is JSON");
    let rows = cluster.query("SELECT job, attempt, hostname, detail FROM wale_job_history()");
    assert_eq!(shown.as_array().map(Vec::len), Some(rows.len()));
    assert_eq!(shown[0]["hostname"].as_str(), Some(rows[0][2].as_str()));
    assert_eq!(shown[0]["detail"].as_str(), Some(rows[0][3].as_str()));

    cluster.archive_current_wal();
    let expected = cluster.fingerprint();
    let stopped = cluster.stop(StopMode::Fast);
    assert!(stopped < Duration::from_secs(20), "{stopped:?}");
    let log = cluster.log();
    assert!(!log.contains("terminating background worker \"wal_e scheduler\""), "{log}");
    drop(cluster);
    Restore::latest(version).recover(archive).assert_restored(&expected);
}

#[test]
fn a_server_takes_backups_and_keeps_what_it_should() {
    for (version, archive) in Archive::for_tested_versions() {
        backups_are_taken_and_kept(version, &archive);
    }
}

#[test]
fn a_server_that_is_killed_in_the_middle_goes_on_when_it_is_back() {
    let archive = Archive::file();
    let mut cluster = scheduled(PgVersion::oldest(), "* * * * *").start_archiving_to(&archive);
    // A backup takes long enough to be killed in.
    cluster.execute("ALTER SYSTEM SET wal_e.backup_read_rate_limit = '2MB'");
    cluster.reload();
    let claimed = wait_until("a claim", PATIENCE, || {
        cluster.find_pid("wal_e base backup")?;
        marks(&archive, "backup", ".claim").pop()
    });
    cluster.kill_postmaster();
    cluster.start();
    cluster.execute("ALTER SYSTEM RESET wal_e.backup_read_rate_limit");
    cluster.reload();
    // Its claim is no other server's, so nothing has to be waited for.
    wait_for_runs(&cluster, "job = 'backup' AND ok", 1);
    let slot = claimed.split_once('/').expect("a slot and an attempt").0.to_owned();
    let claims = marks(&archive, "backup", ".claim");
    assert!(claims.contains(&format!("{slot}/0001")), "{claims:?}");
    assert_eq!(marks(&archive, "backup", ".done").len(), 1, "{claims:?}");
}

#[test]
fn a_backup_that_is_canceled_is_not_begun_again_for_its_slot() {
    let archive = Archive::file();
    let cluster = scheduled(PgVersion::oldest(), "*/20 * * * * *")
        .configuration("wal_e.backup_read_rate_limit = '2MB'")
        .start_archiving_to(&archive);
    cluster.pid_of("wal_e base backup");
    wait_for("a backup that can be canceled", || {
        cluster.query_one("SELECT wale_backup_cancel()") == "t"
    });
    wait_for_runs(&cluster, "job = 'backup' AND NOT ok AND detail LIKE '%was canceled%'", 1);
    let done = marks(&archive, "backup", ".done");
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!(marks(&archive, "backup", ".failed"), Vec::<String>::new());
}

#[test]
fn of_a_primary_and_its_standby_each_slot_has_one() {
    let archive = Archive::file();
    let mut primary = scheduled(PgVersion::oldest(), EVERY_FIVE_SECONDS)
        .configuration("wal_e.verify_schedule = '*/2 * * * * *'")
        .configuration("wal_e.backup_role = any")
        // The standby may take its time to connect, and each backup has a checkpoint.
        .configuration("wal_keep_size = '1GB'")
        .start_archiving_to(&archive);
    wait_for_runs(&primary, "job = 'backup' AND ok", 1);
    let mut standby = primary.make_standby();
    standby.start();
    for server in [&standby, &primary] {
        wait_until("a verification by each server", PATIENCE, || {
            server.log().contains("was verified and found sound").then_some(())
        });
    }
    wait_for_runs(&primary, "job = 'backup' AND ok", 3);
    for job in ["backup", "verification"] {
        let done = marks(&archive, job, ".done");
        let slots: BTreeSet<&str> = done.iter().filter_map(|mark| mark.get(..16)).collect();
        assert_eq!(slots.len(), done.len(), "{job}: {done:?}");
    }
    assert!(!standby.log().contains("completed at"), "a standby takes no base backup");

    // After a failover the new primary goes on with backups.
    primary.stop(StopMode::Immediate);
    standby.promote();
    let before = archive.backups().len();
    wait_until("a backup of the new primary", PATIENCE, || {
        (archive.backups().len() > before).then_some(())
    });
}

#[test]
fn what_keeps_a_server_from_its_schedule_is_said_once() {
    let archive = Archive::file();
    let cluster = scheduled(PgVersion::oldest(), "* * * * * *")
        .configuration("shared_preload_libraries = 'wal_e'")
        .configuration_lines(archive.settings())
        .start();
    let complaint = "backup by schedule has to wait: a base backup needs WAL archiving";
    cluster.wait_for_log(complaint);
    cluster.execute("CREATE EXTENSION wal_e");
    let refused = cluster.failure_of("ALTER SYSTEM SET wal_e.backup_schedule = '61 * * * *'");
    assert!(refused.text.contains("It cannot be read"), "{refused:?}");
    for setting in ["retain_window = '3 moons'", "retain_calendar = '3 hourly'"] {
        cluster.failure_of(&format!("ALTER SYSTEM SET wal_e.{setting}"));
    }
    assert_eq!(cluster.log().matches(complaint).count(), 1);
    assert_eq!(runs(&cluster, "true"), 0);

    // A scheduler that was terminated comes back.
    let scheduler = cluster.pid_of("wal_e scheduler");
    cluster.execute(&format!("SELECT pg_terminate_backend({scheduler})"));
    wait_for("another scheduler", || {
        cluster.find_pid("wal_e scheduler").is_some_and(|pid| pid != scheduler)
    });
}

/// A primary that has a base backup wait for standbys, and a standby of it.
fn primary_and_standby(version: PgVersion, archive: &Archive) -> (Cluster, Cluster) {
    let primary = scheduled(version, "")
        .configuration("wal_e.backup_max_replication_lag = '1MB'")
        // A standby that does not answer stays connected.
        .configuration("wal_sender_timeout = 0")
        .start_archiving_to(archive);
    let mut standby = primary.make_standby();
    standby.configure("wal_e.backup_schedule = ''");
    standby.start();
    wait_for("the standby to stream", || {
        primary.query_one("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
            == "1"
    });
    (primary, standby)
}

/// Sets the schedule of a running server.
fn set_schedule(cluster: &Cluster, schedule: &str) {
    cluster.execute(&format!("ALTER SYSTEM SET wal_e.backup_schedule = '{schedule}'"));
    cluster.reload();
}

/// A schedule with one slot a day, which comes in a few seconds.
fn once_soon(cluster: &Cluster) -> String {
    cluster.query_one(
        "SELECT to_char((now() + interval '4 seconds') AT TIME ZONE 'UTC', 'SS MI HH24 * * *')",
    )
}

/// More WAL than the standby may lack.
fn write_wal(cluster: &Cluster) {
    cluster.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 4000000))");
    cluster.execute("CREATE TABLE IF NOT EXISTS t (a int)");
}

const WAITS_FOR_STANDBY: &str =
    "base backup by schedule waits for standby \"walreceiver\" to receive";

fn a_backup_waits_for_a_standby_that_does_not_receive(version: PgVersion) {
    let archive = Archive::file();
    let (primary, standby) = primary_and_standby(version, &archive);
    let receiver = standby.pid_of("walreceiver");
    send_signal(receiver, libc::SIGSTOP);
    write_wal(&primary);
    set_schedule(&primary, &once_soon(&primary));
    primary.wait_for_log(WAITS_FOR_STANDBY);
    // A reload looks anew, and says nothing anew.
    primary.reload();
    // What is asked for waits for nothing.
    primary.query_one("SELECT wale_backup_push('by hand')");
    assert_eq!(marks(&archive, "backup", ".claim"), Vec::<String>::new());
    assert_eq!(archive.backups().len(), 1);

    send_signal(receiver, libc::SIGCONT);
    wait_for_runs(&primary, "job = 'backup' AND ok", 1);
    assert_eq!(runs(&primary, "true"), 1);
    assert_eq!(archive.backups().len(), 2);
    let log = primary.log();
    assert_eq!(log.matches(WAITS_FOR_STANDBY).count(), 1, "{log}");
    assert!(log.contains("base backup by schedule begins: it waited for standby"), "{log}");
}

#[test]
fn a_backup_waits_for_a_standby_of_the_oldest_version_that_does_not_receive() {
    a_backup_waits_for_a_standby_that_does_not_receive(PgVersion::oldest());
}

#[test]
fn a_backup_waits_for_a_standby_of_the_newest_version_that_does_not_receive() {
    a_backup_waits_for_a_standby_that_does_not_receive(PgVersion::newest());
}

#[test]
fn a_slot_that_waits_until_the_next_is_in_the_history_and_a_standby_that_left_does_not_count() {
    let archive = Archive::file();
    let (primary, mut standby) = primary_and_standby(PgVersion::oldest(), &archive);
    let receiver = standby.pid_of("walreceiver");
    send_signal(receiver, libc::SIGSTOP);
    write_wal(&primary);
    set_schedule(&primary, EVERY_FIVE_SECONDS);
    let not_begun = "job = 'backup' AND NOT ok AND detail LIKE \
                     'was not begun: it waited for standby \"walreceiver\" to receive % of WAL%'";
    wait_for_runs(&primary, not_begun, 2);
    primary.wait_for_log("base backup by schedule was not begun");
    assert_eq!(runs(&primary, "job = 'backup' AND ok"), 0);
    assert_eq!(archive.backups(), Vec::<String>::new());
    // Such a slot is done with.
    let claims = marks(&archive, "backup", ".claim");
    assert!(claims.iter().all(|claim| claim.ends_with("/0001")), "{claims:?}");
    assert_eq!(marks(&archive, "backup", ".failed"), Vec::<String>::new());

    // It is stopped, and would not notice that its server has ended.
    send_signal(receiver, libc::SIGKILL);
    standby.kill_postmaster();
    wait_for_runs(&primary, "job = 'backup' AND ok", 1);
}

#[test]
fn a_standby_that_replays_late_does_not_hold_up_a_backup() {
    let archive = Archive::file();
    let (primary, standby) = primary_and_standby(PgVersion::oldest(), &archive);
    standby.execute("SELECT pg_wal_replay_pause()");
    write_wal(&primary);
    let lag = "SELECT count(*) FROM pg_stat_replication WHERE write_lsn = pg_current_wal_lsn() \
               AND pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) > 1048576";
    wait_for("a standby that has received what it does not replay", || {
        primary.query_one(lag) == "1"
    });
    set_schedule(&primary, EVERY_FIVE_SECONDS);
    wait_for_runs(&primary, "job = 'backup' AND ok", 1);
    assert_eq!(runs(&primary, "NOT ok"), 0);
}

fn a_backup_waits_for_the_end_of_a_checkpoint(version: PgVersion) {
    let archive = Archive::file();
    let cluster = scheduled(version, "")
        .configuration("wal_e.backup_wait_for_checkpoint = on")
        .start_archiving_to(&archive);
    // So many dirty buffers are written over minutes.
    cluster.execute("ALTER SYSTEM SET checkpoint_completion_target = 0.9");
    cluster.reload();
    cluster.execute("CHECKPOINT");
    cluster.execute("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)");
    let mut client = cluster.client();
    let checkpoint = thread::spawn(move || {
        client.batch_execute("SELECT pg_backup_start('spread', false)").expect("it starts");
    });
    wait_for("a checkpoint that takes its time", || {
        let event = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        cluster.query_one(event) == "CheckpointWriteDelay"
    });
    set_schedule(&cluster, &once_soon(&cluster));
    cluster.wait_for_log("base backup by schedule waits for the end of a checkpoint");
    assert_eq!(marks(&archive, "backup", ".claim"), Vec::<String>::new());
    assert!(!checkpoint.is_finished(), "the checkpoint runs");

    cluster.execute("ALTER SYSTEM SET checkpoint_completion_target = 0");
    cluster.reload();
    checkpoint.join().expect("the checkpoint ends");
    wait_for_runs(&cluster, "job = 'backup' AND ok", 1);
    assert_eq!(runs(&cluster, "true"), 1);
    let log = cluster.log();
    assert!(
        log.contains("base backup by schedule begins: it waited for the end of a checkpoint"),
        "{log}"
    );
}

#[test]
fn a_backup_waits_for_the_end_of_a_checkpoint_of_the_oldest_version() {
    a_backup_waits_for_the_end_of_a_checkpoint(PgVersion::oldest());
}

#[test]
fn a_backup_waits_for_the_end_of_a_checkpoint_of_the_newest_version() {
    a_backup_waits_for_the_end_of_a_checkpoint(PgVersion::newest());
}
