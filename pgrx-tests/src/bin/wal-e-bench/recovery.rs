//! A copy of a cluster recovers by a `restore_command`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use wal_e_e2e::cluster::{Cluster, StopMode};
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::{ServerUser, run_within};
use wal_e_e2e::scratch::Scratch;
use wal_e_e2e::wait::wait_until;

use crate::disk;
use crate::meter::{self, Cost, Watched};

/// The longest that anything here may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What came of it.
#[derive(Debug)]
pub struct Recovered {
    /// From the start of the server to the end of redo; the checkpoint that follows
    /// has nothing to do with where the WAL came from.
    pub cost: Cost,
    /// Where the last record begins that was replayed.
    pub end: u64,
}

/// Recovers a copy of the files at `base` to the end of what the command finds.
pub fn measure(base: &Path, restore_command: &str) -> Recovered {
    let scratch = Scratch::new();
    let data = scratch.path().join("data");
    let mut copy = ServerUser::get().command("cp");
    run_within(PATIENCE, copy.arg("-a").arg(base).arg(&data)).success();
    let signal = data.join("recovery.signal");
    fs::write(&signal, "").expect("the directory is ours");
    ServerUser::get().own(&signal);
    let mut cluster = Cluster::adopt(PgVersion::oldest(), scratch, data);
    cluster.configure("archive_mode = off");
    cluster.configure(&format!("restore_command = '{restore_command}'"));
    // What others left to be written is not this one's business.
    disk::sync();
    let watched = Watched { programs: &["wal-e", "cp"], server_processes: &[] };
    let mut end = 0;
    let cost = meter::measure(watched, || {
        cluster.spawn();
        end = wait_until("the end of redo", PATIENCE, || {
            assert!(cluster.is_running(), "recovery failed:\n{}", cluster.log_tail());
            end_of_redo(&cluster.log())
        });
    });
    cluster.wait_for_end_of_recovery();
    cluster.stop(StopMode::Fast);
    Recovered { cost, end }
}

fn end_of_redo(log: &str) -> Option<u64> {
    let (_, rest) = log.rsplit_once("redo done at ")?;
    lsn(rest.split_whitespace().next()?)
}

/// A place in WAL as PostgreSQL prints it.
pub fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |text| u64::from_str_radix(text, 16).ok();
    Some((part(high)? << 32) | part(low)?)
}
