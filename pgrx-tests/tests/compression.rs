//! Every compression, and changes from one to another in one archive.

use std::fs;

use wal_e_e2e::archive::{Archive, decompress};
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::{PgVersion, wal_e_program};
use wal_e_e2e::process::run;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::{backup_push, wal_e};

/// The content of an object, by the extension of its name, read with the
/// libraries of the formats themselves.
#[track_caller]
fn content(archive: &Archive, object: &str) -> Vec<u8> {
    let bytes = archive.object(object).unwrap_or_else(|| panic!("{object} is not there"));
    match object.rsplit_once('.') {
        Some((_, "lz4")) => decompress(&bytes),
        Some((_, "zst")) => {
            let frame = zstd::zstd_safe::find_frame_compressed_size(&bytes);
            assert_eq!(frame, Ok(bytes.len()), "{object} is one zstd frame");
            assert_eq!(bytes[4] & 0x04, 0x04, "{object} has a checksum of its content");
            zstd::decode_all(&bytes[..]).unwrap_or_else(|error| panic!("{object}: {error}"))
        }
        _ => bytes,
    }
}

/// The WAL file that an object holds, and the extension after its name.
fn wal_file_of(object: &str) -> (&str, &str) {
    let file = object.strip_prefix("wal_005/").expect("it is an object of WAL");
    for extension in [".lz4", ".zst"] {
        if let Some(name) = file.strip_suffix(extension) {
            return (name, extension);
        }
    }
    (file, "")
}

/// How many WAL files there are with an extension. Each is compared with the
/// server's own file, as long as the server has it.
#[track_caller]
fn sound_wal_files(cluster: &Cluster, archive: &Archive, extension: &str) -> usize {
    let objects = archive.wal_objects();
    let with_it = objects.iter().filter(|object| wal_file_of(object).1 == extension);
    let mut compared = 0;
    for object in with_it {
        let (name, _) = wal_file_of(object);
        if let Some(file) = cluster.wal_file(name) {
            assert!(content(archive, object) == file, "{object} holds other bytes");
            compared += 1;
        }
    }
    compared
}

/// Asserts that every object of a base backup is a tar of this extension.
#[track_caller]
fn assert_tars(archive: &Archive, backup: &str, extension: &str) {
    let folder = format!("basebackups_005/{backup}/tar_partitions/");
    let objects: Vec<String> =
        archive.objects().into_iter().filter(|object| object.starts_with(&folder)).collect();
    assert!(objects.len() >= 3, "{objects:?}");
    for object in &objects {
        assert!(object.ends_with(&format!(".tar{extension}")), "{object}");
        let tar = content(archive, object);
        assert_eq!(&tar[257..262], b"ustar", "{object}");
    }
    let metadata = archive.backup_json(backup, "files_metadata.json");
    let sets = metadata["TarFileSets"].as_object().expect("it has the members of each tar");
    for tar in sets.keys() {
        assert!(objects.contains(&format!("{folder}{tar}")), "{tar}");
    }
}

/// Has the running server compress in another way, and waits until it does.
#[track_caller]
fn change_compression(cluster: &Cluster, archive: &Archive, method: &str, extension: &str) {
    cluster.configure(&format!("wal_e.compression = {method}"));
    cluster.reload();
    // The archiver learns of it some time after this session has.
    wait_for(&format!("WAL compressed with {method}"), || {
        cluster.pgbench(20);
        let segment = cluster.archive_current_wal();
        archive.wal_objects().contains(&format!("wal_005/{segment}{extension}"))
    });
}

/// A cluster whose compression changes twice, with a base backup before each
/// change; each backup is restored and replays WAL of all three.
fn an_archive_of_mixed_compressions_comes_back(version: PgVersion) {
    let archive = Archive::s3();
    let mut cluster = Cluster::build(version)
        .configuration("wal_keep_size = '1GB'")
        .configuration("wal_e.compression = zstd")
        .configuration("wal_e.compression_level = 1")
        .start_archiving_to(&archive);
    cluster.pgbench_init(1);
    let load = cluster.start_pgbench();
    let with_zstd = cluster.backup_push();
    load.stop();
    assert_tars(&archive, &with_zstd, ".zst");

    cluster.configure("wal_e.compression_level = 0");
    change_compression(&cluster, &archive, "none", "");
    let load = cluster.start_pgbench();
    let with_none = cluster.backup_push();
    load.stop();
    assert_tars(&archive, &with_none, "");

    change_compression(&cluster, &archive, "lz4", ".lz4");
    cluster.execute("CREATE TABLE last_words AS SELECT 'compressed with lz4' AS words");
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    for extension in [".zst", "", ".lz4"] {
        let compared = sound_wal_files(&cluster, &archive, extension);
        assert!(compared > 0, "no WAL with extension \"{extension}\": {:?}", archive.wal_objects());
    }
    drop(cluster);

    for backup in [with_zstd, with_none] {
        let mut restored = Restore::of(version, &backup).recover_beside(&archive);
        assert_eq!(restored.fingerprint(), expected, "restored from {backup}");
        restored.stop(StopMode::Fast);
        restored.check_page_checksums().success();
    }
}

