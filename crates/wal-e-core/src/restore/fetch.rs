//! A base backup out of the store, onto disk.
//!
//! `global/pg_control` comes last, after everything else is on disk: without it
//! a server does not start, so an incomplete restore cannot be mistaken for a complete
//! one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::assembly::Assembly;
use super::chain::Chain;
use super::deferred::Deferred;
use super::destination::Destination;
use super::free_space;
use super::journal::{Journal, Subject};
use super::manifest::Manifest;
use super::resume::{self, Interrupted};
use super::settings::{ArchiveMode, RecoveryConfig};
use super::syncing::SyncPool;
use super::tablespaces::{CreatedTablespace, TablespacePlaces};
use super::unpack::{Budget, Sink};
use crate::catalogue::cold;
use crate::catalogue::stored_backup::StoredBackup;
use crate::catalogue::tar_set;
use crate::config::Word;
use crate::error::{Error, Result};
use crate::notice::{Level, Notices};
use crate::postgres::data_directory::UNFINISHED_RESTORE;
use crate::store::ObjectStore;
use crate::tasks::{Work, blocking, or_cancelled};
use crate::wal::UnusablePlace;

mod damage;
mod restore;
mod tar;

pub use damage::{Damage, DamagedObject};
use restore::{Restore, on_disk};

/// What to restore, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The backup's name, or `LATEST`.
    pub name: String,
    /// The data directory: empty, or not existing yet.
    pub directory: PathBuf,
    /// Tar partitions in flight.
    pub concurrency: usize,
    /// Where tablespaces go.
    pub tablespaces: TablespacePlaces,
    /// Tablespaces that are not in the backup, and that recovery will create.
    pub created: Vec<CreatedTablespace>,
    /// What happens to one of these that should go to its old place, and cannot.
    pub unusable: UnusablePlace,
    /// Where `pg_wal` leads; `None` keeps it in the data directory.
    pub wal_directory: Option<PathBuf>,
    /// Recovery settings to write; `None` leaves them to the caller.
    pub recovery: Option<RecoveryConfig>,
    /// Whether the restored cluster archives.
    pub archive_mode: ArchiveMode,
    /// Begin even where the file systems have too little space, for those that compress.
    pub ignores_free_space: bool,
    /// Resume an interrupted restore of the same backup. If there is none, the restore
    /// begins from scratch.
    pub resume: bool,
}

/// A backup that is completely on disk and synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its name.
    pub name: String,
    /// Bytes of the files written.
    pub bytes_written: u64,
    /// Files written.
    pub files: u64,
}

/// Progress of a running fetch, in stored bytes, and what it could not use.
#[derive(Debug, Default)]
pub struct FetchProgress {
    /// Of all tars that the restore needs.
    pub bytes_total: AtomicU64,
    /// Read so far, or on disk since an earlier run.
    pub bytes_fetched: AtomicU64,
    /// Of these, on disk since an earlier run.
    pub bytes_resumed: AtomicU64,
    /// The objects that could not be used.
    pub damage: Damage,
}

