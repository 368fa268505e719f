//! Where a base backup is restored to: the data directory and the tablespaces.
//!
//! A restore writes only here, and through no link but those of the tablespaces
//! that it made itself. The directories must be empty, or hold a restore that was
//! interrupted and is gone on with.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::{CONTROL_FILE, UNFINISHED_RESTORE};

/// The directories that a restore fills.
#[derive(Debug)]
pub(super) struct Target {
    data_directory: PathBuf,
    tablespaces: BTreeMap<u32, PathBuf>,
    /// Directories that this restore made itself, outermost first.
    made: Vec<PathBuf>,
    /// Locks on the directories, so that no other restore writes into them.
    locks: Vec<File>,
    /// Directories inside that are known to be directories.
    known: Mutex<HashSet<PathBuf>>,
    /// A restore had begun in them.
    is_resumed: bool,
}

impl Target {
    /// Checks the directories, makes those that are missing, and makes the
    /// links of the tablespaces. On an error nothing of it is left.
    ///
    /// With `resume`, a data directory with the note of an interrupted restore
    /// is taken as it is; what the note says is for the caller to check, before
    /// anything is written.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a directory is not empty.
    pub(super) fn prepare(
        data_directory: &Path,
        tablespaces: BTreeMap<u32, PathBuf>,
        resume: bool,
    ) -> Result<Self> {
        let data_directory = std::path::absolute(data_directory)
            .map_err(|error| Error::file("resolve path", data_directory, &error))?;
        let is_resumed = resume && data_directory.join(UNFINISHED_RESTORE).is_file();
        let mut target = Target {
            data_directory,
            tablespaces,
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

    /// Whether the directories hold a restore that was interrupted.
    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Removes what `prepare` made, and only that: a directory with something in
    /// it stays.
    fn remove_own(&self) {
        if self.is_resumed {
            return;
        }
        let links = self.data_directory.join("pg_tblspc");
        if self.locks.len() == 1 + self.tablespaces.len() {
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

    /// The data directory, absolute.
    pub(super) fn data_directory(&self) -> &Path {
        &self.data_directory
    }

    /// Each tablespace's place.
    pub(super) fn tablespaces(&self) -> &BTreeMap<u32, PathBuf> {
        &self.tablespaces
    }

    /// Where a path below the data directory is: that of a tablespace's file is
    /// in the tablespace's own place, not behind its link.
    pub(super) fn place(&self, relative: &Path) -> PathBuf {
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

    /// Says in each tablespace's directory which restore it belongs to: by its path
    /// alone, it could be that of a cluster which was made there since.
    fn make_marks(&self) -> Result<()> {
        for path in self.marks() {
            fs::write(&path, self.data_directory.as_os_str().as_encoded_bytes())
                .and_then(|()| File::open(&path)?.sync_all())
                .map_err(|error| Error::file("write file", &path, &error))?;
        }
        Ok(())
    }

    /// Checks that the tablespaces' directories still belong to this restore.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when one does not.
    pub(super) fn check_marks(&self) -> Result<()> {
        for (path, directory) in self.marks().zip(self.tablespaces.values()) {
            match fs::read(&path) {
                Ok(mark) if mark == self.data_directory.as_os_str().as_encoded_bytes() => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("read file", &path, &error));
                }
                _ => {
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!(
                            "tablespace directory \"{}\" no longer belongs to the restore that was interrupted",
                            directory.display()
                        ),
                    )
                    .with_hint(
                        "Remove what is in the data directory, and restore anew, without --resume.",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Removes what [`Target::check_marks`] looks at. The restore is finished.
    pub(super) fn remove_marks(&self) -> Result<()> {
        for path in self.marks() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("remove file", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn marks(&self) -> impl Iterator<Item = PathBuf> {
        self.tablespaces.values().map(|place| place.join(UNFINISHED_RESTORE))
    }

    /// Makes the directory that holds `place`.
    ///
    /// # Errors
    /// As [`Target::make_directory`].
    pub(super) fn make_parent(&self, place: &Path) -> Result<()> {
        place.parent().map_or(Ok(()), |parent| self.make_directory(parent))
    }

    /// Makes a directory within the target, and its missing parents, each with
    /// mode 0700. One that is there stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when something else has its name, a link included.
    pub(super) fn make_directory(&self, directory: &Path) -> Result<()> {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(directory) {
            return Ok(());
        }
        // All that is written lies below a root, and the roots are known.
        let Some(parent) = directory.parent() else {
            return Err(Error::new(ErrorKind::Bug, "a restore left its target"));
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
                        format!(
                            "something that is no directory is in the place of directory \"{}\"",
                            directory.display()
                        ),
                    ));
                }
            }
            Err(error) => return Err(Error::file("create directory", directory, &error)),
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned());
        Ok(())
    }

    /// Gives the directories the permissions without which the server does not start.
    pub(super) fn restrict(&self) -> Result<()> {
        for root in self.roots() {
            let failed = |error| Error::file("set permissions of directory", root, &error);
            let mode = fs::metadata(root).map_err(failed)?.permissions().mode();
            let allowed = (mode & 0o750) | 0o700;
            if mode & 0o777 != allowed {
                fs::set_permissions(root, fs::Permissions::from_mode(allowed)).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes every file and link but those that `keep` names, by their paths
    /// below the data directory. Directories and the links of the tablespaces stay.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; what was removed until then is gone.
    pub(super) fn remove_files_but(&self, keep: impl Fn(&Path) -> bool) -> Result<()> {
        for (beginning, root) in self.beginnings() {
            let walk = walkdir::WalkDir::new(&root).min_depth(1);
            for entry in walk.into_iter().filter_entry(|entry| entry.file_name() != "lost+found") {
                let entry = entry.map_err(|error| unreadable(&root, error))?;
                let path = entry.path();
                let inside = path.strip_prefix(&root).unwrap_or(path);
                let relative = beginning.join(inside);
                let is_own_link = || {
                    let mut oid = relative.strip_prefix("pg_tblspc").ok()?.to_str()?.parse().ok();
                    oid.take().filter(|oid: &u32| self.tablespaces.contains_key(oid))
                };
                let is_mark = inside == Path::new(UNFINISHED_RESTORE);
                if entry.file_type().is_dir()
                    || is_mark
                    || keep(&relative)
                    || is_own_link().is_some()
                {
                    continue;
                }
                fs::remove_file(path).map_err(|error| Error::file("remove file", path, &error))?;
            }
        }
        Ok(())
    }

    /// The roots, each with the path below the data directory that it stands for.
    fn beginnings(&self) -> Vec<(PathBuf, PathBuf)> {
        let tablespaces = self
            .tablespaces
            .iter()
            .map(|(oid, place)| (Path::new("pg_tblspc").join(oid.to_string()), place.clone()));
        std::iter::once((PathBuf::new(), self.data_directory.clone())).chain(tablespaces).collect()
    }

    /// Flushes all directories, so that every file's name is on disk.
    pub(super) fn sync_directories(&self) -> Result<()> {
        for root in self.roots() {
            // What a new file system brings with it may not even be readable.
            let walk = walkdir::WalkDir::new(root)
                .into_iter()
                .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != "lost+found");
            for entry in walk {
                let entry = entry.map_err(|error| unreadable(root, error))?;
                // The root itself may be a link to a directory.
                if entry.depth() == 0 || entry.file_type().is_dir() {
                    sync(entry.path())?;
                }
            }
        }
        // An earlier run may have made the roots. Who may not open a parent did not
        // make anything in it.
        for parent in self.roots().chain(self.made.iter().map(PathBuf::as_path)) {
            match parent.parent().map_or(Ok(()), sync) {
                Err(_) if self.made.iter().all(|made| made != parent) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Removes everything that the restore wrote, and an interrupted one before
    /// it. The directories were empty before, so all that is in them goes; those
    /// that were there stay.
    pub(super) fn remove(&self) -> Result<()> {
        // First what a server could be started with.
        let control = self.data_directory.join(CONTROL_FILE);
        match fs::remove_file(&control) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove file", &control, &error));
            }
            _ => {}
        }
        for root in self.roots() {
            empty(root).map_err(|error| Error::file("remove the contents of", root, &error))?;
        }
        for directory in self.made.iter().rev() {
            match fs::remove_dir(directory) {
                // A parent in which somebody else made something meanwhile.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
                result => {
                    result.map_err(|error| Error::file("remove directory", directory, &error))?
                }
            }
        }
        Ok(())
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.data_directory).chain(self.tablespaces.values()).map(PathBuf::as_path)
    }

    fn make_directories(&mut self) -> Result<()> {
        let roots: Vec<PathBuf> = self.roots().map(Path::to_owned).collect();
        for (index, root) in roots.iter().enumerate() {
            if roots[..index].iter().any(|other| root.starts_with(other) || other.starts_with(root))
            {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "tablespace directory \"{}\" overlaps another directory of the restore",
                        root.display()
                    ),
                )
                .with_hint(
                    "Give each tablespace a directory of its own with --tablespace-mapping.",
                ));
            }
            self.make_root(root)?;
            self.lock(root)?;
            check_empty(root)?.then_some(()).ok_or_else(|| not_empty(root))?;
        }
        Ok(())
    }

    /// Takes the directories of an interrupted restore.
    fn lock_all(&mut self) -> Result<()> {
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
                    format!("another restore writes into directory \"{}\"", root.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(refused(&error)),
        }
        self.locks.push(directory);
        Ok(())
    }

    /// Makes a directory and its missing parents, or checks that it is empty.
    fn make_root(&mut self, directory: &Path) -> Result<()> {
        match fs::read_dir(directory) {
            Ok(_) if check_empty(directory)? => Ok(()),
            Ok(_) => Err(not_empty(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = directory.parent()
                    && !parent.as_os_str().is_empty()
                    && !parent.exists()
                {
                    self.make_root(parent)?;
                }
                fs::DirBuilder::new()
                    .mode(0o700)
                    .create(directory)
                    .map_err(|error| Error::file("create directory", directory, &error))?;
                self.made.push(directory.to_owned());
                Ok(())
            }
            Err(error) => Err(Error::file("read directory", directory, &error)),
        }
    }

    fn make_links(&self) -> Result<()> {
        if self.tablespaces.is_empty() {
            return Ok(());
        }
        let links = self.data_directory.join("pg_tblspc");
        match fs::DirBuilder::new().mode(0o700).create(&links) {
            Err(error) if self.is_resumed && error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(|error| Error::file("create directory", &links, &error))?,
        }
        for (oid, place) in &self.tablespaces {
            let link = links.join(oid.to_string());
            if self.is_resumed && fs::read_link(&link).is_ok_and(|found| found == *place) {
                continue;
            }
            symlink(place, &link).map_err(|error| Error::file("create link", &link, &error))?;
        }
        Ok(())
    }
}

/// Whether nothing is in a directory but what a new file system brings with it.
fn check_empty(directory: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(directory)
        .map_err(|error| Error::file("read directory", directory, &error))?;
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

fn not_empty(directory: &Path) -> Error {
    let error = Error::new(
        ErrorKind::Config,
        format!("directory \"{}\" is not empty", directory.display()),
    );
    if directory.join(UNFINISHED_RESTORE).exists() {
        return error.with_detail("It holds a restore that was interrupted.").with_hint(
            "Go on with it by the same command and --resume, or remove what is in the directory.",
        );
    }
    error
        .with_hint(
            "Name a new or an empty directory, or remove what is in it. A tablespace goes elsewhere with --tablespace-mapping=OLD=NEW.",
        )
}

fn unreadable(root: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(root).to_owned();
    let error = error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of links"));
    Error::file("read directory", &path, &error)
}

/// `Path::join` adds a slash for an empty path.
fn join(root: &Path, relative: &Path) -> PathBuf {
    match relative.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(relative),
    }
}

fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::file("sync directory", directory, &error))
}

fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == "lost+found" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(place: &Path) -> BTreeMap<u32, PathBuf> {
        BTreeMap::from([(16384, place.to_owned())])
    }

    #[test]
    fn members_go_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let (data, space) = (dir.path().join("new/data"), dir.path().join("space"));
        let target = Target::prepare(&data, one(&space), false).unwrap();
        for (member, place) in [
            ("", data.clone()),
            ("base/1/2", data.join("base/1/2")),
            ("pg_tblspc/16384", space.clone()),
            ("pg_tblspc/16384/PG_15_1/5/6", space.join("PG_15_1/5/6")),
            ("pg_tblspc/99/x", data.join("pg_tblspc/99/x")),
        ] {
            assert_eq!(target.place(Path::new(member)), place, "{member}");
        }
        assert_eq!(fs::read_link(data.join("pg_tblspc/16384")).unwrap(), space);

        target.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "everything made is gone");
    }

