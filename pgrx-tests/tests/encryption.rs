//! What is encrypted before it leaves: nothing of it can be read without the key, all of it with
//! the key, whichever key it was, and nothing is stored in the clear where it should not be.

use std::fs;
use std::process::Command;

use wal_e_core::encryption::{Key, KeyTransform, SecretStreamReader};
use wal_e_e2e::archive::{Archive, decompress};
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wait::wait_for;
use wal_e_e2e::wal_e::{backup_push, run_wal_e};

const FIRST: &str = "7f0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: &str = "8f0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What stands in a table, and must not stand in the archive.
const MARKER: &str = "plain text that nobody else may read";

/// A file with these keys, one on each line; the variable `name` says where it is.
fn name_keys(archive: &Archive, name: &str, keys: &[&str]) {
    let path = archive.scratch().path().join(format!("{name}.file"));
    fs::write(&path, keys.join("\n") + "\n").expect("a file of the test can be written");
    ServerUser::get().own(&path);
    archive.write_variable(name, path.to_str().expect("the path is text"));
}

fn use_key(archive: &Archive, key: &str) {
    archive.write_variable("WALG_LIBSODIUM_KEY_TRANSFORM", "hex");
    name_keys(archive, "WALG_LIBSODIUM_KEY_PATH", &[key]);
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn key_bytes(key: &str) -> Vec<u8> {
    Key::parse(key.as_bytes(), KeyTransform::Hex).expect("it is a key").expose().to_vec()
}

/// The objects that have the content of WAL and of files.
fn contents(archive: &Archive) -> Vec<String> {
    let mut objects = archive.objects();
    objects.retain(|name| {
        name.starts_with("wal_005/")
            || name.contains("/tar_partitions/")
            || name.contains("/backup_manifest")
    });
    objects
}

/// Decrypts an object as libsodium does, with this key.
fn decrypted(stored: &[u8], key: &str) -> std::io::Result<Vec<u8>> {
    let key = Key::parse(key.as_bytes(), KeyTransform::Hex).expect("it is a key");
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut SecretStreamReader::new(stored, &key), &mut content)?;
    Ok(content)
}

/// The row of `wale_check()` about encryption.
fn check(cluster: &Cluster) -> Vec<String> {
    let rows = "SELECT check_name, ok, detail FROM wale_check() WHERE check_name = 'encryption'";
    cluster.query(rows).remove(0)
}

fn fingerprint(key: &str) -> String {
    Key::parse(key.as_bytes(), KeyTransform::Hex).expect("it is a key").fingerprint().to_string()
}

/// What the list says of each base backup: form and key.
fn listed(cluster: &Cluster) -> Vec<Vec<String>> {
    cluster.query("SELECT encryption, coalesce(encryption_key, '') FROM wale_backup_list()")
}

/// How WAL is encrypted, as the server and the program say.
fn shown(cluster: &Cluster, archive: &Archive) -> String {
    let said = cluster.query_one("SELECT encryption FROM wale_wal_show()");
    let json = run_wal_e(archive, ["wal-show", "--json"]).success();
    let rows: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(rows[0]["encryption"], said.as_str());
    said
}

/// Asserts that these secrets are in nothing that others see.
fn assert_secret(cluster: &Cluster, archive: &Archive, key: &str) {
    let bytes = key_bytes(key);
    for name in archive.objects() {
        let object = archive.object(&name).expect("it was listed");
        assert!(!has(&object, &bytes) && !has(&object, key.as_bytes()), "{name} has the key");
    }
    assert!(!cluster.log().contains(key));
    let settings = cluster.query("SELECT name, setting FROM pg_settings");
    assert!(!settings.iter().flatten().any(|text| text.contains(key)));
    for process in fs::read_dir("/proc").expect("it is there").flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!has(&line, key.as_bytes()), "{}", process.path().display());
    }
}

