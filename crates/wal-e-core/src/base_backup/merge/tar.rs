//! One tar of the chain, into one of the new backup.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::Merge;
use super::spool::Spool;
use crate::archived::{ArchivedObject, Pieces};
use crate::base_backup::Progress;
use crate::base_backup::draft::{StoredTar, TarStore};
use crate::base_backup::tar_stream::{StoredFile, TarStream};
use crate::base_backup::walk::Entry;
use crate::catalogue::stored_backup::Tar;
use crate::codec::Encoding;
use crate::error::{Error, ErrorKind, Result};
use crate::increment::Head;
use crate::layout;
use crate::postgres::ManifestFile;
use crate::postgres::data_directory::is_note_of_restore;
use crate::restore::DamagedObject;
use crate::restore::assembly::{Assembly, Begun, WholeFile};
use crate::restore::chain::Level;
use crate::restore::manifest::Manifest;
use crate::restore::selection::{Take, listed_path};
use crate::restore::tar_reader::Member;
use crate::restore::unpack::{Broken, Budget, Content, Target, comes_twice, unpack};
use crate::sentinel::{CorruptBlocks, FileMetadata, FilesMetadata, parse_time};
use crate::store::ObjectStore;
use crate::tasks::blocking;

/// A file of the delta, as its list has it.
#[derive(Debug)]
pub(super) struct Listed {
    /// In the tars.
    name: String,
    mtime: String,
    modified: OffsetDateTime,
    /// Where it has some, no backup that builds on it stores the file by pages.
    corrupt_blocks: Option<CorruptBlocks>,
}

/// The files of the delta, by path below the data directory.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for names that lead out of the data directory.
pub(super) fn listed(list: &FilesMetadata) -> Result<HashMap<String, Listed>> {
    let files = list.files.iter().map(|(name, file)| {
        let modified = parse_time(&file.mtime).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (name, mtime) = (name.clone(), file.mtime.clone());
        let corrupt_blocks = file.corrupt_blocks.clone();
        let path = listed_path(&name)?;
        Ok((path, Listed { name, mtime, modified, corrupt_blocks }))
    });
    files.collect()
}

/// What all tars have in common.
#[derive(Debug)]
pub(super) struct Parts {
    listed: HashMap<String, Listed>,
    /// Of the delta.
    manifest: Manifest,
    /// The files that wait.
    assembly: Assembly,
    spool: Spool,
    budget: Budget,
}

impl Parts {
    /// Of a chain whose files have so many bytes, as it says itself.
    pub(super) fn new(
        listed: HashMap<String, Listed>,
        manifest: Manifest,
        file_bytes: Option<u64>,
        spool: Spool,
    ) -> Self {
        let budget = Budget::new(file_bytes);
        Parts { listed, manifest, assembly: Assembly::default(), spool, budget }
    }
}

/// Where the whole files of a tar go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// There are none.
    None,
    /// The tar partition of this number.
    Partition(u32),
    /// The tar of the control file.
    Control,
    /// The tar of label and tablespace map.
    Label,
}

impl Output {
    fn file_name(self, encoding: Encoding) -> Option<String> {
        match self {
            Output::None => None,
            Output::Partition(number) => Some(layout::partition_file_name(number, encoding)),
            Output::Control => Some(layout::pg_control_file_name(encoding)),
            Output::Label => Some(layout::backup_label_file_name(encoding)),
        }
    }
}

/// One tar, to be read.
pub(super) struct Job {
    store: Arc<dyn ObjectStore>,
    tars: TarStore,
    parts: Arc<Parts>,
    level: Arc<Level>,
    tar: Tar,
    output: Output,
    progress: Arc<Progress>,
    cancel: CancellationToken,
}

impl Merge {
    pub(super) fn job(
        &self,
        level: &Arc<Level>,
        tar: Tar,
        output: Output,
        cancel: &CancellationToken,
    ) -> Job {
        Job {
            store: Arc::clone(&self.draft.store),
            tars: self.draft.tar_store(),
            parts: Arc::clone(&self.parts),
            level: Arc::clone(level),
            tar,
            output,
            progress: Arc::clone(&self.draft.progress),
            cancel: cancel.clone(),
        }
    }
}

impl Job {
    /// Reads the tar. Returns that of the new backup, if it has one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is damaged, named with its object; those of the store and
    /// of the temporary directory.
    pub(super) async fn run(self) -> Result<Option<StoredTar>> {
        let Job { store, tars, parts, level, tar, output, progress, cancel } = self;
        let (key, size_bytes) = (&tar.object.key, tar.object.size_bytes);
        let url = store.url(key.as_str());
        let object = ArchivedObject::open_large(&store, key, tar.encoding, &cancel).await;
        let object = object.map_err(|error| gone(&url, error))?.counted(move |bytes| {
            progress.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        });
        let Some(file_name) = output.file_name(tars.encoding()) else {
            let read = move || read_tar(object, &url, &parts, &level, None).map(drop);
            return blocking("merging a tar", read).await.map(|()| None);
        };
        let fill = move |tar: &mut TarStream<&mut Pieces>| {
            read_tar(object, &url, &parts, &level, Some(tar))
        };
        tars.push(file_name, size_bytes, cancel, fill).await.map(Some)
    }
}

