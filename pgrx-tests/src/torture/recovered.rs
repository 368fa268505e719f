//! How a recovery ends.

use std::time::{Duration, Instant};

use super::model::Rows;
use super::world::rows_of;
use crate::cluster::Cluster;

/// How long a recovery of a few megabytes may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a recovery ended.
#[derive(Debug)]
pub enum Ended {
    /// The server takes writes, and has these rows.
    Open(Rows),
    /// It does not: it ended, or waits for something.
    Otherwise(String),
}

/// Waits for the end of the recovery of a server that was just spawned.
pub fn wait_for_end(cluster: &mut Cluster) -> Ended {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if !cluster.is_running() {
            return Ended::Otherwise(format!("it ended:\n{}", cluster.log_tail()));
        }
        let state = "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() \
                     THEN pg_get_wal_replay_pause_state() = 'paused' END";
        if let Ok(answer) = cluster.try_query("postgres", state) {
            match (answer[0][0].as_deref(), answer[0][1].as_deref()) {
                (Some("f"), _) => return Ended::Open(rows_of(cluster)),
                (_, Some("t")) => {
                    return Ended::Otherwise(format!("it pauses:\n{}", cluster.log_tail()));
                }
                _ => {}
            }
        }
        if Instant::now() > deadline {
            return Ended::Otherwise(format!("it waits:\n{}", cluster.log_tail()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
