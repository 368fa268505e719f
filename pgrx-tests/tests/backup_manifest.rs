//! The manifest of a backup, judged by PostgreSQL's own `pg_verifybackup`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::{Installation, PgVersion};
use wal_e_e2e::process::{Finished, run};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::wal_e;

/// The size of the WAL segments of these clusters.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// A backup that was taken while tables grew, in which a tablespace is.
struct Backup {
    version: PgVersion,
    archive: Archive,
    name: String,
    tablespace: PathBuf,
}

impl Backup {
    fn take(version: PgVersion, archive: Archive) -> Backup {
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        let tablespace = cluster.create_tablespace("extra");
        cluster.pgbench_init(3);
        cluster.execute(
            "CREATE TABLE in_extra TABLESPACE extra AS \
             SELECT i, md5(i::text) FROM generate_series(1, 20000) i",
        );
        let load = cluster.start_pgbench();
        let name = cluster.backup_push();
        load.stop();
        Backup { version, archive, name, tablespace }
    }

    /// Fetches it with its tablespace at another place.
    #[track_caller]
    fn fetch(&self) -> Restore {
        let restore = Restore::of(self.version, &self.name).tablespace(&self.tablespace, "extra");
        restore.run(&self.archive).success();
        restore
    }

    /// Fetches the WAL from start to stop into a directory of its own.
    #[track_caller]
    fn fetch_wal(&self, restore: &Restore) -> PathBuf {
        let directory = restore.scratch().create("wal");
        let metadata = self.archive.backup_json(&self.name, "metadata.json");
        let segment_of = |key: &str, before: u64| {
            let lsn = metadata[key].as_u64().expect("an LSN is a number");
            (lsn - before) / SEGMENT_BYTES
        };
        for number in segment_of("start_lsn", 0)..=segment_of("finish_lsn", 1) {
            let segment = format!("00000001{:08X}{:08X}", number / 256, number % 256);
            let mut fetch = wal_e(&self.archive);
            run(fetch.arg("wal-fetch").arg(&segment).arg(directory.join(&segment))).success();
        }
        directory
    }
}

/// Runs `pg_verifybackup` with these options on a restored data directory.
#[track_caller]
fn verify(version: PgVersion, target: &Path, options: &[&str]) -> Finished {
    let mut command = Installation::get(version).command("pg_verifybackup");
    run(command.args(options).arg(target))
}

#[test]
fn a_restored_backup_passes_pg_verifybackup_with_its_wal() {
    for &version in PgVersion::complete() {
        for archive in [Archive::file(), Archive::s3()] {
            let backup = Backup::take(version, archive);
            let restore = backup.fetch();
            let wal = backup.fetch_wal(&restore);
            let wal = format!("--wal-directory={}", wal.display());
            let said = verify(version, &restore.target(), &[&wal]).success();
            assert!(said.contains("successfully verified"), "{said}");

            let map = fs::read_to_string(restore.target().join("tablespace_map"));
            let moved_to = restore.scratch().path().join("extra").display().to_string();
            assert!(map.expect("the map is there").contains(&moved_to), "it was written anew");
        }
    }
}

#[test]
fn an_empty_tablespace_map_is_listed_too() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let name = cluster.backup_push();
    let restore = Restore::of(PgVersion::oldest(), &name);
    restore.run(&archive).success();
    verify(PgVersion::oldest(), &restore.target(), &["--no-parse-wal"]).success();
}

#[test]
fn pg_verifybackup_finds_what_is_changed_in_a_restored_backup() {
    for &version in PgVersion::complete() {
        let backup = Backup::take(version, Archive::file());
        let restore = backup.fetch();
        let file = restore.target().join("global/pg_filenode.map");
        let sound = fs::read(&file).expect("every cluster has this file");
        let mut flipped = sound.clone();
        flipped[100] ^= 1;
        let longer = [&sound[..], b"x"].concat();
        for (content, word) in [(flipped, "checksum mismatch"), (longer, "has size")] {
            let mut open = OpenOptions::new();
            let mut open = open.write(true).truncate(true).open(&file).expect("the file opens");
            open.write_all(&content).expect("the file can be written");
            let said = verify(version, &restore.target(), &["--no-parse-wal"]).failure(1);
            assert!(said.contains("pg_filenode.map") && said.contains(word), "{said}");
        }
    }
}

#[test]
fn a_backup_with_a_damaged_manifest_is_restored_without() {
    let archive = Archive::file();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    let name = cluster.backup_push();
    let object = format!("basebackups_005/{name}/backup_manifest.lz4");
    archive.corrupt_object(&object);
    let restore = Restore::of(PgVersion::oldest(), &name);
    let finished = restore.run(&archive);
    assert!(finished.stderr.contains(&object), "{finished}");
    finished.success();
    assert!(restore.target().join("global/pg_control").exists());
    assert!(!restore.target().join("backup_manifest").exists());
}
