//! What users get wrong, and what gets wrong under their hands: a clear error,
//! a proper SQLSTATE or exit code, and nothing half-done.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::{PgVersion, wal_e_program};
use wal_e_e2e::process::{ServerUser, is_root, run};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::s3_server::Refusal;
use wal_e_e2e::wal_e::{bare_wal_e, run_wal_e, wal_e};

/// SQLSTATEs that a wrong setting and a refusal have.
const INVALID_PARAMETER_VALUE: &str = "22023";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

#[track_caller]
fn assert_contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing in:\n{text}");
    }
}

/// A cluster that does not archive, with the functions of wal_e, and these settings.
fn cluster_with(settings: &[String]) -> Cluster {
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("shared_preload_libraries = 'wal_e'")
        .configuration_lines(settings.iter().cloned())
        .start();
    cluster.execute("CREATE EXTENSION wal_e");
    cluster
}

#[test]
fn settings_that_are_missing_or_malformed_are_named() {
    let cluster = cluster_with(&[]);
    for sql in ["SELECT wale_backup_push()", "SELECT * FROM wale_backup_list()"] {
        let failure = cluster.failure_of(sql);
        assert_eq!(failure.sqlstate, INVALID_PARAMETER_VALUE, "{failure:?}");
        assert_contains(&failure.text, &["wal_e.prefix", "s3://bucket/path"]);
    }
    for malformed in
        ["bucket/path", "s3://", "http://bucket/path", "file://relative", "s3://b/../c"]
    {
        let failure = cluster.failure_of(&format!("ALTER SYSTEM SET wal_e.prefix = '{malformed}'"));
        assert_eq!(failure.sqlstate, INVALID_PARAMETER_VALUE, "{failure:?}");
    }
    cluster.execute("ALTER SYSTEM SET wal_e.prefix = 's3://bucket/path'");

    for command in [["backup-list", "--terse"], ["backup-fetch", "/nonexistent/x"]] {
        let mut program = bare_wal_e();
        program.args(command);
        if command[0] == "backup-fetch" {
            program.arg("LATEST");
        }
        let said = run(&mut program).failure(1);
        assert_contains(&said, &["prefix"]);
    }
    let said = run(bare_wal_e().args(["--s3-prefix", "http://b", "backup-list"])).failure(1);
    assert_contains(&said, &["http://b", "s3://bucket/path"]);
}

#[test]
fn a_backup_needs_archiving() {
    let archive = Archive::file();
    let cluster = cluster_with(&archive.settings());
    let failure = cluster.failure_of("SELECT wale_backup_push()");
    assert_eq!(failure.sqlstate, "55000", "{failure:?}");
    assert_contains(&failure.text, &["archive_mode"]);
    assert_eq!(archive.backups(), Vec::<String>::new());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let archive = Archive::file();
    let directory = archive.directory().to_owned();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).expect("it is ours");
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let failure = cluster.failure_of("SELECT wale_backup_push()");
    assert_eq!(failure.sqlstate, INSUFFICIENT_PRIVILEGE, "{failure:?}");
    assert_contains(&failure.text, &[&directory.display().to_string(), "ermission denied"]);

    cluster.switch_wal();
    cluster.wait_for_archiver_count("failed_count", 0);
    assert_contains(&cluster.log(), &[&directory.display().to_string()]);

    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("it is ours");
    fs::remove_dir(&directory).expect("nothing was written to it");
    let said = run_wal_e(&archive, ["backup-list"]).failure(1);
    assert_contains(&said, &[&directory.display().to_string()]);
}

#[test]
fn a_missing_bucket_is_named() {
    let archive = Archive::s3();
    let mut settings = archive.settings();
    settings.push("wal_e.prefix = 's3://no-such-bucket/path'".to_owned());
    let cluster =
        Cluster::build(PgVersion::oldest()).archiving().configuration_lines(settings).start();
    cluster.execute("CREATE EXTENSION wal_e");
    for sql in ["SELECT wale_backup_push()", "SELECT * FROM wale_backup_list()"] {
        assert_contains(&cluster.failure_of(sql).text, &["no-such-bucket", "404"]);
    }
    cluster.switch_wal();
    cluster.wait_for_archiver_count("failed_count", 0);
    assert_contains(&cluster.log(), &["no-such-bucket", "404"]);
}

