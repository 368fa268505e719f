//! A base backup into the store.
//!
//! The caller owns the session that begins and ends backup mode; this module
//! owns everything between and after: [`BackupPush::begin`] when
//! `pg_backup_start` has returned, [`BackupPush::push_files`],
//! then `pg_backup_stop`, then [`BackupPush::finish`].
//!
//! The order of the objects is a promise: `begun.json`, tar partitions, `pg_control`, (stop),
//! label and tablespace map, the WAL in the archive, metadata and manifest, and
//! last the sentinel. A failure before it leaves no backup, only garbage under the
//! backup's name.
//!
//! Of that WAL it is proved that it is this server's own: a copy of a cluster that archives to
//! the same prefix writes segments of the same names (`foreign_wal` before the first upload,
//! `proof` before the sentinel).
//!
//! How the tars get there is in `partitions` and `small_tars`.

mod foreign_wal;
mod needed_wal;
mod open_uploads;
mod other_archiver;
mod partitions;
mod pg_wal;
mod proof;
mod sentinel;
mod small_tars;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::delta::{self, Changed, Delta, Incremental, Origin, Parent};
use super::draft::{ClusterFacts, Draft};
use super::member::member_name;
use super::start::{BackupStart, BackupStop};
use super::walk::{self, Cluster, Entry, Listing};
use super::{Phase, Progress, inspect};
use crate::changed_blocks::KeptMaps;
use crate::codec::Compression;
use crate::config::Exclusions;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::{self, Notices};
use crate::owner;
use crate::postgres::{
    BackupLabel, SegmentNumber, WalRange, WalSegment, data_directory, tablespace_map,
};
use crate::rate_limit::RateLimit;
use crate::sentinel::Begun;
use crate::store::{ListRequest, ObjectStore};
use crate::tasks::{Work, blocking};
pub(super) use open_uploads::killed_backups;

/// What to do about an archive to which two servers with one history write.
const OWN_PREFIX: &str = "Give this server a prefix of its own; or, if it should go on where the archive ends, restore it from the archive.";

/// How a base backup is taken.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Tar partitions in flight.
    pub concurrency: usize,
    /// A tar partition closes before it would pass this size in bytes.
    pub tar_size_threshold_bytes: u64,
    /// How the tars are compressed.
    pub compression: Compression,
    /// Limit for reading data files, for all partitions together.
    pub read_rate_limit: Option<Arc<RateLimit>>,
    /// What of the data directory is left out.
    pub exclude: Exclusions,
    /// That only what has changed since an earlier backup is stored, where that is certain.
    pub incremental: Option<Incremental>,
}

/// A base backup that has begun.
#[derive(Debug)]
pub struct BackupPush {
    draft: Draft,
    start: BackupStart,
    options: PushOptions,
    progress: Arc<Progress>,
    notices: Notices,
    tablespaces: BTreeMap<u32, PathBuf>,
    wal_directory: Option<PathBuf>,
    /// Of an incremental backup: what it builds on, until its files have been listed.
    parent: Option<(Parent, Changed)>,
    /// Of an incremental backup.
    delta: Option<Arc<Delta>>,
    /// Why a full backup is taken although an incremental one was wanted.
    full_because: Option<String>,
}

/// The WAL from here on is mapped for the next incremental backup, by an `archive_command`, too.
fn ask_for_maps(start: &BackupStart, notices: &Notices) {
    let maps = KeptMaps::of_cluster(&start.data_directory);
    if let Err(error) = maps.make_directory() {
        notices.log(format!(
            "could not create the directory for maps of changed blocks, so the next incremental base backup may have to read all of them: {error}"
        ));
    }
}

