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

use super::manifest;
use super::recovery::{self, RecoveryConfig};
use super::stored::{StoredBackup, Tar};
use super::target::Target;
use super::unpack::{Unpacked, unpack};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::tablespace_map;
use crate::store::ObjectStore;
use crate::tasks::{blocking, joined};
use crate::transfer::download;

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
        found = StoredBackup::find(&*store, &request.name) => found?,
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
    match fetch.run(&backup, &request, &notices).await {
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

/// A fetch that has begun to write.
struct Fetch {
    store: Arc<dyn ObjectStore>,
    target: Arc<Target>,
    progress: Arc<FetchProgress>,
    cancel: CancellationToken,
}

impl Fetch {
    async fn run(
        &self,
        backup: &StoredBackup,
        request: &FetchRequest,
        notices: &Notices,
    ) -> Result<Unpacked> {
        let mut all = self.fetch_partitions(backup, request.concurrency).await?;
        if let Some(label) = &backup.label {
            add(&mut all, self.fetch_tar(label, backup.expected(label)).await?);
        }
        // A server without it would take pg_control's checkpoint for the place
        // where replay begins, and open a database that is not consistent.
        self.require("backup_label", &backup.name)?;
        self.rewrite_tablespace_map()?;
        let data_directory = self.target.data_directory();
        manifest::place(&*self.store, &backup.name, data_directory, notices).await?;
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

    async fn fetch_partitions(
        &self,
        backup: &StoredBackup,
        concurrency: usize,
    ) -> Result<Unpacked> {
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
