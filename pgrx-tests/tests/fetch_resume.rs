//! A restore that is interrupted in the middle leaves nothing that starts, and
//! goes on where it was.

use std::collections::HashSet;
use std::fs;
use std::process::{Child, Stdio};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::fingerprint::Fingerprint;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run, send_signal, wait_for_end};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::{PATIENCE, wait_for};
use wal_e_e2e::wal_e::wal_e;

/// Slow enough that a backup of some tars has a middle, in bytes a second of
/// each connection.
const SLOW: Fault = Fault::Throttle(3 << 20);

/// A backup of a cluster with a tablespace, in several tars, and what it restores to.
struct Lost {
    archive: Archive,
    location: std::path::PathBuf,
    expected: Fingerprint,
    // The old directories stay, so that nothing of them is taken by mistake.
    _cluster: Cluster,
}

impl Lost {
    fn new() -> Lost {
        let archive = Archive::s3();
        let mut cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
        let location = cluster.create_tablespace("extra");
        cluster.create_incompressible_table("noise", 70);
        cluster.execute("CREATE TABLE t TABLESPACE extra AS SELECT generate_series(1, 50000) i");
        cluster.backup_push();
        cluster.execute("INSERT INTO t VALUES (-1)");
        let expected = cluster.fingerprint();
        cluster.stop(StopMode::Fast);
        Lost { archive, location, expected, _cluster: cluster }
    }

    /// Of which each backup but the first is an increment of the one before.
    fn of_chain() -> Lost {
        let archive = Archive::s3();
        let mut cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
        let location = cluster.create_tablespace("extra");
        cluster.create_incompressible_table("noise", 70);
        cluster.execute("CREATE TABLE t TABLESPACE extra AS SELECT generate_series(1, 50000) i");
        cluster.backup_push();
        for share in [7, 11] {
            cluster.execute(&format!(
                "UPDATE noise SET noise = sha512(noise) || substr(noise, 65) WHERE id % {share} = 0; \
                 INSERT INTO t SELECT generate_series(1, 9000) i; \
                 CREATE TABLE since_{share} TABLESPACE extra AS SELECT generate_series(1, 5000) i"
            ));
            let name = cluster.query_one("SELECT wale_backup_push(incremental => true)");
            assert!(name.contains("_D_"), "{name}");
        }
        cluster.execute("INSERT INTO t VALUES (-1)");
        let expected = cluster.fingerprint();
        cluster.stop(StopMode::Fast);
        Lost { archive, location, expected, _cluster: cluster }
    }

    fn restore(&self) -> Restore {
        Restore::latest(PgVersion::oldest()).tablespace(&self.location, "moved").option("-p", "2")
    }

    #[track_caller]
    fn comes_back(&self, restore: Restore) {
        let mut restored = restore.flag("--resume").recover(&self.archive);
        assert_eq!(restored.fingerprint(), self.expected);
        assert!(restored.has_sound_permissions());
        restored.amcheck();
        restored.stop(StopMode::Fast);
        restored.check_page_checksums().success();
    }
}

fn note(restore: &Restore) -> std::path::PathBuf {
    restore.target().join("wal_e.unfinished_restore")
}

/// How many tars the note says are restored.
fn tars_done(restore: &Restore) -> usize {
    let text = fs::read(note(restore)).unwrap_or_default();
    // Those with pages are noted again.
    let whole_lines = text.split_inclusive(|byte| *byte == b'\n').filter(|it| it.ends_with(b"\n"));
    whole_lines.collect::<HashSet<_>>().len().saturating_sub(1)
}

/// Runs the program until `tars` tars are on disk.
fn begin(lost: &Lost, restore: &Restore, options: &[&str], tars: usize) -> Child {
    let mut command = restore.command(&lost.archive);
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("the program can be run");
    wait_for("tars that are restored", || tars_done(restore) >= tars);
    child
}

/// Begins the restore, and goes on with it, and kills it each time so many tars are on disk.
fn kill_again_and_again(lost: &Lost, restore: &Restore, tars: impl Iterator<Item = usize>) {
    lost.archive.proxy().set(SLOW);
    for tars in tars {
        let options: &[&str] = if tars == 1 { &[] } else { &["--resume"] };
        let mut child = begin(lost, restore, options, tars);
        send_signal(child.id() as i32, 9);
        wait_for_end(&mut child, PATIENCE).expect("a killed program ends");
        assert!(note(restore).exists(), "it was killed too late");
        assert!(!restore.target().join("global/pg_control").exists());
    }
    lost.archive.proxy().set(Fault::None);
}

