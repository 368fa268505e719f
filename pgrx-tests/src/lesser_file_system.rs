//! A file system with less than POSIX has, for the processes that a test puts on it.
//!
//! Mounting one takes rights that a container seldom has, so a small library stands between
//! them and the system's calls.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::Cluster;
use crate::preload::build;
use crate::scratch::Scratch;

/// No hard links, and directories that cannot be synced.
#[derive(Debug)]
pub struct LesserFileSystem {
    library: PathBuf,
    // Removed with this value.
    _scratch: Scratch,
}

impl LesserFileSystem {
    /// Builds the library.
    ///
    /// # Panics
    ///
    /// When there is no C compiler; the message names it.
    #[track_caller]
    pub fn new() -> LesserFileSystem {
        let scratch = Scratch::new();
        let library = build(&scratch, "lesser_file_system", include_str!("lesser_file_system.c"));
        LesserFileSystem { library, _scratch: scratch }
    }

    /// The server, from its next start on, and its children have this file system.
    pub fn put_under(&self, cluster: &mut Cluster) {
        cluster.set_environment("LD_PRELOAD", self.library.clone());
    }

    /// The command has this file system.
    pub fn put_under_command<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", &self.library)
    }
}

impl Default for LesserFileSystem {
    fn default() -> Self {
        LesserFileSystem::new()
    }
}
