//! Changed pages onto the file that an older backup has: it is cut or extended to the size
//! that the increment says, and the pages replace its own.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};
pub(super) use crate::increment::WITHOUT_PAGES_BYTES;
use crate::increment::{Head, adjacent};
use crate::postgres::BLOCK_SIZE;

/// Pages that are written at once.
const PAGES_AT_ONCE: usize = 32;

/// Applies the increment in `content`, a member of `member_bytes`, to `file`, which
/// `path` names in errors. Returns the bytes written. Applied twice it gives the
/// same file.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for what is not an increment of that size.
pub(super) fn apply(
    mut content: &mut dyn Read,
    member_bytes: u64,
    file: &File,
    path: &Path,
) -> Result<u64> {
    let Head { file_bytes, numbers } = Head::read(&mut content, member_bytes)?;
    let failed = |error| Error::file("write file", path, &error);
    file.set_len(file_bytes).map_err(failed)?;
    let mut buffer = vec![0; PAGES_AT_ONCE * BLOCK_SIZE];
    let mut rest = numbers.as_slice();
    while let Some(first) = rest.first() {
        let run = adjacent(rest, PAGES_AT_ONCE);
        let pages = &mut buffer[..run * BLOCK_SIZE];
        content.read_exact(pages).map_err(Error::from_tar)?;
        file.write_all_at(pages, u64::from(*first) * BLOCK_SIZE as u64).map_err(failed)?;
        rest = &rest[run..];
    }
    Ok(numbers.len() as u64 * BLOCK_SIZE as u64)
}

/// Whether `content`, a member of `member_bytes`, is an increment, as far as that is known
/// without the file. Reads everything except the pages, and returns the size in bytes of the
/// file once it is applied.
///
/// # Errors
/// As [`apply`].
pub(super) fn check(content: &mut impl Read, member_bytes: u64) -> Result<u64> {
    Head::read(content, member_bytes).map(|head| head.file_bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::error::ErrorKind;

    fn increment(file_bytes: u64, pages: &[(u32, u8)]) -> Vec<u8> {
        let mut bytes = b"wi1\x55".to_vec();
        bytes.extend(file_bytes.to_le_bytes());
        bytes.extend(u32::try_from(pages.len()).unwrap().to_le_bytes());
        bytes.extend(pages.iter().flat_map(|(number, _)| number.to_le_bytes()));
        bytes.extend(pages.iter().flat_map(|(_, fill)| [*fill; BLOCK_SIZE]));
        bytes
    }

    /// The first byte of each page of a file of `old` pages of 1 after an increment.
    fn applied(old: usize, increment: &[u8]) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("16384");
        std::fs::write(&path, vec![1; old * BLOCK_SIZE]).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let checked = check(&mut &increment[..], increment.len() as u64);
        let applied = apply(&mut &increment[..], increment.len() as u64, &file, &path);
        assert_eq!(checked.is_err(), applied.is_err());
        applied?;
        apply(&mut &increment[..], increment.len() as u64, &file, &path)?;
        let content = std::fs::read(&path).unwrap();
        let (pages, rest) = content.as_chunks::<BLOCK_SIZE>();
        assert!(rest.is_empty() && pages.iter().all(|page| page.iter().all(|b| *b == page[0])));
        Ok(pages.iter().map(|page| page[0]).collect())
    }

    const PAGE: u64 = BLOCK_SIZE as u64;

    #[test]
    fn pages_replace_those_of_the_file_in_any_order() {
        assert_eq!(applied(3, &increment(3 * PAGE, &[(1, 7)])).unwrap(), [1, 7, 1]);
        assert_eq!(applied(3, &increment(3 * PAGE, &[(2, 8), (0, 9)])).unwrap(), [9, 1, 8]);
        assert_eq!(applied(1, &increment(4 * PAGE, &[(2, 8), (3, 9)])).unwrap(), [1, 0, 8, 9]);
        assert_eq!(applied(3, &increment(PAGE, &[])).unwrap(), [1]);
        assert!(applied(3, &increment(0, &[])).unwrap().is_empty());
        let all: Vec<(u32, u8)> = (0..100).map(|number| (number, number as u8)).collect();
        let numbers: Vec<u8> = (0..100).collect();
        assert_eq!(applied(2, &increment(100 * PAGE, &all)).unwrap(), numbers);
    }

    #[test]
    fn what_is_not_an_increment_changes_nothing_outside_of_the_file() {
        let sound = increment(3 * PAGE, &[(1, 7), (2, 8)]);
        for length in [0, 3, 15, 16, 20, 24, 25, sound.len() - 1] {
            let error = applied(3, &sound[..length]).unwrap_err();
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
            increment(3 * PAGE, &[(3, 1)]),
            increment(3 * PAGE, &[(u32::MAX, 1)]),
            increment(3 * PAGE + 1, &[]),
            increment(u64::MAX, &[]),
            increment((64 << 30) + PAGE, &[]),
            increment(PAGE, &[(0, 1), (0, 2)]),
        ] {
            assert_eq!(applied(3, &damaged).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    /// A member may be shorter than its header said.
    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let sound = increment(3 * PAGE, &[(1, 7)]);
        let file = tempfile::tempfile().unwrap();
        let cut = &mut &sound[..sound.len() - 100];
        let error = apply(cut, sound.len() as u64, &file, Path::new("x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