    #[test]
    fn a_directory_that_holds_something_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let space = dir.path().join("space");
        fs::create_dir(&space).unwrap();
        fs::write(space.join("precious"), b"x").unwrap();
        let data = dir.path().join("data");
        for resume in [false, true] {
            let error = Target::prepare(&data, one(&space), resume).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains("not empty"));
            assert!(space.join("precious").exists());
            assert!(!data.exists(), "the data directory made before is gone again");
        }
    }

    #[test]
    fn two_restores_never_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Target::prepare(&data, BTreeMap::new(), false).unwrap();
        let error = Target::prepare(&data, BTreeMap::new(), false).unwrap_err();
        assert!(error.message().contains("another restore"), "{error}");
        fs::write(data.join(UNFINISHED_RESTORE), "").unwrap();
        let error = Target::prepare(&data, BTreeMap::new(), true).unwrap_err();
        assert!(error.message().contains("another restore"), "{error}");
        assert!(data.exists(), "the first restore's directory stays");
        drop(first);
        let error = Target::prepare(&data, BTreeMap::new(), false).unwrap_err();
        assert!(error.hint().unwrap().contains("--resume"), "{error}");
        assert!(Target::prepare(&data, BTreeMap::new(), true).unwrap().is_resumed());
    }

    #[test]
    fn nothing_is_made_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::prepare(&dir.path().join("data"), BTreeMap::new(), false).unwrap();
        let data = target.data_directory();
        symlink(dir.path(), data.join("link")).unwrap();
        fs::write(data.join("file"), "").unwrap();
        for name in ["link/x", "file/x", "link/a/b"] {
            let error = target.make_parent(&data.join(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
        }
        target.make_parent(&data.join("a/b/c")).unwrap();
        let mode = fs::metadata(data.join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn files_of_an_interrupted_restore_are_removed_but_for_the_sound_ones() {
        let dir = tempfile::tempdir().unwrap();
        let space = dir.path().join("space");
        let target = Target::prepare(&dir.path().join("data"), one(&space), false).unwrap();
        let data = target.data_directory();
        fs::create_dir_all(data.join("base/1")).unwrap();
        for file in ["base/1/kept", "base/1/gone", "pg_tblspc/16385"] {
            fs::write(data.join(file), "").unwrap();
        }
        for file in ["kept", "gone"] {
            fs::write(space.join(file), "").unwrap();
        }
        symlink("base", data.join("link")).unwrap();
        target.remove_files_but(|path| path.ends_with("kept")).unwrap();
        let count = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!((count(&data.join("base/1")), count(&space)), (1, 2));
        assert_eq!(count(&data.join("pg_tblspc")), 1, "the tablespace's link stays");
        assert!(data.join("link").symlink_metadata().is_err());
    }

    #[test]
    fn a_tablespace_says_which_restore_it_belongs_to() {
        let dir = tempfile::tempdir().unwrap();
        let space = dir.path().join("space");
        let places = BTreeMap::from([(16384, space.clone())]);
        let target = Target::prepare(&dir.path().join("data"), places, false).unwrap();
        let mark = space.join(UNFINISHED_RESTORE);
        target.check_marks().unwrap();
        // Of another restore; of a cluster that lives there now.
        fs::write(&mark, "/other/data").unwrap();
        assert_eq!(target.check_marks().unwrap_err().kind(), ErrorKind::Config);
        fs::remove_file(&mark).unwrap();
        fs::write(space.join("precious"), "x").unwrap();
        let error = target.check_marks().unwrap_err();
        assert!(error.message().contains(&space.display().to_string()), "{error}");
        assert!(space.join("precious").exists());
        target.remove_marks().unwrap();
    }
}
