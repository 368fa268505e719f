//! wal_e, as its users run it.

use std::path::Path;
use std::time::Duration;

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::process::run_within;
use wal_e_e2e::wal_e::wal_e;

use crate::meter::Watched;
use crate::{Contender, PROCESSES, Stored};

/// wal_e on one of its stores.
pub struct WalE {
    archive: Archive,
    store: &'static str,
}

impl WalE {
    /// On a local directory.
    pub fn on_file() -> WalE {
        WalE { archive: Archive::file(), store: "file://" }
    }

    /// On the S3 server of the tests, without their fault proxy.
    pub fn on_s3() -> WalE {
        let archive = Archive::s3();
        archive.write_variable("AWS_ENDPOINT_URL_S3", &archive.server().endpoint());
        WalE { archive, store: "s3://, http" }
    }
}

impl Contender for WalE {
    fn name(&self) -> String {
        format!("wal_e ({})", self.store)
    }

    fn settings_idle(&self) -> Vec<String> {
        let mut lines = vec![
            "shared_preload_libraries = 'wal_e'".to_owned(),
            "archive_library = 'wal_e'".to_owned(),
            format!("wal_e.backup_concurrency = {PROCESSES}"),
        ];
        lines.extend(self.archive.settings());
        if self.store != "file://" {
            lines.push(format!("wal_e.s3_endpoint = '{}'", self.archive.server().endpoint()));
        }
        lines.push("wal_e.prefix = ''".to_owned());
        lines
    }

    fn setting_to_begin(&self) -> String {
        format!("wal_e.prefix = '{}'", self.archive.url())
    }

    fn prepare(&mut self, cluster: &Cluster) {
        cluster.execute("CREATE EXTENSION IF NOT EXISTS wal_e");
    }

    fn watched(&self) -> Watched {
        Watched {
            programs: &["wal-e"],
            server_processes: &["postgres: archiver", "postgres: wal_e"],
        }
    }

    fn back_up(&self, cluster: &Cluster) {
        cluster.execute("SELECT wale_backup_push()");
    }

    fn restore(&self, target: &Path) {
        let mut command = wal_e(&self.archive);
        command.arg("backup-fetch").arg(target).args(["LATEST", "-p", &PROCESSES.to_string()]);
        run_within(Duration::from_secs(1800), &mut command).success();
    }

    fn stored_bytes(&self) -> Stored {
        let mut stored = Stored::default();
        for name in self.archive.objects() {
            let bytes = self.archive.object(&name).map_or(0, |object| object.len() as u64);
            if name.starts_with("wal_005/") {
                stored.wal += bytes;
            } else {
                stored.backups += bytes;
            }
        }
        stored
    }
}
