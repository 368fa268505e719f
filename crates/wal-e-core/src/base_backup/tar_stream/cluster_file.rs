//! A file of a running cluster, read page by page while it changes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::Source;
use crate::error::{Error, Result};
use crate::postgres::page::{self, Page};
use crate::postgres::{BLOCK_SIZE, Lsn, data_directory};
use crate::sentinel::CorruptBlocks;

/// How a file is read, in bytes: a whole number of pages.
const READ_BYTES: usize = 32 * BLOCK_SIZE;

/// How many corrupt blocks of a file are named one by one.
const CORRUPT_BLOCKS_NAMED: usize = 10;

/// A page that looks corrupt was perhaps read while it was written.
const READ_AGAIN: usize = 3;

/// Exactly `size` bytes of a file that may change meanwhile, read in whole pages.
pub(super) struct ClusterFile<'a> {
    file: &'a File,
    path: &'a Path,
    size: u64,
    /// Where the next read of the file begins.
    position: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` has been handed on.
    served: usize,
    /// Of what the tar gets, up to `position`.
    pub(super) crc32c: u32,
    check: Option<PageCheck>,
    source: &'a Source,
}

impl<'a> ClusterFile<'a> {
    /// The first `size` bytes of `file`, which is at `path`. Its `name` below the data
    /// directory says whether it has pages to judge.
    pub(super) fn new(
        file: &'a File,
        path: &'a Path,
        size: u64,
        name: &str,
        source: &'a Source,
    ) -> Self {
        ClusterFile {
            file,
            path,
            size,
            position: 0,
            buffer: Vec::new(),
            served: 0,
            crc32c: 0,
            check: PageCheck::new(name, source.verify_before),
            source,
        }
    }

    /// The pages whose checksums were wrong, if there are any.
    pub(super) fn into_corrupt_blocks(self) -> Option<CorruptBlocks> {
        self.check.and_then(|check| check.corrupt)
    }

    fn fill(&mut self) -> Result<()> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(READ_BYTES);
        if self.source.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if let Some(limit) = &self.source.rate_limit {
            limit.take_all_blocking(wanted as u64, &self.source.cancel);
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
pub(super) fn read_at_most(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
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
pub(super) struct PageCheck {
    start_lsn: Lsn,
    first_block: u32,
    corrupt: Option<CorruptBlocks>,
}

impl PageCheck {
    /// `None` for a file that has no page checksums.
    fn new(path: &str, start_lsn: Option<Lsn>) -> Option<Self> {
        let file = data_directory::relation_file(path)?;
        let first_block = file.segment.checked_mul(page::BLOCKS_PER_SEGMENT_FILE)?;
        Some(PageCheck::from_block(first_block, start_lsn?))
    }

    /// For a file whose first block has this number in its relation.
    pub(super) fn from_block(first_block: u32, start_lsn: Lsn) -> Self {
        PageCheck { start_lsn, first_block, corrupt: None }
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

    /// Whether the page that was read at `at` is sound, or cannot be judged. One that is not is
    /// read again: it may have been read while it was written.
    pub(super) fn judge(
        &self,
        page: &Page,
        block: u32,
        file: &File,
        at: u64,
    ) -> Result<(), page::Mismatch> {
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
