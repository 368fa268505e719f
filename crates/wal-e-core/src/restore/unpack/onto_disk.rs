//! A tar of a backup onto disk: what a restore does with its members.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::budget::Budget;
use super::{Broken, Content, Target, unpack};
use crate::archived::ArchivedObject;
use crate::error::{Error, ErrorKind, Result};
use crate::increment::Head;
use crate::postgres::data_directory::{CONTROL_FILE, is_note_of_restore};
use crate::restore::assembly::{Assembly, Begun, WholeFile};
use crate::restore::deferred::Deferred;
use crate::restore::destination::{Destination, remove_file, waiting_pages};
use crate::restore::journal::Members;
use crate::restore::manifest::Manifest;
use crate::restore::selection::{Selection, Take};
use crate::restore::syncing::{Batch, SyncPool};
use crate::restore::tar_reader::Member;

mod attempt;

use attempt::Attempt;

/// Where all tars of a restore go.
#[derive(Debug)]
pub(crate) struct Sink {
    /// The directories.
    pub(in crate::restore) target: Destination,
    /// The files that still need an older backup of the chain.
    pub(in crate::restore) assembly: Assembly,
    /// What is written last.
    pub(in crate::restore) deferred: Deferred,
    /// Sizes and checksums of the files, when the backup has a manifest.
    pub(crate) manifest: Option<Manifest>,
    /// Limits the bytes of all files.
    pub(crate) budget: Budget,
    /// Brings files to the disk.
    pub(in crate::restore) syncing: SyncPool,
    /// Whether symbolic links are restored: WAL-E stores where they lead, WAL-G does not.
    pub(crate) keeps_links: bool,
}

/// What a tar put on disk.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Files written.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// What is on disk now.
    pub(in crate::restore) members: Members,
    /// Whether a resumed restore needs this tar again: not all of it is on disk, or a name is not
    /// UTF-8.
    pub(in crate::restore) is_needed_again: bool,
    /// Files that pages of newer backups waited for, complete now.
    pub(in crate::restore) completed: Vec<PathBuf>,
    /// Links that were skipped.
    pub(crate) links: u64,
    /// The first named pipe, if there is one: they are skipped.
    pub(crate) fifo: Option<PathBuf>,
    /// Files that were skipped because the backup does not list them, and the first one.
    pub(crate) unlisted: u64,
    pub(crate) first_unlisted: Option<String>,
}

impl Sink {
    /// Removes the pages that waited for files which are complete.
    ///
    /// # Errors
    /// Those of the file system.
    pub(in crate::restore) fn forget_waiting(&self, completed: &[PathBuf]) -> Result<()> {
        for path in completed {
            self.assembly.forget(path);
            remove_file(&self.target.place(&waiting_pages(path)))?;
        }
        Ok(())
    }
}

/// What happens to the files of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// They become files of the target.
    Restore,
    /// They are checked for damage and not written.
    Look,
}

/// Unpacks the tar in `object`, and syncs its complete files. `is_control` says that it is the tar
/// of the control file alone.
///
/// No file may be there already, and no directory on the way to one may be a link: a tar can
/// neither replace a file nor write through a link. Changed pages wait for the rest of their file,
/// and still do after this; [`Sink::forget_waiting`] removes those that wait no more.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a damaged or truncated object, a member that no
/// cluster has, and a name that leads out of the target. What was written is removed
/// again, so that the tar can be unpacked once more.
pub(crate) fn onto_disk(
    object: ArchivedObject,
    sink: &Sink,
    selection: &Selection,
    is_control: bool,
    purpose: Purpose,
) -> Result<Unpacked, Broken> {
    let mut target = OntoDisk {
        sink,
        selection,
        purpose,
        attempt: Attempt::new(sink, selection),
        batch: sink.syncing.batch(),
        unpacked: Unpacked::default(),
    };
    let result = unpack(object, &mut target);
    let OntoDisk { mut attempt, batch, unpacked, .. } = target;
    // What was handed over is waited for also after an error: it is removed then.
    let synced = batch.wait();
    let proved = result
        .and_then(|()| synced.map_err(Broken::outside))
        .and_then(|()| attempt.keep(is_control).map_err(Broken::outside));
    match proved {
        Ok(()) => Ok(unpacked),
        Err(broken) => Err(match attempt.take_back() {
            Ok(()) => broken,
            Err(error) => Broken::outside(error),
        }),
    }
}

