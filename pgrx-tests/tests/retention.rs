//! What `wal-e delete` leaves can be restored as before, and what it shows is what it does.

use std::collections::BTreeSet;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::base_backup::BACKUP_WORKER;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::moto::Moto;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::s3_server::dialect::{Dialect, Of, Rule, When, refuse};
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::run_wal_e;

/// Three backups, with a row before and after each, and a restore point between the last two.
fn with_three_backups(version: PgVersion, archive: &Archive) -> (Cluster, Vec<String>) {
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(archive);
    cluster.execute("CREATE TABLE t AS SELECT 0 AS generation");
    let mut backups = Vec::new();
    for generation in 1..=3 {
        backups.push(cluster.backup_push());
        cluster.execute(&format!("INSERT INTO t VALUES ({generation})"));
        if generation == 2 {
            cluster.execute("SELECT pg_create_restore_point('between')");
        }
        cluster.archive_current_wal();
    }
    (cluster, backups)
}

fn objects(archive: &Archive) -> BTreeSet<String> {
    archive.objects().into_iter().collect()
}

fn what_is_deleted_is_what_was_shown(version: PgVersion, archive: &Archive) {
    let (mut cluster, backups) = with_three_backups(version, archive);
    let before = objects(archive);
    let shown = run_wal_e(archive, ["delete", "retain", "2"]);
    assert_eq!(shown.code(), Some(0), "{shown:?}");
    assert!(shown.stdout.contains(&backups[0]), "{shown:?}");
    assert!(!shown.stdout.contains(&backups[1]), "{shown:?}");
    assert!(shown.stderr.contains("--confirm deletes"), "{shown:?}");
    assert_eq!(objects(archive), before, "a dry run deletes nothing");

    let done = run_wal_e(archive, ["delete", "retain", "2", "--confirm"]).success();
    assert_eq!(done, shown.stdout);
    let after = objects(archive);
    assert!(after.iter().all(|object| !object.contains(&backups[0])), "{after:?}");
    let first = backups[1].strip_prefix("base_").expect("a name of a backup");
    let wal = after.iter().filter_map(|object| object.strip_prefix("wal_005/"));
    let is_older = |file: &&str| file.len() > 24 && &file[..24] < first;
    assert_eq!(wal.filter(is_older).collect::<Vec<_>>(), Vec::<&str>::new());
    let own = |objects: &BTreeSet<String>| -> Vec<String> {
        objects.iter().filter(|object| object.starts_with("wal_e/")).cloned().collect()
    };
    assert_eq!(own(&after), own(&before));
    let again = run_wal_e(archive, ["delete", "retain", "2", "--confirm"]).success();
    assert_eq!(again, "nothing to delete\n");

    cluster.execute("INSERT INTO t VALUES (4)");
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    drop(cluster);
    Restore::latest(version).recover(archive).assert_restored(&expected);
    let between = Restore::auto(version)
        .option("--recovery-target-name", "between")
        .option("--recovery-target-action", "promote")
        .recover(archive);
    assert_eq!(between.query_one("SELECT max(generation) FROM t"), "2");
}

#[test]
fn what_is_deleted_of_a_directory_is_what_was_shown() {
    what_is_deleted_is_what_was_shown(PgVersion::oldest(), &Archive::file());
}

#[test]
fn what_is_deleted_of_a_bucket_is_what_was_shown() {
    what_is_deleted_is_what_was_shown(PgVersion::newest(), &Archive::s3());
}

#[test]
fn the_newest_backup_is_not_deleted_and_pins_hold() {
    let archive = Archive::file();
    let (_cluster, backups) = with_three_backups(PgVersion::oldest(), &archive);
    let before = objects(&archive);
    let refused = run_wal_e(&archive, ["delete", "target", &backups[2], "--confirm"]).failure(1);
    assert!(refused.contains("newest backup that can be restored"), "{refused}");
    let refused = run_wal_e(&archive, ["delete", "before", "base_x", "--confirm"]).failure(74);
    assert!(refused.contains("there is no base backup \"base_x\""), "{refused}");
    assert_eq!(objects(&archive), before);
    run_wal_e(&archive, ["delete", "target", &backups[1], "--confirm"]).success();
    assert_eq!(archive.backups(), [backups[0].clone(), backups[2].clone()]);
    run_wal_e(&archive, ["delete", "before", &backups[2], "--confirm"]).success();
    assert_eq!(archive.backups(), [backups[2].clone()]);
}

