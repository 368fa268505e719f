//! Tablespaces that a base backup does not have, and that replay of the WAL creates.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::UnusablePlace;

/// A tablespace that replay creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTablespace {
    /// Its OID.
    pub oid: u32,
    /// The directory that the WAL names; empty for one in the data directory.
    pub location: PathBuf,
}

/// What happens to the tablespaces that replay will create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CreatedPlaces {
    /// Links to create before replay, which leaves them as they are
    /// ([`TablespaceGuard`](crate::wal::TablespaceGuard)).
    links: Vec<(u32, PathBuf)>,
    /// Whether one of them will be a directory in `pg_tblspc`.
    pub(crate) in_place: bool,
}

/// Finds out where the tablespaces go that replay creates: each where `wanted` says, or
/// to its old place when `wanted` returns `None`. `data_directory` and `restored`, the places of
/// the backup's own tablespaces, are the directories of the restore.
///
/// # Errors
/// [`ErrorKind::Unsafe`] when a directory does not exist or is not empty.
pub(super) fn settle(
    created: &[CreatedTablespace],
    wanted: impl Fn(&CreatedTablespace) -> Option<PathBuf>,
    unusable: UnusablePlace,
    data_directory: &Path,
    restored: &BTreeMap<u32, PathBuf>,
) -> Result<CreatedPlaces> {
    let mut places = CreatedPlaces::default();
    let mut unusable_ones = Vec::new();
    for tablespace in created.iter().filter(|created| !restored.contains_key(&created.oid)) {
        if tablespace.location.as_os_str().is_empty() {
            places.in_place = true;
            continue;
        }
        let mapped = wanted(tablespace);
        let place = mapped.as_deref().unwrap_or(&tablespace.location);
        // The WAL drops the old tablespace there before it creates the new one.
        let is_shared = restored.values().any(|other| other == place);
        let state = if is_shared { State::Usable } else { State::of(place)? };
        if let Some(place) = mapped.clone() {
            super::check_absolute(&place)?;
            let mut roots = restored.values().map(PathBuf::as_path).chain([data_directory]);
            let overlaps = |root: &Path| place.starts_with(root) || root.starts_with(&place);
            if !is_shared && roots.any(overlaps) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "tablespace directory \"{}\" overlaps another directory of the restore",
                        place.display()
                    ),
                ));
            }
            if state == State::NotEmpty {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("directory \"{}\" is not empty", place.display()),
                )
                .with_hint("Name a new or empty directory, or remove the contents of this one."));
            }
            places.links.push((tablespace.oid, place));
            continue;
        }
        match (state, unusable) {
            (State::Usable, _) | (State::NotEmpty, UnusablePlace::Use) => {}
            (_, UnusablePlace::InPlace) => places.in_place = true,
            (State::Absent, UnusablePlace::Use) => {
                places.links.push((tablespace.oid, tablespace.location.clone()));
            }
            (_, UnusablePlace::Refuse) => unusable_ones.push((place.to_owned(), state)),
        }
    }
    match unusable_ones.first() {
        None => Ok(places),
        Some((first, _)) => Err(refused(first, &unusable_ones)),
    }
}

impl CreatedPlaces {
    /// Makes the directories and the links of a restored cluster.
    pub(crate) fn make(&self, data_directory: &Path) -> Result<()> {
        for (oid, place) in &self.links {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(place)
                .map_err(|error| Error::file("create directory", place, &error))?;
            let link = data_directory.join("pg_tblspc").join(oid.to_string());
            if fs::read_link(&link).is_ok_and(|found| found == *place) {
                continue;
            }
            symlink(place, &link).map_err(|error| Error::file("create link", &link, &error))?;
        }
        Ok(())
    }
}

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Usable,
    Absent,
    NotEmpty,
}

impl State {
    fn of(directory: &Path) -> Result<Self> {
        let mut entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Absent),
            result => result.map_err(|error| Error::file("read directory", directory, &error))?,
        };
        let brought = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.file_name() == OsStr::new("lost+found"))
        };
        Ok(if entries.all(brought) { State::Usable } else { State::NotEmpty })
    }
}

