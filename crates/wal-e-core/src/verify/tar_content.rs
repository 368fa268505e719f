//! One tar of a backup, unpacked into nothing: what a verification does with its members.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::archived::ArchivedObject;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE, TABLESPACE_MAP};
use crate::restore::tar_reader::{Member, MemberKind};
use crate::restore::unpack::{Broken, Content, Target, unpack};

/// Files whose content is kept for checks, and the largest size that is kept.
const KEPT: [&str; 3] = [CONTROL_FILE, BACKUP_LABEL, TABLESPACE_MAP];
const LARGEST_KEPT_BYTES: u64 = 1024 * 1024;

/// Memory for a member beside its name, in bytes.
const MEMBER_BYTES: u64 = 64;

/// Whether the content of a file with this path is kept.
pub(super) fn is_kept(path: &str) -> bool {
    KEPT.contains(&path)
}

/// How many problems of one tar are named.
const PROBLEMS_NAMED: usize = 3;

/// What the tar of a control file has at most: more files, and names of more bytes, than anything
/// that made one.
const SMALL_TAR_FILES: usize = 16;
const SMALL_TAR_NAMES_BYTES: u64 = 64 * 1024;

/// What is expected of a tar, and how much of it is read.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// The most files.
    pub(super) most_files: usize,
    /// Paths of those that are increments.
    pub(super) increments: Arc<HashSet<String>>,
    /// The backup has a manifest.
    pub(super) has_manifest: bool,
    /// Bytes that are left for the names of the members of all tars.
    pub(super) names: Arc<AtomicU64>,
}

impl Expected {
    /// Of one of the small tars, without looking at the lists of its backup.
    pub(super) fn of_small_tar() -> Self {
        Expected {
            most_files: SMALL_TAR_FILES,
            increments: Arc::default(),
            has_manifest: false,
            names: Arc::new(AtomicU64::new(SMALL_TAR_NAMES_BYTES)),
        }
    }
}

/// What a tar holds.
#[derive(Debug, Default)]
pub(super) struct TarContent {
    /// Its regular files, in order.
    pub(super) files: Vec<TarFile>,
    /// Paths of its directories and links.
    pub(super) others: Vec<String>,
    /// How many of these are symbolic links.
    pub(super) links: u64,
    /// Content of the files in `KEPT`, by their path.
    pub(super) kept: Vec<(String, Vec<u8>)>,
    /// What is wrong with it: the first few.
    pub(super) problems: Vec<String>,
    /// How many more there are.
    pub(super) more_problems: usize,
    /// Whether it could not be read to its end, so that files may be missing here.
    pub(super) ended_early: bool,
}

/// A regular file in a tar.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TarFile {
    /// Its path below the data directory.
    pub(super) path: String,
    /// What the tar has of it, in bytes.
    pub(super) member_bytes: u64,
    /// Its own size in bytes.
    pub(super) size_bytes: u64,
    /// Of its content; `None` when the tar has only pages of it.
    pub(super) crc32c: Option<u32>,
}

impl TarContent {
    /// Reads a tar, and writes nothing.
    ///
    /// # Errors
    /// Those of the store. What is wrong with the tar is in the answer.
    pub(super) fn read(object: ArchivedObject, expected: &Expected) -> Result<TarContent> {
        let mut reading = Reading { content: TarContent::default(), expected };
        let result = unpack(object, &mut reading);
        let mut content = reading.content;
        match result {
            Err(Broken { member, error }) if error.kind() == ErrorKind::Corrupt => {
                content.ended_early = true;
                content.problem(match member {
                    Some(name) => format!("in member \"{name}\": {}", error.message()),
                    None => error.message().to_owned(),
                });
            }
            Err(broken) => return Err(broken.error),
            Ok(()) => {}
        }
        Ok(content)
    }

    /// Why nothing at all came out of it, if nothing did.
    pub(super) fn why_it_has_nothing(&self) -> Option<&str> {
        let has_none = self.ended_early && self.files.is_empty() && self.others.is_empty();
        self.problems.first().filter(|_| has_none).map(String::as_str)
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_NAMED {
            self.problems.push(what);
        } else {
            self.more_problems += 1;
        }
    }
}

/// One reading of a tar.
struct Reading<'a> {
    content: TarContent,
    expected: &'a Expected,
}

impl Target for Reading<'_> {
    fn has_manifest(&self) -> bool {
        self.expected.has_manifest
    }

    /// Bounds what is held in memory.
    fn begin(&mut self, member: &Member) -> Result<()> {
        let bytes = (member.name.as_os_str().len() as u64).saturating_add(MEMBER_BYTES);
        let take = |left: u64| left.checked_sub(bytes);
        if self.expected.names.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(corrupt("the tars of the backup have too many members to check"));
        }
        let most_files = self.expected.most_files;
        if member.kind == MemberKind::File && self.content.files.len() >= most_files {
            return Err(corrupt(format!("it has more than {most_files} files")));
        }
        Ok(())
    }

    fn refused(&mut self, error: Error) -> Result<()> {
        self.content.problem(error.message().to_owned());
        Ok(())
    }

    fn file(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()> {
        let path = text(path);
        let is_new = !self.content.kept.iter().any(|(kept, _)| *kept == path);
        let kept = is_kept(&path) && is_new && member.size <= LARGEST_KEPT_BYTES;
        let mut size_bytes = member.size;
        let is_increment = self.expected.increments.contains(&path);
        if is_increment {
            match content.check_increment() {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.content.problem(format!("in member \"{path}\": {}", error.message()));
                }
                result => size_bytes = result?,
            }
        }
        let mut bytes = Vec::new();
        let crc32c = content.read_all(|piece| {
            if kept {
                bytes.extend_from_slice(piece);
            }
            Ok(())
        })?;
        if kept {
            self.content.kept.push((path.clone(), bytes));
        }
        let crc32c = (!is_increment).then_some(crc32c);
        self.content.files.push(TarFile { path, member_bytes: member.size, size_bytes, crc32c });
        Ok(())
    }

    fn directory(&mut self, path: &Path, _: u32) -> Result<()> {
        self.content.others.push(text(path));
        Ok(())
    }

    fn link(&mut self, path: &Path, _: &Path) -> Result<()> {
        self.content.links = self.content.links.saturating_add(1);
        self.content.others.push(text(path));
        Ok(())
    }

    /// A restore skips it.
    fn fifo(&mut self, path: &Path) -> Result<()> {
        self.content.others.push(text(path));
        Ok(())
    }
}

/// The path as a list of files has it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

#[cfg(test)]
pub(super) mod tests;