#[test]
fn refused_credentials_are_reported_with_their_source_and_without_the_secret() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    archive.write_variable("AWS_SECRET_ACCESS_KEY", "wrong/secret+key");
    let refusals: [(Option<Refusal>, &[&str]); 4] = [
        (None, &["403", "SignatureDoesNotMatch"]),
        (Some(Refusal::ExpiredToken), &["400", "ExpiredToken"]),
        (Some(Refusal::ClockSkew), &["403", "RequestTimeTooSkewed"]),
        (Some(Refusal::AccessDenied), &["403", "AccessDenied"]),
    ];
    for (refusal, words) in refusals {
        archive.server().refuse(refusal);
        let failure = cluster.failure_of("SELECT wale_backup_push()");
        assert_eq!(failure.sqlstate, INSUFFICIENT_PRIVILEGE, "{failure:?}");
        assert_contains(&failure.text, words);
        assert_contains(&failure.text, &["env_dir"]);
        let said = run_wal_e(&archive, ["backup-list"]).failure(1);
        assert_contains(&said, words);
        for text in [failure.text, said, cluster.log()] {
            assert!(!text.contains("wrong/secret+key"), "a secret was printed:\n{text}");
        }
    }
    archive.server().refuse(None);
    let missing = archive.scratch().path().join("no-such-env");
    let said = run(bare_wal_e()
        .args(["--s3-prefix", "s3://b/p", "backup-list", "--env-dir"])
        .arg(&missing))
    .failure(1);
    assert_contains(&said, &[&missing.display().to_string()]);
}

#[test]
fn a_command_line_that_is_wrong_does_nothing() {
    let archive = Archive::file();
    let target = archive.scratch().path().join("target");
    let target = target.to_str().expect("a temporary path is UTF-8");
    for arguments in [
        vec!["backup-fetch", target, "LATEST", "--no-such-option"],
        vec!["backup-fetch", target, "LATEST", "--recovery-target-lsn", "yesterday"],
        vec!["backup-fetch", target, "LATEST", "--tablespace-mapping", "/only/one"],
        vec!["backup-fetch", target],
        vec!["no-such-command"],
        vec![],
    ] {
        let said = run_wal_e(&archive, arguments).failure(2);
        assert_contains(&said, &["--help"]);
    }
    assert!(!Path::new(target).exists());
}

/// A backup to be damaged, and its name.
fn backup(archive: &Archive) -> String {
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(archive);
    cluster.pgbench_init(1);
    cluster.backup_push()
}

/// Asserts that a failed fetch left nothing at `target`.
#[track_caller]
fn assert_nothing_at(target: &Path) {
    let left = fs::read_dir(target).map(|entries| entries.count()).unwrap_or_default();
    assert_eq!(left, 0, "{} must be empty or absent", target.display());
}

#[test]
fn a_fetch_that_cannot_begin_leaves_the_target_as_it_was() {
    let archive = Archive::file();
    let nothing_yet = Restore::latest(PgVersion::oldest());
    assert_contains(&nothing_yet.run(&archive).failure(74), &["backup"]);
    assert_nothing_at(&nothing_yet.target());

    let name = backup(&archive);
    let unknown = Restore::of(PgVersion::oldest(), "base_0000000100000000000000FF");
    assert_contains(&unknown.run(&archive).failure(74), &["base_0000000100000000000000FF"]);
    assert_nothing_at(&unknown.target());

    let occupied = Restore::of(PgVersion::oldest(), &name);
    let precious = occupied.scratch().create("data").join("precious");
    fs::write(&precious, "irreplaceable").expect("the target is ours");
    let said = occupied.run(&archive).failure(1);
    assert_contains(&said, &[&occupied.target().display().to_string(), "empty"]);
    assert_eq!(fs::read_dir(occupied.target()).expect("it is there").count(), 1);
    assert_eq!(fs::read_to_string(&precious).expect("it is there"), "irreplaceable");
}

