//! Where the tablespaces of a restored cluster are.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::TABLESPACE_MAP;
use crate::postgres::tablespace_map;
use crate::sentinel::TablespaceSpec;
use crate::wal::{NewTablespaces, UnusablePlace};

mod created;

pub(super) use created::CreatedPlaces;
pub use created::CreatedTablespace;

/// Where the tablespaces of a restored cluster go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TablespacePlaces {
    /// Where they were, but for those that are mapped.
    Mapped {
        /// Old and new places.
        pairs: Vec<(PathBuf, PathBuf)>,
        /// All others go into a directory in this one, named by the OID.
        below: Option<PathBuf>,
    },
    /// Where a specification says, by OID; those that it does not name, where
    /// they were.
    Given(BTreeMap<u32, PathBuf>),
    /// Into the data directory, as directories in `pg_tblspc`.
    InPlace,
}

impl Default for TablespacePlaces {
    fn default() -> Self {
        TablespacePlaces::Mapped { pairs: Vec::new(), below: None }
    }
}

impl TablespacePlaces {
    /// The places in a specification of WAL-E's and WAL-G's form, the one that
    /// sentinels have; `source` names it in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not of that form.
    pub fn from_specification(source: &str, json: &[u8]) -> Result<Self> {
        let spec: TablespaceSpec = serde_json::from_slice(json).map_err(|error| {
            Error::new(ErrorKind::Config, format!("invalid restore specification \"{source}\": {error}"))
                .with_hint(
                    "It is a JSON object like {\"tablespaces\": [\"16384\"], \"16384\": {\"loc\": \"/new/place\"}}.",
                )
        })?;
        if let Some(oid) = spec.tablespaces.iter().find(|oid| !spec.places.contains_key(*oid)) {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "restore specification \"{source}\" does not say where to restore tablespace \"{oid}\""
                ),
            ));
        }
        let places =
            spec.places.iter().map(|(oid, place)| Ok((parse_oid(oid)?, (&place.loc).into())));
        Ok(TablespacePlaces::Given(places.collect::<Result<_>>()?))
    }

    /// The place of each of the backup's tablespaces, by OID; those that are not here
    /// are directories in `pg_tblspc`. `created` are those that replay will create.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for places that are not absolute paths, and for
    /// tablespaces that are not in the backup and that replay does not create.
    pub(crate) fn of(
        &self,
        spec: Option<&TablespaceSpec>,
        created: &[CreatedTablespace],
    ) -> Result<BTreeMap<u32, PathBuf>> {
        let mut places = BTreeMap::new();
        for (oid, place) in spec.iter().flat_map(|spec| &spec.places) {
            places.insert(parse_oid(oid)?, PathBuf::from(&place.loc));
        }
        match self {
            TablespacePlaces::InPlace => return Ok(BTreeMap::new()),
            TablespacePlaces::Mapped { pairs, below } => {
                map(&mut places, pairs, below.as_deref(), created)?;
            }
            TablespacePlaces::Given(given) => {
                for (oid, place) in given {
                    if created.iter().any(|created| created.oid == *oid) {
                        continue;
                    }
                    if spec.is_some() && !places.contains_key(oid) {
                        return Err(Error::new(
                            ErrorKind::Config,
                            format!("the backup has no tablespace {oid}"),
                        ));
                    }
                    places.insert(*oid, place.clone());
                }
            }
        }
        places.values().try_for_each(|place| check_absolute(place))?;
        Ok(places)
    }

    /// What happens to the tablespaces that replay will create; `restored` are the
    /// places of the others.
    ///
    /// # Errors
    /// [`ErrorKind::Unsafe`] when the server would use a directory that does not exist or
    /// is not empty, [`ErrorKind::Config`] when one is mapped to such a
    /// directory.
    pub(super) fn of_created(
        &self,
        created: &[CreatedTablespace],
        unusable: UnusablePlace,
        data_directory: &Path,
        restored: &BTreeMap<u32, PathBuf>,
    ) -> Result<CreatedPlaces> {
        let wanted = match self {
            TablespacePlaces::InPlace => {
                let mut places = CreatedPlaces::default();
                places.in_place = true;
                return Ok(places);
            }
            TablespacePlaces::Mapped { pairs, below } => NewTablespaces {
                mapping: pairs.clone(),
                below: below.clone(),
                ..Default::default()
            },
            TablespacePlaces::Given(_) => NewTablespaces::default(),
        };
        let wanted = |tablespace: &CreatedTablespace| match self {
            TablespacePlaces::Given(places) => places.get(&tablespace.oid).cloned(),
            _ => wanted.mapped(tablespace.oid, &tablespace.location),
        };
        created::settle(created, wanted, unusable, data_directory, restored)
    }
}

