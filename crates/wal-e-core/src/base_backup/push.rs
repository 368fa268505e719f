//! A base backup into the store.
//!
//! The caller owns the session that begins and ends backup mode; this module
//! owns everything between and after: [`BackupPush::begin`] when
//! `pg_backup_start` has returned, [`BackupPush::push_files`],
//! then `pg_backup_stop`, then [`BackupPush::finish`].
//!
//! The order of the objects is a promise: tar partitions, `pg_control`, (stop),
//! label and tablespace map, the WAL in the archive, metadata and manifest, and
//! last the sentinel. Whatever fails before it leaves no backup, only garbage under the
//! backup's name.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::tar_stream::{Source, StoredFile, TarStream, member_name};
use super::unfinished::{Note, Taker};
use super::walk::{self, Entry, Listing};
use super::{Phase, Progress, partition};
use crate::codec::{Compression, Compressor};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::{Level, Notices};
use crate::postgres::{
    BackupManifest, Lsn, ManifestFile, SegmentSize, SystemIdentifier, TimelineId, WalFileName,
    WalRange, WalSegment,
};
use crate::rate_limit::RateLimit;
use crate::sentinel::{
    self, FileMetadata, FilesMetadata, Sentinel, TablespacePlace, TablespaceSpec,
};
use crate::store::{Attributes, ListRequest, ObjectStore, PutMode, PutOutcome};
use crate::tasks::{blocking, joined};
use crate::transfer::{PartWriter, Upload, Uploaded, upload};
use crate::wal;

/// How a base backup is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOptions {
    /// Tar partitions in flight.
    pub concurrency: usize,
    /// A tar partition closes before it would pass this size in bytes.
    pub tar_size_threshold_bytes: u64,
    /// How the tars are compressed.
    pub compression: Compression,
    /// Limit for reading data files, for all partitions together; `None` is no limit.
    pub read_rate_limit_bytes_per_second: Option<u64>,
}

/// What is known once `pg_backup_start` has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStart {
    /// What `pg_backup_start` returned.
    pub start_lsn: Lsn,
    /// The timeline of the checkpoint that begins the backup.
    pub timeline: TimelineId,
    /// Size of the cluster's WAL segments.
    pub segment_size: SegmentSize,
    /// Absolute path of the data directory.
    pub data_directory: PathBuf,
    /// `server_version_num`.
    pub pg_version: u32,
    /// The cluster's system identifier.
    pub system_identifier: SystemIdentifier,
    /// When `pg_backup_start` was called.
    pub start_time: OffsetDateTime,
    /// Whether pages carry checksums (`data_checksums`).
    pub data_checksums: bool,
    /// Whether deletion must leave this backup.
    pub permanent: bool,
    /// Host name, for people.
    pub hostname: String,
    /// Who takes it: of each kind one backup at a time.
    pub taker: Taker,
}

/// What `pg_backup_stop` returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStop {
    /// Where the backup is consistent.
    pub stop_lsn: Lsn,
    /// Content of `backup_label`.
    pub backup_label: String,
    /// Content of `tablespace_map`; may be empty.
    pub tablespace_map: String,
}

/// A base backup that has begun.
#[derive(Debug)]
pub struct BackupPush {
    store: Arc<dyn ObjectStore>,
    name: String,
    note: Option<Note>,
    start: BackupStart,
    options: PushOptions,
    progress: Arc<Progress>,
    notices: Notices,
    cancel: CancellationToken,
    tablespaces: BTreeMap<u32, PathBuf>,
    files: FilesMetadata,
    manifest: Vec<ManifestFile>,
    stored_bytes: u64,
}

/// What one tar partition turned out to hold.
struct Partition {
    file_name: String,
    stored_bytes: u64,
    files: Vec<(String, StoredFile)>,
}

/// A member of one of the small tars.
struct SmallFile {
    /// Below the data directory.
    path: &'static str,
    /// In the tar.
    name: String,
    modified: OffsetDateTime,
    content: Vec<u8>,
}

