//! Chains of base backups: what tests of them have in common.

use std::time::Duration;

use crate::archive::Archive;
use crate::cluster::{Cluster, StopMode};
use crate::installation::Installation;
use crate::process::run;
use crate::restore::Restore;
use crate::wait::wait_for;

/// A database that is not older than its first backup is not trusted by the next, to the second.
#[track_caller]
pub fn let_databases_age(cluster: &Cluster) {
    let version = cluster.data_directory().join("base/5/PG_VERSION");
    let made = std::fs::metadata(version).and_then(|file| file.modified()).expect("it is a file");
    wait_for("databases to be older than a second", || {
        made.elapsed().is_ok_and(|age| age > Duration::from_millis(1100))
    });
}

/// How many files of a backup are stored by their changed pages.
pub fn increments(archive: &Archive, name: &str) -> usize {
    let list = archive.backup_json(name, "files_metadata.json");
    let files = list["Files"].as_object().expect("it has files");
    files.values().filter(|file| file["IsIncremented"] == true).count()
}

/// Takes an incremental base backup.
#[track_caller]
pub fn push_incremental(cluster: &Cluster) -> String {
    cluster.query_one("SELECT wale_backup_push(incremental => true)")
}

/// The first LSN after everything that was written so far, as text and as a number.
pub fn end_of_wal(cluster: &Cluster) -> (String, u64) {
    cluster.execute("CREATE TABLE IF NOT EXISTS last (i int); INSERT INTO last VALUES (1)");
    let lsn = cluster.query_one("SELECT pg_current_wal_lsn()");
    cluster.archive_current_wal();
    let number = cluster.query_one(&format!("SELECT '{lsn}'::pg_lsn - '0/0'"));
    (lsn, number.parse().expect("an LSN is a number"))
}

/// Restores a backup to this LSN, and stops the server there.
pub fn restore_to(cluster: &Cluster, archive: &Archive, name: &str, lsn: &str) -> Cluster {
    let mut restore = Restore::of(cluster.version(), name)
        .option("--recovery-target-lsn", lsn)
        .option("--recovery-target-action", "promote");
    if !cluster.query("SELECT 1 FROM pg_tablespace WHERE spcname = 'extra'").is_empty() {
        let extra = cluster.tablespace_location("extra");
        restore = restore.tablespace(extra.as_ref(), "extra");
    }
    // What sets up the recovery is in no backup.
    let options = ["--no-parse-wal", "--ignore=postgresql.auto.conf", "--ignore=recovery.signal"];
    let mut restored = restore.fetch_with(archive, |data| {
        let mut verify = Installation::get(cluster.version()).command("pg_verifybackup");
        run(verify.args(options).arg(data)).success();
    });
    restored.configure("archive_mode = off");
    // The end of recovery has a checkpoint write what replay has changed, and nothing else is
    // changed then.
    restored.configure("autovacuum = off");
    restored.start();
    restored.wait_for_end_of_recovery();
    restored.stop(StopMode::Fast);
    restored
}
