//! A base backup out of the store, onto disk.
//!
//! `global/pg_control` comes last, after everything else is on disk: without it
//! a server does not start, so a restore that broke off cannot be taken for one
//! that succeeded.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::chain::{Chain, Level};
use super::deferred::{CONTROL_FILE, Deferred};
use super::journal::{self, DoneTar, Journal, Subject};
use super::manifest;
use super::recovery::{self, RecoveryConfig};
use super::resume::{self, Interrupted};
use super::selection::Selection;
use super::stored::{StoredBackup, Tar};
use super::syncing::SyncPool;
use super::tablespaces::{self, TablespacePlaces};
use super::target::Target;
use super::unpack::{Budget, Sink, Unpacked, unpack};
use crate::codec::named;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::{Level as Loudness, Notices};
use crate::store::ObjectStore;
use crate::tasks::{blocking, joined};
use crate::transfer::{download, download_ranges};

/// Names of work, should it panic.
const PREPARING: &str = "preparing directories";
const UNPACKING: &str = "unpacking a tar";
const SYNCING: &str = "syncing directories";

/// What a broken backup is to be answered with.
const ANOTHER: &str = "Restore another base backup; \"wal-e backup-list\" shows them.";

/// What to restore, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The backup's name, or `LATEST`.
    pub name: String,
    /// The data directory: one that is empty, or not there yet.
    pub directory: PathBuf,
    /// Tar partitions in flight.
    pub concurrency: usize,
    /// Where tablespaces go.
    pub tablespaces: TablespacePlaces,
    /// Recovery settings to write; `None` leaves them to the caller.
    pub recovery: Option<RecoveryConfig>,
    /// Go on with a restore of the same backup that was interrupted. Without one,
    /// the restore begins anew.
    pub resume: bool,
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
    /// Of all tars that the restore needs.
    pub bytes_total: AtomicU64,
    /// Read so far, or on disk since an earlier run.
    pub bytes_fetched: AtomicU64,
    /// Of these, on disk since an earlier run.
    pub bytes_resumed: AtomicU64,
}

/// Restores a base backup, with the backups that it is a delta of.
///
/// # Errors
/// [`ErrorKind::NotFound`] for an unknown backup, [`ErrorKind::Config`] for
/// directories that are not empty, [`ErrorKind::Corrupt`] for objects that are
/// damaged or missing, naming the object. After these everything that was
/// written is removed again. After an error that leaves the backup sound (the
/// store cannot be reached, the disk is full) or a cancel, whole tars stay, for a
/// restore that goes on; a server does not start on them.
pub async fn fetch(
    store: Arc<dyn ObjectStore>,
    request: FetchRequest,
    progress: Arc<FetchProgress>,
    notices: Notices,
    cancel: CancellationToken,
) -> Result<Fetched> {
    let chain = tokio::select! {
        found = Chain::find(&*store, &request.name) => found?,
        () = cancel.cancelled() => return Err(Error::cancelled()),
    };
    progress.bytes_total.store(chain.bytes(), Ordering::Relaxed);
    let name = chain.tip().name.clone();
    let places = request.tablespaces.of(chain.tip().sentinel.spec.as_ref())?;
    let backups = chain.levels().iter().map(|level| level.backup.name.clone()).collect();
    let subject = Subject::new(backups, places.clone());
    if request.resume {
        resume::check(&request.directory, &subject)?;
    }
    let syncing = SyncPool::start()?;
    let target = Target::prepare(&request.directory, places, request.resume)?;
    let shown = target.data_directory().display().to_string();
    notices.log(format!("restoring base backup \"{name}\" into \"{shown}\""));

    let sink = Arc::new(Sink {
        target,
        deferred: Deferred::default(),
        budget: Budget::new(chain.uncompressed_bytes(), chain.bytes()),
        syncing,
        keeps_links: chain.tip().sentinel.is_wal_e,
    });
    let (preparing, asked) = (Arc::clone(&sink), subject);
    let prepared = blocking(PREPARING, move || {
        let target = &preparing.target;
        let interrupted = match target.is_resumed() {
            true => resume::take_up(target, &chain, &asked)?,
            false => Interrupted::Unfinished(Vec::new()),
        };
        let done = match interrupted {
            Interrupted::Unfinished(done) => done,
            Interrupted::Finished(done) => {
                target.remove_marks()?;
                Journal::begin(target.data_directory(), &asked, &[])?.remove()?;
                target.sync_directories()?;
                return Ok((chain, done, None));
            }
        };
        let journal = Journal::begin(target.data_directory(), &asked, &done)?;
        Ok((chain, done, Some(journal)))
    });
    let (chain, done, journal) = match prepared.await {
        // What was interrupted is not for this run to remove.
        Err(error) if sink.target.is_resumed() => return Err(error),
        Err(error) => return Err(give_up(&sink.target, &notices, error)),
        Ok(prepared) => prepared,
    };
    let Some(journal) = journal else {
        let all = on_disk(&done);
        return Ok(Fetched { name, bytes_written: all.bytes, files: all.files });
    };
    let restore = Restore {
        store,
        sink: Arc::clone(&sink),
        journal: Arc::new(journal),
        has_done: Arc::new(AtomicBool::new(!done.is_empty())),
        concurrency: request.concurrency.max(1),
        progress,
        notices: notices.clone(),
        cancel: cancel.child_token(),
    };
    match restore.run(chain, done, &request).await {
        Ok(all) => Ok(Fetched { name, bytes_written: all.bytes, files: all.files }),
        Err(error) if leaves_the_backup_sound(&error) && restore.has_done() => {
            notices.send(
                Loudness::Warning,
                format!("what is restored so far stays in \"{shown}\""),
                Some(format!(
                    "To fetch only what is missing, repeat the command for \"{name}\" with \
                     --resume. To give up, remove what is in the directory and in its tablespaces."
                )),
            );
            Err(error)
        }
        Err(error) => Err(give_up(&sink.target, &notices, error)),
    }
}

