//! Archives of WAL-G become servers.

use std::fs;

use serde_json::{Value, json};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::StopMode;
use wal_e_e2e::fingerprint::Fingerprint;
use wal_e_e2e::foreign_archive::{Backup, Codec, ExtraFiles, Source, WalG, passes_verification};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::made_backup::{MadeBackup, Member, Tar, lz4};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::run_wal_e;

fn restore_of(backup: &str) -> Restore {
    Restore::of(PgVersion::oldest(), backup)
}

/// Fetches the newest backup, recovers to the end of the WAL and looks at all of it.
#[track_caller]
fn comes_back(archive: &Archive, expected: &Fingerprint) {
    let mut restored = restore_of("LATEST").recover_beside(archive);
    restored.assert_restored(expected);
}

#[test]
fn a_full_backup_of_every_codec_comes_back() {
    let source = Source::start(PgVersion::oldest());
    let snapshot = source.snapshot();
    source.cluster.execute("DELETE FROM changing WHERE i % 3 = 0");
    let expected = source.fingerprint();
    for codec in Codec::WAL_G {
        let archive = match codec {
            Codec::Zstd => Archive::s3(),
            _ => Archive::file(),
        };
        WalG::new(codec).push(&archive, &snapshot);
        source.archive_wal(&archive, codec);
        assert!(
            archive.objects().iter().any(|name| name.contains("part_002.tar")),
            "the backup has several tars"
        );
        passes_verification(&archive, "LATEST");
        comes_back(&archive, &expected);
    }
}

#[test]
fn a_backup_without_files_metadata_comes_back_with_tablespaces_and_long_names() {
    let source = Source::start(PgVersion::oldest());
    let extra = ExtraFiles::add_to(&source);
    let snapshot = source.snapshot();
    let expected = source.fingerprint();
    for options in [WalG::new(Codec::Lzma), WalG::new(Codec::Lz4).without_files_metadata()] {
        let archive = Archive::file();
        options.push(&archive, &snapshot);
        source.archive_wal(&archive, Codec::Lz4);
        passes_verification(&archive, "LATEST");
        let (restore, moved) = extra.moved_by(restore_of("LATEST"));
        let mut restored = restore.recover_beside(&archive);
        extra.assert_restored(&restored, &moved);
        restored.assert_restored(&expected);
    }
}

#[test]
fn a_backup_over_the_replication_protocol_comes_back() {
    let source = Source::start(PgVersion::oldest());
    let location = source.cluster.create_tablespace("extra");
    source.cluster.execute("CREATE TABLE elsewhere TABLESPACE extra AS SELECT 1 i");
    let archive = Archive::file();
    WalG::new(Codec::Brotli).remote().push(&archive, &source.snapshot());
    source.archive_wal(&archive, Codec::Brotli);
    let restore = restore_of("LATEST").tablespace(&location, "moved");
    passes_verification(&archive, "LATEST");
    let mut restored = restore.recover_beside(&archive);
    restored.assert_restored(&source.fingerprint());
}

#[test]
fn names_that_end_with_a_dot_and_sentinels_that_have_everything_are_read() {
    let source = Source::start(PgVersion::oldest());
    let snapshot = source.snapshot();
    let expected = source.fingerprint();
    for (options, codec) in [
        (WalG::new(Codec::NoneWithDot), Codec::NoneWithDot),
        (WalG::new(Codec::Lz4).first_version(), Codec::Lz4),
    ] {
        let archive = Archive::file();
        options.push(&archive, &snapshot);
        source.archive_wal(&archive, codec);
        passes_verification(&archive, "LATEST");
        comes_back(&archive, &expected);
    }
}

/// Changes a table, grows and shrinks one, drops one and makes one.
fn change(source: &Source, round: u32) {
    source.cluster.execute(&format!(
        "UPDATE changing SET md5 = md5 || '.' WHERE i % 50 = {round}; \
         CREATE TABLE round_{round} AS SELECT i, md5(i::text) FROM generate_series(1, 3000) i; \
         DROP TABLE IF EXISTS round_{previous}; \
         INSERT INTO growing SELECT i, {round} FROM generate_series(1, 5000) i; \
         DELETE FROM shrinking WHERE i > {keep}",
        previous = round - 1,
        keep = 10_000 - 4_000 * round,
    ));
    // Gives the end of the file back to the file system.
    source.cluster.execute("VACUUM shrinking");
}

