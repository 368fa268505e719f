//! Archives on file systems with less than POSIX has.

use std::fs;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::lesser_file_system::LesserFileSystem;
use wal_e_e2e::process::run;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::wal_e;

#[test]
fn an_archive_works_without_hard_links_and_synced_directories() {
    let (archive, file_system) = (Archive::file(), LesserFileSystem::new());
    let mut cluster = Cluster::build(PgVersion::oldest()).archiving_to(&archive).create();
    file_system.put_under(&mut cluster);
    cluster.start();
    cluster.execute("CREATE EXTENSION wal_e");
    cluster.execute("CREATE TABLE t AS SELECT 1 AS one");
    cluster.backup_push();
    cluster.execute("INSERT INTO t VALUES (2)");
    let segment = cluster.archive_current_wal();
    cluster.wait_for_log("cannot sync directories");

    let row = "SELECT ok IS NULL, detail, hint FROM wale_check() WHERE check_name = 'create_only'";
    let found = cluster.query(row).concat();
    assert_eq!(found[0], "t", "{found:?}");
    for words in ["renames that do not replace", "cannot sync directories"] {
        assert!(found[1].contains(words), "{found:?}");
    }

    // Of hard links they do not say the same.
    for refusal in [libc::EOPNOTSUPP, libc::EMLINK, libc::EXDEV, libc::ENOSYS] {
        let another = Archive::file();
        let file = another.scratch().path().join(&segment);
        fs::write(&file, archive.wal_file(&segment)).expect("a file can be written");
        let mut command = wal_e(&another);
        file_system.put_under_command(&mut command);
        command.env("LESSER_FILE_SYSTEM_LINK", refusal.to_string());
        run(command.arg("wal-push").arg(&file)).success();
        assert_eq!(another.wal_file(&segment), archive.wal_file(&segment), "{refusal}");
    }

    // Nothing is replaced: not by the same again, and not by something else.
    let before = archive.wal_object(&segment);
    let file = archive.scratch().path().join(&segment);
    let mut content = archive.wal_file(&segment);
    let push = |content: &[u8]| {
        fs::write(&file, content).expect("a file can be written");
        let mut command = wal_e(&archive);
        run(file_system.put_under_command(&mut command).arg("wal-push").arg(&file))
    };
    push(&content).success();
    let last = content.len() - 1;
    content[last] ^= 1;
    assert!(!push(&content).status.success());
    assert_eq!(archive.wal_object(&segment), before);
    let left = fs::read_dir(archive.directory().join("wal_005")).expect("the WAL is there");
    let temporary = left.flatten().filter(|file| file.file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(temporary.count(), 0);

    cluster.stop(StopMode::Fast);
    let restored = Restore::latest(PgVersion::oldest()).recover_beside(&archive);
    assert_eq!(restored.query_one("SELECT count(*) FROM t"), "2");
}