#[test]
fn sql_shows_and_deletes_what_the_program_does() {
    let archive = Archive::file();
    let (cluster, backups) = with_three_backups(PgVersion::oldest(), &archive);
    let shown =
        cluster.query("SELECT object_name, kind, bytes, action, reason FROM wale_retain(1)");
    let program = run_wal_e(&archive, ["delete", "retain", "1", "--json"]).success();
    let program: Vec<serde_json::Value> = serde_json::from_str(&program).expect("it is JSON");
    let columns = ["object_name", "kind", "bytes", "action", "reason"];
    let program: Vec<Vec<String>> = program
        .iter()
        .map(|row| {
            let column =
                |name| row[name].as_str().map_or_else(|| row[name].to_string(), Into::into);
            columns.map(column).to_vec()
        })
        .collect();
    assert_eq!(shown, program);
    for refused in [
        "SELECT wale_retain()",
        "SELECT wale_retain(0)",
        "SELECT wale_retain(1, NULL)",
        "SELECT wale_retain(recovery_window => '-1 day')",
        "SELECT wale_retain(calendar => 'hourly')",
        "SELECT wale_delete_before(NULL)",
        "SELECT wale_delete_before('../base_x', false)",
        "SELECT wale_backup_mark('base_x', true)",
    ] {
        let state = cluster.failure_of(refused).sqlstate;
        assert!(
            ["22023", "22004", "42704", "58P01"].contains(&state.as_str()),
            "{refused}: {state}"
        );
    }
    cluster.execute(&format!("SELECT wale_backup_mark('{}', true)", backups[0]));
    let rows = cluster.query(
        "SELECT object_name FROM wale_retain(1, dry_run => false) \
         WHERE kind = 'base backup' AND action = 'delete'",
    );
    assert_eq!(rows, [[backups[1].clone()]]);
    assert_eq!(archive.backups(), [backups[0].clone(), backups[2].clone()]);
    cluster.execute(&format!("SELECT wale_backup_mark('{}', false)", backups[0]));
    cluster.execute(&format!("SELECT wale_backup_delete('{}', false)", backups[0]));
    assert_eq!(archive.backups(), [backups[2].clone()]);
}

/// What a backup left that was killed goes at once on its host; what one has stored that is
/// being taken stays.
#[test]
fn what_a_killed_backup_left_is_deleted_and_what_a_running_one_has_is_not() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("wal_e.backup_read_rate_limit = 1000")
        .start_archiving_to(&archive);
    let leftovers =
        || archive.objects().into_iter().filter(|it| it.ends_with("begun.json")).count();
    cluster.execute("SELECT wale_backup_push(wait => false)");
    wait_for("the backup's first object", || leftovers() == 1);
    cluster.execute("SELECT wale_delete_garbage(false)");
    assert_eq!(leftovers(), 1);
    cluster.kill_process(cluster.pid_of(BACKUP_WORKER));
    wait_for("the server to be back", || cluster.try_client("postgres").is_ok());
    let kept =
        cluster.query("SELECT reason FROM wale_delete_garbage() WHERE kind = 'incomplete backup'");
    assert_eq!(kept, [["it is not complete, and no longer being taken"]]);
    cluster.execute("SELECT wale_delete_garbage(false)");
    assert_eq!(leftovers(), 0);
}

const NO_DELETION: Rule = refuse(Of::Delete, When::Always, 403, "AccessDenied", "Access Denied");

/// Credentials that may not delete: everything else goes on, and plans say what would go.
#[test]
fn without_the_right_to_delete_it_is_said_what_would_go() {
    let archive = Archive::s3();
    let (cluster, backups) = with_three_backups(PgVersion::oldest(), &archive);
    archive.server().speak(Dialect { rules: &[NO_DELETION], ..Dialect::PLAIN });
    let before = objects(&archive);
    let plan = "SELECT object_name FROM wale_retain(1) \
                WHERE kind = 'base backup' AND action = 'delete'";
    assert_eq!(cluster.query(plan), [[backups[0].clone()], [backups[1].clone()]]);
    let refused = cluster.failure_of("SELECT wale_retain(1, dry_run => false)");
    assert!(refused.text.contains("s3:DeleteObject"), "{}", refused.text);
    assert_eq!(objects(&archive), before);
    cluster.backup_push();
    cluster.archive_current_wal();
}

#[test]
fn a_bucket_that_keeps_versions_is_named_for_what_it_does() {
    let moto = Moto::start().expect("moto starts");
    moto.create_bucket("versions").expect("the bucket is made");
    moto.keep_versions("versions").expect("it keeps versions");
    let keys = ("test".to_owned(), "secret".to_owned());
    let archive = Archive::elsewhere("s3://versions/a", &moto.endpoint(), "us-east-1", &keys);
    let (cluster, backups) = with_three_backups(PgVersion::oldest(), &archive);
    let deleted = run_wal_e(&archive, ["delete", "retain", "1", "--confirm"]);
    assert_eq!(deleted.code(), Some(0), "{deleted:?}");
    assert!(deleted.stderr.contains("keeps versions of objects that are deleted"), "{deleted:?}");
    let left = cluster.query("SELECT backup_name FROM wale_backup_list()");
    assert_eq!(left, [[backups[2].clone()]]);
}
