//! Files of a running cluster as members of a tar partition.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::Progress;
use super::walk::Entry;
use crate::error::{Error, Result};
use crate::notice::Notices;
use crate::postgres::{Lsn, ManifestFile};
use crate::rate_limit::RateLimit;
use crate::sentinel::{FileMetadata, format_time};

mod cluster_file;

use cluster_file::ClusterFile;

/// What all members of all partitions of a backup have in common.
#[derive(Debug)]
pub struct Source {
    /// Reads are limited to this.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// Pages changed since are not judged; `None` when the cluster has no checksums.
    pub verify_before: Option<Lsn>,
    /// Advanced as files are read.
    pub progress: Arc<Progress>,
    /// Corrupt pages are named here.
    pub notices: Notices,
    /// Ends the reading.
    pub cancel: CancellationToken,
}

/// The name of a member in WAL-G's form: `/` and the path below the data directory.
pub fn member_name(path: &str) -> String {
    format!("/{path}")
}

/// When a file was last changed. A time before 1970 or after the year 9999, which file
/// systems can hold, is a mistake of some clock: it becomes 1970.
pub fn time_of(metadata: &Metadata) -> OffsetDateTime {
    sensible(metadata.mtime(), metadata.mtime_nsec())
}

fn sensible(second: i64, nanosecond: i64) -> OffsetDateTime {
    let nanosecond = u32::try_from(nanosecond).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(second.max(0))
        .and_then(|time| time.replace_nanosecond(nanosecond))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A file as it went into a tar.
#[derive(Debug, PartialEq)]
pub struct StoredFile {
    /// For `files_metadata.json`.
    pub metadata: FileMetadata,
    /// For the backup manifest.
    pub manifest: ManifestFile,
}

/// Writes a tar of a cluster's files.
pub struct TarStream<W: Write> {
    builder: tar::Builder<W>,
}

impl<W: Write> TarStream<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        TarStream { builder: tar::Builder::new(inner) }
    }

    /// Writes the end of the tar and gives the inner writer back.
    pub fn finish(self) -> io::Result<W> {
        self.builder.into_inner()
    }

    /// Adds a directory.
    pub fn directory(&mut self, entry: &Entry) -> Result<()> {
        self.member(
            &member_name(&entry.path),
            tar::EntryType::Directory,
            0,
            entry.mode,
            0,
            io::empty(),
        )
    }

    /// Adds a file with content at hand.
    pub fn content(&mut self, name: &str, mode: u32, mtime: i64, content: &[u8]) -> Result<()> {
        self.member(name, tar::EntryType::Regular, content.len() as u64, mode, mtime, content)
    }

    /// Adds a file of the running cluster with the size it has now: what it
    /// grows is cut off, what it shrinks is padded with zeros, and replay of WAL
    /// repairs both. Returns `None`, and adds nothing, when it is no longer there.
    pub fn file(
        &mut self,
        data_directory: &Path,
        entry: &Entry,
        source: &Source,
    ) -> Result<Option<StoredFile>> {
        let path = data_directory.join(&entry.path);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("open file", &path, &error)),
        };
        let metadata = file.metadata().map_err(|error| Error::file("stat file", &path, &error))?;
        let modified = time_of(&metadata);
        let mut reader = ClusterFile::new(&file, &path, metadata.len(), &entry.path, source);
        self.member(
            &member_name(&entry.path),
            tar::EntryType::Regular,
            metadata.len(),
            metadata.mode() & 0o777,
            metadata.mtime(),
            &mut reader,
        )?;
        Ok(Some(StoredFile {
            manifest: ManifestFile {
                path: entry.path.as_bytes().to_vec(),
                size_bytes: metadata.len(),
                modified,
                crc32c: reader.crc32c,
            },
            metadata: FileMetadata {
                mtime: format_time(modified),
                corrupt_blocks: reader.into_corrupt_blocks(),
                ..FileMetadata::default()
            },
        }))
    }

    fn member(
        &mut self,
        name: &str,
        kind: tar::EntryType,
        size: u64,
        mode: u32,
        mtime: i64,
        content: impl Read,
    ) -> Result<()> {
        // USTAR, and PAX records for what it has no room for: both are read by
        // every tar. Owners are not kept: a restore belongs to the user that makes it.
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        let mut records: Vec<(&str, String)> = Vec::new();
        let field = &mut header.as_old_mut().name;
        if name.len() <= field.len() {
            // `set_path` would take the leading slash off.
            field[..name.len()].copy_from_slice(name.as_bytes());
        } else {
            let cut = field.len();
            field.copy_from_slice(&name.as_bytes()[..cut]);
            records.push(("path", name.to_owned()));
        }
        if size > LARGEST_USTAR_BYTES {
            records.push(("size", size.to_string()));
        }
        header.set_cksum();
        let failed = |error| Error::from_io(format!("could not add \"{name}\" to a tar"), error);
        if !records.is_empty() {
            self.builder
                .append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes())))
                .map_err(failed)?;
        }
        self.builder.append(&header, content).map_err(failed)
    }
}

/// What eleven octal digits hold.
const LARGEST_USTAR_BYTES: u64 = 0o77_777_777_777;

#[cfg(test)]
mod tests;
