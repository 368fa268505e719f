//! pgBackRest, from the distribution's package, on a local directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::process::{ServerUser, run_within};
use wal_e_e2e::scratch::Scratch;

use crate::contender::{Archiver, BackupTool};
use crate::disk::files_below;
use crate::meter::Watched;
use crate::{PROCESSES, WAL_PROCESSES};

/// What it is called.
pub const NAME: &str = "pgBackRest";
/// Row of [`Archiving::OneAtATime`], which also takes base backups.
pub const ONE_AT_A_TIME: &str = "pgBackRest (posix)";
/// Row of [`Archiving::Ahead`].
pub const AHEAD: &str = "pgBackRest (posix, async)";

const PROGRAM: &str = "/usr/bin/pgbackrest";

/// The longest that a backup or a restore may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How pgBackRest archives WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archiving {
    /// A segment in each call.
    OneAtATime,
    /// Ahead of the server, in several processes.
    Ahead,
}

/// pgBackRest with a repository and a configuration of its own.
pub struct PgBackRest {
    archiving: Archiving,
    repository: PathBuf,
    configuration: PathBuf,
    // Removed with this value.
    _scratch: Scratch,
}

impl PgBackRest {
    /// An empty repository for the cluster.
    pub fn new(cluster: &Cluster, archiving: Archiving) -> PgBackRest {
        let scratch = Scratch::new();
        let [repository, spool, lock, log] =
            ["repository", "spool", "lock", "log"].map(|name| scratch.create(name));
        let configuration = scratch.path().join("pgbackrest.conf");
        let text = format!(
            "[global]\n\
             repo1-type=posix\n\
             repo1-path={}\n\
             repo1-retention-full=9\n\
             spool-path={}\n\
             lock-path={}\n\
             log-path={}\n\
             log-level-console=error\n\
             log-level-stderr=error\n\
             log-level-file=off\n\
             compress-type=lz4\n\
             process-max={PROCESSES}\n\
             start-fast=y\n\
             archive-async={}\n\
             \n\
             [global:archive-push]\n\
             process-max={WAL_PROCESSES}\n\
             \n\
             [bench]\n\
             pg1-path={}\n\
             pg1-socket-path={}\n\
             pg1-user=postgres\n",
            repository.display(),
            spool.display(),
            lock.display(),
            log.display(),
            if archiving == Archiving::Ahead { "y" } else { "n" },
            cluster.data_directory().display(),
            cluster.socket_directory().display(),
        );
        fs::write(&configuration, text).expect("a file of the scratch directory can be written");
        ServerUser::get().own(&configuration);
        PgBackRest { archiving, repository, configuration, _scratch: scratch }
    }

    /// Takes a base backup of this `--type`, and does not wait for its WAL, which another archives.
    pub fn back_up_without_archiving(&self, kind: &str) {
        let mut command = self.command();
        command.args(["backup", "--no-archive-check"]).arg(format!("--type={kind}"));
        run_within(PATIENCE, &mut command).success();
    }

    fn command(&self) -> Command {
        let mut command = ServerUser::get().command(PROGRAM);
        command.arg(format!("--config={}", self.configuration.display())).arg("--stanza=bench");
        command
    }

    fn bytes_below(&self, name: &str) -> u64 {
        files_below(&self.repository.join(name)).into_iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Archiver for PgBackRest {
    fn name(&self) -> String {
        match self.archiving {
            Archiving::OneAtATime => ONE_AT_A_TIME.to_owned(),
            Archiving::Ahead => AHEAD.to_owned(),
        }
    }

    fn settings_idle(&self) -> Vec<String> {
        Vec::new()
    }

    fn setting_to_begin(&self) -> String {
        format!(
            "archive_command = '{PROGRAM} --config={} --stanza=bench archive-push %p'",
            self.configuration.display()
        )
    }

    fn prepare(&mut self, _cluster: &Cluster) {
        run_within(Duration::from_secs(60), self.command().arg("stanza-create")).success();
    }

    fn watched(&self) -> Watched {
        Watched { programs: &["pgbackrest"], server_processes: &[] }
    }

    fn stored_wal_bytes(&self) -> u64 {
        self.bytes_below("archive")
    }
}

impl BackupTool for PgBackRest {
    fn back_up(&self, _cluster: &Cluster) {
        let mut command = self.command();
        run_within(PATIENCE, command.args(["backup", "--type=full"])).success();
    }

    fn restore(&self, target: &Path) {
        let mut command = self.command();
        command.arg(format!("--pg1-path={}", target.display())).arg("restore");
        run_within(PATIENCE, &mut command).success();
    }

    fn stored_backup_bytes(&self) -> u64 {
        self.bytes_below("backup")
    }
}