#[test]
fn a_restore_of_a_chain_that_is_killed_again_and_again_goes_on() {
    let lost = Lost::of_chain();
    let restore = lost.restore();
    let tars = lost.archive.objects().iter().filter(|object| object.contains("/part_")).count();
    assert!(tars > 8, "{tars} tars");
    kill_again_and_again(&lost, &restore, (1..tars).step_by(2));
    lost.comes_back(restore);
}

#[test]
fn a_restore_that_is_killed_again_and_again_goes_on() {
    let lost = Lost::new();
    let restore = lost.restore();
    kill_again_and_again(&lost, &restore, 1..=3);

    // What was begun is neither begun anew nor mixed with something else.
    let refused = restore.run(&lost.archive).failure(1);
    assert!(refused.contains("--resume"), "{refused}");
    let mut other = wal_e(&lost.archive);
    let other = other.arg("backup-fetch").arg(restore.target()).args(["LATEST", "--resume"]);
    let elsewhere = restore.scratch().path().join("elsewhere");
    let mapping = format!("{}={}", lost.location.display(), elsewhere.display());
    let refused = run(other.args(["--tablespace-mapping", &mapping])).failure(1);
    assert!(refused.contains("another restore"), "{refused}");
    assert!(note(&restore).exists());

    // What was damaged meanwhile is noticed by its size.
    let table = restore.target().join("base");
    let mut files: Vec<_> = fs::read_dir(&table)
        .expect("the directories are there")
        .flatten()
        .flat_map(|database| fs::read_dir(database.path()).into_iter().flatten().flatten())
        .map(|file| file.path())
        .collect();
    files.sort();
    let victim = files.last().expect("files are restored");
    fs::write(victim, "spoilt").expect("a file can be spoilt");
    ServerUser::get().own(victim);

    let before = lost.archive.proxy().count_requests("GET", "/part_");
    let finished = restore.command(&lost.archive).arg("--resume").arg("--json").output();
    let finished = finished.expect("the program can be run");
    let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert!(finished.status.success(), "{stdout}{}", String::from_utf8_lossy(&finished.stderr));
    let last: serde_json::Value =
        serde_json::from_str(stdout.lines().last().expect("an event")).expect("an object");
    assert_eq!(last["event"], "done");
    assert!(last["files"].as_u64() > Some(900), "{last}");
    let asked = lost.archive.proxy().count_requests("GET", "/part_") - before;
    assert!(asked > 0, "nothing was missing");
    assert!(!note(&restore).exists());

    // A restore that is finished is nothing to go on with.
    let refused = restore.run(&lost.archive).failure(1);
    assert!(refused.contains("not empty"), "{refused}");
    let data = restore.target();
    fs::write(data.join("recovery.signal"), "").expect("a file can be made");
    ServerUser::get().own(&data.join("recovery.signal"));
    let command = wal_e_e2e::restore::restore_command(&lost.archive);
    let mut restored = restore.adopt();
    restored.configure(&format!("restore_command = '{command}'"));
    restored.start();
    restored.wait_for_end_of_recovery();
    assert_eq!(restored.fingerprint(), lost.expected);
    restored.amcheck();
    restored.stop(StopMode::Fast);
    restored.check_page_checksums().success();
}

#[test]
fn ctrl_c_keeps_what_is_restored_and_says_how_to_go_on() {
    let lost = Lost::new();
    let restore = lost.restore();
    lost.archive.proxy().set(SLOW);
    let mut command = restore.command(&lost.archive);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the program can be run");
    wait_for("a tar that is restored", || tars_done(&restore) >= 1);
    send_signal(child.id() as i32, 2);
    let output = child.wait_with_output().expect("the program ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("--resume"), "{said}");
    assert!(!restore.target().join("global/pg_control").exists());
    lost.archive.proxy().set(Fault::None);
    // That there is another newest backup by now changes nothing.
    let sentinel = lost.archive.objects().into_iter().find(|name| name.contains("_sentinel"));
    let sentinel = lost.archive.object(&sentinel.expect("a backup has one")).expect("it is listed");
    let newer = "basebackups_005/base_0000000100000000000000FF_backup_stop_sentinel.json";
    lost.archive.replace_object(newer, sentinel);
    lost.comes_back(restore);
}
