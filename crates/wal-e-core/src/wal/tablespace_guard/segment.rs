//! The file of one WAL segment, read for records that create tablespaces, and changed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::LONGEST_STRETCH;
use crate::error::{Error, Result};
use crate::postgres::tablespace_record::{
    LARGEST_BYTES, LONG_HEADER_BYTES, SHORT_HEADER_BYTES, TablespaceRecord, WalPiece,
};
use crate::postgres::wal_record::RMGR_TABLESPACE;
use crate::postgres::{
    Lsn, RecordKind, SegmentNumber, SegmentSize, WalFileKind, WalFileName, WalReader,
};
use crate::wal::READ_BYTES;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Where a segment creates tablespaces.
#[derive(Debug, Default)]
pub(super) struct Created {
    /// The records that are in it, whole.
    pub(super) whole: Vec<Lsn>,
    /// The record that goes on in the next segment.
    pub(super) begun: Option<Lsn>,
    /// That record, if it is one of these, and what must be changed of it is in this segment.
    pub(super) cut: Option<Lsn>,
}

/// The file of a segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: WalFileName,
    pub(super) number: SegmentNumber,
    pub(super) size: SegmentSize,
    path: PathBuf,
    file: File,
    page_bytes: u64,
}

impl Segment {
    /// `None` when it is not the file of a whole segment.
    pub(super) fn open(name: &WalFileName, path: &Path, access: Access) -> Result<Option<Self>> {
        let failed = |error: io::Error| Error::file("open file", path, &error);
        if name.kind() != WalFileKind::Segment {
            return Ok(None);
        }
        let file =
            File::options().read(true).write(access == Access::Write).open(path).map_err(failed)?;
        let size = SegmentSize::new(file.metadata().map_err(failed)?.len());
        let number = size.and_then(|size| name.segment_number(size));
        let (Some(size), Some(number)) = (size, number) else { return Ok(None) };
        let mut header = [0; 40];
        file.read_exact_at(&mut header, 0).map_err(failed)?;
        let page_bytes =
            u64::from(u32::from_ne_bytes([header[36], header[37], header[38], header[39]]));
        if !page_bytes.is_power_of_two() || !(1024..=65536).contains(&page_bytes) {
            return Ok(None);
        }
        let (name, path) = (name.clone(), path.to_owned());
        Ok(Some(Segment { name, path, file, number, size, page_bytes }))
    }

    pub(super) fn start(&self) -> Lsn {
        self.number.start_lsn(self.size)
    }

    pub(super) fn end(&self) -> Lsn {
        self.number.end_lsn(self.size)
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::file("read file", &self.path, error)
    }

    /// Whether there are bytes in it that may be the header of a record that creates a
    /// tablespace, which there are in hardly any: to look for them takes a fraction of
    /// the time that following the records does.
    ///
    /// Eight bytes of a header, at a multiple of eight, have the resource manager.
    pub(super) fn may_create_tablespaces(&self) -> Result<bool> {
        let page_bytes = usize::try_from(self.page_bytes).unwrap_or(READ_BYTES);
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        while at < self.size.bytes() {
            self.file.read_exact_at(&mut buffer, at).map_err(|error| self.failed(&error))?;
            let pages = buffer.chunks_exact(page_bytes).zip((at..).step_by(page_bytes));
            for (page, offset) in pages {
                let lsn = self.start().0.saturating_add(offset);
                if page_may_create_tablespace(page, lsn, offset == 0) {
                    return Ok(true);
                }
            }
            at += READ_BYTES as u64;
        }
        Ok(false)
    }

    /// Reads all of it for records that create tablespaces.
    pub(super) fn tablespaces_created(&self) -> Result<Created> {
        let mut reader = WalReader::new(self.start(), self.size);
        let mut created = Created::default();
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        while reader.ended().is_none() {
            let length = self.file.read_at(&mut buffer, at).map_err(|error| self.failed(&error))?;
            if length == 0 {
                break;
            }
            at += length as u64;
            reader.feed(&buffer[..length], &mut |record| {
                if matches!(record.kind, RecordKind::TablespaceCreate { .. }) {
                    created.whole.push(record.start);
                }
            });
        }
        created.begun = reader.unfinished_record();
        if let Some(start) = created.begun {
            let piece = self.piece(start, LONGEST_STRETCH)?;
            let first = piece.at(&piece.places(start, 24));
            // What must be changed of a record whose header is not whole here is in the next.
            created.cut = Some(start)
                .filter(|_| first.len() == 24 && TablespaceRecord::may_begin_with(&first));
        }
        Ok(created)
    }

    /// What is there from `start` on, up to `length` bytes.
    pub(super) fn piece(&self, start: Lsn, length: usize) -> Result<WalPiece> {
        let offset = start.0.saturating_sub(self.start().0);
        let length = self.size.bytes().saturating_sub(offset).min(length as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| self.failed(&error))?;
        Ok(WalPiece { start, bytes, segment_size: self.size, page_bytes: self.page_bytes })
    }

    /// The last bytes.
    pub(super) fn end_piece(&self) -> Result<WalPiece> {
        let start = Lsn(self.end().0.saturating_sub(LONGEST_STRETCH as u64));
        self.piece(start, LONGEST_STRETCH)
    }

    /// How much of a record that began before this segment is in it, as its first page says.
    pub(super) fn rest_of_record(&self) -> Result<Option<usize>> {
        let mut header = [0; 24];
        self.file.read_exact_at(&mut header, 0).map_err(|error| self.failed(&error))?;
        let goes_on = u16::from_ne_bytes([header[2], header[3]]) & 0x0001 != 0;
        let rest = u32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
        Ok(usize::try_from(rest).ok().filter(|_| goes_on))
    }

    /// Writes what differs between two forms of the record at `start`, as far as it lies
    /// in this segment. `piece` is where it was read.
    pub(super) fn put(
        &self,
        piece: &WalPiece,
        start: Lsn,
        old: &TablespaceRecord,
        new: &TablespaceRecord,
    ) -> Result<()> {
        let places = piece.places(start, old.bytes().len());
        for ((place, old), new) in places.iter().zip(old.bytes()).zip(new.bytes()) {
            let lsn = piece.start.0.saturating_add(*place as u64);
            if old == new || lsn < self.start().0 || lsn >= self.end().0 {
                continue;
            }
            self.file
                .write_all_at(&[*new], lsn - self.start().0)
                .map_err(|error| Error::file("write file", &self.path, &error))?;
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::file("sync file", &self.path, &error))
    }
}

fn page_may_create_tablespace(page: &[u8], start: u64, is_first: bool) -> bool {
    let header = if is_first { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
    let (words, _) = page.as_chunks::<8>();
    let may_be = |at: usize| {
        let Some([first, previous]) = at.checked_sub(2).and_then(|at| words.get(at..at + 2)) else {
            return true;
        };
        // Its beginning is in the page before.
        if at < header / 8 + 2 {
            return true;
        }
        let total = u32::from_ne_bytes([first[0], first[1], first[2], first[3]]);
        usize::try_from(total).is_ok_and(|total| total <= LARGEST_BYTES)
            && u64::from_ne_bytes(*previous) < start.saturating_add(8 * at as u64)
    };
    let mut candidates = words.iter().enumerate().skip(header / 8);
    candidates.any(|(at, word)| word[1] == RMGR_TABLESPACE && word[0] & 0xF0 == 0 && may_be(at))
}