#[test]
fn an_archive_of_mixed_compressions_comes_back_on_the_oldest_version() {
    an_archive_of_mixed_compressions_comes_back(PgVersion::oldest());
}

#[test]
fn an_archive_of_mixed_compressions_comes_back_on_the_newest_version() {
    an_archive_of_mixed_compressions_comes_back(PgVersion::newest());
}

#[test]
fn damage_to_an_object_of_zstd_never_comes_back() {
    let archive = Archive::s3();
    let mut cluster = Cluster::build(PgVersion::oldest())
        .configuration("wal_e.compression = zstd")
        .start_archiving_to(&archive);
    cluster.create_incompressible_table("noise", 8);
    let backup = cluster.backup_push();
    let segment = cluster.archive_current_wal();
    cluster.stop(StopMode::Fast);

    let object = format!("wal_005/{segment}.zst");
    let whole = archive.object(&object).expect("the segment is archived");
    let destination = archive.scratch().create("fetched").join("segment");
    let fetch = || run(wal_e(&archive).args(["wal-fetch", &segment]).arg(&destination));
    archive.corrupt_object(&object);
    let text = fetch().failure(200);
    assert!(text.contains(&object) && !destination.exists(), "{text}");
    archive.replace_object(&object, whole[..whole.len() - 1].to_vec());
    let text = fetch().failure(200);
    assert!(text.contains(&object) && !destination.exists(), "{text}");
    archive.replace_object(&object, whole);
    fetch().success();
    assert!(fs::read(&destination).ok() == Some(content(&archive, &object)));

    let tar = format!("basebackups_005/{backup}/tar_partitions/part_001.tar.zst");
    archive.corrupt_object(&tar);
    let restore = Restore::latest(PgVersion::oldest());
    let text = restore.run(&archive).failure(1);
    assert!(text.contains("part_001.tar.zst"), "{text}");
    let control = restore.target().join("global/pg_control");
    assert!(!control.exists(), "no server starts on a broken restore");
}

#[test]
fn settings_that_cannot_be_meant_are_refused_with_a_hint() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    for setting in ["compression = 'brotli'", "compression_level = 23", "compression_level = -6"] {
        let failure = cluster.failure_of(&format!("ALTER SYSTEM SET wal_e.{setting}"));
        assert_eq!(failure.sqlstate, "22023", "{}", failure.text);
    }
    // A level that another method has.
    cluster.configure("wal_e.compression_level = 19");
    cluster.reload();
    wait_for("the new level", || cluster.query_one("SHOW wal_e.compression_level") == "19");
    let failure = cluster.failure_of("SELECT wale_backup_push()");
    assert!(
        failure.text.contains("compression method \"lz4\" has no level 19"),
        "{}",
        failure.text
    );
    assert!(failure.text.contains("The levels of lz4 are"), "{}", failure.text);
    cluster.configure("wal_e.compression = zstd");
    cluster.reload();
    wait_for("the new method", || cluster.query_one("SHOW wal_e.compression") == "zstd");
    let backup = cluster.backup_push();
    assert_tars(&archive, &backup, ".zst");
}

#[test]
fn the_program_compresses_as_it_is_told() {
    let archive = Archive::s3();
    let command = format!(
        "{} {} wal-push --compression zstd --compression-level 5 \"%p\"",
        wal_e_program().display(),
        archive.program_options().join(" ")
    );
    let mut cluster = Cluster::build(PgVersion::oldest())
        .configuration("archive_mode = on")
        .configuration("wal_keep_size = '1GB'")
        .configuration(format!("archive_command = '{command}'"))
        .start();
    cluster.pgbench_init(1);

    let mut brotli = backup_push(&cluster, &archive);
    let text = run(brotli.env("WALG_COMPRESSION_METHOD", "brotli")).failure(1);
    assert!(text.contains("\"brotli\" is not supported"), "{text}");
    assert!(text.contains("WALG_COMPRESSION_METHOD"), "{text}");
    assert_eq!(archive.backups(), Vec::<String>::new());

    run(backup_push(&cluster, &archive).env("WALG_COMPRESSION_METHOD", "none")).success();
    let [backup] = archive.backups().try_into().expect("there is one backup");
    assert_tars(&archive, &backup, "");
    cluster.pgbench(100);
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    assert!(sound_wal_files(&cluster, &archive, ".zst") > 0, "{:?}", archive.wal_objects());
    let restored = Restore::latest(PgVersion::oldest()).recover(&archive);
    assert_eq!(restored.fingerprint(), expected);
}