#[test]
fn what_is_stored_is_nothing_without_the_key_and_everything_with_it() {
    for (version, archive) in Archive::for_tested_versions() {
        use_key(&archive, FIRST);
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.pgbench_init(1);
        cluster.execute(&format!("CREATE TABLE words AS SELECT '{MARKER}'::text AS t"));
        let full = cluster.backup_push();
        cluster.pgbench(200);
        cluster.execute(&format!("INSERT INTO words VALUES ('{MARKER} {MARKER}')"));
        cluster.query_one("SELECT wale_backup_push(incremental => true)");
        cluster.pgbench(200);
        run(&mut backup_push(&cluster, &archive)).success();
        let expected = cluster.fingerprint();
        cluster.archive_current_wal();

        let stored = contents(&archive);
        assert!(stored.len() > 10, "{stored:?}");
        let mut found = false;
        for name in archive.objects() {
            let object = archive.object(&name).expect("it was listed");
            assert!(!has(&object, MARKER.as_bytes()), "{name} can be read");
            if stored.contains(&name) {
                let content = decrypted(&object, FIRST).expect("it is a secret stream");
                found |= has(&decompress(&content), MARKER.as_bytes());
            }
        }
        assert!(found, "the words are nowhere");
        let row = check(&cluster);
        assert!(row[1] == "t" && row[2].contains("WAL file"), "{row:?}");
        assert_secret(&cluster, &archive, FIRST);

        let fingerprint = fingerprint(FIRST);
        let backup = vec!["libsodium".to_owned(), fingerprint.clone()];
        assert_eq!(listed(&cluster), [backup.clone(), backup.clone(), backup]);
        let said = run_wal_e(&archive, ["backup-list", "--detail"]).success();
        assert_eq!(said.matches(&format!("libsodium   {fingerprint}")).count(), 3, "{said}");
        assert_eq!(shown(&cluster, &archive), "libsodium");
        for name in [full.as_str(), "LATEST"] {
            run_wal_e(&archive, ["backup-verify", name]).success();
            let rows = cluster.query(&format!("SELECT ok FROM wale_backup_verify('{name}')"));
            assert!(rows.iter().all(|row| row[0] == "t"), "{rows:?}");
            let mut restored = Restore::of(version, name).recover_beside(&archive);
            restored.assert_restored(&expected);
        }
    }
}

/// An outsider who knows a segment must not find out whether it was archived.
#[test]
fn the_checksum_that_is_kept_with_wal_says_nothing_without_the_key() {
    let archive = Archive::s3();
    use_key(&archive, FIRST);
    let cluster = Cluster::build(PgVersion::newest()).start_archiving_to(&archive);
    let segment = cluster.archive_current_wal();
    let kept = kept_checksum(&archive, &segment);
    assert!(kept.starts_with("keyed:"), "{kept}");
    // It still tells the same file from another, without reading the object.
    let path = cluster.data_directory().join("pg_wal").join(&segment);
    let path = path.to_str().expect("the path is text");
    let gets = || archive.proxy().count_requests("GET", &format!("{segment}.lz4"));
    let before = gets();
    run_wal_e(&archive, ["wal-push", path]).success();
    assert_eq!(gets(), before);
    // With another key it has to be read.
    use_key(&archive, SECOND);
    name_keys(&archive, "WALE_LIBSODIUM_OLD_KEYS_PATH", &[FIRST]);
    run_wal_e(&archive, ["wal-push", path]).success();
    assert_eq!(gets(), before, "the old key makes the same checksum");
}

fn kept_checksum(archive: &Archive, segment: &str) -> String {
    let key = archive.objects().into_iter().find(|name| name.contains(segment));
    let key = format!("clusters/one/{}", key.expect("it is archived"));
    let metadata = archive.server().metadata(wal_e_e2e::archive::BUCKET, &key);
    let metadata = metadata.expect("it is there");
    let kept = metadata.into_iter().find(|(name, _)| name.ends_with("xxh128"));
    kept.expect("a checksum is kept").1
}

