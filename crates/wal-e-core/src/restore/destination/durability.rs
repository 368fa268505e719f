//! The directories of a restore that is complete: their permissions, and all of them
//! on disk.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Destination, unreadable};
use crate::error::{Error, Result};
use crate::postgres::configuration::AUTO_FILE;
use crate::postgres::data_directory::{
    self, BACKUP_LABEL, BACKUP_MANIFEST, RECOVERY_SIGNAL, STANDBY_SIGNAL, TABLESPACE_MAP,
    is_of_file_system,
};

/// What a restore writes, or changes, itself.
const OWN_FILES: [&str; 6] =
    [AUTO_FILE, BACKUP_LABEL, BACKUP_MANIFEST, RECOVERY_SIGNAL, STANDBY_SIGNAL, TABLESPACE_MAP];

impl Destination {
    /// Gives the directories the permissions that the server needs to start, and the files
    /// that the restore wrote itself those that a server would have given them.
    pub(crate) fn restrict(&self) -> Result<()> {
        for root in self.roots() {
            let failed = |error| Error::file("set permissions of directory", root, &error);
            let mode = fs::metadata(root).map_err(failed)?.permissions().mode();
            let allowed = (mode & 0o750) | 0o700;
            if mode & 0o777 != allowed {
                fs::set_permissions(root, fs::Permissions::from_mode(allowed)).map_err(failed)?;
            }
        }
        let mode = self.file_mode()?;
        for path in OWN_FILES.map(|name| self.data_directory.join(name)) {
            if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                    .map_err(|error| Error::file("set permissions of file", &path, &error))?;
            }
        }
        Ok(())
    }

    /// The permissions of a file that a server creates in the data directory.
    pub(crate) fn file_mode(&self) -> Result<u32> {
        let directory = &self.data_directory;
        let found = fs::metadata(directory);
        let found = found.map_err(|error| Error::file("stat file", directory, &error))?;
        Ok(data_directory::file_mode(found.permissions().mode()))
    }

    /// Flushes all directories, so that every file's name is on disk.
    pub(crate) fn sync_directories(&self) -> Result<()> {
        for root in self.roots() {
            // What a new file system brings with it may not even be readable.
            let walk = walkdir::WalkDir::new(root)
                .into_iter()
                .filter_entry(|entry| entry.depth() == 0 || !is_of_file_system(entry.file_name()));
            for entry in walk {
                let entry = entry.map_err(|error| unreadable(root, error))?;
                // The root itself may be a link to a directory.
                if entry.depth() == 0 || entry.file_type().is_dir() {
                    sync(entry.path())?;
                }
            }
        }
        // An earlier run may have created the roots. A parent that this user may not open
        // holds nothing that this user created.
        for parent in self.roots().chain(self.made.iter().map(PathBuf::as_path)) {
            match parent.parent().map_or(Ok(()), sync) {
                Err(_) if self.made.iter().all(|made| made != parent) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::file("sync directory", directory, &error))
}
