//! One tar of a backup, read to the end of its frame.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use crate::base_backup::member;
use crate::codec::{Decompressor, Encoding};
use crate::error::{Error, ErrorKind, Result};

/// How members are read, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// What may stand between two members, in bytes: padding, a header, and the
/// records of a long name. The tar reader holds these in memory.
const LARGEST_HEADERS_BYTES: u64 = 1024 * 1024;

/// Files that are kept whole to be looked into, and the most that they may have.
const KEPT: [&str; 3] = ["global/pg_control", "backup_label", "tablespace_map"];
const LARGEST_KEPT_BYTES: u64 = 1024 * 1024;

/// Whether a member of this name is looked into, wherever it is.
pub(super) fn is_kept(name: &str) -> bool {
    KEPT.contains(&name.trim_start_matches('/'))
}

/// How many problems of one tar are told one by one.
const PROBLEMS_NAMED: usize = 3;

/// What a tar holds.
#[derive(Debug, Default)]
pub(super) struct TarContent {
    /// Its regular files, in order.
    pub(super) files: Vec<TarFile>,
    /// Content of those files that are looked into, by their path.
    pub(super) kept: Vec<(String, Vec<u8>)>,
    /// What is wrong with it: the first few.
    pub(super) problems: Vec<String>,
    /// How many more there are.
    pub(super) more_problems: usize,
    /// It could not be read to its end, so that files may be missing here.
    pub(super) ended_early: bool,
}

/// A regular file in a tar.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TarFile {
    /// The member's name.
    pub(super) name: String,
    /// Its path below the data directory.
    pub(super) path: String,
    /// In bytes.
    pub(super) size_bytes: u64,
    /// Of its content.
    pub(super) crc32c: u32,
}

impl TarContent {
    /// Reads a tar that is encoded as `encoding`, and at most `most_files` of it.
    ///
    /// # Errors
    /// Those of the store. What is wrong with the tar is in the answer.
    pub(super) fn read(
        source: impl Read,
        encoding: Encoding,
        most_files: usize,
    ) -> Result<TarContent> {
        let mut content = TarContent::default();
        match content.read_members(source, encoding, most_files) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                content.ended_early = true;
                content.problem(error.message().to_owned());
            }
            result => result?,
        }
        Ok(content)
    }

    fn read_members(
        &mut self,
        source: impl Read,
        encoding: Encoding,
        most_files: usize,
    ) -> Result<()> {
        let budget = Rc::new(Cell::new(LARGEST_HEADERS_BYTES));
        let bounded = Bounded {
            inner: Decompressor::new(source, encoding).map_err(damaged)?,
            budget: Rc::clone(&budget),
        };
        let mut archive = tar::Archive::new(bounded);
        let mut buffer = vec![0; READ_BYTES];
        for entry in archive.entries().map_err(damaged)? {
            budget.set(u64::MAX);
            self.member(entry.map_err(damaged)?, &mut buffer)?;
            if self.files.len() > most_files {
                return Err(corrupt(format!("it has more than {most_files} files")));
            }
            budget.set(LARGEST_HEADERS_BYTES);
        }
        budget.set(u64::MAX);
        // The tar ends before its frame does: only the frame's end proves its checksum.
        let mut rest = archive.into_inner();
        loop {
            match rest.read(&mut buffer).map_err(damaged)? {
                0 => return Ok(()),
                length if buffer[..length].iter().all(|byte| *byte == 0) => {}
                _ => return Err(corrupt("something follows the end of the tar".to_owned())),
            }
        }
    }

    fn member(&mut self, mut entry: tar::Entry<'_, impl Read>, buffer: &mut [u8]) -> Result<()> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = match member::relative_path(Path::new(&name)) {
            Ok(path) => path.to_string_lossy().into_owned(),
            Err(error) => {
                self.problem(error.message().to_owned());
                name.clone()
            }
        };
        let kind = entry.header().entry_type();
        let size_bytes = entry.size();
        let kept = KEPT.contains(&path.as_str()) && size_bytes <= LARGEST_KEPT_BYTES;
        let mut content = Vec::new();
        let (mut bytes, mut crc32c) = (0_u64, 0);
        loop {
            let length = entry.read(buffer).map_err(damaged)?;
            if length == 0 {
                break;
            }
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..length]);
            bytes = bytes.saturating_add(length as u64);
            if kept {
                content.extend_from_slice(&buffer[..length]);
            }
        }
        match kind {
            tar::EntryType::Directory => {}
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                if bytes != size_bytes {
                    return Err(corrupt(format!(
                        "it ends within \"{name}\", after {bytes} of {size_bytes} bytes"
                    )));
                }
                if kept {
                    self.kept.push((path.clone(), content));
                }
                self.files.push(TarFile { name, path, size_bytes, crc32c });
            }
            kind => self.problem(format!(
                "tar member \"{name}\" is neither a file nor a directory ({kind:?})"
            )),
        }
        Ok(())
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_NAMED {
            self.problems.push(what);
        } else {
            self.more_problems += 1;
        }
    }
}

