//! Clusters that `pg_upgrade` makes out of others.

use std::fs;

use crate::cluster::{Cluster, StopMode};
use crate::process::{Finished, run};

/// Minor releases from November 2026 on (15.20) note something of their own among the options
/// of each column. The `pg_upgrade` of earlier ones of a later version, as the tests may have
/// it, takes that for what a user has set, and fails.
const FORGET_COLUMN_VERSIONS: &str = "UPDATE pg_attribute SET attoptions = \
     nullif(ARRAY(SELECT option FROM unnest(attoptions) option \
     WHERE option NOT LIKE 'pg_attver=%'), '{}') WHERE attoptions::text LIKE '%pg_attver=%'";

impl Cluster {
    /// Makes this running cluster one that any `pg_upgrade` of a later version can read.
    #[track_caller]
    pub fn prepare_for_pg_upgrade(&self) {
        let databases = self.query("SELECT datname FROM pg_database WHERE datallowconn");
        for database in databases.concat() {
            self.execute_in(&database, FORGET_COLUMN_VERSIONS);
        }
    }

    /// Stops this cluster, which is to be upgraded.
    #[track_caller]
    pub fn stop_for_pg_upgrade(&mut self) {
        self.prepare_for_pg_upgrade();
        self.stop(StopMode::Fast);
        assert!(self.ready_files().is_empty(), "WAL waits to be archived: {}", self.log_tail());
    }

    /// Runs the `pg_upgrade` of this new cluster's version on the stopped `old`, which stays
    /// as it is. Neither runs afterwards.
    pub fn pg_upgrade(&self, old: &Cluster, options: &[&str]) -> Finished {
        let mut command = self.installation().command("pg_upgrade");
        command
            .arg("--old-bindir")
            .arg(old.installation().programs())
            .arg("--old-datadir")
            .arg(old.data_directory())
            .arg("--new-datadir")
            .arg(self.data_directory())
            .arg("--socketdir")
            .arg(self.socket_directory())
            // What its servers log stays in the new data directory.
            .args(["--username=postgres", "--no-sync", "--retain"])
            .args(options)
            // It leaves a script for its user in the directory that it runs in.
            .current_dir(self.scratch().path());
        run(&mut command)
    }

    /// What the servers logged that [`pg_upgrade`](Self::pg_upgrade) ran.
    #[track_caller]
    pub fn pg_upgrade_log(&self) -> String {
        let runs = fs::read_dir(self.data_directory().join("pg_upgrade_output.d"));
        let mut runs = runs.expect("pg_upgrade has left its logs");
        let run = runs.next().expect("there is a run").expect("an entry can be read");
        let log = run.path().join("log/pg_upgrade_server.log");
        fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()))
    }
}