/// Restores a base backup, with the backups that it is a delta of.
///
/// # Errors
/// [`crate::ErrorKind::NotFound`] for an unknown backup, [`crate::ErrorKind::Config`] for
/// directories that are not empty and for objects that have to be restored from their
/// storage class first, [`crate::ErrorKind::DiskFull`] for file systems that are too small,
/// [`crate::ErrorKind::Corrupt`] for objects that are damaged or missing:
/// the others are restored first, and then all of these are named. After an error or a
/// cancel, complete tars stay, so that the restore can be resumed; a server does not start
/// on them. If no tar is complete, or only tars of which a resumed restore needs the pages again,
/// everything that was written is removed.
pub fn fetch(
    store: Arc<dyn ObjectStore>,
    request: FetchRequest,
    progress: Arc<FetchProgress>,
    notices: Notices,
    cancel: CancellationToken,
) -> Work<'static, Result<Fetched>> {
    Box::pin(async move {
        let reading = async {
            cold::refuse(&*store, &request.name, &resume::on_disk_before(&request)).await?;
            let chain = Chain::find(&*store, &request.name).await?;
            let manifest = Manifest::find(&*store, &chain.tip().name, &notices).await?;
            Ok((chain, manifest))
        };
        let (chain, manifest) = or_cancelled(&cancel, reading).await?;
        warn_of_left_over(&chain, &notices);
        say_where_wal_was(&chain, &request, &notices);
        progress.bytes_total.store(chain.bytes(), Ordering::Relaxed);
        let name = chain.tip().name.clone();
        let places =
            request.tablespaces.of(chain.tip().sentinel.spec.as_ref(), &request.created)?;
        let directory = std::path::absolute(&request.directory)
            .map_err(|error| Error::file("resolve path", &request.directory, &error))?;
        let (created, unusable) = (&request.created, request.unusable);
        let created = request.tablespaces.of_created(created, unusable, &directory, &places)?;
        let backups = chain.levels().iter().map(|level| level.backup.name.clone()).collect();
        let wal_directory = request.wal_directory.clone();
        let subject = Subject::new(backups, places.clone(), wal_directory.clone());
        if request.resume {
            resume::check(&request.directory, &subject)?;
        }
        if !request.ignores_free_space && !is_interrupted(&request) {
            let needed = free_space::needed(&chain, manifest.as_ref());
            let (directory, places, name) =
                (request.directory.clone(), places.clone(), name.clone());
            let check = move || free_space::check(&name, &directory, &places, &needed);
            blocking("looking for free space", check).await?;
        }
        let syncing = SyncPool::start()?;
        let target =
            Destination::prepare(&request.directory, places, wal_directory, request.resume)?;
        let shown = target.data_directory().display().to_string();
        notices.log(format!("restoring base backup \"{name}\" into \"{shown}\""));

        let sink = Arc::new(Sink {
            target,
            assembly: Assembly::default(),
            deferred: Deferred::default(),
            manifest,
            budget: Budget::new(chain.file_bytes()),
            syncing,
            keeps_links: chain.tip().sentinel.is_wal_e,
        });
        let (preparing, asked) = (Arc::clone(&sink), subject);
        let prepared = blocking("preparing directories", move || {
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
            // This run must not remove the files of the interrupted restore.
            Err(error) if sink.target.is_resumed() => return Err(error),
            Err(error) => return Err(give_up(&sink.target, &notices, error)),
            Ok(prepared) => prepared,
        };
        let Some(journal) = journal else {
            if request.recovery.is_some() {
                notices.warning(
                    "the restore was already complete; the recovery settings stay as they were",
                );
            }
            let all = on_disk(&done);
            return Ok(Fetched { name, bytes_written: all.bytes, files: all.files });
        };
        let restore = Restore {
            store,
            sink: Arc::clone(&sink),
            journal: Arc::new(journal),
            created,
            has_done: Arc::new(AtomicBool::new(done.iter().any(|tar| !tar.is_needed_again))),
            concurrency: request.concurrency,
            progress,
            notices: notices.clone(),
            cancel: cancel.child_token(),
        };
        match restore.run(chain, done, &request).await {
            Ok(all) => Ok(Fetched { name, bytes_written: all.bytes, files: all.files }),
            Err(error) if restore.has_done() => {
                // The pages are fetched again; when a disk is full, their room is of use.
                let _ = sink.target.remove_waiting();
                notices.send(
                Level::Warning,
                format!("the files restored so far stay in \"{shown}\""),
                Some(format!(
                    "To fetch only what is missing, repeat the command for \"{name}\" with \
                     {}. To discard the restore, remove the contents of the directory and of its tablespaces.",
                    Word::Resume
                )),
            );
                Err(error)
            }
            Err(error) => Err(give_up(&sink.target, &notices, error)),
        }
    })
}

/// Whether some of the backup is there, so that it needs less space than all of it.
fn is_interrupted(request: &FetchRequest) -> bool {
    request.resume && request.directory.join(UNFINISHED_RESTORE).is_file()
}

/// Warns about tars that are not read.
fn warn_of_left_over(chain: &Chain, notices: &Notices) {
    for StoredBackup { name, left_over, .. } in chain.levels().iter().map(|level| &level.backup) {
        if let Some(first) = left_over.first() {
            notices.warning(format!(
                "skipped {} objects among the tars of base backup \"{name}\" because it does not list them; the first is \"{}\"",
                left_over.len(),
                tar_set::file_name(first)
            ));
        }
    }
}

/// On a disk of its own, WAL had room that the data directory may not have.
fn say_where_wal_was(chain: &Chain, request: &FetchRequest, notices: &Notices) {
    let Some(place) = &chain.tip().sentinel.wal_directory else { return };
    // An empty directory of this name is the place of another volume.
    if request.wal_directory.is_none() && !request.directory.join("pg_wal").is_dir() {
        notices.send(
            Level::Warning,
            format!("\"pg_wal\" becomes a directory; in the cluster that was backed up it was a link to \"{place}\""),
            Some(format!("To put it elsewhere, restore with {}.", Word::WalDirectory)),
        );
    }
}

/// Removes what was restored, because of `error`.
fn give_up(target: &Destination, notices: &Notices, error: Error) -> Error {
    if let Err(left) = target.remove() {
        notices.warning(format!("could not remove the failed restore: {left}"));
    }
    error
}
