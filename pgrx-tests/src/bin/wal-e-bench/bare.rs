//! What the tools are held against: copying, and compressing, with nothing around it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::process::{ServerUser, wait_for_end};
use wal_e_e2e::scratch::Scratch;

use crate::backlog::{Backlog, Drained};
use crate::contender::Archiver;
use crate::disk::files_below;
use crate::meter::{self, Watched};

/// Row of [`compress`].
pub const COMPRESSED: &str = "lz4 -1, nothing else";

/// `cp` as archive_command: one segment after the other, not compressed.
pub struct Copying {
    directory: PathBuf,
    // Removed with this value.
    _scratch: Scratch,
}

impl Copying {
    /// An empty directory.
    pub fn new() -> Copying {
        let scratch = Scratch::new();
        Copying { directory: scratch.create("archive"), _scratch: scratch }
    }
}

impl Archiver for Copying {
    fn name(&self) -> String {
        "cp".to_owned()
    }

    fn settings_idle(&self) -> Vec<String> {
        Vec::new()
    }

    fn setting_to_begin(&self) -> String {
        format!("archive_command = 'cp %p {}/%f'", self.directory.display())
    }

    fn prepare(&mut self, _cluster: &Cluster) {}

    fn watched(&self) -> Watched {
        Watched { programs: &["cp"], server_processes: &[] }
    }

    fn stored_wal_bytes(&self) -> u64 {
        files_below(&self.directory).into_iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Runs `lz4 -1` over the backlog, a process for each segment, one after the other.
pub fn compress(cluster: &Cluster, backlog: &Backlog) -> Drained {
    let scratch = Scratch::new();
    let directory = scratch.create("compressed");
    let pg_wal = cluster.data_directory().join("pg_wal");
    let cost = meter::measure(Watched { programs: &["lz4"], server_processes: &[] }, || {
        for name in backlog.names() {
            compress_file(&pg_wal.join(name), &directory.join(name));
        }
    });
    let stored_bytes = files_below(&directory).into_iter().map(|(_, bytes)| bytes).sum();
    Drained { cost, stored_bytes }
}

fn compress_file(from: &Path, to: &Path) {
    let output = File::create(to).expect("a file of the scratch directory can be made");
    let mut lz4 = ServerUser::get()
        .command("lz4")
        .args(["-1", "-q", "-c"])
        .arg(from)
        .stdin(Stdio::null())
        .stdout(output)
        .spawn()
        .expect("lz4 can be started");
    let status = wait_for_end(&mut lz4, Duration::from_secs(60)).expect("lz4 ends");
    assert!(status.success(), "lz4 on {}: {status}", from.display());
}
