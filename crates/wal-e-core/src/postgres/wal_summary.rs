//! WAL summaries: which blocks a stretch of WAL has changed, as PostgreSQL 17 and later write
//! it to `pg_wal/summaries` with `summarize_wal = on`.
//!
//! `src/backend/postmaster/walsummarizer.c` (`SummarizeWAL`) names the files. Their content is
//! a block reference table, `src/common/blkreftable.c` and `src/include/common/blkreftable.h`,
//! the same in 17 and 18:
//!
//! * a number that marks the format;
//! * forks of relations in the order of tablespace, database, relation and fork. Each is six
//!   numbers of four bytes (`BlockRefTableSerializedEntry`), the last two of them the shortest
//!   length that it has been cut to and the number of chunks. For each 65536 blocks a chunk
//!   follows: first the lengths of all chunks in words of two bytes, then all chunks. One of
//!   less than 4096 words lists blocks in any order, one of 4096 is a bitmap, the lowest bit
//!   first;
//! * six zeros where another fork would begin;
//! * the CRC-32C of all before it.
//!
//! All numbers are in the byte order of the machine.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use roaring::RoaringBitmap;

use super::{Lsn, TimelineId};
use crate::error::{Error, ErrorKind, Result};

/// `BLOCKREFTABLE_MAGIC`.
const MAGIC: u32 = 0x652b_137b;

/// The size of a fork's numbers in bytes.
const ENTRY_BYTES: usize = 24;

/// The number of blocks in a chunk (`BLOCKS_PER_CHUNK`).
const CHUNK_BLOCKS: u32 = 1 << 16;

/// A chunk of so many words is a bitmap; none has more (`MAX_ENTRIES_PER_CHUNK`).
const BITMAP_WORDS: u16 = 4096;

/// No block has this number (`InvalidBlockNumber`).
const NO_BLOCK: u32 = u32::MAX;

/// The number of the last kind of fork, that of initialisation (`MAX_FORKNUM`).
const LAST_FORK: u32 = 3;

/// The main fork (`MAIN_FORKNUM`).
pub const MAIN_FORK: u32 = 0;

/// The name of a WAL summary, which says what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalSummaryName {
    /// Where the first record begins.
    pub start: Lsn,
    /// Where the last record ends, or the next summary begins.
    pub end: Lsn,
    /// The timeline of all of it.
    pub timeline: TimelineId,
}

impl fmt::Display for WalSummaryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:016X}{:016X}.summary", self.timeline.0, self.start.0, self.end.0)
    }
}

impl FromStr for WalSummaryName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = |from: usize, to: usize| {
            let digits = name.get(from..to)?;
            let sound = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
            sound.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let parse = || {
            let timeline = TimelineId(u32::try_from(number(0, 8)?).ok()?);
            let (start, end) = (Lsn(number(8, 24)?), Lsn(number(24, 40)?));
            let sound = name.get(40..)? == ".summary" && timeline.0 > 0 && start < end;
            sound.then_some(WalSummaryName { start, end, timeline })
        };
        parse().ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, format!("invalid name of a WAL summary \"{name}\""))
        })
    }
}

/// What a WAL summary tells of one fork of a relation.
#[derive(Debug, Clone, PartialEq)]
pub struct SummarizedFork {
    /// OID of the tablespace.
    pub tablespace: u32,
    /// OID of the database; 0 for what all databases share.
    pub database: u32,
    /// The number of the relation's files; 0 for all relations of the database in the
    /// tablespace.
    pub relation: u32,
    /// The kind of fork; [`MAIN_FORK`] or one up to 3.
    pub fork: u32,
    /// The shortest that it has been, in blocks; `None` when it was not cut.
    pub limit: Option<u32>,
    /// The blocks that records have changed.
    pub blocks: RoaringBitmap,
}

impl SummarizedFork {
    fn key(&self) -> (u32, u32, u32, u32) {
        (self.tablespace, self.database, self.relation, self.fork)
    }