fn check_absolute(place: &Path) -> Result<()> {
    if place.is_absolute() && !place.components().any(|part| part == Component::ParentDir) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!("tablespace directory \"{}\" is not an absolute path", place.display()),
    ))
}

fn parse_oid(oid: &str) -> Result<u32> {
    oid.parse().map_err(|_| {
        Error::new(ErrorKind::Config, format!("\"{oid}\" is not the OID of a tablespace"))
    })
}

fn map(
    places: &mut BTreeMap<u32, PathBuf>,
    pairs: &[(PathBuf, PathBuf)],
    below: Option<&Path>,
    created: &[CreatedTablespace],
) -> Result<()> {
    let locations = created.iter().map(|created| &created.location);
    let old: Vec<PathBuf> = places.values().chain(locations).cloned().collect();
    for (oid, place) in places {
        let pair = pairs.iter().find(|(from, _)| from == place);
        let below = || below.map(|below| below.join(oid.to_string()));
        if let Some(new) = pair.map(|(_, to)| to.clone()).or_else(below) {
            *place = new;
        }
    }
    let Some((from, _)) = pairs.iter().find(|(from, _)| !old.contains(from)) else {
        return Ok(());
    };
    let error = Error::new(
        ErrorKind::Config,
        format!("there is no tablespace in \"{}\"", from.display()),
    )
    .with_detail(
        "The backup has no tablespace there, and the recovery that was asked for creates none there.",
    );
    let old: Vec<String> = old.iter().map(|place| place.display().to_string()).collect();
    Err(match old.is_empty() {
        true => {
            error.with_hint(format!("There are no tablespaces; omit {}.", Word::TablespaceMapping))
        }
        false => error.with_hint(format!("The tablespaces are in: {}.", old.join(", "))),
    })
}

/// Makes `tablespace_map` name the places in use: the server creates the links of
/// the tablespaces from it when it starts. With `in_place` the map becomes empty.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a map that cannot be read, [`ErrorKind::Config`] when it
/// names a tablespace that has no place.
pub(super) fn rewrite_map(
    data_directory: &Path,
    places: &BTreeMap<u32, PathBuf>,
    in_place: bool,
) -> Result<()> {
    let path = data_directory.join(TABLESPACE_MAP);
    if in_place && path.exists() {
        return write_map(&path, "");
    }
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Error::new(ErrorKind::Corrupt, "tablespace_map is not valid UTF-8"));
        }
        result => result.map_err(|error| Error::file("read file", &path, &error))?,
    };
    let mut tablespaces = tablespace_map::parse(&text)?;
    for tablespace in &mut tablespaces {
        let Some(place) = places.get(&tablespace.oid) else {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the backup does not say where to restore tablespace {}, which was in \"{}\"",
                    tablespace.oid, tablespace.location
                ),
            )
            .with_hint(format!(
                "Name the directory with {}, or keep the tablespaces in the data directory with {}.",
                Word::RestoreSpec.of("FILE"),
                Word::BlindRestore
            )));
        };
        tablespace.location = utf8(place)?.to_owned();
    }
    write_map(&path, &tablespace_map::format(&tablespaces))
}

fn write_map(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::File::open(path)?.sync_all())
        .map_err(|error| Error::file("write file", path, &error))
}

/// Lets the server accept tablespaces that are directories in `pg_tblspc`. Otherwise it
/// stops at them when recovery is over (PostgreSQL 15,
/// `src/backend/access/transam/xlogrecovery.c`, `CheckTablespaceDirectory`).
pub(super) fn allow_in_place(data_directory: &Path) -> Result<()> {
    let path = data_directory.join("postgresql.auto.conf");
    let lines = "\n# Written by wal-e backup-fetch: there are directories in pg_tblspc\nallow_in_place_tablespaces = on\n";
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(lines.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| Error::file("write file", &path, &error))
}

