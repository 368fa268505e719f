//! Archives with more than one timeline that could be meant, and with the WAL of more than one
//! cluster: nothing is chosen without a word.

use serde_json::Value;
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{Finished, run};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::wal_e;

fn primary(archive: &Archive) -> Cluster {
    let primary =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(archive);
    primary.execute("CREATE TABLE t AS SELECT 1 AS x");
    primary
}

fn insert(cluster: &Cluster, value: u32) {
    cluster.execute(&format!("INSERT INTO t VALUES ({value})"));
}

fn values(cluster: &Cluster) -> String {
    cluster.query_one("SELECT string_agg(x::text, ' ' ORDER BY x) FROM t")
}

/// The values in what is restored with these options, in addition to all others.
#[track_caller]
fn restored(archive: &Archive, options: &[(&str, &str)]) -> String {
    let restore = Restore::auto(PgVersion::oldest());
    let restore =
        options.iter().fold(restore, |restore, (name, value)| restore.option(name, *value));
    let mut cluster = restore.recover_beside(archive);
    let values = values(&cluster);
    cluster.stop(StopMode::Immediate);
    values
}

fn plan(archive: &Archive, arguments: &[&str]) -> Finished {
    run(wal_e(archive).arg("restore-plan").args(arguments))
}

#[track_caller]
fn plan_as_json(archive: &Archive, arguments: &[&str]) -> Value {
    let text = plan(archive, &[&["--json"], arguments].concat()).stdout;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn assert_names(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing: {text}");
    }
}

#[test]
fn a_copy_promoted_on_the_same_prefix_is_shown_beside_the_primary_that_went_on() {
    let archive = Archive::file();
    let primary = primary(&archive);
    let first = primary.backup_push();
    insert(&primary, 2);
    let lsn = primary.query_one("SELECT pg_current_wal_insert_lsn()");
    primary.archive_current_wal();
    let mut copy = Restore::auto(PgVersion::oldest())
        .option("--recovery-target-lsn", &lsn)
        .option("--recovery-target-action", "promote")
        .recover(&archive);
    insert(&copy, 99);
    copy.archive_current_wal();
    copy.stop(StopMode::Fast);
    insert(&primary, 3);
    let three = primary.query_one("SELECT clock_timestamp()");
    primary.archive_current_wal();
    let second = primary.backup_push();
    insert(&primary, 4);
    primary.archive_current_wal();

    for name in ["AUTO", "LATEST", &first, &second] {
        let refused = plan(&archive, &[name]).failure(1);
        let options = ["--recovery-target-timeline 1", "--recovery-target-timeline 2"];
        assert_names(&refused, &options);
        assert_names(&refused, &["could be meant: 1 and 2", "\n  timeline  parent", &second]);
        let restore = Restore::of(PgVersion::oldest(), name);
        let refused = restore.option("--recovery-target-time", &three).run(&archive).failure(1);
        assert_names(&refused, &["--recovery-target-timeline 1"]);
    }
    let facts = plan_as_json(&archive, &[]);
    assert_eq!(facts["timelines"][1]["parent_timeline"], 1, "{facts}");
    assert_eq!(facts["timelines"][0]["newest_backup"], second.as_str(), "{facts}");
    assert!(facts["timelines"][1]["forked_at_time"].is_string(), "{facts}");
    let in_sql = |argument: &str| {
        let columns = "reachable, coalesce(reason, backup_name)";
        let answer = primary.query(&format!("SELECT {columns} FROM wale_restore_plan({argument})"));
        answer.concat()
    };
    assert_names(&in_sql("")[1], &["could be meant", "\ntimeline  parent"]);
    assert_eq!(in_sql("target_timeline => '1'"), ["t", &second]);
    // Files alone are restored, with all that in a warning.
    let files = Restore::latest(PgVersion::oldest()).run(&archive);
    assert_names(&files.stderr, &["could be meant: 1 and 2", "follows timeline 2"]);
    files.success();

    assert_eq!(restored(&archive, &[("--recovery-target-timeline", "1")]), "1 2 3 4");
    assert_eq!(restored(&archive, &[("--recovery-target-timeline", "2")]), "1 2 99");
    assert_eq!(restored(&archive, &[("--recovery-target-timeline", "latest")]), "1 2 99");
}

/// A standby was promoted when the primary had died, with WAL that the standby lacks.
fn failed_over(archive: &Archive) -> Cluster {
    let mut old = primary(archive);
    old.backup_push();
    let mut standby = old.make_standby();
    standby.start();
    insert(&old, 2);
    standby.wait_for_replay_of(&old);
    standby.stop_streaming();
    insert(&old, 90);
    old.archive_current_wal();
    old.stop(StopMode::Fast);
    standby.promote();
    insert(&standby, 3);
    standby.archive_current_wal();
    standby
}

