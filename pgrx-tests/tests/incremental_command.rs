//! Incremental base backups of servers that archive with the program.

use wal_e_e2e::archive::Archive;
use wal_e_e2e::chains::let_databases_age;
use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::{archive_command, backup_push};

#[test]
fn an_archive_command_makes_maps_once_an_incremental_backup_was_asked_for() {
    let archive = Archive::file();
    let mut cluster = Cluster::build(PgVersion::oldest())
        .configuration("archive_mode = on")
        .configuration(format!("archive_command = '{}'", archive_command(&archive, "-p 4")))
        .start();
    cluster.pgbench_init(5);
    let_databases_age(&cluster);
    let maps = cluster.data_directory().join("pg_wal/wal_e.changed_blocks");
    cluster.archive_current_wal();
    assert!(!maps.exists(), "nobody wants them yet");
    let full = run(backup_push(&cluster, &archive).arg("--delta")).success();
    assert!(!full.contains("_D_"), "{full}");

    for value in [1, 2] {
        cluster.execute(&format!(
            "UPDATE pgbench_accounts SET abalance = {value} WHERE aid % 50 = {value}"
        ));
        cluster.forget_wal();
        // The LSN of pages says nothing certain any more, and the segments are gone.
        cluster.restart();
        cluster.execute("UPDATE pgbench_tellers SET tbalance = tbalance + 1");
        cluster.forget_wal();
        let pushed = run(backup_push(&cluster, &archive).arg("--delta"));
        let source = "is known from the archiver's maps of changed blocks";
        assert!(pushed.stderr.contains(source), "{pushed}");
        assert!(pushed.success().contains("_D_"));
    }
    let expected = cluster.fingerprint();
    cluster.archive_current_wal();
    cluster.stop(StopMode::Fast);
    let mut restored = Restore::latest(PgVersion::oldest()).recover(&archive);
    assert_eq!(restored.fingerprint(), expected);
    restored.amcheck();
    restored.stop(StopMode::Fast);
    restored.check_page_checksums().success();
}
