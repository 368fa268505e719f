//! What there is to back up: the files and directories of a cluster.

mod unreadable;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use crate::config::Exclusions;
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::data_directory::{self, OWN_NAMES, is_emptied, is_excluded};
use unreadable::Unreadable;

/// The directory that holds a link for each tablespace.
const TABLESPACE_LINKS: &str = "pg_tblspc";

/// A directory or a regular file of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the data directory, with `/` between components; the data
    /// directory itself is the empty path. A tablespace's files are found
    /// through its link.
    pub path: String,
    /// Size in bytes when it was listed; 0 for a directory.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
}

/// Which cluster is listed, and what of its data directory is not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Absolute path of the data directory.
    pub data_directory: PathBuf,
    /// `server_version_num`.
    pub pg_version: u32,
    /// Where the server writes its own log (`log_directory`), as its setting says it: below
    /// the data directory where it is no absolute path. `None` when it is not known.
    pub log_directory: Option<PathBuf>,
    /// What is not PostgreSQL's, and is left out.
    pub exclude: Exclusions,
}

impl Cluster {
    /// The server's logs, below the data directory and with `/` between components; `None`
    /// when they are elsewhere, or among PostgreSQL's own files.
    fn log_path(&self) -> Option<String> {
        let directory = self.data_directory.join(self.log_directory.as_ref()?);
        let inside = |directory: &Path| {
            let inside = directory.strip_prefix(&self.data_directory).ok()?;
            let names = inside.components().map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            });
            let path = names.collect::<Option<Vec<_>>>()?.join("/");
            let top = path.split('/').next().unwrap_or_default().to_owned();
            (!top.is_empty() && !OWN_NAMES.contains(&top.as_str())).then_some(path)
        };
        // As it is written first: it may be a link that leads out.
        inside(&directory).or_else(|| inside(&directory.canonicalize().ok()?))
    }
}

/// A cluster's entries as listed at one moment.
#[derive(Debug, Default)]
pub struct Listing {
    /// Parents before what they contain.
    pub directories: Vec<Entry>,
    /// In the order of their paths.
    pub files: Vec<Entry>,
    /// Tablespaces outside the data directory: OID and place.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// Where `pg_wal` leads, when it is a link.
    pub wal_directory: Option<PathBuf>,
}

/// Lists a cluster. What vanishes meanwhile is left out; what a backup cannot
/// hold (links and special files that are not PostgreSQL's own) is named in a
/// warning and left out, as PostgreSQL's own base backups do.
///
/// # Errors
/// [`ErrorKind::Denied`] for files that this user may not read: all of them are named, so
/// that they are found before anything is read. [`ErrorKind::Io`] for what cannot be listed.
pub fn walk(cluster: &Cluster, notices: &Notices) -> Result<Listing> {
    let mut walker = Walker {
        cluster,
        log_path: cluster.log_path(),
        notices,
        listing: Listing::default(),
        unreadable: Unreadable::default(),
    };
    walker.walk_below("")?;
    let links: Vec<u32> = walker.listing.tablespaces.keys().copied().collect();
    for oid in links {
        walker.walk_tablespace(oid)?;
    }
    let Walker { mut listing, unreadable, .. } = walker;
    unreadable.into_error(&cluster.data_directory)?;
    leave_out_unlogged(&mut listing);
    Ok(listing)
}

struct Walker<'a> {
    cluster: &'a Cluster,
    log_path: Option<String>,
    notices: &'a Notices,
    listing: Listing,
    unreadable: Unreadable,
}

