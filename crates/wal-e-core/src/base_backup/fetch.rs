//! A base backup out of the store, onto disk.
//!
//! `global/pg_control` comes last, after everything else is on disk: without it
//! a server does not start, so a restore that broke off cannot be taken for one
//! that succeeded.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::list::{read_sentinel, resolve};
use super::recovery::{self, RecoveryConfig};
use super::target::Target;
use super::unpack::{Unpacked, unpack};
use crate::codec::Encoding;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey, TarKind};
use crate::notice::Notices;
use crate::postgres::tablespace_map;
use crate::sentinel::{self, FilesMetadata};
use crate::store::{ListRequest, ObjectInfo, ObjectStore, list_all};
use crate::tasks::{blocking, joined};
use crate::transfer::download;

/// The largest list of files that is read: some hundred bytes a file.
const LARGEST_FILES_METADATA_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Names of work, should it panic.
const UNPACKING: &str = "unpacking a tar";
const SYNCING: &str = "syncing directories";

/// What to restore, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The backup's name, or `LATEST`.
    pub name: String,
    /// The data directory: one that is empty, or not there yet.
    pub directory: PathBuf,
    /// Tar partitions in flight.
    pub concurrency: usize,
    /// Where tablespaces go that should not go where they were: old place, new place.
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Recovery settings to write; `None` leaves them to the caller.
    pub recovery: Option<RecoveryConfig>,
}

/// A backup that is on disk, whole and synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its name.
    pub name: String,
    /// Bytes of the files written.
    pub bytes_written: u64,
    /// Files written.
    pub files: u64,
}

/// Counters of a running fetch, in stored bytes.
#[derive(Debug, Default)]
pub struct FetchProgress {
    /// Of all tars of the backup.
    pub bytes_total: AtomicU64,
    /// Read so far.
    pub bytes_fetched: AtomicU64,
}

/// Restores a base backup.
///
/// # Errors
/// [`ErrorKind::NotFound`] for an unknown backup, [`ErrorKind::Config`] for
/// directories that are not empty, [`ErrorKind::Corrupt`] for objects that are
/// damaged or missing, naming the object. After an error or a cancel everything
/// that was written is removed again.
pub async fn fetch(
    store: Arc<dyn ObjectStore>,
    request: FetchRequest,
    progress: Arc<FetchProgress>,
    notices: Notices,
    cancel: CancellationToken,
) -> Result<Fetched> {
    let backup = tokio::select! {
        found = Backup::find(&*store, &request.name) => found?,
        () = cancel.cancelled() => return Err(Error::cancelled()),
    };
    progress.bytes_total.store(backup.bytes(), Ordering::Relaxed);
    let target = Arc::new(Target::prepare(
        &request.directory,
        backup.sentinel.spec.as_ref(),
        &request.tablespace_mapping,
    )?);
    notices.log(format!(
        "restoring base backup \"{}\" into \"{}\"",
        backup.name,
        target.data_directory().display()
    ));
    let fetch =
        Fetch { store, target: Arc::clone(&target), progress, cancel: cancel.child_token() };
    match fetch.run(&backup, &request).await {
        Ok(unpacked) => {
            Ok(Fetched { name: backup.name, bytes_written: unpacked.bytes, files: unpacked.files })
        }
        Err(error) => {
            if let Err(left) = target.remove() {
                notices.warning(format!("a broken restore was not removed: {left}"));
            }
            Err(error)
        }
    }
}

/// What the store says of a backup.
struct Backup {
    name: String,
    sentinel: sentinel::Sentinel,
    files: FilesMetadata,
    partitions: Vec<Tar>,
    label: Option<Tar>,
    control: Tar,
}

/// One tar of a backup, encoded as its own name says.
#[derive(Clone)]
struct Tar {
    object: ObjectInfo,
    encoding: Encoding,
}

