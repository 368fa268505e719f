//! Streaming standbys.

use crate::cluster::Cluster;
use crate::process::run;
use crate::scratch::Scratch;
use crate::wait::wait_for;

impl Cluster {
    /// Makes a standby of this running server, with its configuration and
    /// without a `restore_command`. It is not started yet.
    #[track_caller]
    pub fn make_standby(&self) -> Cluster {
        let scratch = Scratch::new();
        let data_directory = scratch.path().join("data");
        run(self
            .client_program("pg_basebackup")
            .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])
            .arg("--pgdata")
            .arg(&data_directory))
        .success();
        Cluster::adopt(self.version(), scratch, data_directory)
    }

    /// Waits until this standby has replayed what `primary` has written so far.
    #[track_caller]
    pub fn wait_for_replay_of(&self, primary: &Cluster) {
        let lsn = primary.query_one("SELECT pg_current_wal_lsn()");
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        wait_for(&format!("the standby to replay {lsn}"), || self.query_one(&reached) == "t");
    }

    /// Promotes this standby and waits until it takes writes.
    #[track_caller]
    pub fn promote(&self) {
        assert_eq!(self.query_one("SELECT pg_promote()"), "t");
    }

    /// Replays nothing more from its primary.
    #[track_caller]
    pub fn stop_streaming(&self) {
        // pg_basebackup has set it in the same way, which goes before postgresql.conf.
        self.execute("ALTER SYSTEM SET primary_conninfo = ''");
        self.reload();
        let gone = "SELECT count(*) FROM pg_stat_wal_receiver";
        wait_for("the end of streaming", || self.query_one(gone) == "0");
    }
}
