//! A server is brought to a newer minor release while WAL waits to be archived.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::{Installation, PgVersion};
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::run_wal_e;

fn a_minor_upgrade_loses_nothing(version: PgVersion, older: &'static Installation) {
    let archive = Archive::s3();
    let mut cluster =
        Cluster::build(version).wal_segment_size_mb(1).archiving_to(&archive).create();
    cluster.use_installation(older);
    cluster.start();
    cluster.execute("CREATE EXTENSION wal_e");
    let release = |cluster: &Cluster| cluster.query_one("SHOW server_version_num");
    let before = release(&cluster);
    cluster.pgbench_init(1);
    let old_backup = cluster.backup_push();

    let mut load = cluster.start_pgbench();
    cluster.archive_current_wal();
    archive.proxy().set(Fault::Refuse);
    cluster.write_wal_segments(20);
    load.end();
    cluster.stop(StopMode::Fast);
    assert!(cluster.ready_files().len() >= 20, "{:?}", cluster.ready_files());

    cluster.use_installation(Installation::get(version));
    cluster.start();
    assert!(release(&cluster) > before, "it is the same minor release");
    cluster.pgbench(100);
    archive.proxy().set(Fault::None);
    cluster.archive_current_wal();
    let new_backup = cluster.backup_push();
    cluster.archive_current_wal();
    run_wal_e(&archive, ["wal-verify"]).success();
    let expected = cluster.fingerprint();
    cluster.stop(StopMode::Fast);
    for backup in [&old_backup, &new_backup] {
        run_wal_e(&archive, ["backup-verify", backup.as_str()]).success();
        Restore::of(version, backup).recover_beside(&archive).assert_restored(&expected);
    }
}

#[test]
fn a_minor_upgrade_while_wal_waits_loses_nothing() {
    for version in PgVersion::tested() {
        if let Some(older) = Installation::older(version) {
            a_minor_upgrade_loses_nothing(version, older);
        }
    }
}