/// Removes what was restored, because of `error`.
fn give_up(target: &Target, notices: &Notices, error: Error) -> Error {
    if let Err(left) = target.remove() {
        notices.warning(format!("a broken restore was not removed: {left}"));
    }
    error
}

/// Whether the same restore may succeed later.
fn leaves_the_backup_sound(error: &Error) -> bool {
    error.is_transient()
        || matches!(
            error.kind(),
            ErrorKind::Cancelled
                | ErrorKind::Denied
                | ErrorKind::Conflict
                | ErrorKind::Io
                | ErrorKind::DiskFull
        )
}

/// Files and bytes of tars that are on disk since an earlier run.
fn on_disk(done: &[DoneTar]) -> Unpacked {
    let sizes = || done.iter().flat_map(|tar| &tar.members).filter_map(|(_, size)| *size);
    Unpacked { files: sizes().count() as u64, bytes: sizes().sum(), ..Unpacked::default() }
}

/// A restore that has begun to write.
#[derive(Clone)]
struct Restore {
    store: Arc<dyn ObjectStore>,
    sink: Arc<Sink>,
    journal: Arc<Journal>,
    /// Whether a tar is on disk.
    has_done: Arc<AtomicBool>,
    concurrency: usize,
    progress: Arc<FetchProgress>,
    notices: Notices,
    cancel: CancellationToken,
}

impl Restore {
    fn has_done(&self) -> bool {
        self.has_done.load(Ordering::Relaxed)
    }

    async fn run(
        &self,
        chain: Chain,
        done: Vec<DoneTar>,
        request: &FetchRequest,
    ) -> Result<Unpacked> {
        let mut all = on_disk(&done);
        let mut levels = chain.into_levels();
        let Some(tip) = levels.pop() else {
            return Err(Error::new(ErrorKind::Bug, "a chain of no base backups"));
        };
        // What is small and tells most comes first.
        let tip = Arc::new(tip);
        for tar in tip.backup.own_tars() {
            add(&mut all, &self.fetch_tar(&tip, tar).await?);
        }
        self.rewrite_tablespace_map(request)?;
        for level in levels.into_iter().map(Arc::new).chain([Arc::clone(&tip)]) {
            add(&mut all, &self.fetch_level(&level, &done).await?);
        }
        self.complain_of_leftovers(&tip.selection);
        // A server without it would take pg_control's checkpoint for the place
        // where replay begins, and open a database that is not consistent.
        if !self.sink.target.data_directory().join("backup_label").exists() {
            return Err(self.lacks(&tip.backup, "backup_label"));
        }
        if !self.sink.deferred.has_control() {
            return Err(self.lacks(&tip.backup, CONTROL_FILE));
        }
        let data_directory = self.sink.target.data_directory();
        manifest::place(&*self.store, &tip.backup.name, data_directory, &self.notices).await?;
        let (this, request) = (self.clone(), request.clone());
        let control = blocking(SYNCING, move || this.finish(&request)).await?;
        add(&mut all, &Unpacked { files: 1, bytes: control, ..Unpacked::default() });
        Ok(all)
    }

    /// All files are on disk; what remains to do makes a cluster of them.
    fn finish(&self, request: &FetchRequest) -> Result<u64> {
        let target = &self.sink.target;
        let data_directory = target.data_directory();
        self.rewrite_tablespace_map(request)?;
        recovery::leave_out_old_settings(data_directory)?;
        if let Some(recovery) = &request.recovery {
            recovery.write(data_directory)?;
        }
        if request.tablespaces == TablespacePlaces::InPlace
            && !tablespaces::in_place(data_directory)?.is_empty()
        {
            tablespaces::allow_in_place(data_directory)?;
        }
        self.sink.deferred.make_links(target, &self.notices)?;
        target.restrict()?;
        target.sync_directories()?;
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let bytes = self.sink.deferred.write_control(target)?;
        target.remove_marks()?;
        self.journal.remove()?;
        target.sync_directories()?;
        Ok(bytes)
    }

