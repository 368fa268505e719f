//! Archives that WAL-G and WAL-E encrypted become servers, with the key and not without it, and
//! wal_e goes on in the same prefix with a key of libsodium.

use std::fs;
use std::path::Path;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::foreign_archive::{
    Cipher, Codec, Gnupg, Snapshot, Source, TarFormat, WalE, WalG, give_file, passes_verification,
};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::ServerUser;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::run_wal_e;

const KEY: &str = "7f0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW_KEY: &str = "8f0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const WRONG_KEY: &str = "9f0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Who made an archive, and how.
struct Maker<'a> {
    version: PgVersion,
    codec: Codec,
    cipher: &'a Cipher,
    /// Stores a backup, and names it.
    push: &'a dyn Fn(&Archive, &Snapshot) -> String,
    /// Puts in place what the backups of this maker lack.
    prepare: &'a dyn Fn(&Cluster, &Path),
}

impl Maker<'_> {
    /// The archive comes back with its key alone, and goes on with `keep`, which gives wal_e the
    /// key for what is old once there is another for what is new.
    fn comes_back_and_goes_on(&self, archive: &Archive, wrong: &Cipher, keep: impl Fn(&Archive)) {
        let mut source = Source::start(self.version);
        let snapshot = source.snapshot();
        let old = (self.push)(archive, &snapshot);
        source.cluster.execute("DELETE FROM changing WHERE i % 3 = 0");
        source.archive_wal(archive, self.codec.encrypted(self.cipher));
        let expected = source.fingerprint();

        self.is_refused(archive, &old, &snapshot, self.cipher.variable());
        wrong.give_key(archive);
        self.is_refused(archive, &old, &snapshot, "no configured key opens it");

        self.cipher.give_key(archive);
        passes_verification(archive, &old);
        self.restored(&source, archive, &old).assert_restored(&expected);

        archive.write_variable("WALG_LIBSODIUM_KEY_TRANSFORM", "hex");
        give_file(archive, "WALG_LIBSODIUM_KEY_PATH", NEW_KEY.as_bytes());
        keep(archive);
        source.hand_over(archive, self.codec.encrypted(self.cipher));
        source.cluster.execute("DELETE FROM changing WHERE i % 3 = 1");
        let segment = source.cluster.archive_current_wal();
        let new = source.cluster.backup_push();
        source.cluster.execute("CREATE TABLE last AS SELECT generate_series(1, 1000) i");
        source.cluster.query_one("SELECT wale_backup_push(incremental => true)");
        let expected = source.fingerprint();
        source.cluster.archive_current_wal();
        assert!(archive.wal_object(&segment).is_some(), "wal_e archived {segment}");
        for name in [&old, &new] {
            passes_verification(archive, name);
            self.restored(&source, archive, name).assert_restored(&expected);
        }
        let latest = Restore::latest(self.version);
        latest.recover_beside(archive).assert_restored(&expected);
        let rows = source.cluster.query("SELECT backup_name FROM wale_backup_list()");
        assert_eq!(rows.len(), 3, "{rows:?}");
        let checks = "SELECT detail FROM wale_check() WHERE check_name = 'encryption' AND ok";
        assert_eq!(source.cluster.query(checks).len(), 1);

        // Without its key, what is old is still told from what is damaged.
        archive.remove_variable(match self.cipher {
            Cipher::Libsodium(_) => "WALE_LIBSODIUM_OLD_KEYS_PATH",
            Cipher::OpenPgp(_) => "WALG_PGP_KEY_PATH",
        });
        self.is_refused(archive, &old, &snapshot, "no configured key opens it");
    }

    fn restored(&self, source: &Source, archive: &Archive, name: &str) -> Cluster {
        let restore = Restore::of(self.version, name);
        // Only what another program stored lacks something.
        let is_own = archive.object(&format!("basebackups_005/{name}/backup_manifest.lz4"));
        match is_own {
            Some(_) => restore.recover_beside(archive),
            None => {
                restore.recover_beside_with(archive, |data| (self.prepare)(&source.cluster, data))
            }
        }
    }

    /// Asserts that nothing is read, that errors have these words and name the object, and that
    /// what must not be encrypted is not.
    fn is_refused(&self, archive: &Archive, backup: &str, snapshot: &Snapshot, words: &str) {
        assert!(run_wal_e(archive, ["backup-list"]).success().contains(backup));
        let segment = &snapshot.start_segment;
        let target = archive.scratch().path().join("fetched");
        let path = target.to_str().expect("the path is text");
        let absent = run_wal_e(archive, ["wal-fetch", "0000000100000000000000FF", path]);
        let fetched = run_wal_e(archive, ["wal-fetch", segment, path]);
        let object = format!("wal_005/{segment}{}", self.codec.suffix());
        let is_named = fetched.stderr.contains(&object) && fetched.stderr.contains(words);
        assert!(is_named, "{fetched}");
        // Which would be the end of the WAL.
        assert!(fetched.code() != Some(0) && fetched.code() != absent.code(), "{fetched}");
        assert!(!target.exists());
        let restore = Restore::of(self.version, backup);
        let said = restore.run(archive).failure(1);
        assert!(said.contains(words) && said.contains("/tar_partitions/"), "{said}");
        assert!(!restore.target().join("global/pg_control").exists());
        let verified = run_wal_e(archive, ["backup-verify", backup]);
        assert_eq!(verified.code(), Some(1), "{verified}");
        let said = format!("{}{}", verified.stdout, verified.stderr);
        assert!(said.contains(words) && said.contains("/tar_partitions/"), "{said}");
    }
}