/// One reading of a tar.
struct OntoDisk<'a> {
    sink: &'a Sink,
    selection: &'a Selection,
    purpose: Purpose,
    attempt: Attempt<'a>,
    batch: Batch,
    unpacked: Unpacked,
}

/// Whether a member comes for the first time, and is part of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    First,
    Again,
    NotOurs,
}

impl Target for OntoDisk<'_> {
    fn has_manifest(&self) -> bool {
        self.sink.manifest.is_some()
    }

    fn begin(&mut self, _: &Member) -> Result<()> {
        Ok(())
    }

    fn refused(&mut self, error: Error) -> Result<()> {
        Err(error)
    }

    fn file(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()> {
        self.attempt.take_budget(member.size)?;
        let came = self.came(path);
        if came == Came::NotOurs {
            return Ok(());
        }
        let Some(take) = self.selection.take(path) else {
            if self.selection.is_unlisted(path) {
                self.unpacked.add_unlisted(path);
            }
            return Ok(());
        };
        if path == Path::new(CONTROL_FILE) && self.selection.is_tip() {
            return self.control(path, member, content);
        }
        if came == Came::Again {
            return Err(comes_twice());
        }
        match (self.purpose, take) {
            (Purpose::Look, Take::Whole) => content.read_all(|_| Ok(())).map(drop),
            (Purpose::Look, Take::Pages) => content.check_increment().map(drop),
            (Purpose::Restore, Take::Whole) => match self.sink.assembly.begun(path) {
                Some(begun) => self.rest(path, &begun, member, content),
                None => self.whole(path, member, content),
            },
            (Purpose::Restore, Take::Pages) => self.pages(path, member, content),
        }
    }

    fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        if self.came(path) == Came::NotOurs
            || !self.selection.is_tip()
            || self.purpose == Purpose::Look
        {
            return Ok(());
        }
        let place = self.sink.target.place(path);
        self.sink.target.make_directory(&place)?;
        let mode = (mode & 0o750) | 0o700;
        match fs::set_permissions(&place, fs::Permissions::from_mode(mode)) {
            // Another user's: a mount point that this one may write to all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result
                .map_err(|error| Error::file("set permissions of directory", &place, &error))?,
        }
        self.unpacked.record(path, None);
        Ok(())
    }

    fn link(&mut self, path: &Path, to: &Path) -> Result<()> {
        if self.came(path) == Came::NotOurs {
            return Ok(());
        }
        if self.selection.is_tip() && self.sink.keeps_links {
            self.attempt.keep_link(path.to_owned(), to.to_owned());
        } else {
            self.unpacked.links += 1;
        }
        // It is not on disk, and a resumed restore must see it come again.
        self.unpacked.is_needed_again = true;
        Ok(())
    }

    fn fifo(&mut self, path: &Path) -> Result<()> {
        if self.came(path) != Came::NotOurs {
            self.unpacked.is_needed_again = true;
            self.unpacked.fifo.get_or_insert_with(|| path.to_owned());
        }
        Ok(())
    }
}

