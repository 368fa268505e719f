//! Incremental base backups that build on those of WAL-G: who comes from WAL-G need not begin with
//! a full one.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::chains::{end_of_wal, increments, let_databases_age, push_incremental, restore_to};
use wal_e_e2e::changes::Changes;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::foreign_archive::{Codec, Snapshot, WalG, passes_verification};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::pages::assert_same_pages;
use wal_e_e2e::random::seeded;
use wal_e_e2e::wal_e::run_wal_e;

/// A full backup and so many deltas by WAL-G, and two of wal_e's on top: each gives the pages of a
/// full one, and so does what is merged of all of them.
fn ours_build_on_theirs(version: PgVersion, wal_g: WalG, deltas: u32, settings: &[&str]) {
    let archive = Archive::file();
    let built = Cluster::build(version)
        .configuration("max_prepared_transactions = 5")
        .configuration_lines(settings.iter().map(|line| (*line).to_owned()));
    let cluster = built.start_archiving_to(&archive);
    cluster.create_tablespace("extra");
    cluster.pgbench_init(2);
    let mut changes = Changes::begin(&cluster, seeded());
    changes.make(&cluster, 5);
    let_databases_age(&cluster);
    let mut theirs = wal_g.push(&archive, &Snapshot::of(&cluster));
    for _ in 0..deltas {
        cluster.pgbench(200);
        theirs = wal_g.push_delta(&archive, &Snapshot::of(&cluster), &theirs);
    }
    let (mut parent, mut ours) = (theirs.name, Vec::new());
    for _ in 0..2 {
        changes.make(&cluster, 12);
        cluster.pgbench(200);
        cluster.forget_wal();
        let name = push_incremental(&cluster);
        assert_eq!(name.split_once("_D_").map(|(_, of)| of), parent.get(5..29), "{name}");
        assert!(increments(&archive, &name) > 100, "{}", increments(&archive, &name));
        passes_verification(&archive, &name);
        parent = name.clone();
        ours.push(name);
    }
    let merged = run_wal_e(&archive, ["backup-merge"]).success().trim().to_owned();
    passes_verification(&archive, &merged);
    let full = cluster.backup_push();
    changes.make(&cluster, 3);
    let (lsn, end) = end_of_wal(&cluster);
    assert!(!cluster.log().contains("which the record of changed blocks does not have"));
    let expected = restore_to(&cluster, &archive, &full, &lsn);
    for name in ours.iter().chain([&merged]) {
        let restored = restore_to(&cluster, &archive, name, &lsn);
        assert_same_pages(restored.data_directory(), expected.data_directory(), end);
    }
    let mut last = restore_to(&cluster, &archive, &ours[1], &lsn);
    last.start();
    last.amcheck();
    assert_eq!(last.fingerprint(), cluster.fingerprint());
}

#[test]
fn a_full_backup_of_wal_g_is_a_parent() {
    ours_build_on_theirs(PgVersion::oldest(), WalG::new(Codec::Lz4), 0, &[]);
    let maps = ["wal_e.backup_max_deltas = 100"];
    ours_build_on_theirs(PgVersion::newest(), WalG::new(Codec::Zstd), 0, &maps);
}

#[test]
fn a_delta_of_wal_g_is_a_parent() {
    let maps = ["wal_e.backup_max_deltas = 100"];
    ours_build_on_theirs(PgVersion::oldest(), WalG::new(Codec::Brotli), 2, &maps);
    let summaries = ["summarize_wal = on"];
    ours_build_on_theirs(PgVersion::newest(), WalG::new(Codec::Lzma), 1, &summaries);
}

/// The first version of WAL-G did not note when a backup began, so that it is not known whether
/// hints were logged all the time since then.
#[test]
fn what_a_backup_of_wal_g_does_not_say_is_not_guessed() {
    for (wal_g, reason) in [
        (WalG::new(Codec::Lz4).without_files_metadata(), "it has no list of files"),
        (WalG::new(Codec::Lz4).first_version(), "does not say when it began"),
        (WalG::new(Codec::Lz4).remote(), "over the replication protocol"),
    ] {
        let archive = Archive::file();
        let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
        wal_g.push(&archive, &Snapshot::of(&cluster));
        cluster.forget_wal();
        let full = push_incremental(&cluster);
        assert!(!full.contains("_D_"), "{full}");
        cluster.wait_for_log(reason);
        assert!(push_incremental(&cluster).contains("_D_"));
    }
}
