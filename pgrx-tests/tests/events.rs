//! What happens to the archive is announced in a database, and nothing that its owner can do
//! there matters to that, or is kept waiting by it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use serde_json::Value;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, rows};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::wait::wait_for;

/// Half a minute of failures make a stall, and PostgreSQL tries again once a minute.
const PATIENCE: Duration = Duration::from_secs(240);

fn announcing(version: PgVersion, archive: &Archive) -> Cluster {
    let cluster = Cluster::build(version)
        .wal_segment_size_mb(1)
        .configuration("wal_e.events_database = 'ops'")
        .start_archiving_to(archive);
    cluster.execute("CREATE DATABASE ops");
    cluster
}

fn listener(cluster: &Cluster) -> Client {
    let mut client = cluster.client_to("ops");
    client.batch_execute("LISTEN wal_e").expect("it listens");
    client
}

/// The next announcement of this kind; others on the way are passed over.
#[track_caller]
fn hear(client: &mut Client, kind: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    while Instant::now() < deadline {
        let next = client.notifications().timeout_iter(Duration::from_secs(1)).next();
        let Some(notification) = next.expect("the session lives") else { continue };
        assert_eq!(notification.channel(), "wal_e");
        let event: Value = serde_json::from_str(notification.payload()).expect("it is JSON");
        if event["event"] == kind {
            return event;
        }
        heard.push(event);
    }
    panic!("\"{kind}\" was not announced, but {heard:?}");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

fn what_happens_is_announced(version: PgVersion) {
    let archive = Archive::file();
    let cluster = announcing(version, &archive);
    let mut client = listener(&cluster);

    let first = cluster.backup_push();
    let done = hear(&mut client, "backup done");
    assert_eq!(done["object"], first.as_str());
    assert!(done["bytes"].as_u64() > Some(100_000), "{done}");
    assert!(done["host"].as_str().is_some_and(|host| !host.is_empty()), "{done}");
    let recent = format!("SELECT '{}' > now() - interval '5 min'", done["time"].as_str().unwrap());
    assert_eq!(cluster.query_one(&recent), "t");

    let unreadable = cluster.data_directory().join("base/1/999999");
    fs::write(&unreadable, "x").expect("a file can be written there");
    set_mode(&unreadable, 0o000);
    cluster.failure_of("SELECT wale_backup_push()");
    let failed = hear(&mut client, "backup failed");
    assert!(failed["detail"].as_str().is_some_and(|it| it.contains("base/1/999999")), "{failed}");
    fs::remove_file(&unreadable).expect("it can be removed");

    cluster.archive_current_wal();
    cluster.backup_push();
    cluster.execute("SELECT * FROM wale_retain(1)");
    cluster.execute("SELECT * FROM wale_retain(1, dry_run => false)");
    let deleted = hear(&mut client, "deleted");
    assert!(deleted["bytes"].as_u64() > Some(100_000), "{deleted}");

    let newest = archive.backups().pop().expect("there is one");
    let label = format!("basebackups_005/{newest}/tar_partitions/backup_label.tar.lz4");
    archive.remove_object(&label);
    cluster.execute("SELECT * FROM wale_backup_verify()");
    let damaged = hear(&mut client, "verification failed");
    assert_eq!(damaged["object"], newest.as_str());
    assert!(damaged["detail"].as_str().is_some_and(|it| it.contains("backup_label")), "{damaged}");
}

#[test]
fn what_happens_to_an_archive_is_announced_by_the_oldest_version() {
    what_happens_is_announced(PgVersion::oldest());
}

#[test]
fn what_happens_to_an_archive_is_announced_by_the_newest_version() {
    what_happens_is_announced(PgVersion::newest());
}

#[test]
fn archiving_that_stands_still_is_announced_and_so_is_its_end() {
    let archive = Archive::file();
    let cluster = announcing(PgVersion::oldest(), &archive);
    let mut client = listener(&cluster);
    cluster.archive_current_wal();
    let wal = archive.directory().join("wal_005");
    set_mode(&wal, 0o500);
    let waiting = cluster.switch_wal();
    let stalled = hear(&mut client, "archiving stalled");
    assert_eq!(stalled["object"], waiting.as_str());
    let detail = stalled["detail"].as_str().expect("it has a detail");
    assert!(detail.contains("The last failure was: "), "{detail}");
    cluster.wait_for_log("archiving stands still: ");
    set_mode(&wal, 0o755);
    hear(&mut client, "archiving recovered");
    cluster.wait_for_log("archiving works again");
    assert_eq!(cluster.log().matches("archiving stands still: ").count(), 1);
}

#[test]
fn lost_wal_is_announced_and_bridged_by_a_base_backup() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("wal_e.events_database = 'postgres'")
        // Not soon.
        .configuration("wal_e.backup_schedule = '0 0 29 2 *'")
        .configuration("checkpoint_completion_target = 0")
        .start_archiving_to(&archive);
    let first = cluster.backup_push();
    let lost = cluster.archive_current_wal();
    wait_for("the server to forget a segment", || {
        cluster.execute("CHECKPOINT");
        cluster.switch_wal();
        cluster.wal_file(&lost).is_none()
    });
    cluster.execute("SELECT pg_create_physical_replication_slot('keeps', true)");
    let at_hand = cluster.archive_current_wal();
    assert!(cluster.wal_file(&at_hand).is_some(), "{at_hand}");
    let mut client = cluster.client();
    client.batch_execute("LISTEN wal_e").expect("it listens");
    for segment in [&lost, &at_hand] {
        archive.remove_object(&format!("wal_005/{segment}.lz4"));
    }
    cluster.reload();
    let hole = hear(&mut client, "hole found");
    assert_eq!(hole["object"], lost.as_str());
    let done = hear(&mut client, "backup done");
    assert_ne!(done["object"], first.as_str());
    cluster.wait_for_log(&format!("WAL segment \"{at_hand}\" was missing: archived"));
    assert!(archive.wal_object(&at_hand).is_some());
    wait_for("the run in the history", || {
        cluster.query_one("SELECT count(*) FROM wale_job_history() WHERE job = 'backup' AND ok")
            == "1"
    });
    let broken = "SELECT string_agg(first_segment, ',') FROM wale_wal_verify() \
                  WHERE status IN ('missing', 'lost')";
    assert_eq!(cluster.query_one(broken), lost);
}