    /// Why it cannot be what PostgreSQL wrote.
    fn flaw(&self) -> Option<&'static str> {
        if self.tablespace == 0 {
            Some("A relation is in no tablespace.")
        } else if self.fork > LAST_FORK {
            Some("A fork is of an unknown kind.")
        } else if self.blocks.contains(NO_BLOCK) {
            Some("A block has a number that no block has.")
        } else if self.relation == 0 {
            let whole = self.fork == MAIN_FORK && self.limit == Some(0) && self.blocks.is_empty();
            (!whole).then_some("A relation has no number.")
        } else {
            let says_nothing = self.limit.is_none() && self.blocks.is_empty();
            says_nothing.then_some("A fork has no changes.")
        }
    }
}

/// Reads the WAL summary at `path` from `input`, and calls `each` with each fork of a
/// relation, in order.
///
/// Only when it returns well, what `each` was called with is what PostgreSQL wrote: the CRC
/// comes last. Memory is taken for one fork at a time, and at most a few times as much as
/// there is of it in the file. Reads are small, so `input` should be buffered.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for content that PostgreSQL has not written, and for a format that
/// is not known; that of the operating system when it cannot be read.
pub fn read(path: &Path, input: impl Read, each: impl FnMut(SummarizedFork)) -> Result<()> {
    read_table(Input { inner: input, crc: 0 }, each).map_err(|flaw| match flaw {
        Flaw::Io(error) => Error::file("read", path, &error),
        Flaw::Content(detail) => {
            let message = format!("WAL summary \"{}\" is damaged", path.display());
            Error::new(ErrorKind::Corrupt, message).with_detail(detail)
        }
        Flaw::Format(found) => {
            let message = format!("WAL summary \"{}\" has an unknown format", path.display());
            Error::new(ErrorKind::Corrupt, message)
                .with_detail(format!("It begins with {found:#010x}, not with {MAGIC:#010x}."))
        }
    })
}

/// What is wrong with a file.
enum Flaw {
    Io(io::Error),
    Content(&'static str),
    Format(u32),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Flaw::Content("It ends too early."),
            _ => Flaw::Io(error),
        }
    }
}

/// A file, and the CRC of what was read of it.
struct Input<R> {
    inner: R,
    crc: u32,
}

impl<R: Read> Input<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Flaw> {
        self.inner.read_exact(buffer)?;
        self.crc = crc32c::crc32c_append(self.crc, buffer);
        Ok(())
    }

    fn number(&mut self) -> Result<u32, Flaw> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// The next `count` words.
    fn words(&mut self, count: usize) -> Result<Vec<u16>, Flaw> {
        let mut bytes = vec![0; count * 2];
        self.fill(&mut bytes)?;
        let (words, _) = bytes.as_chunks::<2>();
        Ok(words.iter().map(|word| u16::from_ne_bytes(*word)).collect())
    }
}

fn read_table(
    mut input: Input<impl Read>,
    mut each: impl FnMut(SummarizedFork),
) -> Result<(), Flaw> {
    let magic = input.number()?;
    if magic != MAGIC {
        return Err(Flaw::Format(magic));
    }
    let mut last = None;
    while let Some(fork) = read_fork(&mut input)? {
        if let Some(flaw) = fork.flaw() {
            return Err(Flaw::Content(flaw));
        }
        if last.is_some_and(|last| last >= fork.key()) {
            return Err(Flaw::Content("Its relations are not in order."));
        }
        last = Some(fork.key());
        each(fork);
    }
    let crc = input.crc;
    if input.number()? != crc {
        return Err(Flaw::Content("Its CRC does not match its content."));
    }
    match input.fill(&mut [0]) {
        Err(Flaw::Content(_)) => Ok(()),
        Err(flaw) => Err(flaw),
        Ok(()) => Err(Flaw::Content("There is something after its end.")),
    }
}

