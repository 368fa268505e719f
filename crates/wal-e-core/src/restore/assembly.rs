//! Files that are put together of the pages of several backups, the newest backup first.
//!
//! The pages of newer backups wait in a file of their own until the whole file comes, with the
//! oldest backup that is needed. Then all of it is written once, from its beginning to its end.
//! So a disk never has to look for pages, and nothing has to be taken back when a tar turns out to
//! be damaged: what it wrote does not count, and is written again.

mod whole_file;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::increment::Head;
use crate::postgres::BLOCK_SIZE;

pub(crate) use whole_file::WholeFile;

const PAGE: u64 = BLOCK_SIZE as u64;

/// How pages that wait are written, and whole files are read: a whole number of pages.
const PIECE_BYTES: usize = 32 * BLOCK_SIZE;

/// The files that still need an older backup, by path below the data directory.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    files: Mutex<HashMap<PathBuf, Begun>>,
    /// Files that an earlier run has put together.
    complete: Mutex<HashSet<PathBuf>>,
}

/// A file of which newer backups gave some pages, or none but its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Size of the file when it is complete.
    file_bytes: u64,
    /// Pages from here on had no older content: in a backup in between, the file was shorter.
    end: u32,
    /// The pages that wait, of each backup that gave some, the newest first. In the file where they
    /// wait they follow one another in this order, and those of one backup in ascending order.
    waiting: Vec<RoaringBitmap>,
}

impl Assembly {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Begun>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What newer backups gave of a file; `None` when they gave nothing.
    pub(crate) fn begun(&self, path: &Path) -> Option<Begun> {
        self.lock().get(path).cloned()
    }

    /// The same; where newer backups gave nothing, it is begun with this size.
    pub(crate) fn begun_or_new(&self, path: &Path, file_bytes: u64) -> Begun {
        self.begun(path).unwrap_or_else(|| Begun::new(file_bytes))
    }

    /// These pages of a file, which were missing, wait on disk. In this backup the file has
    /// `file_bytes`.
    pub(crate) fn settle(&self, path: PathBuf, file_bytes: u64, pages_kept: RoaringBitmap) {
        let mut files = self.lock();
        let begun = files.entry(path).or_insert_with(|| Begun::new(file_bytes));
        if !pages_kept.is_empty() {
            begun.waiting.push(pages_kept);
        }
        begun.end = begun.end.min(pages(file_bytes));
    }

    /// A file is complete: nothing waits for it.
    pub(crate) fn forget(&self, path: &Path) {
        self.lock().remove(path);
    }

    /// These files are complete since an earlier run.
    pub(crate) fn were_complete(&self, paths: impl IntoIterator<Item = PathBuf>) {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }

    /// Whether a file is complete since an earlier run.
    pub(crate) fn was_complete(&self, path: &Path) -> bool {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }
}

impl Begun {
    /// A file of which nothing is there.
    pub(crate) fn new(file_bytes: u64) -> Self {
        Begun { file_bytes, end: pages(file_bytes), waiting: Vec::new() }
    }

    /// Size of the file when it is complete.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes of the pages that wait.
    fn waiting_bytes(&self) -> u64 {
        self.waiting.iter().map(|pages| pages.len() * PAGE).sum()
    }

    /// Those of these pages of which no newer backup has the content.
    pub(crate) fn missing(&self, numbers: &[u32]) -> RoaringBitmap {
        let is_missing = |number: &u32| {
            *number < self.end && !self.waiting.iter().any(|pages| pages.contains(*number))
        };
        numbers.iter().copied().filter(is_missing).collect()
    }

    /// Takes from an increment, of which `head` has been read from `content`, the pages that are
    /// `missing`, and adds them to those that wait in `file`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the content ends early, and those of the file, which
    /// `place` names.
    pub(crate) fn keep_pages(
        &self,
        head: &Head,
        missing: &RoaringBitmap,
        content: &mut impl Read,
        file: &File,
        place: &Path,
    ) -> Result<()> {
        let failed = |error| Error::file("write file", place, &error);
        let before = self.waiting_bytes();
        let mut writer = BufWriter::with_capacity(PIECE_BYTES, file);
        let mut position = None;
        let mut page = [0; BLOCK_SIZE];
        for number in &head.numbers {
            content.read_exact(&mut page).map_err(Error::from_tar)?;
            if !missing.contains(*number) {
                continue;
            }
            let place = before + (missing.rank(*number) - 1) * PAGE;
            if position != Some(place) {
                writer.seek(SeekFrom::Start(place)).map_err(failed)?;
            }
            writer.write_all(&page).map_err(failed)?;
            position = Some(place + PAGE);
        }
        writer.flush().map_err(failed)
    }
}

/// How many pages a file has.
fn pages(file_bytes: u64) -> u32 {
    u32::try_from(file_bytes / PAGE).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
