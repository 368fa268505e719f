//! The members of a tar, in bounded memory.
//!
//! Reads what WAL-G (Go's `archive/tar`), WAL-E (Python's `tarfile`) and this
//! program write: USTAR, PAX and GNU headers. A size in a header is not believed
//! before the bytes have come, and the extensions of a header are read only up to a
//! limit.
//!
//! Format: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Header
//! Block"; GNU tar's manual, "Basic Tar Format".

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

mod header;

use header::{Extensions, Header, c_string};

const BLOCK: usize = 512;

/// The longest name or set of records that may come before a header.
const LARGEST_EXTENSION_BYTES: u64 = 1024 * 1024;

/// How many of them may come before one header.
const MOST_EXTENSIONS: u32 = 8;

/// How many zeros may follow a tar: writers fill it up to the size of a record,
/// 10240 bytes by default.
const MOST_PADDING_BYTES: u64 = 1024 * 1024;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    /// A regular file; its content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    SymbolicLink(PathBuf),
    /// A named pipe: has no content, and PostgreSQL needs none.
    Fifo,
    /// Something that no cluster has, in words.
    Unsupported(&'static str),
}

/// One member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name as it stands there.
    pub(crate) name: PathBuf,
    /// What it is.
    pub(crate) kind: MemberKind,
    /// Size of its content in bytes; 0 for all but files.
    pub(crate) size: u64,
    /// Its mode, with all bits.
    pub(crate) mode: u32,
}

/// A tar that is being read. Reading from it gives the content of the member
/// that [`TarReader::next_member`] returned last.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    inner: R,
    /// Of the current member's content.
    left: u64,
    /// After the current member's content, up to a whole block.
    padding: u64,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads the tar in `inner`.
    pub(crate) fn new(inner: R) -> Self {
        TarReader { inner, left: 0, padding: 0, ended: false }
    }

    /// Goes on to the next member, past what was not read of the one before.
    /// `None` is the end: a block of zeros, or the end of the stream where a
    /// header could begin, as not every writer ends a tar.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a damaged or truncated tar; those of the
    /// stream below as they are.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>> {
        self.skip_content()?;
        let mut extensions = Extensions::default();
        for _ in 0..=MOST_EXTENSIONS {
            let Some(header) = self.header()? else {
                return match extensions.is_empty() {
                    true => Ok(None),
                    false => Err(damaged("it ends after a header extension")),
                };
            };
            match header.kind() {
                b'L' => extensions.name = Some(c_string(&self.extension(&header)?)),
                b'K' => extensions.link = Some(c_string(&self.extension(&header)?)),
                b'x' => {
                    let records = self.extension(&header)?;
                    extensions.add_records(&records)?;
                }
                b'g' => {
                    let mut global = Extensions::default();
                    let records = self.extension(&header)?;
                    global.add_records(&records)?;
                    if !global.is_empty() {
                        return Err(damaged("a global header sets the name or size of members"));
                    }
                }
                _ => return self.member(&header, extensions).map(Some),
            }
        }
        Err(damaged("a header has too many extensions"))
    }

    /// After the last member: reads the stream to its end, where checksums are.
    /// Nothing but zeros may come, and not too many.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut zeros = 0;
        let mut buffer = [0; 16 * BLOCK];
        loop {
            let length = read_some(&mut self.inner, &mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            if buffer[..length].iter().any(|byte| *byte != 0) {
                return Err(damaged("something follows its end marker"));
            }
            zeros += length as u64;
            if zeros > MOST_PADDING_BYTES {
                return Err(damaged("too many zeros follow its end marker"));
            }
        }
    }

    /// The next header; `None` at the end of the tar.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        match read_full(&mut self.inner, &mut block)? {
            0 => self.ended = true,
            BLOCK if block.iter().all(|byte| *byte == 0) => self.ended = true,
            BLOCK => return Header::new(block).map(Some),
            _ => return Err(damaged("it is truncated in a header")),
        }
        Ok(None)
    }

    /// The content of an extension.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > LARGEST_EXTENSION_BYTES {
            return Err(damaged("a header extension is too large"));
        }
        self.begin_content(size);
        let mut content = Vec::new();
        (&mut *self).take(size).read_to_end(&mut content).map_err(Error::from_tar)?;
        self.skip_content()?;
        Ok(content)
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member> {
        let name = extensions.name.unwrap_or_else(|| header.name());
        if name.is_empty() || name.contains(&0) {
            return Err(damaged("a member has no valid name"));
        }
        let has_slash = name.ends_with(b"/");
        let name = PathBuf::from(OsStr::from_bytes(&name));
        let kind = match header.kind() {
            _ if extensions.sparse => MemberKind::Unsupported("a sparse file"),
            // Before there was a type for directories, they ended with a slash.
            0 if has_slash => MemberKind::Directory,
            b'0' | 0 | b'7' => MemberKind::File,
            b'5' => MemberKind::Directory,
            b'2' => {
                let link = extensions.link.unwrap_or_else(|| header.link());
                MemberKind::SymbolicLink(PathBuf::from(OsStr::from_bytes(&link)))
            }
            b'1' => MemberKind::Unsupported("a hard link"),
            b'3' => MemberKind::Unsupported("a character device"),
            b'4' => MemberKind::Unsupported("a block device"),
            b'6' => MemberKind::Fifo,
            b'S' => MemberKind::Unsupported("a sparse file"),
            _ => MemberKind::Unsupported("of an unknown type"),
        };
        // Other kinds may state a size, but no bytes follow.
        let size = match kind {
            MemberKind::File => match extensions.size {
                Some(size) => size,
                None => header.size()?,
            },
            _ => 0,
        };
        self.begin_content(size);
        Ok(Member { name, kind, size, mode: header.mode()? })
    }

    fn begin_content(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * BLOCK];
        while self.left > 0 {
            if self.read(&mut buffer).map_err(Error::from_tar)? == 0 {
                return Err(truncated());
            }
        }
        while self.padding > 0 {
            let wanted = usize::try_from(self.padding).unwrap_or(BLOCK).min(BLOCK);
            match read_full(&mut self.inner, &mut buffer[..wanted])? {
                length if length == wanted => self.padding -= wanted as u64,
                // The content is whole. A writer that does not end its tar may
                // not fill up the last block either.
                _ => {
                    self.padding = 0;
                    self.ended = true;
                }
            }
        }
        Ok(())
    }
}

/// Reads the current member's content. Its early end is an error.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let length = self.inner.read(&mut buffer[..wanted])?;
        if length == 0 {
            return Err(truncated().into());
        }
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

impl Error {
    /// The core error inside, or else damage: a decoder complains about the content of the
    /// object.
    pub(crate) fn from_tar(source: io::Error) -> Error {
        let error = Error::from_io("the tar is damaged", source);
        match error.kind() {
            ErrorKind::Io => Error::new(ErrorKind::Corrupt, error.message()),
            _ => error,
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the tar is damaged: {what}"))
}

fn truncated() -> Error {
    damaged("it is truncated in a member's content")
}

fn read_some(inner: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(Error::from_tar),
        }
    }
}

/// Fills the buffer, as far as the stream goes.
pub(crate) fn read_full(inner: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match read_some(inner, &mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