fn corrupt(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

/// The core error inside, or else damage: what the tar reader complains of itself
/// is the form of the tar.
fn damaged(source: io::Error) -> Error {
    let is_core = source.get_ref().is_some_and(|inner| inner.is::<Error>());
    if is_core {
        return Error::from_io("could not read the tar", source);
    }
    corrupt(format!("the tar is damaged: {source}"))
}

/// Ends when more is read than `budget` allows, which whoever reads sets anew.
struct Bounded<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        match self.budget.get().checked_sub(length as u64) {
            Some(left) => self.budget.set(left),
            None => {
                return Err(corrupt(format!(
                    "the headers of one tar member have more than {LARGEST_HEADERS_BYTES} bytes"
                ))
                .into());
            }
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar with members of these names, kinds and contents.
    fn tar_of(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(tar: &[u8]) -> TarContent {
        TarContent::read(tar, Encoding::None, 100).unwrap()
    }

    #[test]
    fn a_sound_tar_tells_its_files() {
        let regular = tar::EntryType::Regular;
        let tar = tar_of(&[
            ("/", tar::EntryType::Directory, b""),
            ("/base/1", regular, b"one"),
            ("backup_label", regular, b"label"),
        ]);
        let content = read(&tar);
        assert!(content.problems.is_empty(), "{content:?}");
        assert_eq!(content.kept, [("backup_label".to_owned(), b"label".to_vec())]);
        let first = TarFile {
            name: "/base/1".to_owned(),
            path: "base/1".to_owned(),
            size_bytes: 3,
            crc32c: crc32c::crc32c(b"one"),
        };
        assert_eq!(content.files[0], first);
        assert_eq!(content.files.len(), 2);
        // Some writers leave the end of the tar out.
        assert!(read(&tar[..tar.len() - 1024]).problems.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_and_reading_goes_on() {
        let regular = tar::EntryType::Regular;
        let tar = tar_of(&[
            ("../outside", regular, b"x"),
            ("/link", tar::EntryType::Symlink, b""),
            ("/device", tar::EntryType::Char, b""),
            ("/pipe", tar::EntryType::Fifo, b""),
            ("/base/1", regular, b"one"),
        ]);
        let content = read(&tar);
        assert_eq!((content.problems.len(), content.more_problems), (3, 1));
        assert!(content.problems[0].contains("../outside"), "{content:?}");
        assert!(!content.ended_early);
        assert_eq!(content.files.last().unwrap().path, "base/1");
    }

    #[test]
    fn damage_ends_the_reading() {
        let regular = tar::EntryType::Regular;
        let tar = tar_of(&[("/base/1", regular, &[1; 2000]), ("/base/2", regular, b"two")]);
        let mut flipped = tar.clone();
        flipped[5] ^= 1;
        let trailing = [&tar[..], b"more"].concat();
        let cut = tar[..1500].to_vec();
        for damaged in [flipped, trailing, cut] {
            let content = read(&damaged);
            assert!(content.ended_early && content.problems.len() == 1, "{content:?}");
        }
        let content = TarContent::read(&tar[..], Encoding::None, 1).unwrap();
        assert!(content.ended_early && content.problems[0].contains("more than 1"));
        assert!(read(b"").files.is_empty());
    }

    #[test]
    fn a_name_without_end_is_not_held_in_memory() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = io::Read::chain(&header.as_bytes()[..], io::repeat(b'x'));
        let content = TarContent::read(endless, Encoding::None, 100).unwrap();
        assert!(content.ended_early && content.problems[0].contains("headers"), "{content:?}");
    }
}
