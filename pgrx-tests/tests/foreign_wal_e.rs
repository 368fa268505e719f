//! Archives of WAL-E become servers.

use std::fs;
use std::path::Path;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::foreign_archive::{Codec, ExtraFiles, Source, TarFormat, WalE, passes_verification};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::ServerUser;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::run_wal_e;

/// WAL-E leaves the files of configuration out: users have them elsewhere.
const CONFIGURATION: [&str; 3] = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"];

fn bring_configuration(source: &Cluster, data: &Path) {
    for name in CONFIGURATION {
        let target = data.join(name);
        assert!(!target.exists(), "{name} is in the backup");
        fs::copy(source.data_directory().join(name), &target).expect("it can be copied");
        ServerUser::get().own(&target);
    }
}

fn a_backup_comes_back(format: TarFormat, archive: &Archive) {
    let source = Source::start(PgVersion::oldest());
    let extra = ExtraFiles::add_to(&source);
    let name = WalE(format).push(archive, &source.snapshot());
    source.cluster.execute("DELETE FROM elsewhere WHERE i % 2 = 0; CREATE TABLE after_backup ()");
    source.archive_wal(archive, Codec::Lzop);
    let expected = source.fingerprint();
    assert!(
        archive.objects().iter().any(|object| object.ends_with("part_00000001.tar.lzo")),
        "the backup has several tars"
    );
    passes_verification(archive, &name);
    for backup in ["LATEST", &name] {
        let (restore, moved) = extra.moved_by(Restore::of(PgVersion::oldest(), backup));
        let mut restored =
            restore.recover_beside_with(archive, |data| bring_configuration(&source.cluster, data));
        extra.assert_restored(&restored, &moved);
        restored.assert_restored(&expected);
    }
}

#[test]
fn a_backup_with_gnu_tars_comes_back() {
    a_backup_comes_back(TarFormat::Gnu, &Archive::file());
}

#[test]
fn a_backup_with_pax_tars_comes_back() {
    a_backup_comes_back(TarFormat::Pax, &Archive::s3());
}

#[test]
fn a_cluster_without_tablespaces_comes_back() {
    let source = Source::start(PgVersion::oldest());
    let archive = Archive::file();
    WalE(TarFormat::Pax).push(&archive, &source.snapshot());
    source.archive_wal(&archive, Codec::Lzop);
    let restore = Restore::latest(PgVersion::oldest());
    let mut restored =
        restore.recover_beside_with(&archive, |data| bring_configuration(&source.cluster, data));
    restored.assert_restored(&source.fingerprint());
}

/// What a restore refuses does not pass: only their numbers show which tars there were.
#[test]
fn a_gap_in_the_numbers_of_the_tars_is_found() {
    let source = Source::start(PgVersion::oldest());
    let archive = Archive::file();
    let name = WalE(TarFormat::Gnu).push(&archive, &source.snapshot());
    source.archive_wal(&archive, Codec::Lzop);
    passes_verification(&archive, &name);
    let tar =
        |number: u32| format!("basebackups_005/{name}/tar_partitions/part_{number:08}.tar.lzo");
    let content = archive.object(&tar(0)).expect("there is a first tar");
    archive.remove_object(&tar(0));
    archive.replace_object(&tar(99), content);
    let finished = run_wal_e(&archive, ["backup-verify", &name]);
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert!(finished.stdout.contains("part_00000000.tar.lzo"), "{finished}");
    let refused = Restore::of(PgVersion::oldest(), &name).run(&archive).failure(1);
    assert!(refused.contains("part_00000000.tar.lzo"), "{refused}");
}
