//! What a server does by schedule: once for each slot, whatever servers share the prefix.

use std::collections::BTreeSet;
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, ClusterBuilder, StopMode};
use wal_e_e2e::installation::PgVersion;
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

fn a_server_takes_backups_and_keeps_what_it_should(version: PgVersion, archive: &Archive) {
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
fn a_server_takes_backups_to_a_directory_and_keeps_what_it_should() {
    a_server_takes_backups_and_keeps_what_it_should(PgVersion::V15, &Archive::file());
}

#[test]
fn a_server_takes_backups_to_a_bucket_and_keeps_what_it_should() {
    a_server_takes_backups_and_keeps_what_it_should(PgVersion::V18, &Archive::s3());
}

#[test]
fn a_server_that_is_killed_in_the_middle_goes_on_when_it_is_back() {
    let archive = Archive::file();
    let mut cluster = scheduled(PgVersion::V15, "* * * * *").start_archiving_to(&archive);
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
    let cluster = scheduled(PgVersion::V15, "*/20 * * * * *")
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
    let mut primary = scheduled(PgVersion::V15, EVERY_FIVE_SECONDS)
        .configuration("wal_e.verify_schedule = '*/2 * * * * *'")
        .configuration("wal_e.backup_role = any")
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
    let cluster = scheduled(PgVersion::V15, "* * * * * *")
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