#[test]
fn a_key_is_changed_in_the_middle_and_both_are_read() {
    for (version, archive) in Archive::for_tested_versions() {
        use_key(&archive, FIRST);
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.pgbench_init(1);
        let full = cluster.backup_push();
        cluster.archive_current_wal();

        use_key(&archive, SECOND);
        name_keys(&archive, "WALE_LIBSODIUM_OLD_KEYS_PATH", &[FIRST]);
        cluster.pgbench(100);
        cluster.query_one("SELECT wale_backup_push(incremental => true)");
        cluster.pgbench(100);
        let expected = cluster.fingerprint();
        let last = cluster.archive_current_wal();
        let stored = archive.wal_object(&last).expect("it is archived");
        assert!(decrypted(&stored, SECOND).is_ok() && decrypted(&stored, FIRST).is_err());
        for name in [full.as_str(), "LATEST"] {
            run_wal_e(&archive, ["backup-verify", name]).success();
            let mut restored = Restore::of(version, name).recover_beside(&archive);
            restored.assert_restored(&expected);
        }

        let backup = |key| vec!["libsodium".to_owned(), fingerprint(key)];
        assert_eq!(listed(&cluster), [backup(FIRST), backup(SECOND)]);
        assert_eq!(shown(&cluster, &archive), "libsodium");

        // Without the old one, what it had encrypted is named, and nothing is half restored.
        archive.remove_variable("WALE_LIBSODIUM_OLD_KEYS_PATH");
        let restore = Restore::of(version, &full);
        let said = restore.run(&archive).failure(1);
        assert!(said.contains("no configured key opens it") && said.contains(&full), "{said}");
        assert!(!restore.target().join("global/pg_control").exists());
        let said = run_wal_e(&archive, ["backup-verify", &full]).failure(1);
        assert!(said.contains("cannot be read with the keys that are configured"), "{said}");
        let failure = cluster.failure_of(&format!("SELECT * FROM wale_backup_verify('{full}')"));
        assert!(failure.text.contains("cannot be read with the keys"), "{}", failure.text);
        // That is known without any key, and this is not.
        assert_eq!(listed(&cluster), [backup(FIRST), backup(SECOND)]);
        assert_eq!(shown(&cluster, &archive), "unknown");
        let row = check(&cluster);
        assert!(row[1] == "f" && row[2].contains("not configured"), "{row:?}");
        // What was not found out is not recorded as damage.
        let damage = archive.objects().into_iter().filter(|name| name.contains("/damaged"));
        assert_eq!(damage.count(), 0);
        assert_secret(&cluster, &archive, SECOND);
        assert_secret(&cluster, &archive, FIRST);
    }
}

#[test]
fn wal_that_no_key_opens_is_not_the_end_of_the_wal() {
    let archive = Archive::file();
    use_key(&archive, FIRST);
    let cluster = Cluster::build(PgVersion::newest()).start_archiving_to(&archive);
    let segment = cluster.archive_current_wal();
    let target = archive.scratch().path().join("fetched");
    let fetch = || run_wal_e(&archive, ["wal-fetch", &segment, target.to_str().expect("text")]);
    let absent = "0000000100000000000000FF";
    let missing = run_wal_e(&archive, ["wal-fetch", absent, target.to_str().expect("text")]);
    fetch().success();
    fs::remove_file(&target).expect("it was fetched");
    use_key(&archive, SECOND);
    let failed = fetch();
    assert!(failed.code() != missing.code() && failed.code() != Some(0), "{failed}");
    assert!(failed.stderr.contains("no configured key opens it"), "{failed}");
    assert!(!target.exists());
}

