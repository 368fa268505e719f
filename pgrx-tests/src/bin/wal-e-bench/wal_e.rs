//! wal_e, as its users run it.

use std::path::Path;
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::process::run_within;
use wal_e_e2e::wal_e::wal_e;

use crate::backlog::ARCHIVER;
use crate::contender::{Archiver, BackupTool};
use crate::meter::Watched;
use crate::on_one_cluster::BACKUP_WORKER;
use crate::{PROCESSES, WAL_PROCESSES};

/// The longest that a command may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(1800);

/// wal_e on one of its stores.
pub struct WalE {
    archive: Archive,
    store: String,
    /// Of the S3 server where that is not the one that the archive has.
    endpoint: Option<String>,
    /// What it compresses with, as the setting has it.
    compression: &'static str,
}

impl WalE {
    /// On a local directory.
    pub fn on_file() -> WalE {
        WalE::new(Archive::file(), "file://".to_owned(), None)
    }

    /// On the S3 server of the tests.
    pub fn on_s3() -> WalE {
        let archive = Archive::s3();
        let endpoint = archive.server().endpoint();
        archive.write_variable("AWS_ENDPOINT_URL_S3", &endpoint);
        WalE::new(archive, "s3://, http".to_owned(), Some(endpoint))
    }

    /// On the S3 server of the tests, behind a proxy that holds each request
    /// back for this time.
    pub fn on_s3_with_latency(latency: Duration) -> WalE {
        WalE::new(s3_with_latency(latency), name_of_s3(latency), None)
    }

    fn new(archive: Archive, store: String, endpoint: Option<String>) -> WalE {
        WalE { archive, store, endpoint, compression: "lz4" }
    }

    /// The same, compressed with another method.
    pub fn compressed_with(self, compression: &'static str) -> WalE {
        WalE { compression, ..self }
    }

    /// The same, encrypted.
    pub fn encrypted(self) -> WalE {
        self.archive.write_variable("WALG_LIBSODIUM_KEY", &"0f".repeat(32));
        self.archive.write_variable("WALG_LIBSODIUM_KEY_TRANSFORM", "hex");
        self
    }

    /// Restores the backup of this name, or `LATEST`, into a new directory.
    pub fn restore_backup(&self, name: &str, target: &Path) {
        let mut command = wal_e(&self.archive);
        command.arg("backup-fetch").arg(target).args([name, "-p", &PROCESSES.to_string()]);
        run_within(PATIENCE, &mut command).success();
    }

    /// Deletes all backups that are older than the one of this name, and their WAL.
    pub fn delete_before(&self, name: &str) {
        run_within(PATIENCE, wal_e(&self.archive).args(["delete", "before", name, "--confirm"]))
            .success();
    }

    /// Where it stores.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }
}

/// What the tables call [`s3_with_latency`].
pub fn name_of_s3(latency: Duration) -> String {
    format!("s3://, proxy +{} ms", latency.as_millis())
}

/// An S3 server behind a proxy that holds each request back for this time.
pub fn s3_with_latency(latency: Duration) -> Archive {
    let archive = Archive::s3();
    if !latency.is_zero() {
        archive.proxy().set(Fault::Delay(latency));
    }
    archive
}

impl Archiver for WalE {
    fn name(&self) -> String {
        format!("wal_e ({})", self.store)
    }

    fn settings_idle(&self) -> Vec<String> {
        let mut lines = vec![
            "shared_preload_libraries = 'wal_e'".to_owned(),
            "archive_library = 'wal_e'".to_owned(),
            format!("wal_e.backup_concurrency = {PROCESSES}"),
            format!("wal_e.wal_upload_concurrency = {WAL_PROCESSES}"),
            format!("wal_e.compression = '{}'", self.compression),
        ];
        // That of the round before is gone; an archive in S3 adds its own after this.
        lines.push("wal_e.env_dir = ''".to_owned());
        lines.extend(self.archive.settings());
        if let Some(endpoint) = &self.endpoint {
            lines.push(format!("wal_e.s3_endpoint = '{endpoint}'"));
        }
        lines.push("wal_e.prefix = ''".to_owned());
        lines
    }

    fn setting_to_begin(&self) -> String {
        format!("wal_e.prefix = '{}'", self.archive.url())
    }

    fn prepare(&mut self, cluster: &Cluster) {
        cluster.execute("CREATE EXTENSION IF NOT EXISTS wal_e");
        // The cluster's own archive, as after the first segment of its life: an
        // older one than those that wait.
        let first = cluster.done_files().into_iter().next().expect("one was settled before");
        let path = cluster.data_directory().join("pg_wal").join(first);
        let mut command = wal_e(&self.archive);
        command.args(["wal-push", "-p", "1"]).arg(path);
        run_within(Duration::from_secs(60), &mut command).success();
    }

    fn watched(&self) -> Watched {
        Watched {
            programs: &["wal-e"],
            server_processes: &[ARCHIVER, BACKUP_WORKER, "postgres: wal_e"],
        }
    }

    fn stored_wal_bytes(&self) -> u64 {
        self.archive.bytes_below("wal_005/")
    }
}

impl BackupTool for WalE {
    fn back_up(&self, cluster: &Cluster) {
        cluster.execute("SELECT wale_backup_push()");
    }

    fn restore(&self, target: &Path) {
        self.restore_backup("LATEST", target);
    }

    fn stored_backup_bytes(&self) -> u64 {
        self.archive.bytes_below("basebackups_005/")
    }
}