/// It was there when the objects of the backup were listed.
fn gone(url: &str, error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            let message = format!("object \"{url}\" is not there any more");
            Error::new(ErrorKind::Corrupt, message)
                .with_hint("Find out what deletes objects below the prefix.")
        }
        _ => error,
    }
}

fn read_tar(
    object: ArchivedObject,
    url: &str,
    parts: &Parts,
    level: &Level,
    output: Option<&mut TarStream<&mut Pieces>>,
) -> Result<Vec<(String, StoredFile)>> {
    let mut merging = Merging { parts, level, output, files: Vec::new() };
    match unpack(object, &mut merging) {
        Ok(()) => Ok(merging.files),
        Err(Broken { member, error }) if error.is_damage() => {
            let damaged = DamagedObject::new(url.to_owned(), member, &error);
            Err(Error::new(error.kind(), damaged.line()).with_hint(
                "Replace it with a sound object from another copy of the archive, or take a full base backup.",
            ))
        }
        Err(broken) => Err(gone(url, broken.error)),
    }
}

/// One reading of a tar.
struct Merging<'a, 't, 'p> {
    parts: &'a Parts,
    level: &'a Level,
    output: Option<&'t mut TarStream<&'p mut Pieces>>,
    /// What went into the new tar.
    files: Vec<(String, StoredFile)>,
}

impl Target for Merging<'_, '_, '_> {
    /// Whatever made the tar: nothing else goes into the new one.
    fn has_manifest(&self) -> bool {
        self.level.selection.is_tip()
    }

    fn begin(&mut self, _: &Member) -> Result<()> {
        Ok(())
    }

    fn refused(&mut self, error: Error) -> Result<()> {
        Err(error)
    }

    fn file(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()> {
        self.parts.budget.take(member.size)?;
        let is_note = path.to_str().is_some_and(is_note_of_restore);
        let text = path.to_string_lossy();
        let came_before = self.level.selection.came(&text);
        let (Some(take), Some(listed)) =
            (self.level.selection.take(path), self.parts.listed.get(text.as_ref()))
        else {
            return Ok(());
        };
        match take {
            _ if is_note => Ok(()),
            _ if came_before => Err(comes_twice()),
            Take::Whole => self.whole(path, listed, member, content),
            Take::Pages => self.pages(path, member, content),
        }
    }

    fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        let (Some(output), true) = (&mut self.output, self.level.selection.is_tip()) else {
            return Ok(());
        };
        let Some(path) = path.to_str() else { return Ok(()) };
        output.directory(&Entry { path: path.to_owned(), size_bytes: 0, mode })
    }

    fn link(&mut self, _: &Path, _: &Path) -> Result<()> {
        Ok(())
    }

    fn fifo(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }
}

impl Merging<'_, '_, '_> {
    /// A whole file, with the pages that newer backups have of it.
    fn whole(
        &mut self,
        path: &Path,
        listed: &Listed,
        member: &Member,
        content: &mut Content<'_>,
    ) -> Result<()> {
        let Some(output) = &mut self.output else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "it has a whole file that the list of files of its base backup places in another tar",
            ));
        };
        let begun = self.parts.assembly.begun(path);
        let size_bytes = begun.as_ref().map_or(member.size, Begun::file_bytes);
        let source: Box<dyn Read> = match &begun {
            None => Box::new(Decoded(content)),
            Some(begun) => Box::new(WholeFile::new(content, begun, &self.parts.spool.place(path))?),
        };
        let mut source = Summed { source, crc32c: 0 };
        let (mode, mtime) = (member.mode & 0o777, listed.modified.unix_timestamp());
        output.file_of(&listed.name, mode, mtime, size_bytes, &mut source)?;
        let crc32c = Some(source.crc32c);
        self.parts.manifest.check(path, size_bytes, crc32c)?;
        if begun.is_some() {
            self.parts.assembly.forget(path);
            self.parts.spool.remove(path)?;
        }
        let metadata = FileMetadata {
            mtime: listed.mtime.clone(),
            corrupt_blocks: listed.corrupt_blocks.clone(),
            ..FileMetadata::default()
        };
        let path = path.to_string_lossy().into_owned().into_bytes();
        let manifest = ManifestFile { path, size_bytes, modified: listed.modified, crc32c };
        let stored = StoredFile { metadata, manifest, member_bytes: size_bytes };
        self.files.push((listed.name.clone(), stored));
        Ok(())
    }

    /// Pages of a file: those that no newer backup has.
    fn pages(&mut self, path: &Path, member: &Member, content: &mut Content<'_>) -> Result<()> {
        let head = Head::read(content, member.size)?;
        if self.level.selection.is_tip() {
            self.parts.manifest.check(path, head.file_bytes, None)?;
        }
        let begun = self.parts.assembly.begun_or_new(path, head.file_bytes);
        let missing = begun.missing(&head.numbers);
        if !missing.is_empty() {
            let (file, place) =
                (self.parts.spool.open_or_create(path)?, self.parts.spool.place(path));
            begun.keep_pages(&head, &missing, content, &file, &place)?;
        }
        self.parts.assembly.settle(path.to_owned(), head.file_bytes, missing);
        Ok(())
    }
}

/// What a decoder says against its input is damage of the object.
struct Decoded<R>(R);

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => Error::from_tar(error).into(),
        })
    }
}

/// What is read, and its CRC-32C.
struct Summed<R> {
    source: R,
    crc32c: u32,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &buffer[..length]);
        Ok(length)
    }
}
