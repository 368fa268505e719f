//! Files of a running cluster as members of a tar partition.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::Progress;
use super::walk::Entry;
use crate::error::{Error, Result};
use crate::notice::Notices;
use crate::postgres::page::{self, Page};
use crate::postgres::{BLOCK_SIZE, Lsn, ManifestFile, data_directory};
use crate::rate_limit::RateLimit;
use crate::sentinel::{CorruptBlocks, FileMetadata, format_time};

/// How a file is read, in bytes: a whole number of pages.
const READ_BYTES: usize = 32 * BLOCK_SIZE;

/// Blocks of a relation's segment file (`RELSEG_SIZE`, PostgreSQL's default).
const BLOCKS_PER_SEGMENT: u32 = 131_072;

/// How many corrupt blocks of a file are named one by one.
const CORRUPT_BLOCKS_NAMED: usize = 10;

/// A page that looks corrupt was perhaps read while it was written.
const READ_AGAIN: usize = 3;

/// What all members of all partitions of a backup have in common.
#[derive(Debug)]
pub struct Source {
    /// Reads are limited to this.
    pub rate_limit: Option<RateLimit>,
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
        let mut reader = ClusterFile {
            file: &file,
            path: &path,
            size: metadata.len(),
            position: 0,
            buffer: Vec::new(),
            served: 0,
            crc32c: 0,
            check: PageCheck::new(&entry.path, source.verify_before),
            source,
        };
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
                corrupt_blocks: reader.check.and_then(|check| check.corrupt),
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

/// Exactly `size` bytes of a file that may change meanwhile, read in whole pages.
struct ClusterFile<'a> {
    file: &'a File,
    path: &'a Path,
    size: u64,
    /// Where the next read of the file begins.
    position: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` has been handed on.
    served: usize,
    /// Of what the tar gets, up to `position`.
    crc32c: u32,
    check: Option<PageCheck>,
    source: &'a Source,
}

impl ClusterFile<'_> {
    fn fill(&mut self) -> Result<()> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(READ_BYTES);
        if self.source.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if let Some(limit) = &self.source.rate_limit {
            limit.take(wanted as u64, &self.source.cancel);
        }
        self.buffer.resize(wanted, 0);
        let length = read_at_most(self.file, &mut self.buffer, self.position)
            .map_err(|error| Error::file("read file", self.path, &error))?;
        self.buffer[length..].fill(0);
        if let Some(check) = &mut self.check {
            let read = &self.buffer[..length];
            check.verify(self.file, read, self.position, self.path, self.source);
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, &self.buffer);
        self.served = 0;
        self.position += wanted as u64;
        self.source.progress.bytes_read.fetch_add(wanted as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Read for ClusterFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.served == self.buffer.len() && self.position < self.size {
            self.fill()?;
        }
        let length = buffer.len().min(self.buffer.len() - self.served);
        buffer[..length].copy_from_slice(&self.buffer[self.served..self.served + length]);
        self.served += length;
        Ok(length)
    }
}

/// Fills `buffer` from `position`, as far as the file goes.
fn read_at_most(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], position + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Judges the pages of one relation file as they pass.
struct PageCheck {
    start_lsn: Lsn,
    first_block: u32,
    corrupt: Option<CorruptBlocks>,
}

impl PageCheck {
    /// `None` for a file that has no page checksums.
    fn new(path: &str, start_lsn: Option<Lsn>) -> Option<Self> {
        let file = data_directory::relation_file(path)?;
        Some(PageCheck {
            start_lsn: start_lsn?,
            first_block: file.segment.checked_mul(BLOCKS_PER_SEGMENT)?,
            corrupt: None,
        })
    }

    fn verify(&mut self, file: &File, bytes: &[u8], position: u64, path: &Path, source: &Source) {
        // A tail shorter than a page is being written or cut off right now.
        let (pages, _) = bytes.as_chunks::<BLOCK_SIZE>();
        for (index, page) in pages.iter().enumerate() {
            let at = position + (index * BLOCK_SIZE) as u64;
            let block = u32::try_from(at / BLOCK_SIZE as u64).unwrap_or(u32::MAX);
            let Err(mismatch) = self.judge(page, block, file, at) else { continue };
            source.progress.corrupt_pages.fetch_add(1, Ordering::Relaxed);
            source.notices.warning(format!(
                "checksum verification failed in file \"{}\", block {block}: calculated {:X} but expected {:X}",
                path.display(),
                mismatch.computed,
                mismatch.stored,
            ));
            let corrupt = self.corrupt.get_or_insert_default();
            corrupt.corrupt_blocks_count += 1;
            if corrupt.some_corrupt_blocks.len() < CORRUPT_BLOCKS_NAMED {
                corrupt.some_corrupt_blocks.push(block);
            }
        }
    }

    fn judge(&self, page: &Page, block: u32, file: &File, at: u64) -> Result<(), page::Mismatch> {
        let number = self.first_block.wrapping_add(block);
        let mut result = page::verify(page, number, self.start_lsn);
        for _ in 0..READ_AGAIN {
            if result.is_ok() {
                break;
            }
            let mut again = [0; BLOCK_SIZE];
            match read_at_most(file, &mut again, at) {
                Ok(BLOCK_SIZE) => result = page::verify(&again, number, self.start_lsn),
                // Cut off meanwhile: replay knows.
                Ok(_) => result = Ok(()),
                Err(_) => break,
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::notice::{self, NoticeQueue};

    fn source(verify_before: Option<Lsn>) -> (Source, NoticeQueue) {
        let (notices, queue) = notice::channel();
        let source = Source {
            rate_limit: None,
            verify_before,
            progress: Arc::default(),
            notices,
            cancel: CancellationToken::new(),
        };
        (source, queue)
    }

    fn entry(path: &str) -> Entry {
        Entry { path: path.to_owned(), size_bytes: 0, mode: 0o600 }
    }

    fn members(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
        tar::Archive::new(tar)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (name, content)
            })
            .collect()
    }

    #[test]
    fn times_that_nobody_means_are_no_obstacle() {
        assert_eq!(format_time(sensible(1_767_319_445, 1000)), "2026-01-02T02:04:05.000001Z");
        for second in [i64::MIN, -1, 300_000_000_000, i64::MAX] {
            assert!(format_time(sensible(second, 0)).starts_with("1970-01-01T00:00:00"));
        }
    }

    #[test]
    fn names_of_any_length_keep_their_leading_slash() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("base/{}/file", "d".repeat(150));
        fs::create_dir_all(dir.path().join(&long).parent().unwrap()).unwrap();
        fs::write(dir.path().join(&long), b"long").unwrap();
        fs::write(dir.path().join("short"), b"short").unwrap();
        let (source, _queue) = source(None);
        let mut stream = TarStream::new(Vec::new());
        for path in ["short", &long] {
            assert!(stream.file(dir.path(), &entry(path), &source).unwrap().is_some());
        }
        assert_eq!(
            members(&stream.finish().unwrap()),
            [("/short".to_owned(), b"short".to_vec()), (format!("/{long}"), b"long".to_vec())]
        );
    }

    #[test]
    fn a_vanished_file_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let (source, _queue) = source(None);
        let mut stream = TarStream::new(Vec::new());
        assert_eq!(stream.file(dir.path(), &entry("gone"), &source).unwrap(), None);
        assert!(members(&stream.finish().unwrap()).is_empty());
    }

    /// A file of `size` bytes of `1`, for which `ClusterFile` has another size.
    fn read_as(actual: usize, claimed: u64) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![1; actual]).unwrap();
        let (source, _queue) = source(None);
        let file = File::open(&path).unwrap();
        let mut reader = ClusterFile {
            file: &file,
            path: &path,
            size: claimed,
            position: 0,
            buffer: Vec::new(),
            served: 0,
            crc32c: 0,
            check: None,
            source: &source,
        };
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!(reader.crc32c, crc32c::crc32c(&content));
        content
    }

    #[test]
    fn a_file_that_grew_is_cut_and_one_that_shrank_is_padded() {
        assert_eq!(read_as(700_000, 500_000), vec![1; 500_000]);
        let mut padded = vec![1; 300_000];
        padded.resize(700_000, 0);
        assert_eq!(read_as(300_000, 700_000), padded);
        assert_eq!(read_as(0, 0), Vec::<u8>::new());
    }

    #[test]
    fn a_corrupt_page_is_named_and_recorded_and_the_file_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("base/5")).unwrap();
        // Three pages with an LSN of 0/0 and a wrong checksum, the second unused.
        let mut content = vec![7_u8; 3 * BLOCK_SIZE];
        content[BLOCK_SIZE..2 * BLOCK_SIZE].fill(0);
        for page in [0, 2] {
            content[page * BLOCK_SIZE..page * BLOCK_SIZE + 8].fill(0);
        }
        for path in ["base/5/16384.1", "base/5/PG_VERSION"] {
            fs::write(dir.path().join(path), &content).unwrap();
        }
        let (source, queue) = source(Some(Lsn(100)));
        let mut stream = TarStream::new(Vec::new());
        let file = stream.file(dir.path(), &entry("base/5/16384.1"), &source).unwrap().unwrap();
        assert_eq!(
            file.metadata.corrupt_blocks,
            Some(CorruptBlocks { corrupt_blocks_count: 2, some_corrupt_blocks: vec![0, 2] })
        );
        let other = stream.file(dir.path(), &entry("base/5/PG_VERSION"), &source).unwrap().unwrap();
        assert_eq!(other.metadata.corrupt_blocks, None);
        assert_eq!(other.manifest.size_bytes, content.len() as u64);
        assert_eq!(other.manifest.crc32c, crc32c::crc32c(&content));
        let warnings = queue.drain();
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[1].message.contains("base/5/16384.1\", block 2"),
            "{}",
            warnings[1].message
        );
        assert_eq!(members(&stream.finish().unwrap())[0].1, content);
    }
}