impl Backup {
    async fn find(store: &dyn ObjectStore, name: &str) -> Result<Self> {
        let name = resolve(store, name).await?;
        let sentinel = read_sentinel(store, &name).await?;
        if let Some(parent) = &sentinel.delta_from {
            return Err(Error::new(
                ErrorKind::Config,
                format!("base backup \"{name}\" is a delta of \"{parent}\""),
            )
            .with_detail("Delta backups cannot be restored by this version.")
            .with_hint("Restore a full backup, or use WAL-G for this one."));
        }
        let files = read_files_metadata(store, &name, &sentinel).await?;
        let request =
            ListRequest { prefix: layout::tar_partitions(&name), ..ListRequest::default() };
        let objects = list_all(store, &request).await?;
        for tar in files.tar_file_sets.keys() {
            let key = layout::tar_partition(&name, tar);
            if !objects.iter().any(|object| object.key == key) {
                return Err(missing(store, &name, &key));
            }
        }
        let (mut partitions, mut label, mut control) = (Vec::new(), None, None);
        for object in objects {
            let (kind, encoding) = tar_of(store, &object.key)?;
            let tar = Tar { object, encoding };
            match kind {
                TarKind::Partition => partitions.push(tar),
                TarKind::PgControl => put_once(&mut control, tar, store)?,
                TarKind::BackupLabel => put_once(&mut label, tar, store)?,
            }
        }
        let control = control.ok_or_else(|| {
            let encoding = partitions.first().map_or(Encoding::default(), |tar| tar.encoding);
            let key = layout::tar_partition(&name, &layout::pg_control_file_name(encoding));
            missing(store, &name, &key)
        })?;
        Ok(Backup { name, sentinel, files, partitions, label, control })
    }

    fn bytes(&self) -> u64 {
        let own = self.label.iter().chain(std::iter::once(&self.control));
        self.partitions.iter().chain(own).map(|tar| tar.object.size_bytes).sum()
    }

    /// The names of the files that a tar must hold.
    fn expected(&self, tar: &Tar) -> Option<Vec<String>> {
        let file_name = tar.object.key.as_str().rsplit('/').next()?;
        self.files.tar_file_sets.get(file_name).cloned()
    }
}

/// What a tar holds, and its encoding.
fn tar_of(store: &dyn ObjectStore, key: &ObjectKey) -> Result<(TarKind, Encoding)> {
    let url = store.url(key.as_str());
    let Some((kind, encoding)) = layout::tar_of(key) else {
        return Err(Error::new(
            ErrorKind::Config,
            format!("object \"{url}\" is among the tars of a base backup and is none"),
        )
        .with_hint("Move it elsewhere: only tars belong there."));
    };
    Ok((kind, encoding.readable(&url)?))
}

/// Of `pg_control` and the label there is one tar: of two, either may be stale.
fn put_once(place: &mut Option<Tar>, tar: Tar, store: &dyn ObjectStore) -> Result<()> {
    match place {
        None => {
            *place = Some(tar);
            Ok(())
        }
        Some(other) => Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "objects \"{}\" and \"{}\" are the same tar of a base backup in two encodings",
                store.url(other.object.key.as_str()),
                store.url(tar.object.key.as_str()),
            ),
        )
        .with_hint("Restore another base backup; \"wal-e backup-list\" shows them.")),
    }
}

fn missing(store: &dyn ObjectStore, backup: &str, key: &ObjectKey) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "base backup \"{backup}\" is incomplete: there is no object \"{}\"",
            store.url(key.as_str())
        ),
    )
    .with_hint("Restore another base backup; \"wal-e backup-list\" shows them.")
}

/// Empty when the backup was made without one: then all that is stored is taken.
async fn read_files_metadata(
    store: &dyn ObjectStore,
    backup: &str,
    sentinel: &sentinel::Sentinel,
) -> Result<FilesMetadata> {
    let optional =
        sentinel.files_metadata_disabled || sentinel.version.is_none_or(|version| version < 2);
    let key = layout::files_metadata(backup);
    let object = match store.get(&key, 0, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound && optional => {
            return Ok(FilesMetadata::default());
        }
        // Without it, nobody would notice files that are missing.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(missing(store, backup, &key));
        }
        result => result?,
    };
    let json = object.into_bytes(LARGEST_FILES_METADATA_BYTES).await?;
    sentinel::parse(&store.url(key.as_str()), &json)
}

/// A fetch that has begun to write.
struct Fetch {
    store: Arc<dyn ObjectStore>,
    target: Arc<Target>,
    progress: Arc<FetchProgress>,
    cancel: CancellationToken,
}