#[test]
fn a_damaged_backup_is_not_restored() {
    for archive in [Archive::file(), Archive::s3()] {
        let name = backup(&archive);
        let folder = format!("basebackups_005/{name}/tar_partitions");
        let part = format!("{folder}/part_001.tar.lz4");
        let control = format!("{folder}/pg_control.tar.lz4");
        let whole = [&part, &control].map(|object| archive.object(object).expect("it is there"));

        type Damage = fn(&Archive, &str);
        let damages: [(&str, Damage); 4] = [
            (&part, Archive::truncate_object),
            (&part, Archive::corrupt_object),
            (&control, Archive::truncate_object),
            (&control, Archive::corrupt_object),
        ];
        for (object, damage) in damages {
            damage(&archive, object);
            let restore = Restore::of(PgVersion::oldest(), &name);
            let said = restore.run(&archive).failure(1);
            assert_contains(&said, &[object.rsplit('/').next().unwrap_or(object), "--resume"]);
            assert_unfinished(&restore.target(), &said);
            for (object, bytes) in [&part, &control].into_iter().zip(&whole) {
                archive.replace_object(object, bytes.clone());
            }
            restore.flag("--resume").run(&archive).success();
        }
        let restore = Restore::of(PgVersion::oldest(), &name);
        restore.run(&archive).success();
        assert!(restore.target().join("global/pg_control").exists());
    }
}

#[test]
fn a_damaged_wal_file_is_not_taken_for_the_end_of_the_wal() {
    for archive in [Archive::file(), Archive::s3()] {
        let cluster = Cluster::build(PgVersion::oldest()).archiving_to(&archive).start();
        let segment = cluster.archive_current_wal();
        drop(cluster);
        let object = format!("wal_005/{segment}.lz4");
        let whole = archive.object(&object).expect("it has just been archived");
        let data = archive.scratch().create("data");
        let destination = data.join("RECOVERYXLOG");
        let fetch = || {
            run(wal_e(&archive).arg("wal-fetch").arg(&segment).arg(&destination).current_dir(&data))
        };
        for damage in [Archive::truncate_object, Archive::corrupt_object] {
            damage(&archive, &object);
            let finished = fetch();
            assert!(finished.code() > Some(125), "{finished}");
            assert_contains(&finished.stderr, &[&segment]);
            assert_nothing_at(&data);
            archive.replace_object(&object, whole.clone());
        }
        fetch().success();
        assert_eq!(fs::read(&destination).expect("it was fetched").len(), 16 * 1024 * 1024);
        fs::remove_file(&destination).expect("it is there");

        // A standby asks again, so it gets a code that does not stop it.
        archive.truncate_object(&object);
        fs::write(data.join("standby.signal"), "").expect("the directory is ours");
        let code = fetch().code().expect("no signal ended it");
        assert!((1..126).contains(&code) && code != 74, "exit code {code}");
    }
}

#[test]
fn a_full_disk_ends_a_restore_that_can_go_on() {
    let archive = Archive::file();
    let name = backup(&archive);

    // A limit on the size of files, which every user can set.
    let restore = Restore::of(PgVersion::oldest(), &name);
    let mut shell = ServerUser::get().command("sh");
    // The limit is in units of 512 bytes; the ignored signal leaves an error to the program.
    shell.arg("-c").arg("trap '' XFSZ; ulimit -f 4000; exec \"$@\"").arg("sh");
    shell.arg(wal_e_program()).args(archive.program_options());
    shell.arg("backup-fetch").arg(restore.target()).arg(&name);
    let said = run(&mut shell).failure(1);
    assert_contains(&said, &["could not", &restore.target().display().to_string()]);
    assert_unfinished(&restore.target(), &said);
    restore.flag("--resume").run(&archive).success();

    if is_root() {
        let small = SmallDisk::mount(&archive);
        let target = small.0.join("data");
        let mut fetch = wal_e(&archive);
        let said = run(fetch.arg("backup-fetch").arg(&target).arg(&name)).failure(1);
        assert_contains(&said, &["has too little space", &small.0.display().to_string()]);
        assert_nothing_at(&target);
        let said = run(fetch.arg("--ignore-free-space")).failure(1);
        assert_contains(&said, &["No space left on device", &small.0.display().to_string()]);
        assert_unfinished(&target, &said);
    }
}

/// Whether a tar was on disk before the disk was full is chance. If one was, it stays.
#[track_caller]
fn assert_unfinished(target: &Path, said: &str) {
    if said.contains("--resume") {
        assert!(target.join("wal_e.unfinished_restore").exists(), "{said}");
        assert!(!target.join("global/pg_control").exists(), "{said}");
    } else {
        assert_nothing_at(target);
    }
}

/// A file system in memory that is too small for any cluster.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(archive: &Archive) -> SmallDisk {
        let path = archive.scratch().create("small");
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "-o", "size=8m,mode=0777", "wale-test"]).arg(&path))
            .success();
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "could not unmount {:?}", self.0);
    }
}