impl Walker<'_> {
    /// Lists everything below `start`, a path relative to the data directory.
    fn walk_below(&mut self, start: &str) -> Result<()> {
        let root = self.cluster.data_directory.join(start);
        let mut entries = WalkDir::new(&root).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.not_listed(error, &root)?;
                    continue;
                }
            };
            let Some(path) = self.relative(entry.path()) else { continue };
            if is_excluded(&path) || self.cluster.exclude.cover(&path) {
                if entry.file_type().is_dir() {
                    entries.skip_current_dir();
                }
                continue;
            }
            let kind = entry.file_type();
            if kind.is_symlink() && entry.depth() > 0 {
                self.link(&path, entry.path())?;
                continue;
            }
            // The root itself may be a link; all others have been dealt with.
            let metadata = match std::fs::metadata(entry.path()) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound && entry.depth() > 0 => {
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.unreadable.add(path);
                    continue;
                }
                Err(error) => return Err(Error::file("stat file", entry.path(), &error)),
            };
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_dir() {
                if self.is_kept_empty(&path) {
                    entries.skip_current_dir();
                }
                self.listing.directories.push(Entry { path, size_bytes: 0, mode });
            } else if metadata.is_file() {
                self.unreadable.look_at(&path, entry.path());
                self.listing.files.push(Entry { path, size_bytes: metadata.len(), mode });
            } else if !is_socket(&metadata) {
                self.notices
                    .warning(format!("skipping special file \"{}\"", entry.path().display()));
            }
        }
        Ok(())
    }

    /// Whether a directory is kept without its content.
    fn is_kept_empty(&self, path: &str) -> bool {
        is_emptied(path) || self.log_path.as_deref() == Some(path)
    }

    /// Files come and go while a server runs, and some are not for this user to read.
    fn not_listed(&mut self, error: walkdir::Error, root: &Path) -> Result<()> {
        let path = error.path().unwrap_or(root).to_owned();
        let source = error.into_io_error().unwrap_or_else(|| io::Error::other("file system loop"));
        match source.kind() {
            _ if path == root => Err(Error::file("read", &path, &source)),
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::PermissionDenied => {
                if let Some(path) = self.relative(&path) {
                    self.unreadable.add(path);
                }
                Ok(())
            }
            _ => Err(Error::file("read", &path, &source)),
        }
    }

    /// Of a tablespace only the folder of this major version belongs to the cluster.
    fn walk_tablespace(&mut self, oid: u32) -> Result<()> {
        let link = self.cluster.data_directory.join(format!("{TABLESPACE_LINKS}/{oid}"));
        let beginning = format!("PG_{}_", self.cluster.pg_version / 10_000);
        let children = match std::fs::read_dir(&link) {
            Ok(children) => children,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.unreadable.add(format!("{TABLESPACE_LINKS}/{oid}"));
                return Ok(());
            }
            Err(error) => return Err(Error::file("read tablespace", &link, &error)),
        };
        for child in children {
            let child = child.map_err(|error| Error::file("read tablespace", &link, &error))?;
            if let Some(name) = child.file_name().to_str()
                && name.starts_with(&beginning)
            {
                self.walk_below(&format!("{TABLESPACE_LINKS}/{oid}/{name}"))?;
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &str, full: &Path) -> Result<()> {
        if let Some(oid) = path.strip_prefix("pg_tblspc/").and_then(|oid| oid.parse().ok()) {
            match std::fs::read_link(full) {
                Ok(location) if location.to_str().is_none() => {
                    return Err(not_utf8(oid, &location));
                }
                Ok(location) => {
                    self.listing.tablespaces.insert(oid, location);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("read link", full, &error)),
            }
        } else if self.is_kept_empty(path) {
            // On another disk; restored as a plain directory.
            if path == "pg_wal" {
                let place = std::fs::read_link(full);
                self.listing.wal_directory =
                    Some(place.map_err(|error| Error::file("read link", full, &error))?);
            }
            self.listing.directories.push(Entry {
                path: path.to_owned(),
                size_bytes: 0,
                mode: 0o700,
            });
        } else if is_indispensable(path) && full.is_dir() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("directory \"{}\" is a symbolic link", full.display()),
            )
            .with_detail(
                "A base backup holds no links, and without this directory it would be useless.",
            )
            .with_hint(
                "Move the directory back into the data directory. Databases and tables can be on another volume in a tablespace.",
            ));
        } else {
            self.notices.warning(format!("skipping symbolic link \"{}\"", full.display()));
        }
        Ok(())
    }

    /// The path below the data directory, or `None` and a warning when it
    /// cannot be the name of a tar member.
    fn relative(&self, full: &Path) -> Option<String> {
        let path = full.strip_prefix(&self.cluster.data_directory).ok()?;
        let text = path.to_str();
        if text.is_none() {
            self.notices.warning(format!(
                "skipping file \"{}\": its name is not valid UTF-8",
                full.display()
            ));
        }
        text.map(str::to_owned)
    }
}

/// The objects of a backup that name the tablespaces are JSON, which is UTF-8.
fn not_utf8(oid: u32, location: &Path) -> Error {
    let message = format!(
        "the directory of tablespace {oid}, \"{}\", has a name that is not valid UTF-8",
        location.display()
    );
    Error::new(ErrorKind::Config, message).with_hint(format!(
        "Stop the server, rename the directory, let the link \"{TABLESPACE_LINKS}/{oid}\" in the data directory lead to its new name, and start the server."
    ))
}

fn is_socket(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type())
}

/// Whether a cluster cannot run without this directory.
fn is_indispensable(path: &str) -> bool {
    let top = path.split('/').next().unwrap_or(path);
    ["base", "global", "pg_commit_ts", "pg_logical", "pg_multixact", "pg_twophase", "pg_xact"]
        .contains(&top)
}

/// An unlogged relation is emptied by crash recovery, from its `init` fork;
/// the other forks need no backup.
fn leave_out_unlogged(listing: &mut Listing) {
    let unlogged: HashSet<String> = listing
        .files
        .iter()
        .filter_map(|file| data_directory::relation_file(&file.path))
        .filter(|file| file.fork == Some("init"))
        .map(|file| file.relation.to_owned())
        .collect();
    listing.files.retain(|file| {
        data_directory::relation_file(&file.path)
            .is_none_or(|file| file.fork == Some("init") || !unlogged.contains(file.relation))
    });
}

#[cfg(test)]
mod tests;