impl BackupPush {
    /// Checks that the name is free in the store, and ends the uploads of a backup
    /// of the same taker that was killed. Nothing is uploaded yet.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the store has objects of a backup that began
    /// in the same WAL segment.
    pub async fn begin(
        store: Arc<dyn ObjectStore>,
        start: BackupStart,
        options: PushOptions,
        progress: Arc<Progress>,
        notices: Notices,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let segment = WalSegment::containing(start.timeline, start.start_lsn, start.segment_size);
        let name = layout::backup_name(segment, start.segment_size);
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
        let note = match Note::claim(start.taker, &start.data_directory) {
            Ok(mut note) => {
                let mut backups = abort_unfinished(&*store, note.unfinished(), &notices).await;
                backups.push(name.clone());
                note.write(&backups)?;
                Some(note)
            }
            // A role that may only read the cluster can back it up all the same.
            Err(error) if error.kind() == ErrorKind::Io => {
                notices.log(format!(
                    "{error}; should this backup be killed, the next one does not clean up after it"
                ));
                None
            }
            Err(error) => return Err(error),
        };
        Ok(BackupPush {
            store,
            name,
            note,
            start,
            options,
            progress,
            notices,
            cancel,
            tablespaces: BTreeMap::new(),
            files: FilesMetadata::default(),
            manifest: Vec::new(),
            stored_bytes: 0,
        })
    }

    /// The backup's name: `base_` and the start segment.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Uploads the files of the cluster. Between `pg_backup_start` and
    /// `pg_backup_stop`.
    ///
    /// # Errors
    /// Those of the store and of the file system; [`ErrorKind::Cancelled`] when
    /// the token was set. No multipart upload stays open, as far as the store
    /// can be reached to end it.
    pub async fn push_files(&mut self) -> Result<()> {
        self.progress.set_phase(Phase::Uploading);
        let Listing { directories, files, tablespaces } = self.list_files().await?;
        self.tablespaces = tablespaces;
        let total = files.iter().map(|file| file.size_bytes).sum();
        self.progress.bytes_total.store(total, Ordering::Relaxed);
        let target = partition::target_size_bytes(
            total,
            self.options.tar_size_threshold_bytes,
            self.options.concurrency,
        );
        let partitions = partition::plan(files, target);
        self.progress.partitions_total.store(partitions.len() as u64, Ordering::Relaxed);
        self.push_partitions(directories, partitions).await?;

        let control = SmallFile {
            path: CONTROL_FILE,
            name: member_name(CONTROL_FILE),
            modified: self.modified(CONTROL_FILE)?,
            content: self.read_control_file()?,
        };
        let file_name = layout::pg_control_file_name(self.options.compression.encoding());
        self.push_small_tar(file_name, vec![control]).await
    }

    /// After `pg_backup_stop`: label, metadata, all WAL in the archive, and last
    /// the sentinel. Returns the backup's name.
    pub async fn finish(mut self, stop: BackupStop) -> Result<String> {
        // From here on transactions are behind the backup, however long its WAL takes.
        let stopped = OffsetDateTime::now_utc();
        self.progress.set_phase(Phase::WaitingForWal);
        let files = [
            (BACKUP_LABEL, stop.backup_label.into_bytes()),
            (TABLESPACE_MAP, stop.tablespace_map.into_bytes()),
        ]
        .map(|(path, content)| SmallFile {
            path,
            name: path.to_owned(),
            modified: stopped,
            content,
        });
        let file_name = layout::backup_label_file_name(self.options.compression.encoding());
        self.push_small_tar(file_name, files.into()).await?;
        self.wait_for_wal(stop.stop_lsn).await?;

        self.progress.set_phase(Phase::Finishing);
        let sentinel = self.sentinel(stop.stop_lsn, stopped);
        self.put_json(&layout::metadata(&self.name), sentinel::to_json(&sentinel.metadata()))
            .await?;
        self.push_files_metadata().await?;
        self.push_manifest(stop.stop_lsn).await?;
        self.put_json(&layout::sentinel(&self.name), sentinel::to_json(&sentinel)).await?;
        // An upload that began and whose answer was lost is known to the store only.
        let own = layout::backup_directory(&self.name);
        let cleaned = tokio::time::timeout(CLEAN_UP_TIME, self.store.abort_uploads(&own)).await;
        if let (Some(mut note), Ok(Ok(()))) = (self.note, cleaned) {
            let left: Vec<String> =
                note.unfinished().into_iter().filter(|backup| *backup != self.name).collect();
            if left.is_empty() {
                note.remove();
            } else {
                note.write(&left)?;
            }
        }
        Ok(self.name)
    }

