//! Files of a running cluster as members of a tar partition.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::Progress;
use super::delta::{Delta, Stored, bytes_to_send};
use super::member::{member_name, time_of};
use super::walk::Entry;
use crate::error::{Error, Result};
use crate::notice::Notices;
use crate::postgres::{BLOCK_SIZE, Lsn, ManifestFile};
use crate::rate_limit::RateLimit;
use crate::sentinel::{FileMetadata, format_time};

mod changed_pages;
mod cluster_file;

use changed_pages::PageFile;
use cluster_file::ClusterFile;

/// What all members of all partitions of a backup have in common.
#[derive(Debug)]
pub struct Source {
    /// Reads are limited to this.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// Pages changed since are not judged; `None` when the cluster has no checksums.
    pub verify_before: Option<Lsn>,
    /// Of an incremental backup: what its parent has, and what has changed since.
    pub delta: Option<Arc<Delta>>,
    /// Advanced as files are read.
    pub progress: Arc<Progress>,
    /// Corrupt pages are named here.
    pub notices: Notices,
    /// Ends the reading.
    pub cancel: CancellationToken,
}

impl Source {
    /// Says how much of a file of an incremental backup is to be sent, which may be more than
    /// was known when it was listed, or less.
    fn will_send(&self, entry: &Entry, bytes: u64) {
        if let Some(delta) = &self.delta {
            let known = bytes_to_send(Some(delta), entry);
            // Less is added as it is subtracted.
            self.progress.bytes_to_send.fetch_add(bytes.wrapping_sub(known), Ordering::Relaxed);
        }
    }
}

/// A file as it went into a tar.
#[derive(Debug, PartialEq)]
pub struct StoredFile {
    /// For `files_metadata.json`.
    pub metadata: FileMetadata,
    /// For the backup manifest.
    pub manifest: ManifestFile,
    /// What the tar has of it, in bytes.
    pub member_bytes: u64,
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

    /// Adds a file of `size` bytes, which come out of `content`.
    pub fn file_of(
        &mut self,
        name: &str,
        mode: u32,
        mtime: i64,
        size: u64,
        content: impl Read,
    ) -> Result<()> {
        self.member(name, tar::EntryType::Regular, size, mode, mtime, content)
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
        if let Some(stored) = self.increment(&path, &file, &metadata, entry, source)? {
            return Ok(Some(stored));
        }
        source.will_send(entry, metadata.len());
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
                crc32c: Some(reader.crc32c),
            },
            metadata: FileMetadata {
                mtime: format_time(modified),
                corrupt_blocks: reader.into_corrupt_blocks(),
                ..FileMetadata::default()
            },
            member_bytes: metadata.len(),
        }))
    }

    /// Adds only the changed pages of a file. `None`, and nothing is added, when it has to be
    /// stored whole.
    fn increment(
        &mut self,
        path: &Path,
        file: &File,
        metadata: &Metadata,
        entry: &Entry,
        source: &Source,
    ) -> Result<Option<StoredFile>> {
        let Some(delta) = &source.delta else { return Ok(None) };
        let Stored::Pages { first_block, candidates } = delta.plan(entry) else {
            return Ok(None);
        };
        let size_bytes = metadata.len();
        let has_whole_pages = size_bytes > 0 && size_bytes.is_multiple_of(BLOCK_SIZE as u64);
        if !has_whole_pages {
            return Ok(None);
        }
        let pages = PageFile { file, path, size_bytes, first_block, source, delta };
        let Some(numbers) = pages.changed(candidates)? else {
            // It is read once more.
            source.progress.bytes_total.fetch_add(size_bytes, Ordering::Relaxed);
            return Ok(None);
        };
        let mut increment = pages.increment(numbers);
        let member_bytes = increment.member_bytes();
        source.will_send(entry, member_bytes);
        self.member(
            &member_name(&entry.path),
            tar::EntryType::Regular,
            member_bytes,
            metadata.mode() & 0o777,
            metadata.mtime(),
            &mut increment,
        )?;
        let modified = time_of(metadata);
        Ok(Some(StoredFile {
            manifest: ManifestFile {
                path: entry.path.as_bytes().to_vec(),
                size_bytes,
                modified,
                crc32c: None,
            },
            metadata: FileMetadata {
                is_incremented: true,
                mtime: format_time(modified),
                ..FileMetadata::default()
            },
            member_bytes,
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
