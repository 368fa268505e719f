//! A cluster that archives is upgraded with `pg_upgrade`: what it stored stays as it is, nothing
//! is stored while it is made into another one, and that one begins an archive of its own.

use std::collections::BTreeMap;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, ClusterBuilder, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::{archive_command, backup_push, run_wal_e};

const PROMOTE: (&str, &str) = ("--recovery-target-action", "promote");

/// Takes base backups all the time, if it does so at all.
const SCHEDULE: &str = "wal_e.backup_schedule = '* * * * * *'";

fn cluster(version: PgVersion) -> ClusterBuilder {
    Cluster::build(version).wal_segment_size_mb(1)
}

/// A cluster that archives, with two base backups and rows up to 3, which are archived but for
/// the last.
fn old_cluster(archive: &Archive) -> (Cluster, [String; 2]) {
    let old = cluster(PgVersion::oldest()).start_archiving_to(archive);
    old.execute("CREATE TABLE t AS SELECT 1 AS x");
    let first = old.backup_push();
    old.execute("INSERT INTO t VALUES (2)");
    old.execute("SELECT pg_create_restore_point('two')");
    let second = old.backup_push();
    old.execute("INSERT INTO t VALUES (3)");
    (old, [first, second])
}

/// All objects with their bytes.
fn contents(archive: &Archive) -> BTreeMap<String, Vec<u8>> {
    let objects = archive.objects().into_iter();
    objects.map(|name| (name.clone(), archive.object(&name).unwrap_or_default())).collect()
}

fn rows_of(cluster: &Cluster) -> String {
    cluster.query_one("SELECT string_agg(x::text, ' ' ORDER BY x) FROM t")
}

/// What the extension has in `database`, and who may use it; without the row types of views,
/// which are members of their own after pg_upgrade. (Since 17, there is a privilege to maintain
/// a relation, "m".)
fn extension(cluster: &Cluster, database: &str) -> Vec<Vec<Option<String>>> {
    let members = "SELECT n.nspname, e.extversion, pg_describe_object(d.classid, d.objid, 0), \
         p.proacl::text, replace(c.relacl::text, 'tm/', 't/') \
         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
         JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid \
         AND d.deptype = 'e' LEFT JOIN pg_proc p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass \
         LEFT JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass \
         WHERE e.extname = 'wal_e' AND d.classid <> 'pg_type'::regclass ORDER BY 3";
    let rows = cluster.try_query(database, members).expect("the catalog can be read");
    assert!(rows.len() > 15, "{rows:?}");
    rows
}

#[track_caller]
fn assert_names(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "\"{word}\" is not in {text}");
    }
}

/// Nothing of wal_e ran in the servers that pg_upgrade started.
fn assert_quiet_upgrade(new: &Cluster) {
    let log = new.pg_upgrade_log();
    assert_names(&log, &["archived while pg_upgrade runs the server"]);
    for wrong in ["archived WAL file", "wal_e scheduler", "base backup", "belongs to another"] {
        assert!(!log.contains(wrong), "\"{wrong}\" in {log}");
    }
}

