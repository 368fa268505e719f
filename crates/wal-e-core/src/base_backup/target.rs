//! Where a base backup is restored to: the data directory and the tablespaces.
//!
//! A restore writes only here. The directories must be empty, and what was made
//! in them is removed again when the restore fails.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::member;
use crate::error::{Error, ErrorKind, Result};
use crate::sentinel::TablespaceSpec;

/// The empty directories that a restore fills.
#[derive(Debug)]
pub struct Target {
    data_directory: PathBuf,
    tablespaces: BTreeMap<u32, PathBuf>,
    /// Directories that this restore made itself, outermost first.
    made: Vec<PathBuf>,
    /// Locks on the directories, so that no other restore writes into them.
    locks: Vec<File>,
}

impl Target {
    /// Checks the directories, makes those that are missing, and makes the
    /// links of the tablespaces. On an error nothing of it is left.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a directory is not empty, when a tablespace's
    /// place is not an absolute path, and for a mapping that fits no tablespace.
    pub fn prepare(
        data_directory: &Path,
        spec: Option<&TablespaceSpec>,
        mapping: &[(PathBuf, PathBuf)],
    ) -> Result<Self> {
        let tablespaces = map_tablespaces(spec, mapping)?;
        let data_directory = std::path::absolute(data_directory)
            .map_err(|error| Error::file("resolve path", data_directory, &error))?;
        let mut target =
            Target { data_directory, tablespaces, made: Vec::new(), locks: Vec::new() };
        match target.make_directories().and_then(|()| target.make_links()) {
            Ok(()) => Ok(target),
            Err(error) => {
                target.remove_own();
                Err(error)
            }
        }
    }

    /// Removes what `prepare` made, and only that: a directory with something in
    /// it stays.
    fn remove_own(&self) {
        let links = self.data_directory.join("pg_tblspc");
        if self.locks.len() == 1 + self.tablespaces.len() {
            for oid in self.tablespaces.keys() {
                let _ = fs::remove_file(links.join(oid.to_string()));
            }
            let _ = fs::remove_dir(&links);
        }
        for directory in self.made.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }

    /// The data directory, absolute.
    pub fn data_directory(&self) -> &Path {
        &self.data_directory
    }

    /// Each tablespace's place.
    pub fn tablespaces(&self) -> &BTreeMap<u32, PathBuf> {
        &self.tablespaces
    }

    /// Where a tar member belongs. Its name may begin with `/` or `./`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a name that leads out of the target.
    pub fn place(&self, member: &Path) -> Result<PathBuf> {
        let relative = member::relative_path(member)?;
        // Written to the tablespace's own place, not through its link.
        if let Ok(inside) = relative.strip_prefix("pg_tblspc") {
            let mut components = inside.components();
            let tablespace = components
                .next()
                .and_then(|oid| oid.as_os_str().to_str()?.parse().ok())
                .and_then(|oid: u32| self.tablespaces.get(&oid));
            if let Some(tablespace) = tablespace {
                return Ok(tablespace.join(components.as_path()));
            }
        }
        Ok(self.data_directory.join(relative))
    }

    /// Flushes all directories, so that every file's name is on disk.
    pub fn sync_directories(&self) -> Result<()> {
        for root in self.roots() {
            for entry in walkdir::WalkDir::new(root) {
                let entry = entry.map_err(|error| {
                    let error = error.into_io_error().unwrap_or_else(|| io::Error::other("loop"));
                    Error::file("read directory", root, &error)
                })?;
                // The root itself may be a link to a directory.
                if entry.depth() == 0 || entry.file_type().is_dir() {
                    sync(entry.path())?;
                }
            }
        }
        for directory in &self.made {
            if let Some(parent) = directory.parent() {
                sync(parent)?;
            }
        }
        Ok(())
    }