/// The tablespaces that are directories in `pg_tblspc`, by OID.
pub(super) fn in_place(data_directory: &Path) -> Result<Vec<u32>> {
    let path = data_directory.join("pg_tblspc");
    let failed = |error| Error::file("read directory", &path, &error);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let oid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(oid) = oid.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            found.push(oid);
        }
    }
    Ok(found)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("path \"{}\" is not valid UTF-8", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::TablespacePlace;

    fn spec(tablespaces: &[(&str, &str)]) -> TablespaceSpec {
        TablespaceSpec {
            base_prefix: "/old/data".into(),
            tablespaces: tablespaces.iter().map(|(oid, _)| (*oid).to_owned()).collect(),
            places: tablespaces
                .iter()
                .map(|(oid, loc)| {
                    let link = format!("pg_tblspc/{oid}");
                    ((*oid).to_owned(), TablespacePlace { loc: (*loc).to_owned(), link })
                })
                .collect(),
        }
    }

    #[test]
    fn places_are_mapped_given_or_inside() {
        let spec = spec(&[("16384", "/a"), ("16385", "/b")]);
        let places = |places: &TablespacePlaces| places.of(Some(&spec), &[]);
        let expected = |a: &str, b: &str| BTreeMap::from([(16384, a.into()), (16385, b.into())]);
        assert_eq!(places(&TablespacePlaces::default()).unwrap(), expected("/a", "/b"));
        let mapping = vec![("/b".into(), "/new".into())];
        assert_eq!(
            places(&TablespacePlaces::Mapped { pairs: mapping.clone(), below: None }).unwrap(),
            expected("/a", "/new")
        );
        let all = TablespacePlaces::Mapped { pairs: mapping, below: Some("/all".into()) };
        assert_eq!(places(&all).unwrap(), expected("/all/16384", "/new"));
        let json =
            br#"{"base_prefix": "/x", "tablespaces": ["16384"], "16384": {"loc": "/given/"}}"#;
        let given = TablespacePlaces::from_specification("f", json).unwrap();
        assert_eq!(places(&given).unwrap(), expected("/given", "/b"));
        assert_eq!(given.of(None, &[]).unwrap().len(), 1, "a sentinel may say nothing");
        assert!(places(&TablespacePlaces::InPlace).unwrap().is_empty());
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let spec = spec(&[("16384", "/a")]);
        let pairs = vec![("/wrong".into(), "/x".into())];
        let wrong = TablespacePlaces::Mapped { pairs, below: None };
        assert!(wrong.of(Some(&spec), &[]).unwrap_err().hint().unwrap().contains("/a"));
        assert!(wrong.of(None, &[]).is_err());
        for place in ["relative", "/a/../b", ""] {
            let given = TablespacePlaces::Given(BTreeMap::from([(16384, place.into())]));
            assert_eq!(
                given.of(Some(&spec), &[]).unwrap_err().kind(),
                ErrorKind::Config,
                "{place}"
            );
        }
        let other = TablespacePlaces::Given(BTreeMap::from([(1, "/x".into())]));
        assert!(other.of(Some(&spec), &[]).is_err());
        for json in ["[]", "{", r#"{"tablespaces": ["x"], "x": {"loc": "/a"}}"#] {
            let error = TablespacePlaces::from_specification("f", json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{json}");
        }
    }

    #[test]
    fn the_map_names_the_places_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let map = dir.path().join("tablespace_map");
        let places = BTreeMap::from([(16384, "/new".into())]);
        rewrite_map(dir.path(), &places, false).unwrap();
        assert!(!map.exists());
        fs::write(&map, "16384 /old\n").unwrap();
        rewrite_map(dir.path(), &places, false).unwrap();
        assert_eq!(fs::read_to_string(&map).unwrap(), "16384 /new\n");
        let error = rewrite_map(dir.path(), &BTreeMap::new(), false).unwrap_err();
        assert!(error.message().contains("16384") && error.hint().is_some());
        rewrite_map(dir.path(), &BTreeMap::new(), true).unwrap();
        assert_eq!(fs::read_to_string(&map).unwrap(), "");
        fs::write(&map, b"16384 /\xff\n").unwrap();
        let error = rewrite_map(dir.path(), &places, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn directories_among_the_links_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(in_place(dir.path()).unwrap().is_empty());
        fs::create_dir_all(dir.path().join("pg_tblspc/16384")).unwrap();
        std::os::unix::fs::symlink("/x", dir.path().join("pg_tblspc/16385")).unwrap();
        assert_eq!(in_place(dir.path()).unwrap(), [16384]);
    }
}