impl OntoDisk<'_> {
    /// Notes that a member came.
    fn came(&mut self, path: &Path) -> Came {
        let came_before = self.attempt.came(path);
        // The note of an earlier restore of the cluster: this restore keeps its own.
        if path.to_str().is_some_and(is_note_of_restore) {
            // A resumed restore must see it come again.
            self.unpacked.is_needed_again = true;
            return Came::NotOurs;
        }
        if came_before { Came::Again } else { Came::First }
    }

    /// Keeps the control file, which is written last.
    fn control(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()> {
        // It is not on disk yet.
        self.unpacked.is_needed_again = true;
        let mut bytes = Vec::new();
        let crc32c = content.read_all(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        self.check(path, member.size, Some(crc32c))?;
        self.attempt.keep_control(bytes)
    }

    fn whole(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()> {
        let place = self.sink.target.place(path);
        self.sink.target.make_parent(&place)?;
        let mut file = self.attempt.create(&place)?;
        let crc32c = copy(content, &mut file, &place)?;
        self.check(path, member.size, Some(crc32c))?;
        self.finish_file(path, place, file, member.mode, member.size)
    }

    /// A file of which newer backups have pages.
    fn rest(
        &mut self,
        path: &Path,
        begun: &Begun,
        member: &Member,
        content: &mut Content<'_>,
    ) -> Result<()> {
        let place = self.sink.target.place(path);
        self.sink.target.make_parent(&place)?;
        let mut file = self.attempt.create(&place)?;
        let waiting = self.sink.target.place(&waiting_pages(path));
        let mut whole = WholeFile::new(content, begun, &waiting)?;
        loop {
            let piece = whole.next_piece()?;
            if piece.is_empty() {
                break;
            }
            file.write_all(piece).map_err(|error| Error::file("write file", &place, &error))?;
        }
        self.unpacked.completed.push(path.to_owned());
        self.finish_file(path, place, file, member.mode, begun.file_bytes())
    }

    /// Pages of a file: those that no newer backup has.
    fn pages(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()> {
        // They are not synced, and gone once their file is complete.
        self.unpacked.is_needed_again = true;
        let head = Head::read(content, member.size)?;
        self.check(path, head.file_bytes, None)?;
        if self.sink.assembly.was_complete(path) {
            return Ok(());
        }
        let begun = self.sink.assembly.begun_or_new(path, head.file_bytes);
        let missing = begun.missing(&head.numbers);
        if !missing.is_empty() {
            let place = self.sink.target.place(&waiting_pages(path));
            self.sink.target.make_parent(&place)?;
            let file = self.attempt.open_or_create(&place)?;
            begun.keep_pages(&head, &missing, content, &file, &place)?;
        }
        self.attempt.add_pages(path.to_owned(), head.file_bytes, missing);
        Ok(())
    }

    /// A file is complete.
    fn finish_file(
        &mut self,
        path: &Path,
        place: PathBuf,
        file: File,
        mode: u32,
        size_bytes: u64,
    ) -> Result<()> {
        let mode = file_mode(mode);
        if mode != 0o600 {
            file.set_permissions(fs::Permissions::from_mode(mode))
                .map_err(|error| Error::file("set permissions of file", &place, &error))?;
        }
        self.batch.sync(file, place)?;
        self.unpacked.files += 1;
        self.unpacked.bytes += size_bytes;
        self.unpacked.record(path, Some(size_bytes));
        Ok(())
    }

    /// Whether a file of the backup that is asked for is what was backed up.
    fn check(&self, path: &Path, size_bytes: u64, crc32c: Option<u32>) -> Result<()> {
        match &self.sink.manifest {
            Some(manifest) if self.selection.is_tip() => manifest.check(path, size_bytes, crc32c),
            _ => Ok(()),
        }
    }
}

/// Writes the content into the file at `place`. Returns its CRC-32C.
fn copy(content: &mut Content<'_>, file: &mut File, place: &Path) -> Result<u32> {
    content.read_all(|piece| {
        file.write_all(piece).map_err(|error| Error::file("write file", place, &error))
    })
}

impl Unpacked {
    /// Something is on disk.
    fn record(&mut self, path: &Path, size: Option<u64>) {
        match path.to_str() {
            Some(path) => self.members.push((path.to_owned(), size)),
            None => self.is_needed_again = true,
        }
    }

    /// A file was skipped.
    fn add_unlisted(&mut self, path: &Path) {
        self.unlisted += 1;
        self.first_unlisted.get_or_insert_with(|| path.display().to_string());
    }
}

/// The permissions that PostgreSQL allows: of the owner, and reading for the group.
fn file_mode(mode: u32) -> u32 {
    (mode & 0o750) | 0o600
}

pub(crate) fn comes_twice() -> Error {
    Error::new(ErrorKind::Corrupt, "the same file appears twice")
}

#[cfg(test)]
mod tests;