    fn rewrite_tablespace_map(&self, request: &FetchRequest) -> Result<()> {
        let target = &self.sink.target;
        let in_place = request.tablespaces == TablespacePlaces::InPlace;
        tablespaces::rewrite_map(target.data_directory(), target.tablespaces(), in_place)
    }

    /// The partitions of one backup, several at once.
    async fn fetch_level(&self, level: &Arc<Level>, done: &[DoneTar]) -> Result<Unpacked> {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let mut tasks = JoinSet::new();
        for tar in level.tars() {
            let is_noted = |noted: &&DoneTar| {
                noted.backup == level.backup.name && noted.tar == tar.file_name()
            };
            if let Some(noted) = done.iter().find(is_noted) {
                for (path, _) in &noted.members {
                    level.selection.came(path);
                }
                self.progress.bytes_fetched.fetch_add(tar.object.size_bytes, Ordering::Relaxed);
                self.progress.bytes_resumed.fetch_add(tar.object.size_bytes, Ordering::Relaxed);
                continue;
            }
            let (slots, restore) = (Arc::clone(&slots), self.clone());
            let (level, tar) = (Arc::clone(level), tar.clone());
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await.expect("the semaphore is never closed");
                restore.fetch_partition(&level, &tar).await
            });
        }
        let mut all = Unpacked::default();
        let mut failure = None;
        // All are awaited, so that nothing is written once the caller cleans up.
        while let Some(result) = tasks.join_next().await {
            match joined(UNPACKING, result) {
                Ok(unpacked) => add(&mut all, &unpacked),
                Err(error) => {
                    self.cancel.cancel();
                    failure.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        match level.selection.missing() {
            None => Ok(all),
            Some(file) => Err(self.lacks(&level.backup, file)),
        }
    }

    async fn fetch_partition(&self, level: &Arc<Level>, tar: &Tar) -> Result<Unpacked> {
        let mut unpacked = self.fetch_tar(level, tar).await?;
        if let Some(members) = unpacked.members.take() {
            let note = DoneTar {
                backup: level.backup.name.clone(),
                tar: tar.file_name().to_owned(),
                version: journal::version(tar),
                members,
            };
            let journal = Arc::clone(&self.journal);
            blocking(SYNCING, move || journal.add(&note)).await?;
            self.has_done.store(true, Ordering::Relaxed);
        }
        Ok(unpacked)
    }

    /// The bytes of a tar.
    async fn open(&self, tar: &Tar) -> Result<Box<dyn Read + Send>> {
        let key = &tar.object.key;
        Ok(match self.store.gains_by_ranges() {
            true => Box::new(download_ranges(Arc::clone(&self.store), key).await?),
            false => Box::new(download(self.store.get(key, 0, None).await?)),
        })
    }

    async fn fetch_tar(&self, level: &Arc<Level>, tar: &Tar) -> Result<Unpacked> {
        let url = self.store.url(tar.object.key.as_str());
        let opened = tokio::select! {
            opened = self.open(tar) => opened?,
            () = self.cancel.cancelled() => return Err(Error::cancelled()),
        };
        let reader = Counted {
            inner: opened,
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        };
        let is_control = level.backup.control.as_ref().is_some_and(|own| own.object == tar.object);
        let (sink, level, encoding) = (Arc::clone(&self.sink), Arc::clone(level), tar.encoding);
        let name = url.clone();
        let unpacked = blocking(UNPACKING, move || {
            unpack(reader, encoding, &sink, &level.selection, is_control).map_err(|error| {
                match error.kind() {
                    ErrorKind::Corrupt => Error::new(
                        ErrorKind::Corrupt,
                        format!("object \"{name}\" is damaged: {}", error.message()),
                    )
                    .with_hint(error.hint().unwrap_or(ANOTHER)),
                    _ => named(&name, error),
                }
            })
        })
        .await?;
        if unpacked.links > 0 {
            self.notices.warning(format!(
                "{} symbolic links in object \"{url}\" are left out: WAL-G does not store where they lead",
                unpacked.links
            ));
        }
        Ok(unpacked)
    }

    fn lacks(&self, backup: &StoredBackup, file: &str) -> Error {
        let name = &backup.name;
        let url = self.store.url(&layout::tar_partitions(name));
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "base backup \"{name}\" is incomplete: no tar in \"{url}\" has its file \"{file}\""
            ),
        )
        .with_hint(ANOTHER)
    }

    fn complain_of_leftovers(&self, selection: &Selection) {
        if let Some((number, name)) = selection.leftovers() {
            self.notices.warning(format!(
                "{number} files of the tars are left out, as the backup does not list them: the first is \"{name}\""
            ));
        }
    }
}

fn add(all: &mut Unpacked, more: &Unpacked) {
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
