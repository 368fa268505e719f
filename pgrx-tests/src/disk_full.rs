//! A disk without space for `pg_wal`, on demand.
//!
//! Mounting a small file system takes rights that a container seldom has, so a
//! small library stands between the server and the system's calls.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cluster::Cluster;
use crate::preload::build;
use crate::process::ServerUser;
use crate::scratch::Scratch;

const SOURCE: &str = include_str!("disk_full.c");

/// The disk of one cluster's `pg_wal`; it has space at first.
#[derive(Debug)]
pub struct DiskOfWal {
    library: PathBuf,
    flag: PathBuf,
    // Removed with this value.
    _scratch: Scratch,
}

impl DiskOfWal {
    /// Builds the library.
    ///
    /// # Panics
    ///
    /// When there is no C compiler; the message names it.
    #[track_caller]
    pub fn new() -> DiskOfWal {
        let scratch = Scratch::new();
        let library = build(&scratch, "disk_full", SOURCE);
        DiskOfWal { library, flag: scratch.path().join("full"), _scratch: scratch }
    }

    /// The server, from its next start on, and its children have this disk.
    pub fn put_under(&self, cluster: &mut Cluster) {
        for (name, value) in self.environment() {
            cluster.set_environment(name, value);
        }
    }

    /// A command of the server's user that has this disk.
    pub fn command(&self, program: &str) -> Command {
        let mut command = ServerUser::get().command(program);
        command.envs(self.environment());
        command
    }

    /// From now on there is no space.
    pub fn fill(&self) {
        fs::write(&self.flag, "").expect("a file of the scratch directory can be written");
    }

    /// There is space again.
    pub fn free(&self) {
        fs::remove_file(&self.flag).expect("the disk was full");
    }

    fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("WALE_DISK_FULL_FLAG", self.flag.clone())]
    }
}

impl Default for DiskOfWal {
    fn default() -> Self {
        DiskOfWal::new()
    }
}
