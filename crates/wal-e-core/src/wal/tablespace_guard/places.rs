//! Where a tablespace that replay creates may be.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE, TABLESPACE_MAP};
use crate::postgres::{BackupLabel, ControlFile, Lsn, tablespace_map};

/// How often a control file is read whose CRC does not fit: the server may be writing it.
const ATTEMPTS_TO_READ: u32 = 5;

/// Where tablespaces go that replay creates, other than those of the base backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTablespaces {
    /// Into the data directory, as directories in `pg_tblspc`.
    pub in_place: bool,
    /// Pairs of the directory in the record and another one.
    pub mapping: Vec<(PathBuf, PathBuf)>,
    /// All that the pairs do not name: into a directory in this one, named by the OID.
    pub below: Option<PathBuf>,
    /// What becomes of one that goes where it was, and cannot.
    pub unusable: UnusablePlace,
}

/// What becomes of a tablespace whose directory is in use by another cluster, or is not
/// there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnusablePlace {
    /// The server does not get the segment. Of a directory that is not there the server
    /// itself says that, once it replays the record.
    #[default]
    Refuse,
    /// It is kept in the data directory.
    InPlace,
    /// It is used nevertheless.
    Use,
}

impl NewTablespaces {
    /// Where a tablespace is wanted that was created in `location`; `None` is there.
    pub fn mapped(&self, oid: u32, location: &Path) -> Option<PathBuf> {
        let pair = self.mapping.iter().find(|(from, _)| from == location);
        let pair = pair.map(|(_, to)| to.clone());
        pair.or_else(|| self.below.as_ref().map(|below| below.join(oid.to_string())))
    }
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    AsItIs,
    WithoutLocation,
}

/// The directories of one cluster's tablespaces.
#[derive(Debug, Clone)]
pub(super) struct Places {
    data_directory: PathBuf,
    wanted: NewTablespaces,
    notices: Notices,
}

impl Places {
    pub(super) fn new(data_directory: &Path, wanted: NewTablespaces, notices: Notices) -> Self {
        Places { data_directory: data_directory.to_owned(), wanted, notices }
    }

    /// Where replay begins: with the backup label's redo point, or that of the last
    /// checkpoint (PostgreSQL 15, `src/backend/access/transam/xlogrecovery.c`,
    /// `InitWalRecovery`). The beginning of the log when that cannot be read.
    pub(super) fn replay_begins(&self) -> Lsn {
        let label = fs::read(self.data_directory.join(BACKUP_LABEL)).ok();
        let label = label.map(|label| BackupLabel::parse(&String::from_utf8_lossy(&label)));
        match label {
            Some(label) => label.map_or(Lsn(0), |label| label.start_lsn),
            None => self.control_file().map_or(Lsn(0), |control| control.redo_lsn),
        }
    }

    /// Decides what becomes of the record that creates tablespace `oid` in `location`,
    /// and makes the link where it goes elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::Unsafe`] when the server must not replay it.
    pub(super) fn decide(&self, oid: u32, location: &Path) -> Result<Verdict> {
        if location.as_os_str().is_empty() {
            return Ok(Verdict::AsItIs);
        }
        match self.present(oid) {
            Some(place) if place == location => return Ok(Verdict::AsItIs),
            Some(_) => return Ok(Verdict::WithoutLocation),
            None => {}
        }
        if self.wanted.in_place {
            return Ok(Verdict::WithoutLocation);
        }
        if let Some(place) = self.wanted.mapped(oid, location) {
            self.link(oid, &place)?;
            let (from, to) = (location.display(), place.display());
            self.notices
                .log(format!("tablespace {oid}, created in \"{from}\", goes into \"{to}\""));
            return Ok(Verdict::WithoutLocation);
        }
        let used = self.is_used_by_another(location);
        match self.wanted.unusable {
            UnusablePlace::Refuse if used => Err(in_use(oid, location)),
            UnusablePlace::InPlace if used || !location.exists() => {
                self.notices.warning(format!(
                    "tablespace {oid}, created in \"{}\", which is {}, is kept in the data directory",
                    location.display(),
                    if used { "in use by another cluster" } else { "not there" }
                ));
                Ok(Verdict::WithoutLocation)
            }
            _ => Ok(Verdict::AsItIs),
        }
    }

