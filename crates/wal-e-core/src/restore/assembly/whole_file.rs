//! A file as it becomes, read from its beginning to its end.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::iter::Peekable;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Begun, PAGE, PIECE_BYTES};
use crate::error::{Error, Result};
use crate::postgres::BLOCK_SIZE;
use crate::restore::tar_reader::read_full;

/// How pages that wait are read, for each backup that gave some.
const READ_BYTES: usize = 8 * BLOCK_SIZE;

/// A file of which newer backups have pages, with those of the oldest one between them.
pub(crate) struct WholeFile<'a, R> {
    /// What the oldest backup has.
    old: R,
    begun: &'a Begun,
    waiting: Vec<Waiting>,
    /// Where pages wait, for messages.
    place: PathBuf,
    /// Where the next piece begins.
    position: u64,
    piece: Vec<u8>,
    /// How much of `piece` [`Read`] has handed on.
    served: usize,
}

/// The pages of one backup.
struct Waiting {
    numbers: Peekable<roaring::bitmap::IntoIter>,
    pages: BufReader<FileFrom>,
}

/// A file from some place on.
struct FileFrom {
    file: Arc<File>,
    position: u64,
}

impl<'a, R: Read> WholeFile<'a, R> {
    /// The file that `old` becomes with the pages that wait in the file at `place`, which is there
    /// when there are some.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn new(old: R, begun: &'a Begun, place: &Path) -> Result<Self> {
        let mut waiting = Vec::new();
        if !begun.waiting.is_empty() {
            let file =
                File::open(place).map_err(|error| Error::file("open file", place, &error))?;
            let (file, mut position) = (Arc::new(file), 0);
            for pages in &begun.waiting {
                let from = FileFrom { file: Arc::clone(&file), position };
                position += pages.len() * PAGE;
                waiting.push(Waiting {
                    numbers: pages.clone().into_iter().peekable(),
                    pages: BufReader::with_capacity(READ_BYTES, from),
                });
            }
        }
        Ok(WholeFile {
            old,
            begun,
            waiting,
            place: place.to_owned(),
            position: 0,
            piece: Vec::new(),
            served: 0,
        })
    }

    /// What comes next; nothing at the end. What no backup has is zeros.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] for what a decoder says of the oldest backup's file, and those
    /// of the file where pages wait.
    pub(crate) fn next_piece(&mut self) -> Result<&[u8]> {
        let left = usize::try_from(self.begun.file_bytes - self.position).unwrap_or(usize::MAX);
        self.piece.resize(left.min(PIECE_BYTES), 0);
        let length = read_full(&mut self.old, &mut self.piece)?;
        let older = (u64::from(self.begun.end) * PAGE).saturating_sub(self.position);
        let length = length.min(usize::try_from(older).unwrap_or(usize::MAX));
        self.piece[length..].fill(0);
        let (pages, _) = self.piece.as_chunks_mut::<BLOCK_SIZE>();
        let first = u32::try_from(self.position / PAGE).unwrap_or(u32::MAX);
        let end = first.saturating_add(u32::try_from(pages.len()).unwrap_or(u32::MAX));
        for Waiting { numbers, pages: content } in &mut self.waiting {
            while let Some(number) = numbers.next_if(|number| *number < end) {
                content
                    .read_exact(&mut pages[(number - first) as usize])
                    .map_err(|error| Error::file("read file", &self.place, &error))?;
            }
        }
        self.position += self.piece.len() as u64;
        self.served = 0;
        Ok(&self.piece)
    }
}

impl<R: Read> Read for WholeFile<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.served == self.piece.len() {
            self.next_piece()?;
        }
        let length = buffer.len().min(self.piece.len() - self.served);
        buffer[..length].copy_from_slice(&self.piece[self.served..self.served + length]);
        self.served += length;
        Ok(length)
    }
}

impl Read for FileFrom {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}
