//! Tablespaces that are newer than the base backup: replay creates them, and a restored
//! copy must not use the directories of the server that it is a copy of.

use std::fs;
use std::path::{Path, PathBuf};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run};
use wal_e_e2e::restore::{Restore, restore_command};
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::wal_e;

const ROWS: &str = "SELECT b, count(*) FROM u GROUP BY b";

/// A server that goes on while copies of it are restored.
struct Live {
    cluster: Cluster,
    archive: Archive,
    location: PathBuf,
}

impl Live {
    /// With a base backup, and then a tablespace with a table, as it was at the restore
    /// point "drill" and as it is now.
    fn new(version: PgVersion) -> Live {
        let archive = Archive::file();
        let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
        cluster.backup_push();
        cluster.query_one("SELECT pg_create_restore_point('before')");
        let location = cluster.create_tablespace("ts");
        Live::filled(cluster, archive, location)
    }

    fn filled(cluster: Cluster, archive: Archive, location: PathBuf) -> Live {
        cluster.execute("CREATE TABLE u (a int, b text) TABLESPACE ts");
        cluster.execute("INSERT INTO u SELECT g, 'before' FROM generate_series(1, 1000) g");
        cluster.query_one("SELECT pg_create_restore_point('drill')");
        cluster.archive_current_wal();
        cluster.execute("UPDATE u SET b = 'after'");
        cluster.execute("CHECKPOINT");
        Live { cluster, archive, location }
    }

    fn drill(&self) -> Restore {
        Restore::auto(self.cluster.version())
            .option("--recovery-target-name", "drill")
            .option("--recovery-target-action", "promote")
    }

    /// Drops the table of the copy, and asserts that the live server still has its own,
    /// also what it has to read from disk.
    #[track_caller]
    fn is_not_harmed_by(&mut self, mut copy: Cluster) {
        copy.execute("DROP TABLE IF EXISTS u");
        copy.execute("CHECKPOINT");
        copy.stop(StopMode::Fast);
        self.is_whole();
    }

    #[track_caller]
    fn is_whole(&mut self) {
        self.cluster.restart();
        assert_eq!(self.cluster.query(ROWS), [["after", "1000"]]);
    }

    fn shown(&self) -> String {
        self.location.display().to_string()
    }
}

/// Asserts where a copy has its tablespace, and that it has the rows of its moment, also
/// after it was started once more.
#[track_caller]
fn has_its_own(copy: &mut Cluster, place: &Path) {
    for _ in 0..2 {
        assert_eq!(copy.query(ROWS), [["before", "1000"]]);
        assert_eq!(copy.tablespace_location("ts"), place.display().to_string());
        copy.restart();
    }
}

fn a_drill_leaves_the_live_server_alone(version: PgVersion) {
    let mut live = Live::new(version);
    let refused = live.drill().run(&live.archive).failure(1);
    assert!(refused.contains(&format!("\"{}\" is not empty", live.shown())), "{refused}");
    assert!(refused.contains("--tablespace-mapping"), "{refused}");
    let plan = ["restore-plan", "AUTO", "--recovery-target-name", "drill"];
    let plan = run(wal_e(&live.archive).args(plan)).success();
    assert!(plan.contains(&live.shown()), "{plan}");

    let mapped = live.drill().tablespace(&live.location, "mapped");
    let place = mapped.scratch().path().join("mapped");
    let mut copy = mapped.recover_beside(&live.archive);
    has_its_own(&mut copy, &place);
    live.is_not_harmed_by(copy);

    let mut copy = live.drill().flag("--blind-restore").recover_beside(&live.archive);
    let oid = copy.query_one("SELECT oid FROM pg_tablespace WHERE spcname = 'ts'");
    has_its_own(&mut copy, &Path::new("pg_tblspc").join(&oid));
    live.is_not_harmed_by(copy);

    let all = live.drill();
    let below = all.scratch().path().join("all");
    let all = all.option("--tablespace-mapping-all", below.display().to_string());
    let mut copy = all.recover_beside(&live.archive);
    has_its_own(&mut copy, &below.join(oid));
    live.is_not_harmed_by(copy);
}

#[test]
fn a_drill_leaves_the_live_server_of_the_oldest_version_alone() {
    a_drill_leaves_the_live_server_alone(PgVersion::oldest());
}

#[test]
fn a_drill_leaves_the_live_server_of_the_newest_version_alone() {
    a_drill_leaves_the_live_server_alone(PgVersion::newest());
}