fn refused(first: &Path, all: &[(PathBuf, State)]) -> Error {
    let what: Vec<String> = all
        .iter()
        .map(|(place, state)| {
            let state = if *state == State::Absent { "does not exist" } else { "is not empty" };
            format!("\"{}\" {state}", place.display())
        })
        .collect();
    Error::new(
        ErrorKind::Unsafe,
        format!("tablespaces that recovery creates cannot go where they were: {}", what.join("; ")),
    )
    .with_detail(
        "They are newer than the base backup. When the restored server replays CREATE TABLESPACE, it writes into the directory that the WAL names.",
    )
    .with_hint(format!(
        "Put them elsewhere with {} or {}, or into the data directory with {}.",
        Word::TablespaceMapping.of(format!("{}=NEW", first.display())),
        Word::TablespaceMappingAll.of("DIR"),
        Word::BlindRestore
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// What becomes of a tablespace that was created in `location`.
        fn settle(
            &self,
            location: &str,
            to: Option<&str>,
            unusable: UnusablePlace,
        ) -> Result<CreatedPlaces> {
            let created = [CreatedTablespace { oid: 7, location: self.path(location) }];
            let restored = BTreeMap::from([(5, self.path("restored"))]);
            let to = to.map(|to| self.path(to));
            settle(&created, |_| to.clone(), unusable, &self.path("data"), &restored)
        }
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::create_dir_all(dir.path().join("used/PG_15_202209061")).unwrap();
        Fixture(dir)
    }

    #[test]
    fn a_place_that_is_in_use_or_not_there_is_refused_unless_something_is_said_of_it() {
        let fixture = fixture();
        let settle = |location, unusable| fixture.settle(location, None, unusable);
        assert_eq!(settle("empty", UnusablePlace::Refuse).unwrap(), CreatedPlaces::default());
        for (location, why) in [("used", "not empty"), ("absent", "does not exist")] {
            let error = settle(location, UnusablePlace::Refuse).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsafe);
            assert!(error.message().contains(why) && error.hint().unwrap().contains(location));
            assert!(settle(location, UnusablePlace::InPlace).unwrap().in_place);
            assert!(!settle(location, UnusablePlace::Use).unwrap().in_place);
        }
        let made = settle("absent", UnusablePlace::Use).unwrap();
        assert_eq!(made.links, [(7, fixture.path("absent"))]);
        // One of the backup's was there, which is dropped before.
        assert!(settle("restored", UnusablePlace::Refuse).unwrap().links.is_empty());
    }

    #[test]
    fn a_mapped_one_has_its_link_before_replay() {
        let fixture = fixture();
        let settle = |to| fixture.settle("used", Some(to), UnusablePlace::Refuse);
        for wrong in ["used", "data/x", "restored/x", "data"] {
            assert_eq!(settle(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
        fs::create_dir_all(fixture.path("data/pg_tblspc")).unwrap();
        for to in ["new/below", "empty", "restored"] {
            let link = fixture.path("data/pg_tblspc/7");
            let _ = fs::remove_file(&link);
            let places = settle(to).unwrap();
            places.make(&fixture.path("data")).unwrap();
            places.make(&fixture.path("data")).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), fixture.path(to));
            assert!(fixture.path(to).is_dir());
        }
    }

    #[test]
    fn those_of_the_backup_and_those_in_the_data_directory_need_no_place() {
        let created = |oid, location: &str| CreatedTablespace { oid, location: location.into() };
        let restored = BTreeMap::from([(5, PathBuf::from("/restored"))]);
        let settle = |created| {
            let data = Path::new("/data");
            settle(&[created], |_| None, UnusablePlace::Refuse, data, &restored).unwrap()
        };
        assert_eq!(settle(created(5, "/absent")), CreatedPlaces::default());
        assert!(settle(created(7, "")).in_place);
    }
}
