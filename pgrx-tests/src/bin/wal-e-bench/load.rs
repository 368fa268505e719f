//! pgbench as a writer of WAL.

use std::time::Duration;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::wait::wait_until;

/// After a checkpoint WAL has whole pages again, as on a busy server; without
/// one it would consist of ever smaller records.
const SEGMENTS_PER_CHECKPOINT: usize = 16;

/// Has pgbench write until `written` says that there are `count` segments. The run
/// counts as hung when that takes longer than `patience`.
pub fn write_wal(cluster: &Cluster, count: usize, patience: Duration, written: impl Fn() -> usize) {
    let load = cluster.start_large_pgbench(patience);
    let mut checkpoint_at = SEGMENTS_PER_CHECKPOINT;
    wait_until("enough WAL segments", patience, || {
        let written = written();
        if written >= checkpoint_at {
            cluster.execute("CHECKPOINT");
            checkpoint_at = written + SEGMENTS_PER_CHECKPOINT;
        }
        (written >= count).then_some(())
    });
    load.stop();
}
