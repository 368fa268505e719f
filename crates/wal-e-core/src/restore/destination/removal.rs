//! What is removed of a failed restore, or before an interrupted one is resumed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Destination, WAL, unreadable};
use crate::error::{Error, Result};
use crate::postgres::data_directory::{CONTROL_FILE, UNFINISHED_RESTORE, is_of_file_system};

impl Destination {
    /// Removes every file and link except those that `keep` names by their paths
    /// below the data directory. Directories stay, and so do the restore's own links.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; what was removed before the error is gone.
    pub(crate) fn remove_files_but(&self, keep: impl Fn(&Path) -> bool) -> Result<()> {
        for (beginning, root) in self.beginnings() {
            let walk = walkdir::WalkDir::new(&root).min_depth(1);
            for entry in
                walk.into_iter().filter_entry(|entry| !is_of_file_system(entry.file_name()))
            {
                let entry = entry.map_err(|error| unreadable(&root, error))?;
                let path = entry.path();
                let inside = path.strip_prefix(&root).unwrap_or(path);
                let relative = beginning.join(inside);
                let is_own_link = self.link_places().any(|(link, _)| link == relative);
                let is_mark = inside == Path::new(UNFINISHED_RESTORE);
                if entry.file_type().is_dir() || is_mark || keep(&relative) || is_own_link {
                    continue;
                }
                fs::remove_file(path).map_err(|error| Error::file("remove file", path, &error))?;
            }
        }
        Ok(())
    }

    /// The roots, each with the path below the data directory that it stands for.
    fn beginnings(&self) -> Vec<(PathBuf, PathBuf)> {
        let linked = self.link_places().map(|(link, place)| (link, place.to_owned()));
        std::iter::once((PathBuf::new(), self.data_directory.clone())).chain(linked).collect()
    }

    /// The links in the data directory, and where they lead.
    fn link_places(&self) -> impl Iterator<Item = (PathBuf, &Path)> {
        let tablespaces = self
            .tablespaces
            .iter()
            .map(|(oid, place)| (Path::new("pg_tblspc").join(oid.to_string()), place.as_path()));
        tablespaces.chain(self.wal_directory.iter().map(|place| (WAL.into(), place.as_path())))
    }

    /// Removes everything that this restore and an interrupted one before it wrote.
    /// The directories were empty at first, so all of their contents go; directories that
    /// existed before stay.
    pub(crate) fn remove(&self) -> Result<()> {
        // First the file that a server needs to start.
        let control = self.data_directory.join(CONTROL_FILE);
        remove_file(&control)?;
        for root in self.roots() {
            empty(root).map_err(|error| Error::file("remove the contents of", root, &error))?;
        }
        for directory in self.made.iter().rev() {
            match fs::remove_dir(directory) {
                // A parent in which something else was created meanwhile.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
                result => {
                    result.map_err(|error| Error::file("remove directory", directory, &error))?
                }
            }
        }
        Ok(())
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// Those of the file system.
pub(crate) fn remove_file(place: &Path) -> Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove file", place, &error))
        }
        _ => Ok(()),
    }
}

fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_of_file_system(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            match fs::remove_dir_all(entry.path()) {
                // A mount point, which is empty by now, stays.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                result => result?,
            }
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