#[test]
fn a_server_does_not_get_the_wal_that_would_have_it_use_another_s_directory() {
    let mut live = Live::new(PgVersion::oldest());
    // Nothing was said of recovery, so no plan has looked.
    let mut copy = Restore::latest(PgVersion::oldest()).fetch(&live.archive);
    copy.configure("archive_mode = off");
    for _ in 0..2 {
        let log = copy.log_offset();
        copy.spawn();
        copy.wait_for_log_after(log, "which another cluster uses");
        copy.wait_for_log_after(log, "database system is shut down");
        wait_for("the end of the server", || !copy.is_running());
    }
    assert!(copy.log().contains("--tablespace-mapping-all"), "{}", copy.log_tail());
    live.is_whole();
    // Also next to standby.signal, where a code below 126 could end in a promotion.
    let segment = "000000010000000000000001";
    let created = |name: &String| {
        let wal = live.archive.wal_file(name);
        let path = live.shown();
        wal.windows(path.len()).any(|bytes| bytes == path.as_bytes())
    };
    let names = live.archive.wal_objects().into_iter();
    let names = names.filter_map(|name| Some(name.strip_prefix("wal_005/")?.get(..24)?.to_owned()));
    let segment = names.filter(|name| name.as_str() >= segment).find(created);
    let segment = segment.expect("a segment creates the tablespace");
    fs::rename(
        copy.data_directory().join("recovery.signal"),
        copy.data_directory().join("standby.signal"),
    )
    .expect("the signal file can be renamed");
    let destination = copy.data_directory().join("pg_wal/RECOVERYXLOG");
    let fetch = |options: &[&str]| {
        let mut command = wal_e(&live.archive);
        command.arg("wal-fetch").args(options).arg(&segment).arg(&destination);
        run(&mut command)
    };
    fetch(&[]).failure(200);
    assert!(!destination.exists());

    // What was to be said is said now.
    let below = copy.scratch().path().join("all");
    let said = format!("wal-fetch --tablespace-mapping-all={}", below.display());
    let command = restore_command(&live.archive).replace("wal-fetch", &said);
    copy.configure(&format!("restore_command = '{command}'"));
    fs::rename(
        copy.data_directory().join("standby.signal"),
        copy.data_directory().join("recovery.signal"),
    )
    .expect("the signal file can be renamed");
    copy.start();
    copy.wait_for_end_of_recovery();
    assert_eq!(copy.query("SELECT count(*) FROM u"), [["1000"]]);
    assert!(copy.tablespace_location("ts").starts_with(&below.display().to_string()));
    live.is_not_harmed_by(copy);
}

#[test]
fn a_tablespace_made_after_the_target_does_not_matter() {
    let mut live = Live::new(PgVersion::oldest());
    let restore = Restore::auto(PgVersion::oldest())
        .option("--recovery-target-name", "before")
        .option("--recovery-target-action", "promote");
    let copy = restore.recover_beside(&live.archive);
    let found = copy.query_one("SELECT count(*) FROM pg_tablespace WHERE spcname = 'ts'");
    assert_eq!(found, "0");
    live.is_not_harmed_by(copy);
}

#[test]
fn a_directory_that_is_not_there_is_said_before_the_restore() {
    let mut live = Live::new(PgVersion::oldest());
    live.cluster.stop(StopMode::Fast);
    let moved = live.location.with_extension("moved");
    fs::rename(&live.location, &moved).expect("the tablespace can be moved");
    let restore = live.drill();
    let refused = restore.run(&live.archive).failure(1);
    assert!(refused.contains(&format!("\"{}\" does not exist", live.shown())), "{refused}");
    assert!(!restore.target().exists());
    // One that is there and empty is used.
    ServerUser::get().create_directory(&live.location, 0o700);
    let mut copy = restore.recover_beside(&live.archive);
    has_its_own(&mut copy, &live.location);
    copy.stop(StopMode::Fast);
}

#[test]
fn a_mapping_holds_for_a_tablespace_made_while_the_backup_waits_for_its_checkpoint() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("checkpoint_timeout = 30s")
        .configuration("checkpoint_completion_target = 0.2")
        .start_archiving_to(&archive);
    cluster.execute("CHECKPOINT");
    cluster.execute(
        "CREATE TABLE dirty AS SELECT g, repeat('y', 400) FROM generate_series(1, 20000) g",
    );
    let mut session = cluster.client();
    let backup = std::thread::spawn(move || {
        session.simple_query("SELECT wale_backup_push(fast => false)").map(drop)
    });
    wait_for("the checkpoint of the backup", || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'CheckpointDone'";
        cluster.query_one(waits) != "0"
    });
    let location = cluster.create_tablespace("ts");
    backup.join().expect("the backup does not panic").expect("the backup is taken");
    let mut live = Live::filled(cluster, archive, location);
    let restore = live.drill().tablespace(&live.location, "mapped");
    let place = restore.scratch().path().join("mapped");
    let mut copy = restore.fetch(&live.archive);
    let map = fs::read_to_string(copy.data_directory().join("tablespace_map"));
    assert!(map.expect("there is a map").contains("mapped"), "the backup has the tablespace");
    copy.configure("archive_mode = off");
    copy.start();
    copy.wait_for_end_of_recovery();
    has_its_own(&mut copy, &place);
    live.is_not_harmed_by(copy);
}

#[test]
fn the_wal_goes_into_a_directory_of_its_own() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) i");
    cluster.backup_push();
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    let restore = || Restore::latest(PgVersion::oldest());
    let taken = archive.scratch().create("taken");
    fs::write(taken.join("file"), "").expect("a file can be written");
    let refused = restore().option("--waldir", taken.display().to_string());
    let text = refused.run(&archive).failure(1);
    assert!(text.contains(&format!("\"{}\" is not empty", taken.display())), "{text}");
    assert!(!refused.target().exists());
    restore().option("--waldir", "relative").run(&archive).failure(2);

    let wal = archive.scratch().path().join("wal/one");
    let mut restored =
        restore().option("--waldir", wal.display().to_string()).recover_beside(&archive);
    let link = fs::read_link(restored.data_directory().join("pg_wal")).expect("it is a link");
    assert_eq!(link, wal);
    let names: Vec<_> = fs::read_dir(&wal).expect("it is there").flatten().collect();
    assert!(names.iter().all(|name| !name.file_name().to_string_lossy().contains("wal_e")));
    restored.assert_restored(&expected);
}
