//! The tars of a backup onto disk, and the steps that turn them into a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::damage::DamagedObject;
use super::{FetchProgress, FetchRequest};
use crate::catalogue::stored_backup::{StoredBackup, Tar};
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::postgres::data_directory::{BACKUP_LABEL, CONTROL_FILE};
use crate::restore::chain::{Chain, Level};
use crate::restore::journal::{self, DoneTar, Journal};
use crate::restore::settings;
use crate::restore::tablespaces::{self, CreatedPlaces, TablespacePlaces};
use crate::restore::unpack::{Purpose, Sink, Unpacked};
use crate::store::ObjectStore;
use crate::tasks::{blocking, in_slots};

/// Names of work, should it panic.
pub(super) const UNPACKING: &str = "unpacking a tar";
const SYNCING: &str = "syncing directories";

/// Files and bytes of tars that are on disk since an earlier run.
pub(super) fn on_disk(done: &[DoneTar]) -> Unpacked {
    let whole = || done.iter().flat_map(|tar| &tar.members);
    let sizes = || whole().filter_map(|(_, size)| *size);
    Unpacked { files: sizes().count() as u64, bytes: sizes().sum(), ..Unpacked::default() }
}

/// A restore that has begun to write.
#[derive(Clone)]
pub(super) struct Restore {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) sink: Arc<Sink>,
    pub(super) journal: Arc<Journal>,
    /// Where the tablespaces go that recovery will create.
    pub(super) created: CreatedPlaces,
    /// Whether a tar is on disk that a resumed restore does not need again.
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
        mut done: Vec<DoneTar>,
        request: &FetchRequest,
    ) -> Result<Unpacked> {
        done.retain(|tar| !tar.is_needed_again);
        let mut all = on_disk(&done);
        let files = done.iter().flat_map(|tar| &tar.members).filter(|(_, size)| size.is_some());
        self.sink.assembly.were_complete(files.map(|(path, _)| path.into()));
        // An older backup gives what the newer ones lack.
        let levels: Vec<Arc<Level>> = chain.into_levels().into_iter().rev().map(Arc::new).collect();
        let Some(tip) = levels.first().cloned() else {
            return Err(Error::new(ErrorKind::Bug, "a chain of no base backups"));
        };
        // The small and most telling tars come first.
        for tar in tip.backup.own_tars() {
            match self.fetch_tar(&tip, tar, Purpose::Restore).await? {
                Some(unpacked) => add(&mut all, &unpacked),
                None => tip.selection.lacks_a_tar(),
            }
        }
        self.rewrite_tablespace_map(request)?;
        let mut purpose = Purpose::Restore;
        for level in &levels {
            let (unpacked, is_whole) = self.fetch_level(level, &done, purpose).await?;
            add(&mut all, &unpacked);
            if !is_whole {
                // What the older ones have to give is not known.
                purpose = Purpose::Look;
            }
        }
        self.warn_of_unlisted(&all);
        if let Some(error) = self.progress.damage.report(&tip.backup.name) {
            return Err(error);
        }
        // Without it, a server would begin replay at the checkpoint of pg_control and open an
        // inconsistent database.
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

    /// All files are on disk; the rest turns them into a cluster.
    fn finish(&self, request: &FetchRequest) -> Result<u64> {
        let target = &self.sink.target;
        let data_directory = target.data_directory();
        target.remove_waiting()?;
        self.rewrite_tablespace_map(request)?;
        if let Some(manifest) = &self.sink.manifest {
            manifest.place(data_directory)?;
        }
        settings::set_up(
            data_directory,
            request.recovery.as_ref(),
            request.archive_mode,
            self.sink.deferred.required_settings(),
            &self.notices,
        )?;
        if self.created.in_place || !tablespaces::in_place(data_directory)?.is_empty() {
            tablespaces::allow_in_place(data_directory)?;
        }
        self.created.make(data_directory)?;
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

    /// The partitions of one backup, several at once. Also returns whether all of its
    /// files are on disk.
    async fn fetch_level(
        &self,
        level: &Arc<Level>,
        done: &[DoneTar],
        purpose: Purpose,
    ) -> Result<(Unpacked, bool)> {
        let mut jobs = Vec::new();
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
            let (restore, level, tar) = (self.clone(), Arc::clone(level), tar.clone());
            jobs.push(async move { restore.fetch_partition(&level, &tar, purpose).await });
        }
        let (mut all, mut is_whole) = (Unpacked::default(), true);
        let take = |unpacked| match unpacked {
            Some(unpacked) => add(&mut all, &unpacked),
            None => {
                is_whole = false;
                level.selection.lacks_a_tar();
            }
        };
        in_slots(UNPACKING, self.concurrency, &self.cancel, jobs, take).await?;
        if let Some((number, file)) = level.selection.missing() {
            is_whole = false;
            self.lost(&level.backup, number, file);
        }
        Ok((all, is_whole && purpose == Purpose::Restore))
    }

    /// Notes that the tars of a backup, which are all sound, lack files.
    fn lost(&self, backup: &StoredBackup, number: usize, first: &str) {
        let object = self.store.url(&layout::tar_partitions(&backup.name));
        let cause = match number {
            1 => format!("no tar in \"{object}\" has its file \"{first}\""),
            _ => format!("no tar in \"{object}\" has {number} of its files, such as \"{first}\""),
        };
        let cause = format!("base backup \"{}\" is incomplete: {cause}", backup.name);
        let error = Error::new(ErrorKind::Corrupt, cause);
        self.progress.damage.add(DamagedObject::new(object, None, &error));
    }

    async fn fetch_partition(
        &self,
        level: &Arc<Level>,
        tar: &Tar,
        purpose: Purpose,
    ) -> Result<Option<Unpacked>> {
        let Some(mut unpacked) = self.fetch_tar(level, tar, purpose).await? else {
            return Ok(None);
        };
        if purpose == Purpose::Look {
            return Ok(Some(unpacked));
        }
        let note = DoneTar {
            backup: level.backup.name.clone(),
            tar: tar.file_name().to_owned(),
            version: journal::version(tar),
            members: std::mem::take(&mut unpacked.members),
            is_needed_again: unpacked.is_needed_again,
        };
        let completed = std::mem::take(&mut unpacked.completed);
        let (journal, sink) = (Arc::clone(&self.journal), Arc::clone(&self.sink));
        let has_done = Arc::clone(&self.has_done);
        blocking(SYNCING, move || {
            journal.add(&note)?;
            has_done.fetch_or(!note.is_needed_again, Ordering::Relaxed);
            // Until the note of a complete file is on disk, it may have to be put together again.
            sink.forget_waiting(&completed)
        })
        .await?;
        Ok(Some(unpacked))
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
        .with_hint(format!("Restore another base backup; {} shows them.", Word::BackupList))
    }

    fn warn_of_unlisted(&self, all: &Unpacked) {
        if let Some(name) = &all.first_unlisted {
            self.notices.warning(format!(
                "skipped {} files in the tars because the backup does not list them; the first is \"{name}\"",
                all.unlisted
            ));
        }
    }
}

fn add(all: &mut Unpacked, more: &Unpacked) {
    all.files += more.files;
    all.bytes += more.bytes;
    all.unlisted += more.unlisted;
    if all.first_unlisted.is_none() {
        all.first_unlisted.clone_from(&more.first_unlisted);
    }
}
