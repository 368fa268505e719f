//! One tar partition onto disk.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::deferred::{Deferred, read_control};
use super::destination::Destination;
use super::increment;
use super::manifest::Manifest;
use super::member;
use super::selection::{Selection, Take};
use super::syncing::{Batch, SyncPool};
use super::tar_reader::{Member, MemberKind, TarReader};
use crate::archived::ArchivedObject;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::{CONTROL_FILE, is_note_of_restore};

mod attempt;

use attempt::{Attempt, Increment, waiting_place};

/// How files are written, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Where all tars of a restore go.
#[derive(Debug)]
pub(crate) struct Sink {
    /// The directories.
    pub(super) target: Destination,
    /// What is written last.
    pub(super) deferred: Deferred,
    /// What the files must be, of backups that tell.
    pub(crate) manifest: Option<Manifest>,
    /// How much may come.
    pub(crate) budget: Budget,
    /// Brings files to the disk.
    pub(super) syncing: SyncPool,
    /// Symbolic links mean something: those of WAL-E do, those of WAL-G are broken.
    pub(crate) keeps_links: bool,
}

/// Limits what comes out of tars: a small object can hold gigabytes of zeros.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// For backups that say how many bytes their files have. Of one that does not say,
    /// everything is taken: how far honest files were compressed tells nothing.
    pub(crate) fn new(file_bytes: Option<u64>) -> Self {
        // Files may grow a little while they are read, and what exactly is counted
        // differs between writers.
        let limit = match file_bytes {
            Some(bytes) => bytes.saturating_add(bytes / 8).saturating_add(1 << 30),
            None => u64::MAX,
        };
        Budget { limit, used: AtomicU64::new(0) }
    }

    /// Uses `bytes` of it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when there is not so much left.
    pub(crate) fn take(&self, bytes: u64) -> Result<()> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used <= self.limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            "its files are much larger than those of the base backup",
        ))
    }

    /// What was taken was of no use.
    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a tar put on disk.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Files written.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// What is on disk now, by path below the data directory, with the size of
    /// files. `None` when not all of the tar is on disk, or a name is not UTF-8.
    pub(crate) members: Option<Vec<(String, Option<u64>)>>,
    /// Links that were passed over.
    pub(crate) links: u64,
    /// The first named pipe, if there is one: they are passed over.
    pub(crate) fifo: Option<PathBuf>,
    /// Files that were left out, as the backup does not list them, and the first one.
    pub(crate) unlisted: u64,
    pub(crate) first_unlisted: Option<String>,
}

/// What is done with the files of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// They become files of the target.
    Restore,
    /// They are looked at for damage and not written.
    Look,
}

/// Why a tar was not unpacked. Nothing that came out of it is on disk.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The member that was being read, by its name in the tar; `None` outside of all.
    pub(crate) member: Option<String>,
    /// What went wrong.
    pub(crate) error: Error,
}

/// Unpacks the tar in `source`, encoded as `encoding`, and syncs its files.
/// `is_control` says that it is the tar of the control file alone.
///
/// No file may be there already, and no directory on the way to one may be a
/// link: a tar can neither replace a file nor write through a link. A file of an older
/// backup of the chain is only changed once the whole tar has proved to be sound.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a damaged or truncated object, a member that no
/// cluster has, and a name that leads out of the target. What was written is removed
/// again, so that the tar can be unpacked once more.
pub(crate) fn unpack(
    object: ArchivedObject,
    sink: &Sink,
    selection: &Selection,
    is_control: bool,
    purpose: Purpose,
) -> Result<Unpacked, Broken> {
    let outside = |error| Broken { member: None, error };
    let content = object.content().map_err(|error| outside(Error::from_tar(error)))?;
    let mut unpacking = Unpacking {
        tar: TarReader::new(content),
        sink,
        selection,
        purpose,
        attempt: Attempt::new(sink, selection),
        batch: sink.syncing.batch(),
        buffer: vec![0; WRITE_BYTES],
        unpacked: Unpacked { members: Some(Vec::new()), ..Unpacked::default() },
    };
    let result = unpacking.run();
    let Unpacking { tar, mut attempt, batch, mut unpacked, .. } = unpacking;
    // What was handed over is waited for also after an error: it is removed then.
    let synced = batch.wait();
    let proved = result
        // The tar ends before its frame does: only the frame's end proves its checksum.
        .and_then(|()| tar.finish().map_err(outside))
        .and_then(|()| synced.map_err(outside))
        .and_then(|()| attempt.keep(is_control, &mut unpacked).map_err(outside));
    match proved {
        Ok(()) => Ok(unpacked),
        Err(broken) => Err(match attempt.take_back() {
            Ok(()) => broken,
            Err(error) => outside(error),
        }),
    }
}