/// A full backup and two deltas: each comes back as the server was then, and from
/// each one the end of the WAL can be reached.
fn a_chain_of_deltas_comes_back(version: PgVersion, options: WalG, codec: Codec) {
    let source = Source::start(version);
    let restore_of = |backup: &str| Restore::of(version, backup);
    source.cluster.execute(
        "CREATE TABLE growing AS SELECT i, 0 AS round FROM generate_series(1, 100) i; \
         CREATE TABLE shrinking AS SELECT i, md5(i::text) FROM generate_series(1, 10000) i",
    );
    let archive = Archive::file();
    let mut chain: Vec<(Backup, Fingerprint)> = Vec::new();
    for round in 0..3 {
        if round > 0 {
            change(&source, round);
        }
        let snapshot = source.snapshot();
        let backup = match chain.last() {
            None => options.push(&archive, &snapshot),
            Some((parent, _)) => options.push_delta(&archive, &snapshot, parent),
        };
        chain.push((backup, source.fingerprint()));
    }
    source.archive_wal(&archive, codec);
    if archive.object(&format!("basebackups_005/{}/files_metadata.json", chain[2].0.name)).is_some()
    {
        let files = archive.backup_json(&chain[2].0.name, "files_metadata.json")["Files"].clone();
        let files = files.as_object().expect("an object");
        for mark in ["IsIncremented", "IsSkipped"] {
            assert!(files.values().any(|file| file[mark] == true), "no file is {mark}");
        }
    }
    for (backup, expected) in &chain {
        passes_verification(&archive, &backup.name);
        let mut restored = restore_of(&backup.name).recover_beside_with(&archive, |data| {
            let settings = "recovery_target = 'immediate'\nrecovery_target_action = 'promote'\n";
            let path = data.join("postgresql.auto.conf");
            let before = fs::read_to_string(&path).expect("the file is in the backup");
            fs::write(&path, before + settings).expect("the file can be written");
        });
        restored.assert_restored(expected);
    }
    source.cluster.execute("INSERT INTO growing VALUES (-1, -1)");
    let end = source.fingerprint();
    source.archive_wal(&archive, codec);
    for (backup, _) in chain.iter().skip(1) {
        let mut restored = restore_of(&backup.name).recover_beside(&archive);
        assert_eq!(restored.fingerprint(), end);
        restored.stop(StopMode::Fast);
    }
}

#[test]
fn a_chain_of_deltas_comes_back_at_every_link() {
    a_chain_of_deltas_comes_back(PgVersion::oldest(), WalG::new(Codec::Lz4), Codec::Lz4);
}

#[test]
fn a_chain_of_deltas_of_the_newest_version_comes_back_at_every_link() {
    a_chain_of_deltas_comes_back(PgVersion::newest(), WalG::new(Codec::Brotli), Codec::Lzma);
}

#[test]
fn a_chain_of_deltas_of_the_first_version_comes_back_at_every_link() {
    let options = WalG::new(Codec::Zstd).first_version();
    a_chain_of_deltas_comes_back(PgVersion::oldest(), options, Codec::Zstd);
}

/// `files_metadata.json` and the sentinel of a backup, changed by `change`.
fn change_documents(archive: &Archive, backup: &str, change: impl FnOnce(&mut Value, &mut Value)) {
    let mut files = archive.backup_json(backup, "files_metadata.json");
    let object = format!("basebackups_005/{backup}_backup_stop_sentinel.json");
    let sentinel = archive.object(&object).expect("a backup has one");
    let mut sentinel = serde_json::from_slice(&sentinel).expect("JSON");
    change(&mut files, &mut sentinel);
    let list = format!("basebackups_005/{backup}/files_metadata.json");
    archive.replace_object(&list, files.to_string().into_bytes());
    archive.replace_object(&object, sentinel.to_string().into_bytes());
}

