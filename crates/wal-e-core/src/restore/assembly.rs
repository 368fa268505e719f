//! Files that are put together of the pages of several backups, the newest backup first.
//!
//! A page is written once, with its newest content, and an older backup gives only what is
//! still missing. So nothing on disk has to be taken back when a tar turns out to be damaged:
//! what it wrote does not count, and is written again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::increment::{Head, adjacent};
use crate::postgres::BLOCK_SIZE;

const PAGE: u64 = BLOCK_SIZE as u64;

/// Pages that are written at once.
const PAGES_AT_ONCE: usize = 32;

/// The files that still need an older backup, by path below the data directory.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    files: Mutex<HashMap<PathBuf, Begun>>,
}

/// A file of which newer backups gave some pages, or none but its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Size of the file when it is complete.
    file_bytes: u64,
    /// Pages from here on had no older content: in a backup in between, the file was shorter.
    end: u32,
    /// The pages that have their content.
    settled: RoaringBitmap,
}

impl Assembly {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Begun>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What newer backups gave of a file; `None` when they gave nothing.
    pub(crate) fn begun(&self, path: &Path) -> Option<Begun> {
        self.lock().get(path).cloned()
    }

    /// The pages of `numbers` of a file are on disk, or were before. In this backup the file
    /// has `file_bytes`.
    pub(crate) fn settle(
        &self,
        path: PathBuf,
        file_bytes: u64,
        numbers: impl IntoIterator<Item = u32>,
    ) {
        let mut files = self.lock();
        let begun = files.entry(path).or_insert_with(|| Begun::new(file_bytes));
        let lacking = numbers.into_iter().filter(|number| begun.lacks(*number));
        let lacking: Vec<u32> = lacking.collect();
        begun.settled.extend(lacking);
        begun.end = begun.end.min(pages(file_bytes));
    }

    /// A file is complete.
    pub(crate) fn complete(&self, path: &Path) {
        self.lock().remove(path);
    }
}

impl Begun {
    /// A file of which nothing is there.
    pub(crate) fn new(file_bytes: u64) -> Self {
        Begun { file_bytes, end: pages(file_bytes), settled: RoaringBitmap::new() }
    }

    /// Size of the file when it is complete.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Whether an older backup has the content of this page.
    fn lacks(&self, number: u32) -> bool {
        number < self.end && !self.settled.contains(number)
    }

    /// Whether one of these pages is missing.
    pub(crate) fn lacks_any(&self, numbers: &[u32]) -> bool {
        numbers.iter().any(|number| self.lacks(*number))
    }

    /// Takes from an increment, of which `head` has been read from `content`, the pages that are
    /// missing. Returns the bytes written.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the content ends early, and those of the file, which
    /// `place` names.
    pub(crate) fn write_pages(
        &self,
        head: &Head,
        content: &mut impl Read,
        file: &File,
        place: &Path,
    ) -> Result<u64> {
        let mut buffer = vec![0; PAGES_AT_ONCE * BLOCK_SIZE];
        let mut written = 0;
        let mut rest = head.numbers.as_slice();
        while let Some(first) = rest.first() {
            let run = adjacent_alike(rest, |number| self.lacks(number));
            let pages = &mut buffer[..run * BLOCK_SIZE];
            content.read_exact(pages).map_err(Error::from_tar)?;
            if self.lacks(*first) {
                write(file, place, pages, u64::from(*first) * PAGE)?;
                written += pages.len() as u64;
            }
            rest = &rest[run..];
        }
        Ok(written)
    }

    /// Takes from a piece of the whole file, which is at `offset` in it, the pages that are
    /// missing. Returns the bytes written.
    pub(super) fn write_missing(
        &self,
        piece: &[u8],
        offset: u64,
        file: &File,
        place: &Path,
    ) -> Result<u64> {
        let mut written = 0;
        for missing in self.missing(offset..offset + piece.len() as u64) {
            let within = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            let bytes = &piece[within(missing.start)..within(missing.end)];
            write(file, place, bytes, missing.start)?;
            written += bytes.len() as u64;
        }
        Ok(written)
    }

    /// Puts the pages that are in `newer`, each at its place in the file, over a piece of the
    /// oldest backup's file, which is at `offset` in it: whole pages.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn overlay(
        &self,
        piece: &mut [u8],
        offset: u64,
        newer: Option<&File>,
    ) -> io::Result<()> {
        let (pages, _) = piece.as_chunks_mut::<BLOCK_SIZE>();
        for (page, place) in pages.iter_mut().zip((offset..).step_by(BLOCK_SIZE)) {
            let number = u32::try_from(place / PAGE).unwrap_or(u32::MAX);
            if !self.settled.contains(number) {
                if number >= self.end {
                    page.fill(0);
                }
                continue;
            }
            let Some(newer) = newer else { return Err(io::ErrorKind::NotFound.into()) };
            newer.read_exact_at(page, place)?;
        }
        Ok(())
    }

    /// Ends the file, of which the oldest backup had `old_bytes`. What no backup has is zeros,
    /// whatever a damaged tar may have written there.
    pub(super) fn end(&self, old_bytes: u64, file: &File, place: &Path) -> Result<()> {
        let zeros = vec![0; PAGES_AT_ONCE * BLOCK_SIZE];
        let first = u32::try_from(old_bytes / PAGE).unwrap_or(u32::MAX).min(self.end);
        for number in (first..pages(self.file_bytes)).filter(|it| !self.settled.contains(*it)) {
            let page = u64::from(number) * PAGE;
            let start = if number < self.end { page.max(old_bytes) } else { page };
            let length = usize::try_from(page + PAGE - start).unwrap_or(BLOCK_SIZE);
            write(file, place, &zeros[..length], start)?;
        }
        file.set_len(self.file_bytes)
            .map_err(|error| Error::file("set size of file", place, &error))
    }

    /// The parts of these bytes of the file that are missing, whole pages but for the last.
    fn missing(&self, bytes: Range<u64>) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        let mut at = bytes.start;
        while at < bytes.end {
            let next = ((at / PAGE + 1) * PAGE).min(bytes.end);
            if u32::try_from(at / PAGE).is_ok_and(|number| self.lacks(number)) {
                match parts.last_mut() {
                    Some(last) if last.end == at => last.end = next,
                    _ => parts.push(at..next),
                }
            }
            at = next;
        }
        parts
    }
}

/// How many pages a file has.
fn pages(file_bytes: u64) -> u32 {
    u32::try_from(file_bytes / PAGE).unwrap_or(u32::MAX)
}

/// How many of the first pages follow one another in the file, too, and are as the first one in
/// what `is` says of them.
fn adjacent_alike(numbers: &[u32], is: impl Fn(u32) -> bool) -> usize {
    let run = adjacent(numbers, PAGES_AT_ONCE);
    let first = is(numbers[0]);
    numbers[..run].iter().take_while(|number| is(**number) == first).count()
}

fn write(file: &File, place: &Path, bytes: &[u8], offset: u64) -> Result<()> {
    file.write_all_at(bytes, offset).map_err(|error| Error::file("write file", place, &error))
}

#[cfg(test)]
mod tests;
