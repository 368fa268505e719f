//! Whether a server went on undisturbed while something else went wrong.

use postgres::Client;

use crate::cluster::{Cluster, describe, rows};

/// What the postmaster logs when it restarts all its processes.
const CRASH_RESTART: &str = "terminating any other active server processes";

/// A session that stays open for as long as its server restarts nothing.
pub struct Witness {
    session: Client,
    log_offset: usize,
}

impl Cluster {
    /// Opens a session that is to see whether the server goes on undisturbed.
    #[track_caller]
    pub fn witness(&self) -> Witness {
        Witness { session: self.client(), log_offset: self.log_offset() }
    }
}

impl Witness {
    /// Asserts that no process of the server was restarted for a crash, that it
    /// takes writes, and that this session still answers.
    #[track_caller]
    pub fn assert_unharmed(&mut self, cluster: &Cluster) {
        let log = cluster.log().split_off(self.log_offset);
        for bad in [CRASH_RESTART, "PANIC:", "terminated by signal"] {
            assert!(!log.contains(bad), "\"{bad}\" in the log:\n{log}");
        }
        let statement = "CREATE TEMPORARY TABLE witness AS SELECT pg_backend_pid() AS pid; \
                         SELECT pid FROM witness; DROP TABLE witness";
        let answer = rows(&mut self.session, statement)
            .unwrap_or_else(|error| panic!("the session is gone: {}", describe(&error)));
        assert_eq!(answer.len(), 1);
    }
}