#[test]
fn an_upgraded_cluster_begins_in_a_prefix_of_its_own_and_the_old_one_stays() {
    let (archive, fresh) = (Archive::file(), Archive::file());
    let (mut old, backups) = old_cluster(&archive);
    old.execute("CREATE DATABASE other");
    old.execute("CREATE ROLE watcher; GRANT EXECUTE ON FUNCTION wale_backup_list() TO watcher");
    old.execute_in("other", "CREATE SCHEMA ops; CREATE EXTENSION wal_e SCHEMA ops");
    let extensions = ["postgres", "other"].map(|database| extension(&old, database));
    let expected = old.fingerprint();
    // The server that pg_upgrade starts would take backups.
    old.configure(SCHEDULE);
    old.stop_for_pg_upgrade();
    let before = contents(&archive);
    let mut new =
        cluster(PgVersion::newest()).configuration(SCHEDULE).archiving_to(&fresh).create();
    new.pg_upgrade(&old, &[]).success();
    assert!(contents(&archive) == before, "the old archive has changed: {:?}", archive.objects());
    assert_eq!(fresh.objects(), Vec::<String>::new());
    assert_quiet_upgrade(&new);

    new.start();
    assert_eq!(new.fingerprint(), expected);
    for (database, was) in ["postgres", "other"].iter().zip(extensions) {
        assert_eq!(extension(&new, database), was, "{database}");
    }
    // It is another cluster for the schedule, too: its first slot is its own.
    let done = "SELECT count(*) > 0 FROM wale_job_history() WHERE job = 'backup' AND ok";
    wait_for("a backup by schedule", || new.query_one(done) == "t");
    new.execute("ALTER SYSTEM SET wal_e.backup_schedule = ''");
    new.reload();
    wait_for("the end of the last backup", || {
        let running = "SELECT count(*) FROM wale_job_history() WHERE finished_at IS NULL";
        new.query_one(running) == "0"
    });
    new.execute("INSERT INTO t VALUES (4)");
    new.archive_current_wal();
    assert_eq!(new.query("SELECT check_name, detail FROM wale_check() WHERE NOT ok"), [[""; 0]; 0]);
    let window = new.query("SELECT timeline, backup_name FROM wale_recovery_window()");
    let oldest = fresh.backups().into_iter().next().expect("there is a backup");
    assert_eq!(window, [["1".to_owned(), oldest]]);
    let states = "SELECT DISTINCT status FROM wale_wal_verify() WHERE status <> 'in flight'";
    assert_eq!(new.query(states), [["found"]]);
    new.stop(StopMode::Fast);
    drop((new, old));

    let mut restored = Restore::latest(PgVersion::newest()).recover_beside(&fresh);
    assert_eq!(rows_of(&restored), "1 2 3 4");
    restored.stop(StopMode::Fast);
    assert_eq!(archive.backups(), backups);
    let two = Restore::auto(PgVersion::oldest())
        .option("--recovery-target-name", "two")
        .option(PROMOTE.0, PROMOTE.1)
        .recover_beside(&archive);
    assert_eq!(rows_of(&two), "1 2");
    Restore::latest(PgVersion::oldest()).recover_beside(&archive).assert_restored(&expected);
    assert!(contents(&archive) == before, "the old archive has changed: {:?}", archive.objects());
}

#[test]
fn an_upgraded_cluster_is_refused_where_the_old_one_archived_until_it_has_another_prefix() {
    let archive = Archive::file();
    let (mut old, backups) = old_cluster(&archive);
    let expected = old.fingerprint();
    old.stop_for_pg_upgrade();
    let before = contents(&archive);
    let mut new =
        cluster(PgVersion::newest()).configuration(SCHEDULE).archiving_to(&archive).create();
    new.pg_upgrade(&old, &[]).success();
    assert_quiet_upgrade(&new);
    new.start();
    new.execute("INSERT INTO t VALUES (4)");
    let waits = new.switch_wal();
    new.wait_for_archiver_count("failed_count", 0);
    new.wait_for_log("backup by schedule has to wait");

    let refused = ["belongs to another cluster", "pg_upgrade", "prefix of its own"];
    let retained = "SELECT object_name FROM wale_retain(1) WHERE kind = 'base backup'";
    let planned = new.query(&format!("{retained} AND action = 'delete'"));
    assert_eq!(planned, [[backups[0].clone()]]);
    new.wait_for_log("this server would delete nothing: prefix");
    for sql in [
        "SELECT wale_backup_push()",
        "SELECT wale_retain(1, dry_run => false)",
        "SELECT wale_delete_garbage(dry_run => false)",
        "SELECT wale_delete_before('LATEST', dry_run => false)",
        "SELECT wale_backup_mark('LATEST', permanent => true)",
    ] {
        assert_names(&new.failure_of(sql).text, &refused);
    }
    let to_delete = new.failure_of("SELECT wale_retain(1, dry_run => false)").text;
    assert_names(&to_delete, &["\"wal-e delete\""]);
    let checks = new.query("SELECT check_name, detail, hint FROM wale_check() WHERE NOT ok");
    let names: Vec<&str> = checks.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["owner", "base_backup", "archiver"]);
    assert_names(&checks[0].concat(), &refused);
    assert_names(&checks[1].concat(), &[&backups[1], "of another cluster"]);
    assert_eq!(new.query("SELECT * FROM wale_wal_repair()"), [[""; 0]; 0]);
    assert!(contents(&archive) == before, "the archive has changed: {:?}", archive.objects());
    assert!(new.ready_files().contains(&waits));

    // What it says to do. Nothing of what waited is lost.
    let own = Archive::file();
    own.settings().iter().for_each(|line| new.configure(line));
    new.reload();
    new.wait_until_archived(&waits);
    assert!(own.wal_object(&waits).is_some(), "{:?}", own.objects());
    wait_for("a backup by schedule", || !own.backups().is_empty());
    let done = run_wal_e(&archive, ["delete", "retain", "1", "--confirm"]).success();
    assert_names(&done, &[&backups[0]]);
    assert_eq!(archive.backups(), [backups[1].clone()]);
    new.stop(StopMode::Fast);
    drop((new, old));
    let restored = Restore::latest(PgVersion::newest()).recover_beside(&own);
    assert_eq!(rows_of(&restored), "1 2 3 4");
    Restore::latest(PgVersion::oldest()).recover_beside(&archive).assert_restored(&expected);
}