    async fn list_files(&self) -> Result<Listing> {
        let (data_directory, version) = (self.start.data_directory.clone(), self.start.pg_version);
        let notices = self.notices.clone();
        blocking("listing the cluster", move || walk::walk(&data_directory, version, &notices))
            .await
    }

    async fn push_partitions(
        &mut self,
        directories: Vec<Entry>,
        partitions: Vec<Vec<Entry>>,
    ) -> Result<()> {
        let source = Arc::new(Source {
            rate_limit: self.options.read_rate_limit_bytes_per_second.map(RateLimit::new),
            verify_before: self.start.data_checksums.then_some(self.start.start_lsn),
            progress: Arc::clone(&self.progress),
            notices: self.notices.clone(),
            // One partition that fails ends the others, each cleaning up.
            cancel: self.cancel.child_token(),
        });
        let slots = Arc::new(Semaphore::new(self.options.concurrency.max(1)));
        let mut tasks = JoinSet::new();
        let mut directories = Some(directories);
        for (index, files) in partitions.into_iter().enumerate() {
            let number = u32::try_from(index + 1).expect("fewer partitions than files");
            let (store, source) = (Arc::clone(&self.store), Arc::clone(&source));
            let (slots, backup) = (Arc::clone(&slots), self.name.clone());
            let data_directory = self.start.data_directory.clone();
            // The directories come first of all.
            let directories = directories.take().unwrap_or_default();
            let compression = self.options.compression;
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await.expect("the semaphore is never closed");
                let plan = PartitionPlan { number, compression, directories, files };
                push_partition(store, &backup, data_directory, plan, source).await
            });
        }
        let mut failure = None;
        while let Some(result) = tasks.join_next().await {
            match joined("a tar partition", result) {
                Ok(partition) => {
                    self.progress.partitions_done.fetch_add(1, Ordering::Relaxed);
                    self.record(partition);
                }
                Err(error) => {
                    source.cancel.cancel();
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn record(&mut self, partition: Partition) {
        self.stored_bytes += partition.stored_bytes;
        self.progress.bytes_uploaded.store(self.stored_bytes, Ordering::Relaxed);
        let names = partition.files.iter().map(|(name, _)| name.clone()).collect();
        self.files.tar_file_sets.insert(partition.file_name, names);
        for (name, StoredFile { metadata, manifest }) in partition.files {
            self.files.files.insert(name, metadata);
            self.manifest.push(manifest);
        }
    }

    /// The server replaces `pg_control` in place, so one read may see half of
    /// a change: two that agree do not.
    fn read_control_file(&self) -> Result<Vec<u8>> {
        let path = self.start.data_directory.join(CONTROL_FILE);
        let read = || fs::read(&path).map_err(|error| Error::file("read file", &path, &error));
        let mut before = read()?;
        for _ in 0..100 {
            let content = read()?;
            if content == before {
                return Ok(content);
            }
            before = content;
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("file \"{}\" changes too often to be read", path.display()),
        ))
    }

    fn modified(&self, path: &str) -> Result<OffsetDateTime> {
        let path = self.start.data_directory.join(path);
        fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .map(OffsetDateTime::from)
            .map_err(|error| Error::file("stat file", &path, &error))
    }

    async fn push_small_tar(&mut self, file_name: String, files: Vec<SmallFile>) -> Result<()> {
        let key = layout::tar_partition(&self.name, &file_name);
        let compression = self.options.compression;
        let request = Upload::create_only(key.clone(), self.cancel.clone());
        let uploaded = upload(Arc::clone(&self.store), request, move |writer| {
            write_tar(writer, compression, |tar| {
                for SmallFile { name, modified, content, .. } in &files {
                    tar.content(name, 0o600, modified.unix_timestamp(), content)?;
                }
                Ok(())
            })?;
            Ok(files)
        })
        .await?;
        stored(&*self.store, &key, &uploaded)?;
        let files = uploaded.value.into_iter().map(|file| {
            let mtime = sentinel::format_time(file.modified);
            let metadata = FileMetadata { mtime, ..FileMetadata::default() };
            let manifest = ManifestFile::of_content(file.path, &file.content, file.modified);
            (file.name, StoredFile { metadata, manifest })
        });
        let files = files.collect();
        self.record(Partition { file_name, stored_bytes: uploaded.bytes, files });
        Ok(())
    }

    async fn push_files_metadata(&mut self) -> Result<()> {
        let files = std::mem::take(&mut self.files);
        self.push_list(layout::files_metadata(&self.name), move |writer| {
            serde_json::to_writer(writer, &files).map_err(io::Error::from)
        })
        .await
    }

    async fn push_manifest(&mut self, stop_lsn: Lsn) -> Result<()> {
        let BackupStart { timeline, start_lsn, pg_version, system_identifier, .. } = self.start;
        let mut files = std::mem::take(&mut self.manifest);
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        // A promotion in between would have failed pg_backup_stop.
        let range = WalRange { timeline, start_lsn, end_lsn: stop_lsn };
        let manifest = BackupManifest::new(pg_version, system_identifier, files, vec![range]);
        self.push_list(layout::backup_manifest(&self.name), move |writer| manifest.write(writer))
            .await
    }

    /// Stores what has a line for each file.
    async fn push_list(
        &self,
        key: layout::ObjectKey,
        write: impl FnOnce(&mut io::BufWriter<&mut PartWriter>) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let request = Upload::create_only(key.clone(), self.cancel.clone());
        let uploaded = upload(Arc::clone(&self.store), request, move |writer| {
            let mut buffered = io::BufWriter::new(writer);
            write(&mut buffered)
                .and_then(|()| buffered.flush())
                .map_err(|error| Error::from_io("could not write file list", error))
        })
        .await?;
        stored(&*self.store, &key, &uploaded)
    }

    async fn put_json(&self, key: &layout::ObjectKey, json: Vec<u8>) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        // Not interrupted: a sentinel whose fate is unknown would be worse than a wait.
        let attributes = Attributes::default();
        let outcome =
            self.store.put(key, Bytes::from(json), PutMode::CreateOnly, &attributes).await?;
        stored(&*self.store, key, &Uploaded { outcome, bytes: 0, value: () })
    }

    /// Waits until the archive has every segment from start to stop: without
    /// them the backup could not be made consistent.
    async fn wait_for_wal(&self, stop_lsn: Lsn) -> Result<()> {
        let BackupStart { timeline, segment_size, start_lsn, .. } = self.start;
        let mut segment = WalSegment::containing(timeline, start_lsn, segment_size);
        let last = WalSegment::before(timeline, stop_lsn, segment_size);
        let mut waited = Duration::ZERO;
        let mut pause = SHORTEST_PAUSE;
        while segment <= last {
            let name = WalFileName::segment(segment, segment_size);
            if self.is_archived(&name).await? {
                segment = segment.next();
                pause = SHORTEST_PAUSE;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => waited += pause,
                () = self.cancel.cancelled() => return Err(Error::cancelled()),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            if waited >= REMIND_AFTER {
                waited = Duration::ZERO;
                self.notices.send(
                    Level::Warning,
                    format!(
                        "base backup \"{}\" waits for WAL segment \"{name}\" to be archived",
                        self.name
                    ),
                    Some(
                        "Check that archiving works: see pg_stat_archiver and the server log."
                            .to_owned(),
                    ),
                );
            }
        }
        Ok(())
    }

    /// The archiver may compress in another way than this backup.
    async fn is_archived(&self, name: &WalFileName) -> Result<bool> {
        let likely = layout::wal_file(name, self.options.compression.encoding());
        if self.store.head(&likely).await?.is_some() {
            return Ok(true);
        }
        match wal::locate(&*self.store, name).await? {
            Some(located) => {
                // A backup that only another program could replay is none of ours.
                located.encoding.readable(&self.store.url(located.key.as_str()))?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn sentinel(&self, stop_lsn: Lsn, stopped: OffsetDateTime) -> Sentinel {
        let start = &self.start;
        let data_directory = start.data_directory.display().to_string();
        let spec = (!self.tablespaces.is_empty()).then(|| TablespaceSpec {
            base_prefix: data_directory.clone(),
            tablespaces: self.tablespaces.keys().map(u32::to_string).collect(),
            places: self
                .tablespaces
                .iter()
                .map(|(oid, location)| {
                    let loc = location.display().to_string();
                    (oid.to_string(), TablespacePlace { loc, link: format!("pg_tblspc/{oid}") })
                })
                .collect(),
        });
        Sentinel {
            lsn: Some(start.start_lsn),
            finish_lsn: Some(stop_lsn),
            pg_version: Some(start.pg_version),
            system_identifier: Some(start.system_identifier),
            uncompressed_size: Some(self.progress.bytes_read.load(Ordering::Relaxed)),
            compressed_size: Some(self.stored_bytes),
            spec,
            start_time: Some(start.start_time),
            finish_time: Some(stopped),
            hostname: Some(start.hostname.clone()),
            data_dir: Some(data_directory),
            is_permanent: start.permanent,
            ..Sentinel::full()
        }
    }
}

const CONTROL_FILE: &str = "global/pg_control";
const BACKUP_LABEL: &str = "backup_label";
const TABLESPACE_MAP: &str = "tablespace_map";

/// How often the archive is asked for a segment that it does not have yet.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// As often as PostgreSQL's own `pg_backup_stop` says that it waits.
const REMIND_AFTER: Duration = Duration::from_secs(60);

/// How long a backup that is complete looks for uploads that it left open.
const CLEAN_UP_TIME: Duration = Duration::from_secs(30);

/// Ends the uploads of backups that were killed; returns those where it failed.
async fn abort_unfinished(
    store: &dyn ObjectStore,
    backups: Vec<String>,
    notices: &Notices,
) -> Vec<String> {
    let mut left = Vec::new();
    for backup in backups {
        if let Err(error) = store.abort_uploads(&layout::backup_directory(&backup)).await {
            notices.warning(format!(
                "unfinished uploads of base backup \"{backup}\" may be left: {error}"
            ));
            left.push(backup);
        }
    }
    left
}

/// What one tar partition shall hold.
struct PartitionPlan {
    number: u32,
    compression: Compression,
    directories: Vec<Entry>,
    files: Vec<Entry>,
}

async fn push_partition(
    store: Arc<dyn ObjectStore>,
    backup: &str,
    data_directory: PathBuf,
    plan: PartitionPlan,
    source: Arc<Source>,
) -> Result<Partition> {
    let PartitionPlan { number, compression, directories, files } = plan;
    let file_name = layout::partition_file_name(number, compression.encoding());
    let key = layout::tar_partition(backup, &file_name);
    let size = files.iter().map(|file| file.size_bytes).sum();
    let request = Upload::create_only(key.clone(), source.cancel.clone()).sized_for(size);
    let uploaded = upload(Arc::clone(&store), request, move |writer| {
        let mut found = Vec::with_capacity(files.len());
        write_tar(writer, compression, |tar| {
            for directory in &directories {
                tar.directory(directory)?;
            }
            for file in &files {
                if let Some(stored) = tar.file(&data_directory, file, &source)? {
                    found.push((member_name(&file.path), stored));
                }
            }
            Ok(())
        })?;
        Ok(found)
    })
    .await?;
    stored(&*store, &key, &uploaded)?;
    Ok(Partition { file_name, stored_bytes: uploaded.bytes, files: uploaded.value })
}

/// A compressed tar with what `fill` adds.
fn write_tar(
    writer: &mut PartWriter,
    compression: Compression,
    fill: impl FnOnce(&mut TarStream<Compressor<&mut PartWriter>>) -> Result<()>,
) -> Result<()> {
    let failed = |error| Error::from_io("could not compress", error);
    let mut tar = TarStream::new(Compressor::new(writer, compression).map_err(failed)?);
    fill(&mut tar)?;
    tar.finish().and_then(Compressor::finish).map_err(failed)?;
    Ok(())
}

/// The name was free when the backup began: an object that is there now is
/// another backup's.
fn stored<T>(
    store: &dyn ObjectStore,
    key: &layout::ObjectKey,
    uploaded: &Uploaded<T>,
) -> Result<()> {
    match uploaded.outcome {
        PutOutcome::Stored => Ok(()),
        PutOutcome::AlreadyExists => Err(Error::new(
            ErrorKind::Conflict,
            format!("object \"{}\" exists already", store.url(key.as_str())),
        )
        .with_hint("Another backup of the same name is running. Take this one again later.")),
    }
}
