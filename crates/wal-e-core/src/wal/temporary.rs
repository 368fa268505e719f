//! Files that are not yet complete.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// A file that is removed unless it has been renamed.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
}

/// A temporary file that has not been written to for so long is in use by no process.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

impl Temporary {
    /// A name beside `destination` that no other process has: one that outlived its
    /// server may still write when the next one asks. Removes what killed processes
    /// left there for the same destination.
    pub(super) fn name_beside(destination: &Path) -> PathBuf {
        let mut beginning = OsString::from(destination.file_name().unwrap_or_default());
        beginning.push(".wal-e-tmp-");
        let directory = directory_of(destination);
        remove_stale(directory, &beginning);
        let mut name = beginning;
        name.push(format!("{}-{:016x}", std::process::id(), fastrand::u64(..)));
        directory.join(name)
    }

    /// Makes the file `path`, which must not be there.
    pub(super) fn create(path: PathBuf) -> Result<(Self, File)> {
        let file =
            File::create_new(&path).map_err(|error| Error::file("create file", &path, &error))?;
        Ok((Temporary { path }, file))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name; on failure it is removed.
    pub(super) fn rename_to(self, destination: &Path) -> io::Result<()> {
        fs::rename(&self.path, destination)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already after a rename.
        let _ = fs::remove_file(&self.path);
    }
}

/// The directory that `path` lies in.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Tidying up: a failure is left for the next time.
fn remove_stale(directory: &Path, beginning: &OsStr) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_ours =
            entry.file_name().as_encoded_bytes().starts_with(beginning.as_encoded_bytes());
        let is_old = || {
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
            Some(modified.elapsed().ok()? > STALE_AFTER)
        };
        if is_ours && is_old() == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