struct Unpacking<'a, R> {
    tar: TarReader<R>,
    sink: &'a Sink,
    selection: &'a Selection,
    purpose: Purpose,
    attempt: Attempt<'a>,
    batch: Batch,
    buffer: Vec<u8>,
    unpacked: Unpacked,
}

impl<R: Read> Unpacking<'_, R> {
    fn run(&mut self) -> Result<(), Broken> {
        loop {
            let next = self.tar.next_member();
            let Some(member) = next.map_err(|error| Broken { member: None, error })? else {
                return Ok(());
            };
            self.member(&member).map_err(|error| Broken {
                member: Some(member.name.to_string_lossy().into_owned()),
                error,
            })?;
        }
    }

    fn member(&mut self, member: &Member) -> Result<()> {
        let path = member::relative_path(&member.name)?;
        self.attempt.take_budget(member.size)?;
        let came_before = self.attempt.came(&path);
        // Of a cluster whose own restore was interrupted: this one keeps such notes, too.
        if path.to_str().is_some_and(is_note_of_restore) {
            // A restore that goes on has to see it come.
            self.unpacked.members = None;
            return Ok(());
        }
        if path.starts_with(CONTROL_FILE)
            && (member.kind != MemberKind::File || path != Path::new(CONTROL_FILE))
        {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("only the control file can be at \"{CONTROL_FILE}\""),
            ));
        }
        if matches!(member.kind, MemberKind::SymbolicLink(_) | MemberKind::Fifo)
            && self.sink.manifest.is_some()
        {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "it is no file, and backups with a manifest have only files and directories",
            ));
        }
        match &member.kind {
            MemberKind::Directory => {
                if self.selection.is_tip() && self.purpose == Purpose::Restore {
                    self.directory(&path, member.mode)?;
                    self.record(&path, None);
                }
                Ok(())
            }
            MemberKind::File if path.as_os_str().is_empty() => {
                Err(Error::new(ErrorKind::Corrupt, "a file has the data directory's name"))
            }
            MemberKind::File => match self.selection.take(&path) {
                None => {
                    if self.selection.is_unlisted(&path) {
                        self.unpacked.add_unlisted(&path);
                    }
                    Ok(())
                }
                Some(_) if path == Path::new(CONTROL_FILE) && self.selection.is_tip() => {
                    // It is not on disk: a restore that goes on needs this tar again.
                    self.unpacked.members = None;
                    let content = read_control(&mut self.tar)?;
                    self.check(&path, content.len() as u64, crc32c::crc32c(&content))?;
                    self.attempt.keep_control(content)
                }
                Some(_) if came_before => Err(comes_twice()),
                Some(take) if self.purpose == Purpose::Look => self.look(&path, member, take),
                Some(Take::Whole) => self.file(&path, member),
                Some(Take::Pages) => self.pages(&path, member),
            },
            MemberKind::SymbolicLink(to) => {
                if self.selection.is_tip() && self.sink.keeps_links {
                    self.attempt.keep_link(path, to.clone());
                    // It is not made yet: a restore that goes on needs this tar again.
                    self.unpacked.members = None;
                } else {
                    self.unpacked.links += 1;
                }
                Ok(())
            }
            MemberKind::Fifo => {
                self.unpacked.fifo.get_or_insert(path);
                Ok(())
            }
            MemberKind::Unsupported(kind) => Err(Error::new(
                ErrorKind::Corrupt,
                format!("it is {kind}, and no cluster has such a thing"),
            )),
        }
    }

    fn directory(&self, path: &Path, mode: u32) -> Result<()> {
        let place = self.sink.target.place(path);
        self.sink.target.make_directory(&place)?;
        let mode = (mode & 0o750) | 0o700;
        match fs::set_permissions(&place, fs::Permissions::from_mode(mode)) {
            // Somebody else's: a mount point that this user may write to all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => {
                result.map_err(|error| Error::file("set permissions of directory", &place, &error))
            }
        }
    }

    /// Reads a file, and writes it nowhere.
    fn look(&mut self, path: &Path, member: &Member, take: Take) -> Result<()> {
        self.unpacked.members = None;
        if take == Take::Pages {
            return increment::check(&mut self.tar, member.size);
        }
        let crc32c = self.copy(None)?;
        self.check(path, member.size, crc32c)
    }

    fn file(&mut self, path: &Path, member: &Member) -> Result<()> {
        let place = self.sink.target.place(path);
        self.sink.target.make_parent(&place)?;
        let mut file = self.attempt.create(&place)?;
        let crc32c = self.copy(Some((&mut file, &place)))?;
        self.check(path, member.size, crc32c)?;
        let mode = file_mode(member.mode);
        if mode != 0o600 {
            file.set_permissions(fs::Permissions::from_mode(mode))
                .map_err(|error| Error::file("set permissions of file", &place, &error))?;
        }
        self.batch.sync(file, place)?;
        self.unpacked.files += 1;
        self.unpacked.bytes += member.size;
        self.record(path, Some(member.size));
        Ok(())
    }

    /// Pages of a file that an older backup of the chain has. They wait beside it until
    /// the tar has proved to be sound: pages in a wrong place could not be taken back.
    fn pages(&mut self, path: &Path, member: &Member) -> Result<()> {
        let place = self.sink.target.place(path);
        self.sink.target.make_parent(&place)?;
        if !place.symlink_metadata().is_ok_and(|found| found.is_file()) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "it holds pages of a file that no older backup has",
            ));
        }
        let waiting = waiting_place(&place);
        let mut file = self.attempt.create(&waiting)?;
        self.copy(Some((&mut file, &waiting)))?;
        let read = |error| Error::file("read file", &waiting, &error);
        let mut content = BufReader::new(File::open(&waiting).map_err(read)?);
        increment::check(&mut content, member.size)?;
        self.attempt.wait_with(Increment {
            path: path.to_owned(),
            place,
            waiting,
            bytes: member.size,
        });
        Ok(())
    }

    /// Whether a file of the backup that is asked for is what was backed up.
    fn check(&self, path: &Path, size_bytes: u64, crc32c: u32) -> Result<()> {
        match &self.sink.manifest {
            Some(manifest) if self.selection.is_tip() => manifest.check(path, size_bytes, crc32c),
            _ => Ok(()),
        }
    }

    /// Like `io::copy`, but tells the errors of the two sides apart. Returns the
    /// CRC-32C of what came.
    fn copy(&mut self, mut to: Option<(&mut File, &Path)>) -> Result<u32> {
        let mut crc32c = 0;
        loop {
            let mut length = 0;
            while length < self.buffer.len() {
                match self.tar.read(&mut self.buffer[length..]) {
                    Ok(0) => break,
                    Ok(read) => length += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Error::from_tar(error)),
                }
            }
            if length == 0 {
                return Ok(crc32c);
            }
            crc32c = crc32c::crc32c_append(crc32c, &self.buffer[..length]);
            if let Some((file, place)) = &mut to {
                file.write_all(&self.buffer[..length])
                    .map_err(|error| Error::file("write file", place, &error))?;
            }
        }
    }

    fn record(&mut self, path: &Path, size: Option<u64>) {
        self.unpacked.record(path, size);
    }
}

impl Unpacked {
    /// Something is on disk.
    fn record(&mut self, path: &Path, size: Option<u64>) {
        match (path.to_str(), &mut self.members) {
            (Some(path), Some(members)) => members.push((path.to_owned(), size)),
            (None, members) => *members = None,
            (_, None) => {}
        }
    }

    /// A file was left out.
    fn add_unlisted(&mut self, path: &Path) {
        self.unlisted += 1;
        self.first_unlisted.get_or_insert_with(|| path.display().to_string());
    }
}

/// The permissions that PostgreSQL allows: of the owner, and reading for the group.
fn file_mode(mode: u32) -> u32 {
    (mode & 0o750) | 0o600
}

fn comes_twice() -> Error {
    Error::new(ErrorKind::Corrupt, "the same file comes twice")
}

#[cfg(test)]
mod tests;
