//! One tar of a backup, member by member, into a target: directories on disk, or nothing.
//!
//! A restore ([`onto_disk`]) and a verification read tars by this code, so that one
//! refuses what the other refuses.

use std::io::{self, Read};
use std::path::Path;

use super::member;
use super::tar_reader::{Member, MemberKind, TarReader, read_full};
use crate::archived::ArchivedObject;
use crate::error::{Error, ErrorKind, Result};
use crate::increment::Head;
use crate::postgres::data_directory::CONTROL_FILE;

mod budget;
mod onto_disk;

pub(crate) use budget::Budget;
pub(crate) use onto_disk::{Purpose, Sink, Unpacked, comes_twice, onto_disk};

/// How files are read and written, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// The longest name of a member: no file system takes longer paths (`PATH_MAX`).
const LONGEST_NAME_BYTES: usize = 4096;

/// PostgreSQL's control file has 8 kB.
const LARGEST_CONTROL_BYTES: u64 = 64 * 1024;

/// What takes in the members of a tar. Paths are below the data directory, and an error
/// ends the reading.
pub(crate) trait Target {
    /// Whether the backup has a manifest. This program wrote it then, and it stores nothing
    /// but files and directories.
    fn has_manifest(&self) -> bool;

    /// A member comes next; nothing of it has been checked yet.
    fn begin(&mut self, member: &Member) -> Result<()>;

    /// The member cannot be part of a cluster; when this returns `Ok`, it is skipped.
    fn refused(&mut self, error: Error) -> Result<()>;

    /// A regular file. The unread rest of its content is skipped.
    fn file(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()>;

    /// A directory.
    fn directory(&mut self, path: &Path, mode: u32) -> Result<()>;

    /// A symbolic link, and where it leads.
    fn link(&mut self, path: &Path, to: &Path) -> Result<()>;

    /// A named pipe.
    fn fifo(&mut self, path: &Path) -> Result<()>;
}

/// Why a tar was not read to its end.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The member that was being read, by its name in the tar; `None` outside of all.
    pub(crate) member: Option<String>,
    /// What went wrong.
    pub(crate) error: Error,
}

impl Broken {
    /// Outside of all members.
    pub(crate) fn outside(error: Error) -> Self {
        Broken { member: None, error }
    }
}

/// Reads a tar to the end of its frame, where the checksum is, and hands its members to
/// `target`.
///
/// # Errors
/// Those of the store and of `target`, and [`ErrorKind::Corrupt`] for a damaged or
/// truncated object.
pub(crate) fn unpack(object: ArchivedObject, target: &mut impl Target) -> Result<(), Broken> {
    let content = object.content().map_err(|error| Broken::outside(Error::from_tar(error)))?;
    let mut tar = TarReader::new(content);
    let mut buffer = vec![0; PIECE_BYTES];
    while let Some(member) = tar.next_member().map_err(Broken::outside)? {
        check_length(&member).map_err(Broken::outside)?;
        target.begin(&member).map_err(Broken::outside)?;
        hand_over(&member, &mut tar, &mut buffer, target).map_err(|error| Broken {
            member: Some(member.name.to_string_lossy().into_owned()),
            error,
        })?;
    }
    // The tar ends before its frame does: only the frame's end proves its checksum.
    tar.finish().map_err(Broken::outside)
}

fn check_length(member: &Member) -> Result<()> {
    match member.name.as_os_str().len() {
        0..=LONGEST_NAME_BYTES => Ok(()),
        length => Err(Error::new(
            ErrorKind::Corrupt,
            format!("the name of a member is too long: it has {length} bytes"),
        )),
    }
}

fn hand_over(
    member: &Member,
    tar: &mut dyn Read,
    buffer: &mut [u8],
    target: &mut impl Target,
) -> Result<()> {
    let path = match member::relative_path(&member.name) {
        Ok(path) => path,
        Err(error) => return target.refused(error),
    };
    if let Some(what) = flaw(&path, member, target.has_manifest()) {
        let what = format!("tar member \"{}\" {what}", member.name.display());
        return target.refused(Error::new(ErrorKind::Corrupt, what));
    }
    match &member.kind {
        MemberKind::File => {
            let mut content = Content { tar, buffer, size_bytes: member.size, crc32c: 0 };
            target.file(&path, member, &mut content)
        }
        MemberKind::Directory => target.directory(&path, member.mode),
        MemberKind::SymbolicLink(to) => target.link(&path, to),
        MemberKind::Fifo => target.fifo(&path),
        // It has a flaw.
        MemberKind::Unsupported(_) => Ok(()),
    }
}

/// Why this cannot be a member of a cluster.
fn flaw(path: &Path, member: &Member, has_manifest: bool) -> Option<String> {
    let is_file = member.kind == MemberKind::File;
    if is_file && path.as_os_str().is_empty() {
        return Some("is a file with the data directory's name".to_owned());
    }
    if path.starts_with(CONTROL_FILE) && !(is_file && path == Path::new(CONTROL_FILE)) {
        return Some(format!(
            "has the name of the control file \"{CONTROL_FILE}\", and is not a file of that name"
        ));
    }
    if path == Path::new(CONTROL_FILE) && member.size > LARGEST_CONTROL_BYTES {
        return Some("is too large for a control file".to_owned());
    }
    const ONLY: &str = "and a backup with a manifest has only files and directories";
    match member.kind {
        MemberKind::SymbolicLink(_) if has_manifest => Some(format!("is a symbolic link, {ONLY}")),
        MemberKind::Fifo if has_manifest => Some(format!("is a named pipe, {ONLY}")),
        MemberKind::Unsupported(kind) => Some(format!("is {kind}, which no cluster contains")),
        _ => None,
    }
}

/// The content of a file in a tar, while it is read.
pub(crate) struct Content<'a> {
    tar: &'a mut dyn Read,
    buffer: &'a mut [u8],
    size_bytes: u64,
    crc32c: u32,
}

impl Content<'_> {
    /// Reads the content to its end, hands it to `take` piece by piece, and returns the
    /// CRC-32C of all of it.
    ///
    /// # Errors
    /// Those of the tar, and those of `take` as they are.
    pub(crate) fn read_all(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u32> {
        loop {
            let length = read_full(&mut self.tar, self.buffer)?;
            if length == 0 {
                return Ok(self.crc32c);
            }
            let piece = &self.buffer[..length];
            self.crc32c = crc32c::crc32c_append(self.crc32c, piece);
            take(piece)?;
        }
    }

    /// Whether the content is an increment; reads all but its pages, and returns the size
    /// in bytes of the file once it is applied.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is not.
    pub(crate) fn check_increment(&mut self) -> Result<u64> {
        let size_bytes = self.size_bytes;
        Head::read(self, size_bytes).map(|head| head.file_bytes)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.tar.read(buffer)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &buffer[..length]);
        Ok(length)
    }
}
