//! Objects that were cut or have wrong bits: a restore either is what it would
//! have been without the damage, or ends in an error that names an object of
//! the backup.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::random::seeded;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::wal_e;

/// Bits flipped in each object, one at a time.
const FLIPS: usize = 3;

/// All files below a directory, but for what a restore writes itself.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(directory).expect("the directory is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                collect(root, &path, found);
            } else {
                let name = path.strip_prefix(root).expect("it is below the root").to_owned();
                found.insert(name, fs::read(&path).expect("the file can be read"));
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(directory, directory, &mut found);
    found
}

/// Restores, and says whether what came out is `expected`, or the error names
/// an object of the backup.
#[track_caller]
fn right_or_refused(archive: &Archive, expected: &BTreeMap<PathBuf, Vec<u8>>, what: &str) -> bool {
    let restore = Restore::latest(PgVersion::oldest());
    let finished = restore.run(archive);
    if finished.code() == Some(0) {
        let restored = content(&restore.target());
        let mut differing: Vec<_> = expected
            .iter()
            .filter(|(name, bytes)| restored.get(*name) != Some(bytes))
            .map(|(name, _)| name.display().to_string())
            .collect();
        // A cluster needs no manifest: the restore goes on without, and says so.
        if finished.stderr.contains("\": restored files are not compared") {
            differing.retain(|name| name != "backup_manifest");
            assert!(!restored.contains_key(Path::new("backup_manifest")), "{what}");
        }
        assert!(differing.is_empty(), "{what}: restored with other content: {differing:?}");
        let others: Vec<_> = restored.keys().filter(|name| !expected.contains_key(*name)).collect();
        assert!(others.is_empty(), "{what}: restored with other files: {others:?}");
        return true;
    }
    let said = finished.failure(1);
    assert!(said.contains("basebackups_005/base_"), "{what}: no object is named in:\n{said}");
    assert!(!restore.target().join("global/pg_control").exists(), "{what}: it could be started");
    false
}

#[test]
fn damage_of_any_object_of_a_backup_is_harmless_or_reported() {
    damage_objects("lz4");
}

/// Only the manifest shows when a file of such a tar has changed.
#[test]
fn damage_of_any_object_that_is_not_compressed_is_harmless_or_reported() {
    damage_objects("none");
}

fn damage_objects(compression: &str) {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest())
        .configuration(format!("wal_e.compression = {compression}"))
        .start_archiving_to(&archive);
    cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10000) i");
    cluster.backup_push();
    cluster.stop(StopMode::Fast);
    let sound = Restore::latest(PgVersion::oldest());
    sound.run(&archive).success();
    let expected = content(&sound.target());
    assert!(expected.len() > 900, "a cluster has many files: {}", expected.len());

    let mut random = seeded();
    let mut refused = 0;
    let objects = archive.objects().into_iter().filter(|name| name.starts_with("basebackups_005/"));
    for name in objects {
        let bytes = archive.object(&name).expect("it is listed");
        let mut damages: Vec<(String, Vec<u8>)> = [0, bytes.len() / 2, bytes.len() - 1]
            .into_iter()
            .map(|length| (format!("{name} cut to {length} bytes"), bytes[..length].to_vec()))
            .collect();
        for _ in 0..FLIPS {
            let (place, bit) = (random.usize(..bytes.len()), random.u32(..8));
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            damages.push((format!("{name} with bit {bit} of byte {place} flipped"), damaged));
        }
        for (what, damaged) in damages {
            archive.replace_object(&name, damaged);
            refused += usize::from(!right_or_refused(&archive, &expected, &what));
        }
        archive.replace_object(&name, bytes);
    }
    assert!(refused > 20, "damage has to be noticed, and was only {refused} times");
    assert!(right_or_refused(&archive, &expected, "everything as it was"));
}

#[test]
fn damage_of_any_wal_file_is_harmless_or_reported() {
    let archive = Archive::file();
    let mut cluster =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(&archive);
    cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) i");
    let segment = cluster.archive_current_wal();
    cluster.backup_push();
    cluster.stop(StopMode::Fast);
    let history = archive
        .wal_objects()
        .into_iter()
        .find(|name| name.contains(".backup"))
        .expect("a backup leaves a backup history file");
    let mut random = seeded();
    for object in [format!("wal_005/{segment}.lz4"), history] {
        let file = object.strip_prefix("wal_005/").and_then(|name| name.strip_suffix(".lz4"));
        let file = file.expect("it is a WAL file");
        let bytes = archive.object(&object).expect("it is archived");
        let content = archive.wal_file(file);
        let mut damages: Vec<Vec<u8>> =
            [0, 1, bytes.len() / 2, bytes.len() - 1].map(|length| bytes[..length].to_vec()).into();
        for _ in 0..FLIPS {
            let mut damaged = bytes.clone();
            damaged[random.usize(..bytes.len())] ^= 1 << random.u32(..8);
            damages.push(damaged);
        }
        for damaged in damages {
            archive.replace_object(&object, damaged);
            let scratch = wal_e_e2e::scratch::Scratch::new();
            let destination = scratch.create("pg_wal").join("RECOVERYXLOG");
            let mut fetch = wal_e(&archive);
            let finished = run(fetch.arg("wal-fetch").arg(file).arg(&destination));
            if finished.code() == Some(0) {
                let fetched = fs::read(&destination).expect("it was fetched");
                assert!(fetched == content, "{object}: other content was taken for the file");
            } else {
                let said = finished.failure(200);
                assert!(said.contains(&object), "the object is not named in:\n{said}");
                assert!(!destination.exists(), "{object}: something was left");
            }
        }
        archive.replace_object(&object, bytes);
    }
}
