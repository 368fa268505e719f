//! Directories that the server's user can enter, removed when the test ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::ServerUser;

/// A directory of one test. `WALE_TEST_KEEP=1` keeps it and says where it is.
#[derive(Debug)]
pub struct Scratch {
    directory: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// A new, empty directory below the system's folder for temporary files
    /// that belongs to the server's user. Its name is short: the path of a Unix
    /// socket has about 100 bytes.
    pub fn new() -> Scratch {
        let directory = tempfile::Builder::new()
            .prefix("wale-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("could not create a temporary directory");
        ServerUser::get().own(directory.path());
        let path = directory.path().to_owned();
        Scratch { directory: Some(directory), path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in this one, owned by the server's user.
    pub fn create(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        ServerUser::get().create_directory(&path, 0o700);
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take()
            && keep_directories()
        {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

/// Whether the directories of the tests are to be kept for a look.
pub fn keep_directories() -> bool {
    std::env::var_os("WALE_TEST_KEEP").is_some_and(|value| value == "1")
}