/// The next fork; `None` at the end.
fn read_fork(input: &mut Input<impl Read>) -> Result<Option<SummarizedFork>, Flaw> {
    let mut bytes = [0; ENTRY_BYTES];
    input.fill(&mut bytes)?;
    if bytes == [0; ENTRY_BYTES] {
        return Ok(None);
    }
    let (numbers, _) = bytes.as_chunks::<4>();
    let [tablespace, database, relation, fork, limit, chunks] = numbers else {
        return Err(Flaw::Content("It ends too early."));
    };
    let blocks = read_blocks(input, u32::from_ne_bytes(*chunks))?;
    Ok(Some(SummarizedFork {
        tablespace: u32::from_ne_bytes(*tablespace),
        database: u32::from_ne_bytes(*database),
        relation: u32::from_ne_bytes(*relation),
        fork: u32::from_ne_bytes(*fork),
        limit: Some(u32::from_ne_bytes(*limit)).filter(|limit| *limit != NO_BLOCK),
        blocks,
    }))
}

fn read_blocks(input: &mut Input<impl Read>, chunks: u32) -> Result<RoaringBitmap, Flaw> {
    if chunks > NO_BLOCK / CHUNK_BLOCKS + 1 {
        return Err(Flaw::Content("A fork has more blocks than there can be."));
    }
    let lengths = input.words(chunks as usize)?;
    if lengths.last() == Some(&0) {
        return Err(Flaw::Content("A fork ends with an empty chunk."));
    }
    let mut blocks = RoaringBitmap::new();
    for (chunk, length) in (0..).zip(lengths) {
        let first = chunk * CHUNK_BLOCKS;
        let mut words = input.words(usize::from(length.min(BITMAP_WORDS)))?;
        if length < BITMAP_WORDS {
            words.sort_unstable();
            blocks
                .append(words.into_iter().map(|block| first + u32::from(block)))
                .map_err(|_| Flaw::Content("A block is listed twice."))?;
        } else if length == BITMAP_WORDS {
            let bytes: Vec<u8> = words.into_iter().flat_map(u16::to_le_bytes).collect();
            blocks |= bitmap_of(first, &bytes);
        } else {
            return Err(Flaw::Content("A chunk is longer than a chunk can be."));
        }
    }
    Ok(blocks)
}

/// The blocks from `first` on whose bits are set.
fn bitmap_of(first: u32, bits: &[u8]) -> RoaringBitmap {
    let bitmap = RoaringBitmap::from_lsb0_bytes(first, bits);
    // With just as many, the library chooses the form that is for more only, and finds the
    // bitmap different from an equal one.
    if bitmap.len() == u64::from(BITMAP_WORDS) { bitmap.iter().collect() } else { bitmap }
}

/// The content of a WAL summary that tells `forks`, as PostgreSQL would write it, for tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn sample(forks: &[SummarizedFork]) -> Vec<u8> {
    let mut content = Vec::new();
    for fork in forks {
        let chunks = fork.blocks.max().map_or(0, |block| block / CHUNK_BLOCKS + 1);
        let limit = fork.limit.unwrap_or(NO_BLOCK);
        for number in [fork.tablespace, fork.database, fork.relation, fork.fork, limit, chunks] {
            content.extend(number.to_ne_bytes());
        }
        let mut words = vec![Vec::new(); chunks as usize];
        for block in &fork.blocks {
            words[(block / CHUNK_BLOCKS) as usize].push((block % CHUNK_BLOCKS) as u16);
        }
        for words in &mut words {
            if words.len() >= usize::from(BITMAP_WORDS) {
                let mut bitmap = vec![0_u16; usize::from(BITMAP_WORDS)];
                for block in words.iter() {
                    bitmap[usize::from(block / 16)] |= 1 << (block % 16);
                }
                *words = bitmap;
            }
            content.extend((words.len() as u16).to_ne_bytes());
        }
        content.extend(words.into_iter().flatten().flat_map(u16::to_ne_bytes));
    }
    sample_of(&content)
}

/// A file with `content` between its mark and its end, for tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn sample_of(content: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_ne_bytes().to_vec();
    file.extend(content);
    file.extend([0; ENTRY_BYTES]);
    file.extend(crc32c::crc32c(&file).to_ne_bytes());
    file
}

#[cfg(test)]
mod tests;