/// The listener listens before all this is in force.
const HOSTILE: &[&str] = &[
    "CREATE ROLE app",
    "ALTER DATABASE ops SET session_preload_libraries = 'nosuch'",
    "ALTER DATABASE ops SET search_path = evil, pg_catalog",
    "ALTER DATABASE ops SET role = app",
    "ALTER DATABASE ops SET client_encoding = 'LATIN1'",
    "ALTER DATABASE ops SET default_transaction_read_only = on",
    "ALTER DATABASE ops SET default_transaction_isolation = serializable",
    "ALTER DATABASE ops SET statement_timeout = 1",
    "ALTER DATABASE ops SET lock_timeout = 1",
    "ALTER DATABASE ops SET idle_in_transaction_session_timeout = 1",
    "ALTER ROLE postgres SET session_preload_libraries = 'nosuch'",
];

/// What only later versions have; the trigger would end each session.
const HOSTILE_LATER: &[&str] = &[
    "ALTER DATABASE ops SET transaction_timeout = 1",
    "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql \
     AS 'BEGIN RAISE EXCEPTION ''refused''; END'",
    "CREATE EVENT TRIGGER refuse ON login EXECUTE FUNCTION refuse()",
    "ALTER EVENT TRIGGER refuse ENABLE ALWAYS",
];

fn nothing_in_the_database_matters(version: PgVersion) {
    let archive = Archive::file();
    let cluster = announcing(version, &archive);
    let mut client = listener(&cluster);
    let mut inside = cluster.client_to("ops");
    let mut outside = cluster.client();
    let more = if version.has_login_triggers() { HOSTILE_LATER } else { &[] };
    for statement in HOSTILE.iter().chain(more) {
        inside.batch_execute(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    cluster.try_client("ops").map(drop).expect_err("the traps of this test work");
    rows(&mut outside, "SELECT wale_backup_push()").expect("a backup is taken");
    hear(&mut client, "backup done");

    drop((inside, client));
    // Right after events: none of these is kept waiting.
    for statement in ["CREATE DATABASE copy TEMPLATE ops", "DROP DATABASE ops", "SELECT"] {
        rows(&mut outside, "SELECT wale_backup_push()").expect("a backup is taken");
        outside.batch_execute(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    rows(&mut outside, "SELECT wale_backup_push()").expect("another is taken");
    cluster.wait_for_log("events could not be announced");
}

#[test]
fn nothing_in_the_database_of_the_listeners_matters_to_the_oldest_version() {
    nothing_in_the_database_matters(PgVersion::oldest());
}

#[test]
fn nothing_in_the_database_of_the_listeners_matters_to_the_newest_version() {
    nothing_in_the_database_matters(PgVersion::newest());
}

#[test]
fn without_a_database_or_on_a_standby_nothing_is_announced_and_nothing_fails() {
    let archive = Archive::file();
    let primary =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(&archive);
    let name = primary.backup_push();
    primary.configure("wal_e.events_database = 'postgres'");
    let mut standby = primary.make_standby();
    standby.start();
    archive.remove_object(&format!("basebackups_005/{name}/tar_partitions/backup_label.tar.lz4"));
    standby.execute("SELECT * FROM wale_backup_verify()");
    standby.wait_for_log("was verified and found damaged");
    // What was not announced before is not announced later.
    standby.promote();
    wait_for("the end of recovery", || standby.query_one("SELECT pg_is_in_recovery()") == "f");
    let mut client = standby.client();
    client.batch_execute("LISTEN wal_e").expect("it listens");
    standby.execute("SELECT * FROM wale_backup_verify()");
    hear(&mut client, "verification failed");
    let more = client.notifications().iter().next().expect("the session lives");
    assert!(more.is_none(), "{more:?}");
    for server in [&primary, &standby] {
        assert!(!server.log().contains("could not be announced"), "{}", server.log());
    }
}