/// The upgrade was no good: the old cluster goes on, and its prefix with it. The next attempt
/// may have the prefix that the first one was to have.
#[test]
fn after_an_upgrade_that_was_given_up_the_old_cluster_goes_on_and_another_can_be_tried() {
    let (archive, fresh) = (Archive::file(), Archive::file());
    let (mut old, backups) = old_cluster(&archive);
    old.stop_for_pg_upgrade();
    let attempt = || cluster(PgVersion::newest()).archiving_to(&fresh).create();
    let first = attempt();
    first.pg_upgrade(&old, &[]).success();
    drop(first);

    old.start();
    old.execute("INSERT INTO t VALUES (4)");
    old.archive_current_wal();
    let holes = "SELECT * FROM wale_wal_verify() WHERE status NOT IN ('found', 'in flight')";
    assert_eq!(old.query(holes), [[""; 0]; 0]);
    assert_eq!(
        old.query("SELECT count(*), min(backup_name) FROM wale_recovery_window()"),
        [["1".to_owned(), backups[0].clone()]]
    );
    old.stop_for_pg_upgrade();
    let mut second = attempt();
    second.pg_upgrade(&old, &[]).success();
    second.start();
    // Of the new cluster nothing can be restored yet, and that is said.
    assert_eq!(second.query("SELECT * FROM wale_recovery_window()"), [[""; 0]; 0]);
    let failed = "SELECT check_name FROM wale_check() WHERE NOT ok";
    assert_eq!(second.query(failed), [["base_backup"]]);
    second.backup_push();
    assert_eq!(second.query(failed), [[""; 0]; 0]);
    assert_eq!(rows_of(&second), "1 2 3 4");
    drop(old);
    let restored = Restore::of(PgVersion::oldest(), &backups[0]).recover_beside(&archive);
    assert_eq!(rows_of(&restored), "1 2 3 4");
}