#[test]
fn nothing_is_stored_in_the_clear_once_something_is_encrypted() {
    for (version, archive) in Archive::for_tested_versions() {
        let cluster = Cluster::build(version).start_archiving_to(&archive);
        cluster.execute("CREATE TABLE words (t text)");
        let plain = cluster.backup_push();
        cluster.archive_current_wal();
        assert_eq!(shown(&cluster, &archive), "none");
        use_key(&archive, FIRST);
        archive.settings().iter().for_each(|line| cluster.configure(line));
        cluster.reload();
        cluster.execute(&format!("INSERT INTO words VALUES ('{MARKER}')"));
        cluster.backup_push();
        let encrypted = cluster.archive_current_wal();
        assert!(decrypted(&archive.wal_object(&encrypted).expect("it is there"), FIRST).is_ok());
        let backups = [
            vec!["none".to_owned(), String::new()],
            vec!["libsodium".to_owned(), fingerprint(FIRST)],
        ];
        assert_eq!(listed(&cluster), backups);
        assert_eq!(shown(&cluster, &archive), "mixed");
        // From before to after.
        let expected = cluster.fingerprint();
        Restore::of(version, &plain).recover_beside(&archive).assert_restored(&expected);

        // The key is lost.
        archive.remove_variable("WALG_LIBSODIUM_KEY_PATH");
        let before = archive.objects();
        let offset = cluster.log_offset();
        cluster.switch_wal();
        cluster.wait_for_log_after(offset, "there is no key to encrypt with");
        let row = check(&cluster);
        assert!(row[1] == "f" && row[2].contains("no key to encrypt with"), "{row:?}");
        let failure = cluster.failure_of("SELECT wale_backup_push()");
        assert!(failure.text.contains("there is no key to encrypt with"), "{}", failure.text);
        let failed = run(&mut backup_push(&cluster, &archive)).failure(1);
        assert!(failed.contains("there is no key to encrypt with"), "{failed}");
        assert_eq!(archive.objects(), before);

        // It is said that it shall be so.
        cluster.configure("wal_e.encryption = off");
        cluster.reload();
        let segment = cluster.archive_current_wal();
        let stored = archive.wal_object(&segment).expect("it is archived");
        assert!(!decompress(&stored).is_empty());

        // With "required" once, never again.
        use_key(&archive, FIRST);
        cluster.configure("wal_e.encryption = required");
        cluster.reload();
        cluster.archive_current_wal();
        archive.remove_variable("WALG_LIBSODIUM_KEY_PATH");
        for (setting, words) in [
            ("required", "there is no key to encrypt with"),
            ("off", "takes nothing that is not encrypted"),
        ] {
            let offset = cluster.log_offset();
            cluster.configure(&format!("wal_e.encryption = {setting}"));
            cluster.reload();
            cluster.switch_wal();
            cluster.wait_for_log_after(offset, words);
        }
        use_key(&archive, FIRST);
        cluster.configure("wal_e.encryption = auto");
        cluster.reload();
        cluster.execute(&format!("INSERT INTO words VALUES ('{MARKER}')"));
        let expected = cluster.fingerprint();
        wait_for("all WAL to be archived", || {
            cluster.archive_current_wal();
            cluster.ready_files().is_empty()
        });
        Restore::latest(version).recover_beside(&archive).assert_restored(&expected);
    }
}

/// Keys that cannot be used are said, and none of them.
#[test]
fn a_key_that_is_no_key_is_refused_without_being_shown() {
    let archive = Archive::file();
    archive.write_variable("WALG_LIBSODIUM_KEY", "hunter2");
    let refused = |command: &mut Command| {
        let said = run(command).failure(1);
        assert!(said.contains("WALG_LIBSODIUM_KEY") && !said.contains("hunter2"), "{said}");
    };
    refused(wal_e_e2e::wal_e::wal_e(&archive).arg("backup-list"));
    let cluster = Cluster::build(PgVersion::oldest()).archiving_to(&archive).start();
    cluster.switch_wal();
    cluster.wait_for_archiver_count("failed_count", 0);
    cluster.wait_for_log("WALG_LIBSODIUM_KEY");
    assert!(!cluster.log().contains("hunter2"));
    archive.remove_variable("WALG_LIBSODIUM_KEY");
    archive.write_variable("WALG_LIBSODIUM_KEY_PATH", "/no/such/key");
    let said = run_wal_e(&archive, ["backup-list"]).failure(1);
    assert!(said.contains("/no/such/key"), "{said}");
    cluster.execute("CREATE EXTENSION IF NOT EXISTS wal_e");
    assert!(cluster.failure_of("SELECT * FROM wale_backup_list()").text.contains("/no/such/key"));
}