impl BackupPush {
    /// Checks that the name is free in the store, and ends the uploads of a backup
    /// of the same taker that was killed. Nothing is uploaded yet.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the store has objects of a backup that began
    /// in the same WAL segment, or WAL from there on that is not this server's.
    pub fn begin(
        store: Arc<dyn ObjectStore>,
        start: BackupStart,
        options: PushOptions,
        progress: Arc<Progress>,
        notices: Notices,
        cancel: CancellationToken,
    ) -> Work<'static, Result<Self>> {
        Box::pin(async move {
            let segment =
                WalSegment::containing(start.timeline, start.start_lsn, start.segment_size);
            let marks = owner::read_encryption_marks(&*store).await?;
            owner::agree_on_encryption(&*store, marks).await?;
            foreign_wal::refuse_foreign_wal(&store, &start).await?;
            let full_name = layout::backup_name(segment, start.segment_size);
            let (parent, full_because) = match options.incremental {
                None => (None, None),
                Some(wanted) => {
                    ask_for_maps(&start, &notices);
                    match delta::prepare(&*store, &start, wanted, &notices, &cancel).await? {
                        Ok(parent) => (Some(parent), None),
                        Err(why) => (None, Some(why)),
                    }
                }
            };
            let name = match &parent {
                Some((parent, _)) => layout::delta_name(&full_name, &parent.name),
                None => full_name,
            };
            let request =
                ListRequest { prefix: layout::backup_directory(&name), ..ListRequest::default() };
            let leftover = store.list(&request, None).await?.objects.into_iter().next();
            let existing = match leftover {
                Some(object) => Some(object.key),
                None => store.head(&layout::sentinel(&name)).await?.map(|object| object.key),
            };
            if let Some(key) = existing {
                return Err(Error::new(
                ErrorKind::Conflict,
                format!("base backup \"{name}\" exists already"),
            )
            .with_detail(format!("The store has an object \"{}\".", store.url(key.as_str())))
            .with_hint(
                "Another backup began in the same WAL segment. Take this one again when the server has written more WAL.",
            ));
            }
            let note = open_uploads::claim(&*store, &start, &name, &notices).await?;
            let begun = Begun {
                hostname: start.hostname.clone(),
                data_directory: start.data_directory.display().to_string(),
                started_at: start.start_time,
                ended_at: None,
                process: None,
            };
            let (compression, counters) = (options.compression, Arc::clone(&progress));
            let draft = Draft::new(store, name, begun, compression, counters, cancel);
            Ok(BackupPush {
                draft: draft.noted_in(note),
                start,
                options,
                progress,
                notices,
                tablespaces: BTreeMap::new(),
                wal_directory: None,
                parent,
                delta: None,
                full_because,
            })
        })
    }

    /// The backup's name: `base_` and the start segment; of an incremental one also that of
    /// its parent.
    pub fn name(&self) -> &str {
        &self.draft.name
    }

    /// Why a full backup is taken although an incremental one was wanted, as the end of a
    /// sentence; `None` when what was wanted is taken.
    pub fn full_because(&self) -> Option<&str> {
        self.full_because.as_deref()
    }

    /// Uploads the files of the cluster. Between `pg_backup_start` and
    /// `pg_backup_stop`.
    ///
    /// # Errors
    /// Those of the store and of the file system; [`ErrorKind::Cancelled`] when
    /// the token was set. No multipart upload stays open, as far as the store
    /// can be reached to end it.
    pub fn push_files(&mut self) -> Work<'_, Result<()>> {
        Box::pin(async move {
            let pushed = self.push_all_files().await;
            if pushed.is_err() {
                self.draft.say_ended().await;
            }
            pushed
        })
    }

    async fn push_all_files(&mut self) -> Result<()> {
        self.progress.set_phase(Phase::Uploading);
        let listing = self.list_files(&self.notices).await?;
        let Listing { directories, files, tablespaces, wal_directory } = listing;
        inspect::refuse_inside(
            self.draft.store.directory(),
            &self.start.data_directory,
            &tablespaces,
        )?;
        self.tablespaces = tablespaces;
        self.wal_directory = wal_directory;
        if let Some((parent, changed)) = self.parent.take() {
            self.delta = Some(Arc::new(Delta::new(parent, changed, &self.start, &files)));
        }
        let bytes_to_read = |file: &Entry| delta::bytes_to_read(self.delta.as_deref(), file);
        let total = files.iter().map(bytes_to_read).sum();
        let to_send = files.iter().map(|file| delta::bytes_to_send(self.delta.as_deref(), file));
        self.progress.bytes_total.store(total, Ordering::Relaxed);
        self.progress.bytes_to_send.store(to_send.sum(), Ordering::Relaxed);
        if let Some(delta) = &self.delta {
            self.progress.set_share(delta.share());
        }
        let target = partitions::target_size_bytes(
            total,
            self.options.tar_size_threshold_bytes,
            self.options.concurrency,
        );
        let partitions =
            partitions::plan(files, target, |file| bytes_to_read(file) + partitions::MEMBER_BYTES);
        let planned = partitions.len();
        self.draft.say_begun().await?;
        self.progress.partitions_total.store(planned as u64, Ordering::Relaxed);
        self.push_partitions(1, directories, partitions).await?;
        self.push_late_init_forks(planned + 1).await?;
        self.push_control_file().await
    }

    /// Uploads the `init` forks that have come since the files were listed, of
    /// relations whose main fork was taken for that of a logged one and stored.
    ///
    /// An index of an unlogged table gets its `init` fork only when it is built
    /// (src/backend/catalog/index.c, `index_build`). If that came to a restored
    /// cluster by replay alone, the stored main fork would be in its way when recovery
    /// ends: PostgreSQL removes what has an `init` fork when recovery begins, and
    /// then makes it again (src/backend/storage/file/reinit.c).
    async fn push_late_init_forks(&mut self, number: usize) -> Result<()> {
        let late: Vec<Entry> = self
            .list_files(&notice::channel().0)
            .await?
            .files
            .into_iter()
            .filter(|file| self.is_late_init_fork(&file.path))
            .collect();
        if late.is_empty() {
            return Ok(());
        }
        self.progress.partitions_total.fetch_add(1, Ordering::Relaxed);
        self.push_partitions(number, Vec::new(), vec![late]).await
    }

    fn is_late_init_fork(&self, path: &str) -> bool {
        let stored = |path: &str| self.draft.files.files.contains_key(&member_name(path));
        data_directory::relation_file(path)
            .is_some_and(|file| file.fork == Some("init") && !stored(path) && stored(file.relation))
    }

    /// After `pg_backup_stop`: label, metadata, all WAL in the archive and proved to be
    /// this server's, and last the sentinel. Returns the backup's name.
    ///
    /// # Errors
    /// Those of the store, [`ErrorKind::Conflict`] for WAL that is not this server's, and
    /// [`ErrorKind::Cancelled`]: there is no sentinel then.
    pub fn finish(mut self, stop: BackupStop) -> Work<'static, Result<String>> {
        Box::pin(async move {
            match self.complete(stop).await {
                Ok(()) => {
                    self.end_own_uploads().await;
                    self.remember();
                    Ok(self.draft.name)
                }
                Err(error) => {
                    self.draft.say_ended().await;
                    Err(error)
                }
            }
        })
    }

    async fn complete(&mut self, stop: BackupStop) -> Result<()> {
        // From here on transactions are after the backup, however long its WAL takes.
        let stopped = OffsetDateTime::now_utc();
        self.progress.set_phase(Phase::WaitingForWal);
        // One that was dropped since the server wrote its map is in no listing, but the
        // restored server makes its link, and drops it again.
        for mapped in tablespace_map::parse(&stop.tablespace_map)? {
            let location = PathBuf::from(mapped.location);
            if location.is_absolute() {
                self.tablespaces.entry(mapped.oid).or_insert(location);
            }
        }
        let label = BackupLabel::parse(&stop.backup_label)?;
        self.push_label(stop.backup_label, stop.tablespace_map, stopped).await?;
        self.wait_for_wal(stop.stop_lsn).await?;
        self.prove_wal(stop.stop_lsn, &label).await?;

        self.progress.set_phase(Phase::Finishing);
        let sentinel = self.sentinel(stop.stop_lsn, stopped);
        let BackupStart { timeline, start_lsn, pg_version, system_identifier, .. } = self.start;
        // A promotion in between would have failed pg_backup_stop.
        let wal = WalRange { timeline, start_lsn, end_lsn: stop.stop_lsn };
        let cluster = ClusterFacts { pg_version, system_identifier, wal };
        self.draft.push_documents(&sentinel, cluster).await?;
        if let Some(delta) = &self.delta {
            delta.parent.prove_restorable(&*self.draft.store).await?;
        }
        self.draft.push_sentinel(&sentinel).await
    }

    /// Without the note the backup is as good as with it, but the next one is a full one. What was
    /// noted of blocks that changed earlier is of no use any more.
    fn remember(&self) {
        let BackupStart { data_directory, start_lsn, segment_size, .. } = &self.start;
        let wanted = self.options.incremental.map(|incremental| incremental.origin);
        let oldest = match &self.delta {
            Some(delta) if wanted == Some(Origin::LatestFull) => delta.parent.start_lsn,
            _ => *start_lsn,
        };
        let maps = KeptMaps::of_cluster(data_directory);
        let oldest = SegmentNumber::containing(oldest, *segment_size);
        if let Err(error) = maps.remove_before(oldest, *segment_size) {
            self.notices.debug(format!("could not remove old maps of changed blocks: {error}"));
        }
        if let Err(error) = delta::remember(data_directory, &self.draft.name, *start_lsn) {
            self.notices.log(format!(
                "could not note in \"{}\" that base backup \"{}\" was taken, so the next incremental backup may not build on it: {error}",
                data_directory.display(),
                self.draft.name
            ));
        }
    }

    async fn list_files(&self, notices: &Notices) -> Result<Listing> {
        let cluster = Cluster {
            data_directory: self.start.data_directory.clone(),
            pg_version: self.start.pg_version,
            log_directory: self.start.log_directory.clone(),
            exclude: self.options.exclude.clone(),
        };
        let notices = notices.clone();
        blocking("listing the cluster", move || walk::walk(&cluster, &notices)).await
    }
}