impl Fetch {
    async fn run(&self, backup: &Backup, request: &FetchRequest) -> Result<Unpacked> {
        let mut all = self.fetch_partitions(backup, request.concurrency).await?;
        if let Some(label) = &backup.label {
            add(&mut all, self.fetch_tar(label, backup.expected(label)).await?);
        }
        // A server without it would take pg_control's checkpoint for the place
        // where replay begins, and open a database that is not consistent.
        self.require("backup_label", &backup.name)?;
        self.rewrite_tablespace_map()?;
        recovery::leave_out_old_settings(self.target.data_directory())?;
        if let Some(recovery) = &request.recovery {
            recovery.write(self.target.data_directory())?;
        }
        let target = Arc::clone(&self.target);
        blocking(SYNCING, move || target.sync_directories()).await?;
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        add(&mut all, self.fetch_tar(&backup.control, backup.expected(&backup.control)).await?);
        self.require("global/pg_control", &backup.name)?;
        let target = Arc::clone(&self.target);
        blocking(SYNCING, move || target.sync_directories()).await?;
        Ok(all)
    }

    async fn fetch_partitions(&self, backup: &Backup, concurrency: usize) -> Result<Unpacked> {
        let slots = Arc::new(Semaphore::new(concurrency.max(1)));
        let mut tasks = JoinSet::new();
        for tar in backup.partitions.clone() {
            let expected = backup.expected(&tar);
            let slots = Arc::clone(&slots);
            let fetch = self.share();
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await.expect("the semaphore is never closed");
                fetch.fetch_tar(&tar, expected).await
            });
        }
        let mut all = Unpacked::default();
        let mut failure = None;
        // All are awaited, so that nothing is written once the caller cleans up.
        while let Some(result) = tasks.join_next().await {
            match joined(UNPACKING, result) {
                Ok(unpacked) => add(&mut all, unpacked),
                Err(error) => {
                    self.cancel.cancel();
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(all), Err)
    }

    async fn fetch_tar(&self, tar: &Tar, expected: Option<Vec<String>>) -> Result<Unpacked> {
        let (object, encoding) = (&tar.object, tar.encoding);
        let url = self.store.url(object.key.as_str());
        let opened = tokio::select! {
            opened = self.store.get(&object.key, 0, None) => opened?,
            () = self.cancel.cancelled() => return Err(Error::cancelled()),
        };
        let reader = Counted {
            inner: download(opened),
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        };
        let target = Arc::clone(&self.target);
        blocking(UNPACKING, move || {
            unpack(reader, encoding, &target, expected.as_deref()).map_err(|error| {
                match error.kind() {
                    ErrorKind::Corrupt => Error::new(
                        ErrorKind::Corrupt,
                        format!("object \"{url}\" is damaged: {}", error.message()),
                    )
                    .with_hint("Restore another base backup; \"wal-e backup-list\" shows them."),
                    _ => error,
                }
            })
        })
        .await
    }

    fn require(&self, file: &str, backup: &str) -> Result<()> {
        if self.target.data_directory().join(file).exists() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!("base backup \"{backup}\" is incomplete: it has no file \"{file}\""),
        )
        .with_hint("Restore another base backup; \"wal-e backup-list\" shows them."))
    }

    /// The server makes the links of the tablespaces from this file when it
    /// starts: they must lead where the tablespaces are now.
    fn rewrite_tablespace_map(&self) -> Result<()> {
        let path = self.target.data_directory().join("tablespace_map");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(|error| Error::file("read file", &path, &error))?,
        };
        let mut tablespaces = tablespace_map::parse(&text)?;
        for tablespace in &mut tablespaces {
            if let Some(place) = self.target.tablespaces().get(&tablespace.oid) {
                tablespace.location = utf8(place)?.to_owned();
            }
        }
        fs::write(&path, tablespace_map::format(&tablespaces))
            .and_then(|()| fs::File::open(&path)?.sync_all())
            .map_err(|error| Error::file("write file", &path, &error))
    }

    fn share(&self) -> Fetch {
        Fetch {
            store: Arc::clone(&self.store),
            target: Arc::clone(&self.target),
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        }
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("path \"{}\" is not valid UTF-8", path.display()))
    })
}

fn add(all: &mut Unpacked, more: Unpacked) {
    all.files += more.files;
    all.bytes += more.bytes;
}

/// Counts what is read, and ends when the fetch is cancelled.
struct Counted<R> {
    inner: R,
    progress: Arc<FetchProgress>,
    cancel: CancellationToken,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled().into());
        }
        let length = self.inner.read(buffer)?;
        self.progress.bytes_fetched.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}