    /// Removes everything that the restore wrote. The directories were empty
    /// before, so all that is in them goes; those that were there stay.
    pub fn remove(&self) -> Result<()> {
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
            self.make_directory(root)?;
            self.lock(root)?;
        }
        Ok(())
    }

    /// Takes a directory for this restore, and looks once more that it is empty.
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
        check_empty(root)?.then_some(()).ok_or_else(|| not_empty(root))
    }

    /// Makes a directory and its missing parents, or checks that it is empty.
    fn make_directory(&mut self, directory: &Path) -> Result<()> {
        match fs::read_dir(directory) {
            Ok(_) if check_empty(directory)? => Ok(()),
            Ok(_) => Err(not_empty(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = directory.parent()
                    && !parent.as_os_str().is_empty()
                    && !parent.exists()
                {
                    self.make_directory(parent)?;
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
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&links)
            .map_err(|error| Error::file("create directory", &links, &error))?;
        for (oid, place) in &self.tablespaces {
            let link = links.join(oid.to_string());
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
    Error::new(ErrorKind::Config, format!("directory \"{}\" is not empty", directory.display()))
        .with_hint(
            "Name a new or an empty directory, or remove what is in it. A tablespace goes elsewhere with --tablespace-mapping=OLD=NEW.",
        )
}

fn map_tablespaces(
    spec: Option<&TablespaceSpec>,
    mapping: &[(PathBuf, PathBuf)],
) -> Result<BTreeMap<u32, PathBuf>> {
    let mut tablespaces = BTreeMap::new();
    let mut used = vec![false; mapping.len()];
    for (oid, place) in spec.iter().flat_map(|spec| &spec.places) {
        let Ok(oid) = oid.parse::<u32>() else { continue };
        let old = Path::new(&place.loc);
        let mapped = mapping.iter().position(|(from, _)| from == old);
        let new = mapped.map_or(old, |index| {
            used[index] = true;
            &mapping[index].1
        });
        if !new.is_absolute() || new.components().any(|part| part == Component::ParentDir) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("tablespace directory \"{}\" is not an absolute path", new.display()),
            ));
        }
        tablespaces.insert(oid, new.to_owned());
    }
    if let Some(index) = used.iter().position(|used| !used) {
        let places: Vec<&str> = spec
            .iter()
            .flat_map(|spec| spec.places.values())
            .map(|place| place.loc.as_str())
            .collect();
        let error = Error::new(
            ErrorKind::Config,
            format!("the backup has no tablespace in \"{}\"", mapping[index].0.display()),
        );
        return Err(match places.is_empty() {
            true => error.with_hint("It has no tablespaces: leave --tablespace-mapping out."),
            false => error.with_hint(format!("Its tablespaces are in: {}.", places.join(", "))),
        });
    }
    Ok(tablespaces)
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
    use crate::sentinel::TablespacePlace;

    fn spec(loc: &Path) -> TablespaceSpec {
        TablespaceSpec {
            base_prefix: "/data".into(),
            tablespaces: vec!["16384".into()],
            places: BTreeMap::from([(
                "16384".into(),
                TablespacePlace { loc: loc.display().to_string(), link: "pg_tblspc/16384".into() },
            )]),
        }
    }

    #[test]
    fn members_go_where_they_belong_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (data, space) = (dir.path().join("new/data"), dir.path().join("space"));
        let old = Path::new("/old/space");
        let mapping = [(old.to_owned(), space.clone())];
        let target = Target::prepare(&data, Some(&spec(old)), &mapping).unwrap();
        for (member, place) in [
            ("/", data.clone()),
            ("/base/1/2", data.join("base/1/2")),
            ("base/1/2", data.join("base/1/2")),
            ("./base//1", data.join("base/1")),
            ("/pg_tblspc/16384/PG_15_1/5/6", space.join("PG_15_1/5/6")),
            ("/pg_tblspc/99/x", data.join("pg_tblspc/99/x")),
        ] {
            assert_eq!(target.place(Path::new(member)).unwrap(), place, "{member}");
        }
        for member in ["../x", "/base/../../x", "/pg_tblspc/16384/../../x", ".."] {
            assert_eq!(target.place(Path::new(member)).unwrap_err().kind(), ErrorKind::Corrupt);
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
        let error = Target::prepare(&data, Some(&spec(&space)), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("not empty"));
        assert!(space.join("precious").exists());
        assert!(!data.exists(), "the data directory made before is gone again");
    }

    #[test]
    fn two_restores_never_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Target::prepare(&data, None, &[]).unwrap();
        let error = Target::prepare(&data, None, &[]).unwrap_err();
        assert!(error.message().contains("another restore"), "{error}");
        assert!(data.exists(), "the first restore's directory stays");
        drop(first);
        Target::prepare(&data, None, &[]).unwrap();
    }

    #[test]
    fn a_mapping_that_fits_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mapping = [(PathBuf::from("/wrong"), dir.path().join("x"))];
        let error =
            Target::prepare(&dir.path().join("data"), Some(&spec(Path::new("/ts"))), &mapping)
                .unwrap_err();
        assert!(error.hint().unwrap().contains("/ts"));
    }
}
