//! Claiming the directories for a restore: created or found empty, locked, and linked to
//! each other.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Destination, WAL};
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::{UNFINISHED_RESTORE, is_of_file_system};

impl Destination {
    /// Creates and locks the directories of a new restore.
    pub(super) fn make_directories(&mut self) -> Result<()> {
        let roots: Vec<PathBuf> = self.roots().map(Path::to_owned).collect();
        for (index, root) in roots.iter().enumerate() {
            if roots[..index].iter().any(|other| root.starts_with(other) || other.starts_with(root))
            {
                let (what, hint) = match self.wal_directory.as_ref() == Some(root) {
                    true => (
                        "WAL directory",
                        format!(
                            "Name a directory with {} that is neither inside of the others nor around them.",
                            Word::WalDirectory
                        ),
                    ),
                    false => (
                        "tablespace directory",
                        format!(
                            "Give each tablespace its own directory with {}, or by its OID with {}.",
                            Word::TablespaceMapping,
                            Word::RestoreSpec
                        ),
                    ),
                };
                let message = format!(
                    "{what} \"{}\" overlaps another directory of the restore",
                    root.display()
                );
                return Err(Error::new(ErrorKind::Config, message).with_hint(hint));
            }
            self.make_root(root)?;
            self.lock(root)?;
            check_empty(root)?.then_some(()).ok_or_else(|| self.not_empty(root))?;
        }
        Ok(())
    }

    /// Takes the directories of an interrupted restore.
    pub(super) fn lock_all(&mut self) -> Result<()> {
        let roots: Vec<PathBuf> = self.roots().map(Path::to_owned).collect();
        roots.iter().try_for_each(|root| self.lock(root))
    }

    /// Takes a directory for this restore.
    fn lock(&mut self, root: &Path) -> Result<()> {
        let refused = |error: &io::Error| Error::file("lock directory", root, error);
        let directory = File::open(root).map_err(|error| refused(&error))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("another restore is writing into directory \"{}\"", root.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(refused(&error)),
        }
        self.locks.push(directory);
        Ok(())
    }

    /// Creates a directory and its missing parents, or checks that it is empty.
    fn make_root(&mut self, directory: &Path) -> Result<()> {
        match fs::read_dir(directory) {
            Ok(_) if check_empty(directory)? => Ok(()),
            Ok(_) => Err(self.not_empty(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_parents(directory)?;
                self.make(directory, 0o700)
            }
            Err(error) => Err(Error::file("read directory", directory, &error)),
        }
    }

    /// Creates the missing parents as `mkdir -p` does: after a restore as root, only the data
    /// directory is given to the server's user, who must be able to reach it.
    fn make_parents(&mut self, directory: &Path) -> Result<()> {
        let Some(parent) = directory.parent().filter(|parent| !parent.exists()) else {
            return Ok(());
        };
        self.make_parents(parent)?;
        self.make(parent, 0o755)?;
        // Root's umask is often strict, and root's own directories are in the way then.
        let passable = fs::metadata(parent).and_then(|made| match made.uid() {
            0 => fs::set_permissions(parent, Permissions::from_mode(0o755)),
            _ => Ok(()),
        });
        passable.map_err(|error| Error::file("set permissions of directory", parent, &error))
    }

    fn make(&mut self, directory: &Path, mode: u32) -> Result<()> {
        fs::DirBuilder::new()
            .mode(mode)
            .create(directory)
            .map_err(|error| Error::file("create directory", directory, &error))?;
        self.made.push(directory.to_owned());
        Ok(())
    }

    fn not_empty(&self, directory: &Path) -> Error {
        let error = Error::new(
            ErrorKind::Config,
            format!("directory \"{}\" is not empty", directory.display()),
        );
        if !directory.join(UNFINISHED_RESTORE).exists() {
            return error.with_hint(format!(
                "Name a new or empty directory, or remove the contents of this one. To put a tablespace elsewhere, use {}.",
                Word::TablespaceMapping.of("OLD=NEW")
            ));
        }
        let resume = Word::Resume;
        let if_there = format!(
            "If the restore's data directory still exists, repeat the same command with {resume}; if not, remove the contents of the directory."
        );
        if self.wal_directory.as_deref() == Some(directory) {
            return error
                .with_detail("It holds the WAL directory of an interrupted restore.")
                .with_hint(if_there);
        }
        if directory == self.data_directory {
            return error.with_detail("It holds an interrupted restore.").with_hint(format!(
                "Repeat the same command with {resume}, or remove the contents of the directory."
            ));
        }
        error.with_detail("It holds a tablespace of an interrupted restore.").with_hint(if_there)
    }

    /// Creates the links of the tablespaces and of the WAL.
    pub(super) fn make_links(&self) -> Result<()> {
        if let Some(place) = &self.wal_directory {
            self.make_link(&self.data_directory.join(WAL), place)?;
        }
        if self.tablespaces.is_empty() {
            return Ok(());
        }
        let links = self.data_directory.join("pg_tblspc");
        match fs::DirBuilder::new().mode(0o700).create(&links) {
            Err(error) if self.is_resumed && error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(|error| Error::file("create directory", &links, &error))?,
        }
        for (oid, place) in &self.tablespaces {
            self.make_link(&links.join(oid.to_string()), place)?;
        }
        Ok(())
    }

    fn make_link(&self, link: &Path, place: &Path) -> Result<()> {
        if self.is_resumed && fs::read_link(link).is_ok_and(|found| found == place) {
            return Ok(());
        }
        // The place of a volume that is not mounted, or was not wanted.
        match fs::remove_dir(link) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let message = format!("\"{}\" is a mount point", link.display());
                return Err(Error::new(ErrorKind::Config, message).with_hint(format!(
                    "Restore without {}, so that the WAL goes where it leads; or unmount it.",
                    Word::WalDirectory
                )));
            }
            _ => {}
        }
        symlink(place, link).map_err(|error| Error::file("create link", link, &error))
    }

    /// Removes only what `prepare` created: a directory that is not empty stays.
    pub(super) fn remove_own(&self) {
        if self.is_resumed {
            return;
        }
        let links = self.data_directory.join("pg_tblspc");
        if self.locks.len() == self.roots().count() {
            if self.wal_directory.is_some() {
                let _ = fs::remove_file(self.data_directory.join(WAL));
            }
            for oid in self.tablespaces.keys() {
                let _ = fs::remove_file(links.join(oid.to_string()));
            }
            let _ = fs::remove_dir(&links);
            let _ = self.remove_marks();
        }
        for directory in self.made.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Whether a directory holds nothing but what a new file system brings with it, and empty
/// places for other file systems: a volume for the WAL is often mounted before a restore.
fn check_empty(directory: &Path) -> Result<bool> {
    let entries = fs::read_dir(directory)
        .map_err(|error| Error::file("read directory", directory, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::file("read directory", directory, &error))?;
        let path = entry.path();
        if is_of_file_system(&entry.file_name()) {
            continue;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_place = is_directory && (entry.file_name() == WAL || is_mount_point(&path));
        if !(is_place && check_empty(&path)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a directory is on another file system than the one that it is in.
fn is_mount_point(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|of| of.dev()).ok();
    directory.parent().is_some_and(|parent| device(parent) != device(directory))
}
