//! The pages of a file that an incremental backup stores.
//!
//! They are read twice: to find them, and to store them, because their number comes first. A page
//! that changes in between, or was read half changed, is mended by replay of WAL from the start of
//! the backup, as in a full one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::Source;
use super::cluster_file::{PageCheck, read_at_most};
use crate::base_backup::delta::{Candidates, Delta};
use crate::error::{Error, Result};
use crate::increment::{Head, adjacent};
use crate::postgres::page::{self, Page};
use crate::postgres::{BLOCK_SIZE, Lsn};

/// How many pages are read at once.
const PAGES_AT_ONCE: usize = 32;

/// Of the pages that a map does not have, how many are read nevertheless.
const SAMPLES: u32 = 4;

/// One file of the cluster.
#[derive(Clone, Copy)]
pub(super) struct PageFile<'a> {
    pub(super) file: &'a File,
    /// For messages.
    pub(super) path: &'a Path,
    /// As the tar will say; the file may change meanwhile.
    pub(super) size_bytes: u64,
    /// The number in the relation of its first block.
    pub(super) first_block: u32,
    pub(super) source: &'a Source,
    pub(super) delta: &'a Delta,
}

impl<'a> PageFile<'a> {
    /// The pages that have changed; `None` when the file has to be stored whole, because most
    /// of it has changed or because a page is not what it should be.
    ///
    /// # Errors
    /// Those of the file system, and [`ErrorKind::Cancelled`](crate::error::ErrorKind).
    pub(super) fn changed(&self, candidates: Candidates<'_>) -> Result<Option<Vec<u32>>> {
        let pages = self.pages();
        let changed = match candidates {
            Candidates::ByPageLsn { since } => self.changed_by_lsn(pages, since)?,
            Candidates::Mapped { changes, since, until } => {
                let after = self.first_block.saturating_add(pages);
                let mapped = changes.map_or_else(Vec::new, |changes| {
                    let blocks = changes.between(self.first_block, after);
                    blocks.map(|block| block - self.first_block).collect()
                });
                let is_usable =
                    self.are_sound(&mapped)? && self.is_complete(pages, &mapped, since, until)?;
                is_usable.then_some(mapped)
            }
        };
        // Numbers take room, too, and a whole file can be restored without the parent.
        Ok(changed.filter(|numbers| numbers.len() as u64 * 10 <= u64::from(pages) * 9))
    }

    /// How many whole pages it has.
    fn pages(&self) -> u32 {
        u32::try_from(self.size_bytes / BLOCK_SIZE as u64).unwrap_or(u32::MAX)
    }

    fn changed_by_lsn(&self, pages: u32, since: Lsn) -> Result<Option<Vec<u32>>> {
        let check = self.page_check();
        let mut changed = Vec::new();
        let mut is_sound = true;
        let all: Vec<u32> = (0..pages).collect();
        // No record ends in the first segment, of number 0. A page that says so was written
        // without its own, as those of a GiST index that is built (`GistBuildLSN`): the parent
        // may have read the file while they were written.
        let first_lsn = Lsn(self.delta.segment_size.bytes());
        self.each(&all, &mut |number, page| {
            let lsn = page::lsn(page);
            if page::is_new(page) || lsn >= since || lsn < first_lsn {
                changed.push(number);
            }
            is_sound = is_sound && self.is_sound(check.as_ref(), number, page);
            self.source.progress.bytes_read.fetch_add(BLOCK_SIZE as u64, Ordering::Relaxed);
            is_sound
        })?;
        Ok(is_sound.then_some(changed))
    }

    /// Whether the pages that are to be stored are what they should be.
    fn are_sound(&self, numbers: &[u32]) -> Result<bool> {
        let check = self.page_check();
        let mut is_sound = true;
        self.each(numbers, &mut |number, page| {
            is_sound = self.is_sound(check.as_ref(), number, page);
            self.source.progress.bytes_read.fetch_add(BLOCK_SIZE as u64, Ordering::Relaxed);
            is_sound
        })?;
        Ok(is_sound)
    }