/// The program does not see that pg_upgrade runs its server.
#[test]
fn where_the_program_archives_pg_upgrade_can_be_told_not_to() {
    let (archive, fresh) = (Archive::file(), Archive::file());
    let by_program = |version, archive: &Archive| {
        let command = archive_command(archive, "");
        cluster(version)
            .configuration("archive_mode = on")
            .configuration(format!("archive_command = '{command}'"))
    };
    let mut old = by_program(PgVersion::oldest(), &archive).start();
    old.execute("CREATE TABLE t AS SELECT 1 AS x");
    run(&mut backup_push(&old, &archive)).success();
    old.stop_for_pg_upgrade();
    let before = contents(&archive);
    let mut new = by_program(PgVersion::newest(), &fresh).create();
    new.pg_upgrade(&old, &["-o", "-c archive_mode=off", "-O", "-c archive_mode=off"]).success();
    assert!(contents(&archive) == before, "the old archive has changed: {:?}", archive.objects());
    assert_eq!(fresh.objects(), Vec::<String>::new());
    new.start();
    run(&mut backup_push(&new, &fresh)).success();
    drop((new, old));
    assert_eq!(rows_of(&Restore::latest(PgVersion::newest()).recover_beside(&fresh)), "1");
}

/// As other tools leave a prefix that was kept. The old cluster was on timeline 2, so that its
/// names come after those of the new one, which begins on timeline 1 again.
#[test]
fn retention_and_recovery_know_the_clusters_of_one_prefix_by_time_and_not_by_name() {
    let (archive, fresh) = (Archive::file(), Archive::file());
    let (mut original, mut backups) = {
        let (cluster, backups) = old_cluster(&archive);
        (cluster, backups.to_vec())
    };
    original.archive_current_wal();
    original.stop(StopMode::Fast);
    let mut old = Restore::latest(PgVersion::oldest()).recover(&archive);
    backups.push(old.backup_push());
    old.execute("INSERT INTO t VALUES (4)");
    let expected = old.fingerprint();
    old.stop_for_pg_upgrade();
    let mut new = cluster(PgVersion::newest()).archiving_to(&fresh).create();
    new.pg_upgrade(&old, &[]).success();
    drop((original, old));
    new.start();
    // It has the prefix before the old one's backups are there.
    new.archive_current_wal();
    for (name, bytes) in contents(&archive) {
        if name.starts_with("wal_005/") || name.starts_with("basebackups_005/") {
            assert_eq!(fresh.object(&name), None, "{name} is there twice");
            fresh.replace_object(&name, bytes);
        }
    }
    new.archive_current_wal();
    let checks = new.query("SELECT check_name, detail FROM wale_check() WHERE NOT ok");
    assert_eq!(checks.len(), 1, "{checks:?}");
    assert_names(&checks[0].concat(), &["base_backup", &backups[2], "of another cluster"]);

    backups.push(new.backup_push());
    assert!(backups[3] < backups[2], "{backups:?}");
    new.execute("INSERT INTO t VALUES (5)");
    new.archive_current_wal();
    let kept = |full_backups: u32| {
        let sql = format!(
            "SELECT object_name FROM wale_retain({full_backups}) \
             WHERE kind = 'base backup' AND action = 'keep'"
        );
        new.query(&sql).concat()
    };
    assert_eq!(kept(1), [backups[3].clone()]);
    assert!(kept(2).ends_with(&backups[2..]) && !kept(2).contains(&backups[0]), "{:?}", kept(2));
    let windows = "SELECT backup_name FROM wale_recovery_window() ORDER BY from_time DESC LIMIT 1";
    assert_eq!(new.query_one(windows), backups[3]);
    new.execute("SELECT wale_retain(2, dry_run => false)");
    let restored = Restore::auto(PgVersion::newest()).recover_beside(&fresh);
    assert_eq!(rows_of(&restored), "1 2 3 4 5");
    Restore::of(PgVersion::oldest(), &backups[2]).recover_beside(&fresh).assert_restored(&expected);

    // Names of the one before come after this one's, and still it is the older one.
    new.execute(&format!("SELECT wale_delete_before('{}', dry_run => false)", backups[3]));
    assert_eq!(fresh.backups(), [backups[3].clone()]);
    let old_wal = |name: &String| name.starts_with("wal_005/00000002") && name.len() > 30;
    assert_eq!(fresh.objects().into_iter().filter(old_wal).collect::<Vec<_>>(), [""; 0]);
    let restored = Restore::auto(PgVersion::newest()).recover_beside(&fresh);
    assert_eq!(rows_of(&restored), "1 2 3 4 5");
}
