//! The tars of a backup onto disk, and what makes a cluster of them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{FetchProgress, FetchRequest};
use crate::base_backup::chain::{Chain, Level};
use crate::base_backup::journal::{self, DoneTar, Journal};
use crate::base_backup::recovery;
use crate::base_backup::selection::Selection;
use crate::base_backup::stored::{StoredBackup, Tar};
use crate::base_backup::tablespaces::{self, TablespacePlaces};
use crate::base_backup::unpack::{Sink, Unpacked, unpack};
use crate::codec::named;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE};
use crate::store::ObjectStore;
use crate::tasks::{blocking, joined, or_cancelled};
use crate::transfer::{Counted, cancellable, download, download_ranges};

/// Names of work, should it panic.
const UNPACKING: &str = "unpacking a tar";
const SYNCING: &str = "syncing directories";

/// What a broken backup is to be answered with.
const ANOTHER: &str = "Restore another base backup; \"wal-e backup-list\" shows them.";

/// Files and bytes of tars that are on disk since an earlier run.
pub(super) fn on_disk(done: &[DoneTar]) -> Unpacked {
    let sizes = || done.iter().flat_map(|tar| &tar.members).filter_map(|(_, size)| *size);
    Unpacked { files: sizes().count() as u64, bytes: sizes().sum(), ..Unpacked::default() }
}

/// A restore that has begun to write.
#[derive(Clone)]
pub(super) struct Restore {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) sink: Arc<Sink>,
    pub(super) journal: Arc<Journal>,
    /// Whether a tar is on disk.
    pub(super) has_done: Arc<AtomicBool>,
    pub(super) concurrency: usize,
    pub(super) progress: Arc<FetchProgress>,
    pub(super) notices: Notices,
    pub(super) cancel: CancellationToken,
}

impl Restore {
    pub(super) fn has_done(&self) -> bool {
        self.has_done.load(Ordering::Relaxed)
    }

    pub(super) async fn run(
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
        if !self.sink.target.data_directory().join(BACKUP_LABEL).exists() {
            return Err(self.lacks(&tip.backup, BACKUP_LABEL));
        }
        if !self.sink.deferred.has_control() {
            return Err(self.lacks(&tip.backup, CONTROL_FILE));
        }
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
        if let Some(manifest) = &self.sink.manifest {
            manifest.place(data_directory)?;
        }
        recovery::set_up(
            data_directory,
            request.recovery.as_ref(),
            request.archive_mode,
            self.sink.deferred.required_settings(),
            &self.notices,
        )?;
        if !tablespaces::in_place(data_directory)?.is_empty() {
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
            true => {
                let store = Arc::clone(&self.store);
                Box::new(download_ranges(store, key, self.cancel.clone()).await?)
            }
            false => {
                let object = or_cancelled(&self.cancel, self.store.get(key, 0, None)).await?;
                Box::new(download(cancellable(object, self.cancel.clone())))
            }
        })
    }

    async fn fetch_tar(&self, level: &Arc<Level>, tar: &Tar) -> Result<Unpacked> {
        let url = self.store.url(tar.object.key.as_str());
        let progress = Arc::clone(&self.progress);
        let reader = Counted::new(self.open(tar).await?, move |bytes| {
            progress.bytes_fetched.fetch_add(bytes, Ordering::Relaxed);
        });
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
        if let Some(fifo) = &unpacked.fifo {
            self.notices.warning(format!(
                "named pipes in object \"{url}\" are left out: the first is \"{}\"",
                fifo.display()
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