/// WAL-G copies tars of which no file has changed, and counts in `UncompressedSize` only
/// what it packed itself.
#[test]
fn a_backup_of_the_copy_composer_comes_back() {
    let source = Source::start(PgVersion::oldest());
    let archive = Archive::file();
    let backup = WalG::new(Codec::Lz4).push(&archive, &source.snapshot()).name;
    source.archive_wal(&archive, Codec::Lz4);
    let tars = format!("basebackups_005/{backup}/tar_partitions");
    // 18 times 64 MB: more than files may have grown by while they were read.
    let header = Member { name: "/large", kind: b'0', size: "11000000000", link: "" };
    let mut large = lz4(&Tar::new().header(&header).cut());
    let zeros = lz4(&vec![0; 64 << 20]);
    (0..18).for_each(|_| large.extend_from_slice(&zeros));
    archive.replace_object(&format!("{tars}/copy_1.tar.lz4"), large);
    let copied = archive.object(&format!("{tars}/part_001.tar.lz4")).expect("it is there");
    archive.replace_object(&format!("{tars}/copy_0.tar.lz4"), copied);
    archive.remove_object(&format!("{tars}/part_001.tar.lz4"));
    change_documents(&archive, &backup, |files, sentinel| {
        let described = json!({"IsIncremented": false, "IsSkipped": false, "MTime": ""});
        files["Files"]["/large"] = described;
        let sets = &mut files["TarFileSets"];
        sets["copy_0.tar.lz4"] = sets["part_001.tar.lz4"].take();
        sets["copy_1.tar.lz4"] = json!(["/large"]);
        sets.as_object_mut().expect("an object").remove("part_001.tar.lz4");
        sentinel["UncompressedSize"] = json!(30 << 20);
    });
    passes_verification(&archive, "LATEST");
    comes_back(&archive, &source.fingerprint());
}

/// A backup that was killed, and the next one of the same name: WAL-G leaves what it does
/// not write again.
#[test]
fn a_backup_comes_back_from_among_the_tars_of_one_that_was_killed() {
    let source = Source::start(PgVersion::oldest());
    let archive = Archive::file();
    let snapshot = source.snapshot();
    WalG::new(Codec::Zstd).push(&archive, &snapshot);
    source.cluster.execute("DELETE FROM changing WHERE i % 3 = 0");
    let backup = WalG::new(Codec::Lz4).push(&archive, &snapshot).name;
    source.archive_wal(&archive, Codec::Lz4);
    let tars = format!("basebackups_005/{backup}/tar_partitions");
    let stale = archive.object(&format!("{tars}/part_002.tar.lz4")).expect("there are several");
    archive.replace_object(&format!("{tars}/part_099.tar.lz4"), stale);
    archive.truncate_object(&format!("{tars}/part_002.tar.zst"));
    passes_verification(&archive, "LATEST");
    let restore = restore_of("LATEST");
    let finished = restore.run(&archive);
    assert!(finished.stderr.contains("objects among the tars"), "{finished}");
    finished.success();
    comes_back(&archive, &source.fingerprint());
}

#[test]
fn wal_of_several_codecs_in_one_archive_is_replayed() {
    let source = Source::start(PgVersion::oldest());
    let archive = Archive::file();
    WalG::new(Codec::Lz4).push(&archive, &source.snapshot());
    for codec in [Codec::Lzop, Codec::Gzip, Codec::NoneWithDot, Codec::Brotli, Codec::Lzma] {
        source.cluster.execute("UPDATE changing SET md5 = md5 || '+' WHERE i % 7 = 0");
        source.archive_wal(&archive, codec);
    }
    // What WAL-G writes besides WAL: for its own deltas, and about each segment.
    for name in ["000000010000000000000000_delta.lz4", "000000010000000000000003.json"] {
        archive.replace_object(&format!("wal_005/{name}"), b"no WAL".to_vec());
    }
    comes_back(&archive, &source.fingerprint());
}

#[test]
fn an_encrypted_object_is_said_to_be_one() {
    let archive = Archive::file();
    let wal = "000000010000000000000001";
    // How gpg begins what is encrypted for a key of RSA.
    let message =
        b"\x85\x01\x0C\x03\xAD\x0F\x32\x11\x9E\x55\x21\x60\x01\x08\x00 and so on".to_vec();
    for codec in [Codec::Lz4, Codec::Lzop, Codec::Zstd, Codec::Brotli] {
        let object = format!("wal_005/{wal}{}", codec.suffix());
        archive.replace_object(&object, message.clone());
        let target = archive.scratch().path().join("fetched");
        let path = target.display().to_string();
        let finished = run_wal_e(&archive, ["wal-fetch", wal, &path]);
        assert!(!finished.status.success(), "{finished}");
        for word in ["OpenPGP", &object, "ecrypt it with"] {
            assert!(finished.stderr.contains(word), "{word}: {finished}");
        }
        assert!(!target.exists());
        fs::remove_file(archive.directory().join(&object)).expect("an object can be removed");
    }
    MadeBackup::new(&archive).put("part_001.tar.lz4", &message);
    let refused = restore_of("LATEST").run(&archive).failure(1);
    for word in ["OpenPGP", "part_001.tar.lz4", "ecrypt it with"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
}
