//! One tar of a backup, read to the end of its frame, by the reader that a restore
//! reads it with.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::archived::ArchivedObject;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE, TABLESPACE_MAP};
use crate::restore::tar_reader::{Member, MemberKind, TarReader};
use crate::restore::{increment, member};

/// How members are read, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Files that are kept whole to be looked into, and the most that they may have.
const KEPT: [&str; 3] = [CONTROL_FILE, BACKUP_LABEL, TABLESPACE_MAP];
const LARGEST_KEPT_BYTES: u64 = 1024 * 1024;

/// The longest name of a member: no file system takes longer paths (`PATH_MAX`).
const LONGEST_NAME_BYTES: usize = 4096;

/// What is held of a member beside its name, in bytes.
const MEMBER_BYTES: u64 = 64;

/// Whether a member of this path is looked into, wherever it is.
pub(super) fn is_kept(path: &str) -> bool {
    KEPT.contains(&path)
}

/// How many problems of one tar are told one by one.
const PROBLEMS_NAMED: usize = 3;

/// What is expected of a tar, and how much of it is taken.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// The most files.
    pub(super) most_files: usize,
    /// Paths of those that are increments.
    pub(super) increments: Arc<HashSet<String>>,
    /// Bytes that are left for the names of the members of all tars.
    pub(super) names: Arc<AtomicU64>,
}

/// What a tar holds.
#[derive(Debug, Default)]
pub(super) struct TarContent {
    /// Its regular files, in order.
    pub(super) files: Vec<TarFile>,
    /// Paths of its directories and links.
    pub(super) others: Vec<String>,
    /// How many of these are symbolic links, and the first one.
    pub(super) links: u64,
    pub(super) first_link: Option<String>,
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
    /// Its path below the data directory.
    pub(super) path: String,
    /// In bytes.
    pub(super) size_bytes: u64,
    /// Of its content.
    pub(super) crc32c: u32,
}

impl TarContent {
    /// Reads a tar that is encoded as `encoding`.
    ///
    /// # Errors
    /// Those of the store. What is wrong with the tar is in the answer.
    pub(super) fn read(object: ArchivedObject, expected: &Expected) -> Result<TarContent> {
        let mut content = TarContent::default();
        match content.read_members(object, expected) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                content.ended_early = true;
                content.problem(error.message().to_owned());
            }
            result => result?,
        }
        Ok(content)
    }

    fn read_members(&mut self, object: ArchivedObject, expected: &Expected) -> Result<()> {
        let mut tar = TarReader::new(object.content().map_err(Error::from_tar)?);
        let mut buffer = vec![0; READ_BYTES];
        while let Some(member) = tar.next_member()? {
            self.member(&member, &mut tar, expected, &mut buffer)?;
            if self.files.len() > expected.most_files {
                return Err(corrupt(format!("it has more than {} files", expected.most_files)));
            }
        }
        // The tar ends before its frame does: only the frame's end proves its checksum.
        tar.finish()
    }

    fn member(
        &mut self,
        member: &Member,
        tar: &mut TarReader<impl Read>,
        expected: &Expected,
        buffer: &mut [u8],
    ) -> Result<()> {
        let length = member.name.as_os_str().len();
        if length > LONGEST_NAME_BYTES {
            return Err(corrupt(format!("the name of a member has {length} bytes")));
        }
        let bytes = (length as u64).saturating_add(MEMBER_BYTES);
        let take = |left: u64| left.checked_sub(bytes);
        if expected.names.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(corrupt(
                "the tars of the backup have more members than are looked at".to_owned(),
            ));
        }
        let name = member.name.to_string_lossy();
        let path = match member::relative_path(&member.name) {
            Ok(path) => path.to_string_lossy().into_owned(),
            Err(error) => {
                self.problem(error.message().to_owned());
                name.clone().into_owned()
            }
        };
        match &member.kind {
            MemberKind::File if path.is_empty() => {
                self.problem("a file has the data directory's name".to_owned());
            }
            MemberKind::File => {
                let read = self.file(path, member.size, tar, expected, buffer);
                read.map_err(|error| within(error, &name))?;
            }
            MemberKind::Directory => self.others.push(path),
            MemberKind::SymbolicLink(_) => {
                self.links = self.links.saturating_add(1);
                self.first_link.get_or_insert_with(|| path.clone());
                self.others.push(path);
            }
            // A restore leaves it out.
            MemberKind::Fifo => self.others.push(path),
            MemberKind::Unsupported(kind) => self.problem(format!(
                "tar member \"{name}\" is {kind}, and no cluster has such a thing"
            )),
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: String,
        size_bytes: u64,
        tar: &mut TarReader<impl Read>,
        expected: &Expected,
        buffer: &mut [u8],
    ) -> Result<()> {
        let is_new = !self.kept.iter().any(|(kept, _)| *kept == path);
        let kept = is_kept(&path) && is_new && size_bytes <= LARGEST_KEPT_BYTES;
        let mut content = Vec::new();
        let mut source = Summed { inner: tar, crc32c: 0 };
        if expected.increments.contains(&path) {
            match increment::check(&mut source, size_bytes) {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.problem(format!("in member \"{path}\": {}", error.message()));
                }
                result => result?,
            }
        }
        loop {
            let length = match source.read(buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::from_tar(error)),
            };
            if kept {
                content.extend_from_slice(&buffer[..length]);
            }
        }
        let crc32c = source.crc32c;
        if kept {
            self.kept.push((path.clone(), content));
        }
        self.files.push(TarFile { path, size_bytes, crc32c });
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

/// The path below the data directory that a name in a list of files means; the
/// name itself if it leads out of it.
pub(super) fn listed_path(name: &str) -> String {
    match member::relative_path(Path::new(name)) {
        // It came from text.
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => name.to_owned(),
    }
}

/// Sums up what is read.
struct Summed<'a, R> {
    inner: &'a mut R,
    crc32c: u32,
}

impl<R: Read> Read for Summed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &buffer[..length]);
        Ok(length)
    }
}

fn corrupt(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

/// Damage is told with the member that has it.
fn within(error: Error, name: &str) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => corrupt(format!("in member \"{name}\": {}", error.message())),
        _ => error,
    }
}

#[cfg(test)]
pub(super) mod tests;