    /// Where the link of a tablespace leads, or will lead once the server has read
    /// `tablespace_map`; that it is a directory when it is one.
    fn present(&self, oid: u32) -> Option<PathBuf> {
        if let Some(place) = self.of_map().into_iter().find(|(of_map, _)| *of_map == oid) {
            return Some(place.1);
        }
        let link = self.data_directory.join("pg_tblspc").join(oid.to_string());
        link.symlink_metadata().ok()?;
        Some(fs::read_link(&link).unwrap_or(link))
    }

    /// What `tablespace_map` says.
    fn of_map(&self) -> Vec<(u32, PathBuf)> {
        let text = fs::read_to_string(self.data_directory.join(TABLESPACE_MAP));
        let parsed = text.ok().and_then(|text| tablespace_map::parse(&text).ok());
        let mapped = parsed.into_iter().flatten();
        mapped.map(|tablespace| (tablespace.oid, tablespace.location.into())).collect()
    }

    /// Makes the directory `place`, if it is not there, and the link to it.
    fn link(&self, oid: u32, place: &Path) -> Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(place)
            .map_err(|error| Error::file("create directory", place, &error))?;
        if !self.is_linked(place) && !is_empty(place)? {
            return Err(Error::new(
                ErrorKind::Unsafe,
                format!("directory \"{}\" for tablespace {oid} is not empty", place.display()),
            )
            .with_hint(format!(
                "Remove what is in it, or give another one in restore_command. {AGAIN}"
            )));
        }
        let links = self.data_directory.join("pg_tblspc");
        let link = links.join(oid.to_string());
        symlink(place, &link).map_err(|error| Error::file("create link", &link, &error))?;
        File::open(&links)
            .and_then(|links| links.sync_all())
            .map_err(|error| Error::file("sync directory", &links, &error))
    }

    /// Whether a cluster of this version keeps a tablespace in `location`, and it is not
    /// this one: each has a directory named after its version there
    /// (`TABLESPACE_VERSION_DIRECTORY`).
    fn is_used_by_another(&self, location: &Path) -> bool {
        let used = match self.version_directory() {
            Some(name) => location.join(name).exists(),
            None => {
                names_in(location).iter().any(|name| name.as_encoded_bytes().starts_with(b"PG_"))
            }
        };
        used && !self.is_linked(location)
    }

    /// Whether a link in `pg_tblspc` leads to `location`.
    fn is_linked(&self, location: &Path) -> bool {
        let identity = |found: Metadata| (found.dev(), found.ino());
        let Ok(wanted) = fs::metadata(location).map(identity) else { return false };
        let links = self.data_directory.join("pg_tblspc");
        let linked = names_in(&links).into_iter().map(|name| links.join(name));
        let mut all = linked.chain(self.of_map().into_iter().map(|(_, place)| place));
        all.any(|place| fs::metadata(place).map(identity).is_ok_and(|found| found == wanted))
    }

    fn version_directory(&self) -> Option<String> {
        let version = fs::read_to_string(self.data_directory.join("PG_VERSION")).ok()?;
        let catalog = self.control_file()?.catalog_version;
        Some(format!("PG_{}_{catalog}", version.trim()))
    }

    fn control_file(&self) -> Option<ControlFile> {
        let path = self.data_directory.join(CONTROL_FILE);
        let read = |_| ControlFile::parse(&fs::read(&path).ok()?).ok();
        (0..ATTEMPTS_TO_READ).find_map(read)
    }
}

const AGAIN: &str = "Then start the server again.";

fn in_use(oid: u32, location: &Path) -> Error {
    let shown = location.display();
    Error::new(
        ErrorKind::Unsafe,
        format!("tablespace {oid} would be created in \"{shown}\", which another cluster uses"),
    )
    .with_hint(format!(
        "Add {}, {} or {} to the options of wal-fetch in restore_command. {AGAIN}",
        Word::TablespaceMapping.of(format!("{shown}=NEW")),
        Word::TablespaceMappingAll.of("DIR"),
        Word::BlindRestore
    ))
}

fn names_in(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// Whether nothing is in a directory but what a new file system brings with it.
fn is_empty(directory: &Path) -> Result<bool> {
    let failed = |error: io::Error| Error::file("read directory", directory, &error);
    let mut entries = fs::read_dir(directory).map_err(failed)?;
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == OsStr::new("lost+found"))))
}
