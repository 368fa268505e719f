//! What a WAL segment makes a server do outside of its data directory, looked at before
//! the server gets the segment.
//!
//! Replay of `CREATE TABLESPACE` uses the directory that the record names, also when
//! another cluster, of which this one is a copy, keeps its tablespace there; and it
//! leads the link in `pg_tblspc` there, wherever it led before. So each such record is
//! read here. One whose directory must not be used is handed over without it: replay
//! then leaves the link in `pg_tblspc` as it is, which is made here where a tablespace
//! is mapped, and makes a directory in its place where there is no link.
//!
//! A record may begin in one segment and end in the next. Its checksum is in the first
//! part, so the next segment is looked at before the first is handed over; and of the
//! second part the end of the segment before, in `pg_wal`, shows what it belongs to.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::tablespace_record::{LARGEST_BYTES, TablespaceRecord, WalPiece};
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, WalFileKind, WalFileName};

mod places;
mod segment;

pub use places::{NewTablespaces, UnusablePlace};

use places::{Places, Verdict};
use segment::{Access, Created, Segment};

/// The longest that a record of `CREATE TABLESPACE` stretches, page headers included.
const LONGEST_STRETCH: usize = 2 * LARGEST_BYTES;

/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// Looks at segments for one server that recovers.
#[derive(Debug, Clone)]
pub struct TablespaceGuard {
    wal_directory: PathBuf,
    places: Places,
}

/// What is known of the segment after the one that is looked at.
pub(super) enum Next {
    /// Nothing yet.
    NotAsked,
    /// The archive does not have it.
    Absent,
    /// How it begins, [`TablespaceGuard::BEGINNING`] bytes of it.
    Begins(Vec<u8>),
}

/// Whether a segment can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// As it is now, which may not be as it was.
    Ready { changed: bool },
    /// The beginning of the next segment has to be known before.
    NeedsNext,
}

impl TablespaceGuard {
    /// How much of the next segment has to be known.
    pub(super) const BEGINNING: usize = LONGEST_STRETCH;

    /// For the server of `data_directory`.
    pub fn new(data_directory: &Path, wanted: NewTablespaces, notices: Notices) -> Self {
        TablespaceGuard {
            wal_directory: data_directory.join("pg_wal"),
            places: Places::new(data_directory, wanted, notices),
        }
    }

    /// Makes the segment `name`, which is whole and verified, fit to be handed over: in
    /// `file` itself, where something has to be changed. Blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Unsafe`] when it must not be; then links may have been made in
    /// `pg_tblspc`, which do no harm.
    pub(super) fn admit(&self, name: &WalFileName, file: &Path, next: &Next) -> Result<Admission> {
        let Some(segment) = Segment::open(name, file, Access::Write)? else {
            return Ok(Admission::Ready { changed: false });
        };
        let replay_begins = self.places.replay_begins();
        if segment.end() <= replay_begins {
            return Ok(Admission::Ready { changed: false });
        }
        let found = match segment.may_create_tablespaces()? {
            true => segment.tablespaces_created()?,
            false => Created::default(),
        };
        let mut changed = self.go_on_with_record_before(&segment, replay_begins)?;
        for start in found.whole.into_iter().filter(|start| *start >= replay_begins) {
            let piece = segment.piece(start, LONGEST_STRETCH)?;
            let Some(record) = piece.tablespace_record(start) else { continue };
            if self.verdict(name, start, &record)? == Verdict::WithoutLocation {
                segment.put(&piece, start, &record, &record.without_location())?;
                changed = true;
            }
        }
        if let Some(start) = found.cut.filter(|start| *start >= replay_begins) {
            let mut piece = segment.piece(start, LONGEST_STRETCH)?;
            match next {
                Next::NotAsked => return Ok(Admission::NeedsNext),
                // Replay ends before the record. If the segment comes after all, that is
                // where it is seen.
                Next::Absent => {}
                Next::Begins(beginning) => {
                    piece.bytes.extend_from_slice(beginning);
                    if let Some(record) = piece.tablespace_record(start)
                        && record.is_sound()
                        && self.verdict(name, start, &record)? == Verdict::WithoutLocation
                    {
                        segment.put(&piece, start, &record, &record.without_location())?;
                        changed = true;
                    }
                }
            }
        }
        if changed {
            segment.sync()?;
        }
        Ok(Admission::Ready { changed })
    }

    /// As [`admit`](Self::admit) for a segment that the archive does not have and that
    /// lies in `pg_wal`, where the server would take it from: a copy at `copy`, when it
    /// cannot take it as it is.
    pub(super) fn admit_local(&self, name: &WalFileName, copy: &Path) -> Result<bool> {
        let own = self.wal_directory.join(name.as_str());
        fs::copy(&own, copy).map_err(|error| Error::file("copy file", &own, &error))?;
        let mut admission = self.admit(name, copy, &Next::NotAsked)?;
        if admission == Admission::NeedsNext {
            let next = self.beginning_after(name, copy)?;
            admission = self.admit(name, copy, &next.map_or(Next::Absent, Next::Begins))?;
        }
        Ok(admission == Admission::Ready { changed: true })
    }