/// WAL-E leaves the files of configuration out.
fn bring_configuration(source: &Cluster, data: &Path) {
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        let target = data.join(name);
        fs::copy(source.data_directory().join(name), &target).expect("it can be copied");
        ServerUser::get().own(&target);
    }
}

fn wal_g_comes_back(
    version: PgVersion,
    archive: &Archive,
    codec: Codec,
    cipher: &Cipher,
    wrong: &Cipher,
    keep: impl Fn(&Archive),
) {
    let push = |archive: &Archive, snapshot: &Snapshot| {
        WalG::new(codec.encrypted(cipher)).push(archive, snapshot).name
    };
    let maker = Maker { version, codec, cipher, push: &push, prepare: &|_, _| () };
    maker.comes_back_and_goes_on(archive, wrong, keep);
}

/// The key that is old now is one to read with.
fn keep_old_key(archive: &Archive) {
    give_file(archive, "WALE_LIBSODIUM_OLD_KEYS_PATH", format!("{KEY}\n").as_bytes());
}

#[test]
fn what_wal_g_encrypted_with_libsodium_comes_back_and_goes_on() {
    let (key, wrong) = (KEY.to_owned(), WRONG_KEY.to_owned());
    let (cipher, wrong) = (Cipher::Libsodium(key), Cipher::Libsodium(wrong));
    let (oldest, newest) = (PgVersion::oldest(), PgVersion::newest());
    for (version, archive, codec) in [
        (oldest, Archive::file(), Codec::Lz4),
        (newest, Archive::s3(), Codec::Zstd),
        // Whose content has no mark, nor has a secret stream.
        (newest, Archive::file(), Codec::Brotli),
    ] {
        wal_g_comes_back(version, &archive, codec, &cipher, &wrong, keep_old_key);
    }
}

#[test]
fn what_wal_g_encrypted_with_openpgp_comes_back_and_goes_on() {
    let cipher = Cipher::OpenPgp(Gnupg::with_key(Some("open sesame")));
    let wrong = Cipher::OpenPgp(Gnupg::with_key(None));
    for (version, archive, codec) in [
        (PgVersion::oldest(), Archive::s3(), Codec::Lz4),
        (PgVersion::newest(), Archive::file(), Codec::Brotli),
    ] {
        wal_g_comes_back(version, &archive, codec, &cipher, &wrong, |_| ());
    }
}

#[test]
fn what_wal_e_encrypted_with_gpg_comes_back_and_goes_on() {
    let cipher = Cipher::OpenPgp(Gnupg::with_key(None));
    let wrong = Cipher::OpenPgp(Gnupg::with_key(None));
    let push = |archive: &Archive, snapshot: &Snapshot| {
        WalE(TarFormat::Pax).push_encrypted(&cipher, archive, snapshot)
    };
    let maker = Maker {
        version: PgVersion::oldest(),
        codec: Codec::Lzop,
        cipher: &cipher,
        push: &push,
        prepare: &bring_configuration,
    };
    maker.comes_back_and_goes_on(&Archive::file(), &wrong, |_| ());
}

/// The keys of WAL-G that are locked need their passphrase; it may be in a file.
#[test]
fn a_locked_key_is_said_to_be_locked_and_its_passphrase_is_not_shown() {
    let cipher = Cipher::OpenPgp(Gnupg::with_key(Some("open sesame")));
    let source = Source::start(PgVersion::oldest());
    let archive = Archive::file();
    let snapshot = source.snapshot();
    source.archive_wal(&archive, Codec::Lz4.encrypted(&cipher));
    let target = archive.scratch().path().join("fetched");
    let path = target.to_str().expect("the path is text");
    let fetch = || run_wal_e(&archive, ["wal-fetch", &snapshot.start_segment, path]);
    cipher.give_key(&archive);
    archive.remove_variable("WALG_PGP_KEY_PASSPHRASE");
    let locked = fetch();
    for words in ["is locked", "WALG_PGP_KEY_PASSPHRASE", &snapshot.start_segment] {
        assert!(locked.stderr.contains(words), "{words}: {locked}");
    }
    archive.write_variable("WALG_PGP_KEY_PASSPHRASE", "open barley");
    let locked = fetch();
    assert!(locked.stderr.contains("does not unlock"), "{locked}");
    assert!(!locked.stderr.contains("barley"), "{locked}");
    archive.remove_variable("WALG_PGP_KEY_PASSPHRASE");
    give_file(&archive, "WALG_PGP_KEY_PASSPHRASE_PATH", b"open sesame\n");
    fetch().success();
    assert!(target.exists());
}