#[test]
fn after_a_failover_the_new_primary_is_followed_and_what_was_lost_is_said() {
    let archive = Archive::file();
    let mut new = failed_over(&archive);
    let plan = plan_as_json(&archive, &[]);
    assert_eq!((&plan["reachable"], &plan["timeline"]), (&true.into(), &2.into()), "{plan}");
    assert_names(
        plan["notes"][0].as_str().expect("a note"),
        &["timeline 1 has past LSN", "WAL segment", "its last transaction ended at"],
    );
    assert_eq!(restored(&archive, &[]), "1 2 3");
    assert_eq!(restored(&archive, &[("--recovery-target-timeline", "1")]), "1 2 90");

    // Its history file is lost, and that of the next timeline cannot be counted to.
    new.stop(StopMode::Fast);
    let third = Restore::auto(PgVersion::oldest()).recover(&archive);
    insert(&third, 4);
    third.archive_current_wal();
    archive.remove_object("wal_005/00000002.history.lz4");
    let refused = self::plan(&archive, &[]).failure(1);
    let words = ["\"00000002.history\"", "--recovery-target-timeline 3", "unknown"];
    assert_names(&refused, &words);
    assert_eq!(restored(&archive, &[("--recovery-target-timeline", "3")]), "1 2 3 4");
    archive.remove_object("wal_005/00000003.history.lz4");
    let refused = self::plan(&archive, &[]).failure(1);
    assert_names(&refused, &["\"00000002.history\"", "\"00000003.history\""]);
    assert_eq!(restored(&archive, &[("--recovery-target-timeline", "1")]), "1 2 90");
}

/// The last archived segment.
fn last_segment(archive: &Archive) -> String {
    let objects = archive.wal_objects().into_iter();
    let names =
        objects.filter_map(|name| Some(name.strip_prefix("wal_005/")?.get(..24)?.to_owned()));
    names.filter(|name| name.starts_with("00000001")).max().expect("there is WAL")
}

#[test]
fn a_base_backup_is_not_combined_with_the_wal_of_the_cluster_that_took_its_place() {
    let archive = Archive::file();
    let mut old = primary(&archive);
    let first = old.backup_push();
    insert(&old, 2);
    let two = old.query_one("SELECT clock_timestamp()");
    insert(&old, 3);
    old.archive_current_wal();
    old.stop(StopMode::Fast);

    // As pg_upgrade makes it: another system identifier, and WAL that begins where the other ends.
    let mut new = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .archiving()
        .configuration_lines(archive.settings())
        .create();
    let last = u64::from_str_radix(&last_segment(&archive)[8..], 16).expect("it is a number");
    let next = format!("00000001{:016X}", last + 1);
    let mut reset = new.installation().command("pg_resetwal");
    run(reset.args(["-f", "-l", &next, "-D"]).arg(new.data_directory())).success();
    let owner: Value =
        serde_json::from_slice(&archive.object("wal_e/owner.json").expect("it is there"))
            .expect("it is JSON");
    new.start();
    let identifier = new.query_one("SELECT system_identifier FROM pg_control_system()");
    let old_identifier = owner["system_identifier"].to_string();
    let owner = owner.to_string().replace(&old_identifier, &identifier);
    archive.replace_object("wal_e/owner.json", owner.into_bytes());
    new.execute("CREATE EXTENSION wal_e; CREATE TABLE t AS SELECT 70 AS x");
    new.archive_current_wal();

    let refused = plan(&archive, &[]).failure(1);
    assert_names(&refused, &["another cluster", &identifier]);
    assert_eq!(restored(&archive, &[("--recovery-target-time", &two), PROMOTE]), "1 2");
    let second = new.backup_push();
    insert(&new, 71);
    new.archive_current_wal();
    assert_eq!(plan_as_json(&archive, &[])["backup_name"], second.as_str());
    assert_eq!(restored(&archive, &[]), "70 71");
    let earlier = plan_as_json(&archive, &["--recovery-target-time", &two]);
    assert_eq!(earlier["backup_name"], first.as_str(), "{earlier}");
}

const PROMOTE: (&str, &str) = ("--recovery-target-action", "promote");

#[test]
fn a_standby_that_archives_always_does_not_take_the_name_of_an_unfinished_segment() {
    let archive = Archive::file();
    let old = primary(&archive);
    let mut follower = old.make_standby();
    follower.configure("archive_mode = always");
    follower.start();
    let mut promoted = old.make_standby();
    promoted.start();
    insert(&old, 2);
    follower.wait_for_replay_of(&old);
    promoted.wait_for_replay_of(&old);
    let unfinished = old.current_segment();
    promoted.promote();
    follower.execute(&format!(
        "ALTER SYSTEM SET primary_conninfo = 'host={} port=5432 user=postgres'",
        promoted.socket_directory().display()
    ));
    follower.reload();
    insert(&promoted, 3);
    follower.wait_for_replay_of(&promoted);
    wait_for("the archiver of the standby to be rid of the segment", || {
        follower.done_files().contains(&unfinished)
    });
    assert!(archive.wal_object(&unfinished).is_none(), "it is archived");
    assert!(follower.log().contains(&format!("\"{unfinished}\" is not archived")));
    let path = follower.data_directory().join("pg_wal").join(&unfinished);
    run(wal_e(&archive).arg("wal-push").arg(path)).success();
    assert!(archive.wal_object(&unfinished).is_none(), "it is archived");

    // What the old primary has of it is all there is, and gets its name.
    insert(&old, 90);
    assert_eq!(old.archive_current_wal(), unfinished);
    assert_eq!(old.archiver_count("failed_count"), 0, "{}", old.log_tail());
    assert_eq!(archive.wal_file(&unfinished), old.wal_file(&unfinished).expect("it is there"));
    // So has the standby, now that another has it.
    let later = promoted.archive_current_wal();
    wait_for("the standby to archive what came after", || follower.done_files().contains(&later));
    assert_eq!(follower.archiver_count("failed_count"), 0, "{}", follower.log_tail());
}