    /// How the segment after `name` begins that lies in `pg_wal`.
    fn beginning_after(&self, name: &WalFileName, file: &Path) -> Result<Option<Vec<u8>>> {
        let Some(segment) = Segment::open(name, file, Access::Write)? else { return Ok(None) };
        let number = SegmentNumber(segment.number.0.saturating_add(1));
        let Some(path) = self.files_of(number, segment.size).into_iter().next() else {
            return Ok(None);
        };
        let mut beginning = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(Self::BEGINNING as u64).read_to_end(&mut beginning))
            .map_err(|error| Error::file("read file", &path, &error))?;
        Ok(Some(beginning))
    }

    /// What becomes of one record.
    fn verdict(
        &self,
        name: &WalFileName,
        start: Lsn,
        record: &TablespaceRecord,
    ) -> Result<Verdict> {
        self.places.decide(record.oid, record.location()).map_err(|error| {
            let at =
                format!("It is created by the record at LSN {start}, in WAL segment \"{name}\".");
            let detail = match error.detail() {
                Some(detail) => format!("{detail} {at}"),
                None => at,
            };
            error.with_detail(detail)
        })
    }

    /// Deals with the rest of a record that began in the segment before, and says whether
    /// something was changed.
    fn go_on_with_record_before(&self, segment: &Segment, replay_begins: Lsn) -> Result<bool> {
        let Some(rest) = segment.rest_of_record()?.filter(|rest| *rest <= LARGEST_BYTES) else {
            return Ok(false);
        };
        let Some(before) = segment.number.0.checked_sub(1).map(SegmentNumber) else {
            return Ok(false);
        };
        for path in self.files_of(before, segment.size) {
            let Some(name) = name_of(&path) else { continue };
            let Some(previous) = Segment::open(&name, &path, Access::Read)? else { continue };
            let mut piece = previous.end_piece()?;
            let have = piece.bytes.len();
            piece.bytes.extend(segment.piece(segment.start(), LONGEST_STRETCH)?.bytes);
            let Some((start, delivered)) = divided_record(&piece, have, rest) else { continue };
            if start < replay_begins || previous.tablespaces_created()?.begun != Some(start) {
                continue;
            }
            let (delivered, wanted) = match delivered {
                Delivered::Emptied { was, emptied } => (was, emptied),
                Delivered::AsItWas(record) => match self.verdict(&segment.name, start, &record)? {
                    Verdict::AsItIs => return Ok(false),
                    Verdict::WithoutLocation => {
                        let emptied = record.without_location();
                        let own = piece.places(start, record.bytes().len());
                        let differs = |at: &usize| record.bytes()[*at] != emptied.bytes()[*at];
                        let before = |at: &usize| own.get(*at).is_some_and(|at| *at < have);
                        if (0..own.len()).any(|at| differs(&at) && before(&at)) {
                            return Err(began_unchanged(&segment.name, &record));
                        }
                        (record, emptied)
                    }
                },
            };
            segment.put(&piece, start, &delivered, &wanted)?;
            return Ok(delivered != wanted);
        }
        Ok(false)
    }

    /// The files of a segment in `pg_wal`, of whatever timeline.
    fn files_of(&self, number: SegmentNumber, size: SegmentSize) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.wal_directory).into_iter().flatten().flatten();
        let is_it = |path: &PathBuf| {
            name_of(path).is_some_and(|name| {
                name.kind() == WalFileKind::Segment && name.segment_number(size) == Some(number)
            })
        };
        entries.map(|entry| entry.path()).filter(is_it).collect()
    }
}

fn name_of(path: &Path) -> Option<WalFileName> {
    path.file_name()?.to_str()?.parse().ok()
}

fn began_unchanged(name: &WalFileName, record: &TablespaceRecord) -> Error {
    Error::new(
        ErrorKind::Unsafe,
        format!(
            "WAL segment \"{name}\" ends the record that creates tablespace {} in \"{}\", whose beginning the server has got as it was",
            record.oid,
            record.location().display()
        ),
    )
    .with_hint("Start the server again: it asks for both segments then.")
}

/// A record that lies in two segments, and what of it the server has got already.
enum Delivered {
    /// The part in the first segment is as the server that wrote it had it.
    AsItWas(TablespaceRecord),
    /// It is that of the record without its directory.
    Emptied { was: TablespaceRecord, emptied: TablespaceRecord },
}

/// The record of `CREATE TABLESPACE` that begins in the first `have` bytes of `piece` and
/// of which `rest` bytes are after them.
fn divided_record(piece: &WalPiece, have: usize, rest: usize) -> Option<(Lsn, Delivered)> {
    let starts = (0..have).rev().filter(|at| at.is_multiple_of(ALIGNMENT));
    for at in starts {
        let start = Lsn(piece.start.0.saturating_add(at as u64));
        if piece.is_in_page_header(start) {
            continue;
        }
        let Some(length) = piece.record_bytes(start).filter(|length| *length <= LARGEST_BYTES)
        else {
            continue;
        };
        let places = piece.places(start, length);
        let first = places.iter().filter(|place| **place < have).count();
        if first.checked_add(rest) != Some(length) {
            continue;
        }
        let Some(record) = piece.tablespace_record(start) else { continue };
        if record.is_sound() {
            return Some((start, Delivered::AsItWas(record)));
        }
        let emptied = record.without_location_from(first);
        if emptied.is_sound() {
            return Some((start, Delivered::Emptied { was: record, emptied }));
        }
    }
    None
}

impl WalPiece {
    /// The record of `CREATE TABLESPACE` at `start`, if there is one, and it is all there.
    fn tablespace_record(&self, start: Lsn) -> Option<TablespaceRecord> {
        let length = self.record_bytes(start).filter(|length| *length <= LARGEST_BYTES)?;
        let places = self.places(start, length);
        TablespaceRecord::parse(self.at(&places)).filter(|_| places.len() == length)
    }
}

#[cfg(test)]
mod tests;
