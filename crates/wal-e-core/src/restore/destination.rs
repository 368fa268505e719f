//! Where a base backup is restored to: the data directory, the tablespaces, and the
//! directory of the WAL when it is elsewhere.
//!
//! A restore writes only here, and through no links but its own. The directories must be
//! empty, or hold an interrupted restore that is resumed.

mod claim;
mod durability;
mod marks;
mod removal;
mod waiting;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::UNFINISHED_RESTORE;

pub(crate) use removal::remove_file;
pub(crate) use waiting::waiting_pages;

/// The directory of the WAL in a data directory.
const WAL: &str = "pg_wal";

/// The directories that a restore fills.
#[derive(Debug)]
pub(super) struct Destination {
    data_directory: PathBuf,
    tablespaces: BTreeMap<u32, PathBuf>,
    /// Where `pg_wal` leads, when it is a link.
    wal_directory: Option<PathBuf>,
    /// Directories that this restore created, outermost first.
    made: Vec<PathBuf>,
    /// Locks on the directories, so that no other restore writes into them.
    locks: Vec<File>,
    /// Directories inside that are known to be directories.
    known: Mutex<HashSet<PathBuf>>,
    /// They hold an interrupted restore.
    is_resumed: bool,
}

impl Destination {
    /// Checks the directories, creates those that are missing, and creates the
    /// links of the tablespaces and of `pg_wal`. After an error nothing of it is left.
    ///
    /// With `resume`, a data directory with the note of an interrupted restore
    /// is taken as it is; the caller must check the note before it writes anything.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a directory is not empty.
    pub(super) fn prepare(
        data_directory: &Path,
        tablespaces: BTreeMap<u32, PathBuf>,
        wal_directory: Option<PathBuf>,
        resume: bool,
    ) -> Result<Self> {
        let data_directory = std::path::absolute(data_directory)
            .map_err(|error| Error::file("resolve path", data_directory, &error))?;
        let is_resumed = resume && data_directory.join(UNFINISHED_RESTORE).is_file();
        let mut target = Destination {
            data_directory,
            tablespaces,
            wal_directory,
            made: Vec::new(),
            locks: Vec::new(),
            known: Mutex::default(),
            is_resumed,
        };
        let prepared = match is_resumed {
            true => target.lock_all().and_then(|()| target.make_links()),
            false => target
                .make_directories()
                .and_then(|()| target.make_links())
                .and_then(|()| target.make_marks()),
        };
        match prepared {
            Ok(()) => {
                let roots: HashSet<PathBuf> = target.roots().map(Path::to_owned).collect();
                target.known = Mutex::new(roots);
                Ok(target)
            }
            Err(error) => {
                target.remove_own();
                Err(error)
            }
        }
    }

    /// Whether the directories hold an interrupted restore.
    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// The data directory, absolute.
    pub(super) fn data_directory(&self) -> &Path {
        &self.data_directory
    }

    /// Each tablespace's place.
    pub(super) fn tablespaces(&self) -> &BTreeMap<u32, PathBuf> {
        &self.tablespaces
    }

    /// Where a path below the data directory is: that of a tablespace's file is
    /// in the tablespace's own directory, not below its link, and likewise in `pg_wal`.
    pub(super) fn place(&self, relative: &Path) -> PathBuf {
        if let (Ok(inside), Some(wal)) = (relative.strip_prefix(WAL), &self.wal_directory) {
            return join(wal, inside);
        }
        if let Ok(inside) = relative.strip_prefix("pg_tblspc") {
            let mut components = inside.components();
            let tablespace = components
                .next()
                .and_then(|oid| oid.as_os_str().to_str()?.parse().ok())
                .and_then(|oid: u32| self.tablespaces.get(&oid));
            if let Some(tablespace) = tablespace {
                return join(tablespace, components.as_path());
            }
        }
        join(&self.data_directory, relative)
    }

    /// Creates the directory that holds `place`.
    ///
    /// # Errors
    /// As [`Destination::make_directory`].
    pub(super) fn make_parent(&self, place: &Path) -> Result<()> {
        place.parent().map_or(Ok(()), |parent| self.make_directory(parent))
    }

    /// Creates a directory within the target, and its missing parents, each with
    /// mode 0700. An existing one stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the name belongs to something else, including a link.
    pub(super) fn make_directory(&self, directory: &Path) -> Result<()> {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(directory) {
            return Ok(());
        }
        // All that is written lies below a root, and the roots are known.
        let Some(parent) = directory.parent() else {
            return Err(Error::new(ErrorKind::Bug, "a restore writes outside of its target"));
        };
        self.make_directory(parent)?;
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = directory.symlink_metadata();
                let found = found.map_err(|error| Error::file("stat file", directory, &error))?;
                if !found.is_dir() {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("\"{}\" exists but is not a directory", directory.display()),
                    ));
                }
            }
            Err(error) => return Err(Error::file("create directory", directory, &error)),
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned());
        Ok(())
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.data_directory.as_path()).chain(self.outside())
    }

    /// The directories that links in the data directory lead to.
    fn outside(&self) -> impl Iterator<Item = &Path> {
        self.tablespaces.values().chain(&self.wal_directory).map(PathBuf::as_path)
    }
}

/// `Path::join` adds a slash for an empty path.
fn join(root: &Path, relative: &Path) -> PathBuf {
    match relative.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(relative),
    }
}

fn unreadable(root: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(root).to_owned();
    let error = error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of links"));
    Error::file("read directory", &path, &error)
}

#[cfg(test)]
mod tests;
