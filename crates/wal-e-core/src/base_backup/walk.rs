//! What there is to back up: the files and directories of a cluster.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::data_directory::{self, is_emptied, is_excluded};

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

/// A cluster's entries as listed at one moment.
#[derive(Debug, Default)]
pub struct Listing {
    /// Parents before what they contain.
    pub directories: Vec<Entry>,
    /// In the order of their paths.
    pub files: Vec<Entry>,
    /// Tablespaces outside the data directory: OID and place.
    pub tablespaces: BTreeMap<u32, PathBuf>,
}

/// Lists a cluster. What vanishes meanwhile is left out; what a backup cannot
/// hold (links and special files that are not PostgreSQL's own) is named in a
/// warning and left out, as PostgreSQL's own base backups do.
pub fn walk(data_directory: &Path, pg_version: u32, notices: &Notices) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut walker = Walker { data_directory, notices, listing: &mut listing };
    walker.walk_below("")?;
    let links: Vec<u32> = walker.listing.tablespaces.keys().copied().collect();
    for oid in links {
        walker.walk_tablespace(oid, pg_version)?;
    }
    leave_out_unlogged(&mut listing);
    Ok(listing)
}

struct Walker<'a> {
    data_directory: &'a Path,
    notices: &'a Notices,
    listing: &'a mut Listing,
}

impl Walker<'_> {
    /// Lists everything below `start`, a path relative to the data directory.
    fn walk_below(&mut self, start: &str) -> Result<()> {
        let root = self.data_directory.join(start);
        let mut entries = WalkDir::new(&root).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => match vanished_or_error(error, &root)? {
                    Vanished => continue,
                },
            };
            let Some(path) = self.relative(entry.path()) else { continue };
            if is_excluded(&path) {
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
                Err(error) => return Err(Error::file("stat file", entry.path(), &error)),
            };
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_dir() {
                if is_emptied(&path) {
                    entries.skip_current_dir();
                }
                self.listing.directories.push(Entry { path, size_bytes: 0, mode });
            } else if metadata.is_file() {
                self.listing.files.push(Entry { path, size_bytes: metadata.len(), mode });
            } else if !is_socket(&metadata) {
                self.notices
                    .warning(format!("skipping special file \"{}\"", entry.path().display()));
            }
        }
        Ok(())
    }

    /// Of a tablespace only the folder of this major version belongs to the cluster.
    fn walk_tablespace(&mut self, oid: u32, pg_version: u32) -> Result<()> {
        let link = self.data_directory.join(format!("{TABLESPACE_LINKS}/{oid}"));
        let beginning = format!("PG_{}_", pg_version / 10_000);
        let children = match std::fs::read_dir(&link) {
            Ok(children) => children,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
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
                Ok(location) => {
                    self.listing.tablespaces.insert(oid, location);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("read link", full, &error)),
            }
        } else if is_emptied(path) {
            // pg_wal on another disk: restored as a plain directory.
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
            .with_hint("Move the directory back into the data directory, or use a tablespace."));
        } else {
            self.notices.warning(format!("skipping symbolic link \"{}\"", full.display()));
        }
        Ok(())
    }

    /// The path below the data directory, or `None` and a warning when it
    /// cannot be the name of a tar member.
    fn relative(&self, full: &Path) -> Option<String> {
        let path = full.strip_prefix(self.data_directory).ok()?;
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

struct Vanished;

/// Files come and go while a server runs.
fn vanished_or_error(error: walkdir::Error, root: &Path) -> Result<Vanished> {
    let path = error.path().unwrap_or(root).to_owned();
    let source = error.into_io_error().unwrap_or_else(|| io::Error::other("file system loop"));
    if source.kind() == io::ErrorKind::NotFound && path != root {
        return Ok(Vanished);
    }
    Err(Error::file("read", &path, &source))
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
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::notice;

    #[test]
    fn a_cluster_is_listed_without_what_the_server_makes_anew() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let space = dir.path().join("space");
        for directory in ["base/5", "pg_wal", "pg_tblspc", "global", "base/pgsql_tmp", "log"] {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        for version in ["PG_15_202209061/5", "PG_14_202107181/5"] {
            fs::create_dir_all(space.join(version)).unwrap();
            fs::write(space.join(version).join("16390"), b"x").unwrap();
        }
        symlink(&space, data.join("pg_tblspc/16384")).unwrap();
        symlink("/etc/passwd", data.join("base/5/link")).unwrap();
        for file in [
            "PG_VERSION",
            "postmaster.pid",
            "base/5/1",
            "base/5/2",
            "base/5/2_fsm",
            "base/5/2_init",
            "base/5/t1_3",
            "pg_wal/000000010000000000000001",
            "base/pgsql_tmp/pgsql_tmp1.0",
            "global/pg_control",
            "log/postgresql.log",
        ] {
            fs::write(data.join(file), b"content").unwrap();
        }

        let (notices, queue) = notice::channel();
        let listing = walk(&data, 150_018, &notices).unwrap();
        let paths = |entries: &[Entry]| entries.iter().map(|e| e.path.clone()).collect::<Vec<_>>();
        assert_eq!(
            paths(&listing.files),
            ["PG_VERSION", "base/5/1", "base/5/2_init", "pg_tblspc/16384/PG_15_202209061/5/16390"]
        );
        assert_eq!(
            paths(&listing.directories),
            [
                "",
                "base",
                "base/5",
                "global",
                "log",
                "pg_tblspc",
                "pg_wal",
                "pg_tblspc/16384/PG_15_202209061",
                "pg_tblspc/16384/PG_15_202209061/5"
            ]
        );
        assert_eq!(listing.tablespaces[&16384], space);
        let warnings = queue.drain();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].message.contains("base/5/link"));
    }
}