    /// Looks at a few pages that the map does not have. One of them that has changed since the
    /// parent is a defect of the map.
    fn is_complete(&self, pages: u32, mapped: &[u32], since: Lsn, until: Lsn) -> Result<bool> {
        let mut samples: Vec<u32> = (0..SAMPLES)
            .map(|_| fastrand::u32(0..pages.max(1)))
            .filter(|number| *number < pages && mapped.binary_search(number).is_err())
            .collect();
        samples.sort_unstable();
        samples.dedup();
        let mut defect = None;
        self.each(&samples, &mut |number, page| {
            let lsn = page::lsn(page);
            if !page::is_new(page) && lsn > since && lsn <= until {
                defect = Some((number, lsn));
            }
            defect.is_none()
        })?;
        if let Some((number, lsn)) = defect {
            self.source.notices.warning(format!(
                "block {number} of file \"{}\" was changed at {lsn}, which the record of changed blocks does not have: the file is stored whole",
                self.path.display()
            ));
        }
        Ok(defect.is_none())
    }

    fn page_check(&self) -> Option<PageCheck> {
        self.source.verify_before.map(|before| PageCheck::from_block(self.first_block, before))
    }

    /// Whether a page has the right checksum, where that can be told, and an LSN that the
    /// server's WAL has reached.
    fn is_sound(&self, check: Option<&PageCheck>, number: u32, page: &Page) -> bool {
        let at = u64::from(number) * BLOCK_SIZE as u64;
        let lsn = page::lsn(page);
        if !page::is_new(page) && !self.delta.wal_reach.has_reached(lsn) {
            self.source.notices.warning(format!(
                "block {number} of file \"{}\" has LSN {lsn}, which the WAL has not reached: the file is stored whole",
                self.path.display()
            ));
            return false;
        }
        // Where it is wrong, storing the whole file tells of it.
        check.is_none_or(|check| check.judge(page, number, self.file, at).is_ok())
    }

    /// Reads the pages of these numbers, which ascend, until `take` wants no more. What the file
    /// does not have any more is left out.
    fn each(&self, numbers: &[u32], take: &mut dyn FnMut(u32, &Page) -> bool) -> Result<()> {
        let mut buffer = vec![0; PAGES_AT_ONCE * BLOCK_SIZE];
        let mut rest = numbers;
        while let Some(first) = rest.first() {
            let run = adjacent(rest, PAGES_AT_ONCE);
            let wanted = &mut buffer[..run * BLOCK_SIZE];
            let length = self.read(wanted, *first)?;
            let (pages, _) = wanted[..length].as_chunks::<BLOCK_SIZE>();
            for (number, page) in rest.iter().zip(pages) {
                if !take(*number, page) {
                    return Ok(());
                }
            }
            rest = &rest[run..];
        }
        Ok(())
    }

    /// Reads pages from the block `number` on, as far as the file goes.
    fn read(&self, buffer: &mut [u8], number: u32) -> Result<usize> {
        if self.source.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if let Some(limit) = &self.source.rate_limit {
            limit.take_all_blocking(buffer.len() as u64, &self.source.cancel);
        }
        let at = u64::from(number) * BLOCK_SIZE as u64;
        read_at_most(self.file, buffer, at)
            .map_err(|error| Error::file("read file", self.path, &error))
    }

    /// The increment with these pages, to be read.
    pub(super) fn increment(self, numbers: Vec<u32>) -> Increment<'a> {
        let head = Head { file_bytes: self.size_bytes, numbers };
        Increment { buffer: head.to_bytes(), head, served: 0, next: 0, file: self }
    }
}

/// An increment as the content of a member.
pub(super) struct Increment<'a> {
    head: Head,
    file: PageFile<'a>,
    buffer: Vec<u8>,
    /// How much of `buffer` has been handed on.
    served: usize,
    /// The place in the list of the page that is read next.
    next: usize,
}

impl Increment<'_> {
    /// Its size in bytes.
    pub(super) fn member_bytes(&self) -> u64 {
        self.head.member_bytes()
    }

    fn fill(&mut self) -> Result<()> {
        let rest = &self.head.numbers[self.next..];
        let run = adjacent(rest, PAGES_AT_ONCE);
        self.buffer.resize(run * BLOCK_SIZE, 0);
        let length = self.file.read(&mut self.buffer, rest[0])?;
        // Cut off meanwhile: replay knows.
        self.buffer[length..].fill(0);
        self.next += run;
        self.served = 0;
        Ok(())
    }
}

impl Read for Increment<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.served == self.buffer.len() && self.next < self.head.numbers.len() {
            self.fill()?;
        }
        let length = buffer.len().min(self.buffer.len() - self.served);
        buffer[..length].copy_from_slice(&self.buffer[self.served..self.served + length]);
        self.served += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
