//! The changed pages of a file, as WAL-G's delta backups hold them.
//!
//! `wi1` and 0x55; the file's size, 8 bytes; the number of pages, 4 bytes; the
//! number of each page within the file, 4 bytes each; the pages. All numbers are
//! little-endian, and nothing follows. WAL-G writes the pages in ascending order, and
//! one of its ways to restore asks for it.

use std::io::Read;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::BLOCK_SIZE;

const MAGIC: [u8; 4] = *b"wi1\x55";

/// Magic, size and number of pages.
const HEAD_BYTES: u64 = 16;

/// The largest file that can belong to a relation. PostgreSQL splits
/// relations into files of 1 GB unless it was built otherwise.
const LARGEST_FILE_BYTES: u64 = 64 << 30;

/// What comes before the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Size of the file once the increment is applied.
    pub(crate) file_bytes: u64,
    /// Of the pages within the file.
    pub(crate) numbers: Vec<u32>,
}

impl Head {
    /// Reads it from the beginning of a member of `member_bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for what is not an increment of that size.
    pub(crate) fn read(content: &mut impl Read, member_bytes: u64) -> Result<Self> {
        let head: [u8; HEAD_BYTES as usize] = read(content)?;
        let [m0, m1, m2, m3, s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3] = head;
        let file_bytes = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let pages = u64::from(u32::from_le_bytes([n0, n1, n2, n3]));
        if [m0, m1, m2, m3] != MAGIC {
            return Err(damaged("it does not begin with the right magic bytes"));
        }
        if file_bytes > LARGEST_FILE_BYTES || !file_bytes.is_multiple_of(BLOCK_SIZE as u64) {
            return Err(damaged("its file size is not possible for a relation"));
        }
        let blocks = file_bytes / BLOCK_SIZE as u64;
        if pages > blocks || member_bytes != member_size(pages) {
            return Err(damaged("its size does not match its number of pages"));
        }
        let mut numbers = Vec::new();
        for _ in 0..pages {
            let number = u32::from_le_bytes(read(content)?);
            if u64::from(number) >= blocks {
                return Err(damaged("it has a page past the end of the file"));
            }
            numbers.push(number);
        }
        Ok(Head { file_bytes, numbers })
    }

    /// It as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.numbers.len()).expect("a file has fewer pages");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.file_bytes.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(self.numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    /// Bytes of the whole increment.
    pub(crate) fn member_bytes(&self) -> u64 {
        member_size(self.numbers.len() as u64)
    }
}

fn member_size(pages: u64) -> u64 {
    HEAD_BYTES + pages * (4 + BLOCK_SIZE as u64)
}

/// How many of the first pages follow one another in the file, too; `most` at most.
pub(crate) fn adjacent(numbers: &[u32], most: usize) -> usize {
    let pairs = numbers.windows(2).take(most - 1);
    1 + pairs.take_while(|pair| pair[0].checked_add(1) == Some(pair[1])).count()
}

fn read<const N: usize>(content: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    content.read_exact(&mut bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it is too short"),
        _ => Error::from_tar(error),
    })?;
    Ok(bytes)
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("an increment is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let head = Head { file_bytes: 3 * BLOCK_SIZE as u64, numbers: vec![0, 2] };
        let bytes = head.to_bytes();
        assert_eq!(bytes[..4], *b"wi1\x55");
        assert_eq!(bytes.len() as u64 + 2 * BLOCK_SIZE as u64, head.member_bytes());
        assert_eq!(Head::read(&mut bytes.as_slice(), head.member_bytes()).unwrap(), head);
    }

    #[test]
    fn what_is_not_an_increment_is_refused() {
        const PAGE: u64 = BLOCK_SIZE as u64;
        let increment = |file_bytes, numbers: &[u32]| {
            let head = Head { file_bytes, numbers: numbers.to_vec() };
            [head.to_bytes(), vec![7; numbers.len() * BLOCK_SIZE]].concat()
        };
        let read = |bytes: &[u8]| Head::read(&mut &bytes[..], bytes.len() as u64);
        let sound = increment(3 * PAGE, &[1, 2]);
        assert!(read(&sound).is_ok());
        for length in [0, 3, 15, 16, 20, 24, 25, sound.len() - 1] {
            let error = read(&sound[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {length}");
        }
        let mut magic = sound.clone();
        magic[3] = 0x56;
        let mut count = sound.clone();
        count[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        for damaged in [
            magic,
            count,
            [sound, vec![0]].concat(),
            increment(3 * PAGE, &[3]),
            increment(3 * PAGE, &[u32::MAX]),
            increment(3 * PAGE + 1, &[]),
            increment(u64::MAX, &[]),
            increment((64 << 30) + PAGE, &[]),
            increment(PAGE, &[0, 0]),
        ] {
            assert_eq!(read(&damaged).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn pages_that_follow_one_another_are_taken_together() {
        assert_eq!(adjacent(&[3], 32), 1);
        assert_eq!(adjacent(&[3, 4, 5, 7], 32), 3);
        assert_eq!(adjacent(&[3, 4, 5, 7], 2), 2);
        assert_eq!(adjacent(&[u32::MAX, 0], 2), 1);
    }
}
