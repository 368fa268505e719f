//! One WAL file into the store.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::READ_BYTES;
use super::compare::compare_with_archived;
use super::left_segment::left_within;
use super::open_uploads::OpenUploads;
use crate::archived::Encoder;
use crate::codec::{Compression, Encoding};
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::notice::Notices;
use crate::owner;
use crate::postgres::{SegmentSize, SystemIdentifier, WalFileKind, WalFileName, WalPageHeader};
use crate::store::{Attributes, ObjectStore, PutMode, PutOutcome};
use crate::tasks::{blocking, or_cancelled};
use crate::transfer::{Upload, upload};

/// How often the archive is asked in which other encodings it has WAL.
const READ_ENCODINGS_EVERY: Duration = Duration::from_secs(60);

/// A file of at most this size is compressed in memory, in one pass, and stored
/// by one request: the segments of nearly every server.
const WHOLE_BYTES: u64 = SegmentSize::DEFAULT.bytes();

/// The size of the parts in which larger files are sent while they are read.
const PART_SIZE_BYTES: usize = 8 * 1024 * 1024;

/// What became of a WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// It is stored now.
    Stored,
    /// It was stored before, with the same content.
    AlreadyThere,
    /// It is a standby's part of a segment within which its timeline was left, and is not
    /// stored: the newer timeline's segment has the same up to there.
    LeftUnfinished,
}

/// A WAL file that is in the store, confirmed, or need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Whether this call stored it.
    pub outcome: PushOutcome,
    /// Size of the file in bytes.
    pub bytes_read: u64,
    /// Bytes that were sent to the store.
    pub bytes_stored: u64,
    /// From the first look at the file to the store's confirmation.
    pub took: Duration,
}

impl Pushed {
    /// What became of `name`, as a line for a log.
    pub fn describe(&self, name: &WalFileName) -> String {
        let Pushed { outcome, bytes_read, bytes_stored, took } = self;
        let seconds = took.as_secs_f64();
        match outcome {
            PushOutcome::Stored => format!(
                "archived WAL file \"{name}\": {bytes_read} bytes, {bytes_stored} bytes stored, {seconds:.3} s"
            ),
            PushOutcome::AlreadyThere => format!(
                "WAL file \"{name}\" was in the archive already: {bytes_read} bytes, the same content, {seconds:.3} s"
            ),
            PushOutcome::LeftUnfinished => format!(
                "WAL file \"{name}\" need not be archived: its timeline was left within it, and the newer timeline's segment has the same up to there"
            ),
        }
    }
}

/// How WAL files are stored.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// What they are compressed with.
    pub compression: Compression,
    /// Other encodings in which the archive has WAL, as far as is known now: a
    /// file that is there in one of them is not stored a second time.
    pub other_encodings: Vec<Encoding>,
    /// The cluster that they come from, when it is known: a segment of another
    /// one is refused.
    pub system_identifier: Option<SystemIdentifier>,
    /// The archive is asked for each file before it is sent: for a standby, whose files
    /// its primary has archived already, and where that costs nearly nothing.
    pub look_first: bool,
    /// How many files are sent at the same time.
    pub uploads: usize,
    /// How many files are compressed at the same time; of those larger than
    /// 16 MB, which are sent while they are compressed, also how many are sent.
    pub compressors: usize,
    /// The file in which uploads in parts are noted while they are open; none are, when
    /// it is `None`.
    pub upload_note: Option<PathBuf>,
}

/// Stores WAL files, any number at a time.
#[derive(Debug)]
pub struct Pusher {
    store: Arc<dyn ObjectStore>,
    options: PushOptions,
    /// Files that are in the archive already, as far as a listing shows.
    listed: HashSet<WalFileName>,
    compressors: Arc<Semaphore>,
    uploads: Semaphore,
    other_encodings: Mutex<OtherEncodings>,
    open_uploads: OpenUploads,
    /// Bytes that were compressed.
    compressed: Arc<AtomicU64>,
    cancel: CancellationToken,
    notices: Notices,
}

impl Pusher {
    /// A pusher into `store`. The archive is asked for the files of `listed`
    /// before they are sent. Cancelling `cancel` ends what is under way and
    /// leaves nothing of it.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        options: PushOptions,
        listed: HashSet<WalFileName>,
        cancel: CancellationToken,
        notices: Notices,
    ) -> Self {
        let compressors = Arc::new(Semaphore::new(options.compressors.max(1)));
        let uploads = Semaphore::new(options.uploads.max(1));
        let other_encodings = Mutex::new(OtherEncodings {
            known: options.other_encodings.clone(),
            read_at: Instant::now(),
        });
        let open_uploads = OpenUploads::new(options.upload_note.clone(), notices.clone());
        let compressed = Arc::default();
        Pusher {
            store,
            options,
            listed,
            compressors,
            uploads,
            other_encodings,
            open_uploads,
            compressed,
            cancel,
            notices,
        }
    }

    /// Stores the WAL file at `path` under `name`, compressed, and returns once
    /// the store has confirmed it. An object of that name is never replaced: the
    /// same content is success, a different one an error.
    ///
    /// # Errors
    /// * [`ErrorKind::Conflict`]: the archive has a different file of that name.
    /// * [`ErrorKind::Corrupt`]: the file is not what its name says, it changed
    ///   while it was read, or the archive has a damaged object of that name.
    /// * [`ErrorKind::Cancelled`], [`ErrorKind::Io`], and the store's own kinds.
    ///
    /// # Cancel safety
    /// Use the token: dropping the future leaves either the whole object or
    /// none, and perhaps the parts of an upload that only the store's clean-up
    /// removes.
    pub async fn push(&self, name: &WalFileName, path: &Path) -> Result<Pushed> {
        let begun = Instant::now();
        let bytes_read = self.inspect(name, path).await?;
        let pushed = |outcome, bytes_stored| {
            let took = begun.elapsed();
            Ok(Pushed { outcome, bytes_read, bytes_stored, took })
        };
        if self.was_left_within(name, path, bytes_read).await? {
            return pushed(PushOutcome::LeftUnfinished, 0);
        }
        let others = self.other_encodings().await?;
        if let Some(encoding) = self.find(name, &others).await? {
            let checksum = self.checksum(path, bytes_read).await?;
            compare_with_archived(&self.store, name, encoding, path, &checksum).await?;
            return pushed(PushOutcome::AlreadyThere, 0);
        }
        let sent = match bytes_read <= WHOLE_BYTES {
            true => self.send_whole(name, path, bytes_read).await?,
            false => self.send_in_parts(name, path, bytes_read).await?,
        };
        match sent.outcome {
            PutOutcome::Stored => {
                // Another writer may have stored it in another encoding meanwhile.
                if let Some(encoding) = self.find_in(name, &others).await? {
                    compare_with_archived(&self.store, name, encoding, path, &sent.checksum)
                        .await?;
                }
                pushed(PushOutcome::Stored, sent.bytes)
            }
            PutOutcome::AlreadyExists => {
                let encoding = self.options.compression.encoding();
                compare_with_archived(&self.store, name, encoding, path, &sent.checksum).await?;
                pushed(PushOutcome::AlreadyThere, sent.bytes)
            }
        }
    }

    /// How many files may be under way, so that some are compressed while others
    /// wait for their answers; with one upload at a time, one.
    pub fn under_way(&self) -> usize {
        match self.options.uploads {
            0 | 1 => 1,
            uploads => uploads + self.options.compressors,
        }
    }

    /// A number that grows as long as files are compressed or sent.
    pub fn activity(&self) -> u64 {
        self.store.activity() + self.compressed.load(Ordering::Relaxed)
    }

    /// Ends what is under way; nothing more is begun. A request that had been sent
    /// may still be carried out.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The size of the file, once it is clear that it is what its name says.
    async fn inspect(&self, name: &WalFileName, path: &Path) -> Result<u64> {
        let (name, path) = (name.clone(), path.to_owned());
        let expected = self.options.system_identifier;
        let notices = self.notices.clone();
        blocking("reading a WAL file", move || {
            let mut file = open(&path)?;
            let unreadable = |source| Error::file("read file", &path, &source);
            let bytes = file.metadata().map_err(unreadable)?.len();
            match name.kind() {
                WalFileKind::Segment | WalFileKind::Partial => {
                    if SegmentSize::new(bytes).is_none() {
                        return Err(wrong_size(&path, bytes));
                    }
                    let mut start = [0; WalPageHeader::LENGTH];
                    file.read_exact(&mut start).map_err(unreadable)?;
                    let header =
                        WalPageHeader::parse(&start).ok_or_else(|| wrong_size(&path, bytes))?;
                    header.check(&name, bytes)?;
                    if let Some(expected) = expected {
                        header.check_system_identifier(&name, expected)?;
                    }
                }
                WalFileKind::TimelineHistory if bytes == 0 => return Err(wrong_size(&path, bytes)),
                // Only people read these, and the server would wait for it for ever.
                WalFileKind::BackupHistory if bytes == 0 => notices.warning(format!(
                    "backup history file \"{}\" is empty and is archived as it is",
                    path.display()
                )),
                WalFileKind::TimelineHistory | WalFileKind::BackupHistory => {}
            }
            Ok(bytes)
        })
        .await
    }

    /// Whether it is a standby's part of a segment in which its timeline was left.
    async fn was_left_within(&self, name: &WalFileName, path: &Path, bytes: u64) -> Result<bool> {
        let Some(size) = SegmentSize::new(bytes) else { return Ok(false) };
        let (file, path) = (name.clone(), path.to_owned());
        let left = blocking("reading a WAL file", move || left_within(&file, &path, size)).await?;
        if let Some(left) = left {
            self.notices.log(format!(
                "WAL segment \"{name}\" is not archived: timeline {} left it at LSN {}, and has the same up to there in a segment of its own",
                left.newer, left.at
            ));
        }
        Ok(left.is_some())
    }

    /// Under which encoding the archive has the file already, where that is
    /// likely enough to be worth a question.
    async fn find(&self, name: &WalFileName, others: &[Encoding]) -> Result<Option<Encoding>> {
        let own = self.options.compression.encoding();
        let look_for_own = self.options.look_first || self.listed.contains(name);
        if look_for_own && self.find_in(name, &[own]).await?.is_some() {
            return Ok(Some(own));
        }
        self.find_in(name, others).await
    }

    async fn find_in(&self, name: &WalFileName, among: &[Encoding]) -> Result<Option<Encoding>> {
        for &encoding in among {
            if self.store.head(&layout::wal_file(name, encoding)).await?.is_some() {
                return Ok(Some(encoding));
            }
        }
        Ok(None)
    }

    /// The other encodings of the archive. Another writer may have begun to use one, so
    /// they are asked for again now and then.
    async fn other_encodings(&self) -> Result<Vec<Encoding>> {
        let lock = || self.other_encodings.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut others = lock();
            if others.read_at.elapsed() < READ_ENCODINGS_EVERY {
                return Ok(others.known.clone());
            }
            // One file asks, the others go on.
            others.read_at = Instant::now();
        }
        let mut known = owner::registered_wal_encodings(&*self.store).await?;
        known.retain(|encoding| *encoding != self.options.compression.encoding());
        lock().known.clone_from(&known);
        Ok(known)
    }

    /// The checksum that is kept with the object.
    async fn checksum(&self, path: &Path, bytes: u64) -> Result<String> {
        let path = path.to_owned();
        let compressed = Arc::clone(&self.compressed);
        blocking("reading a WAL file", move || {
            copy(&path, bytes, io::sink(), &compressed).map(|(checksum, _)| checksum)
        })
        .await
    }

    /// Compresses the file in memory and sends it by one request.
    async fn send_whole(&self, name: &WalFileName, path: &Path, bytes: u64) -> Result<Sent> {
        let place = Arc::clone(&self.compressors).acquire_owned().await;
        let (path, compression) = (path.to_owned(), self.options.compression);
        let compressed = Arc::clone(&self.compressed);
        let compressing = blocking("compressing a WAL file", move || {
            // Given back when the work ends, not when it is no longer waited for.
            let _place = place;
            // Memory that is not written to is not used, so the size wastes nothing.
            let room = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0) + READ_BYTES);
            let (checksum, body) = compress(&path, bytes, compression, room, &compressed)?;
            Ok((checksum, Bytes::from(body)))
        });
        let sending = async {
            let (checksum, body) = compressing.await?;
            let bytes = body.len() as u64;
            let key = layout::wal_file(name, self.options.compression.encoding());
            let attributes = attributes(&checksum);
            let _upload = self.uploads.acquire().await;
            let outcome = self.store.put(&key, body, PutMode::CreateOnly, &attributes).await?;
            Ok(Sent { outcome, bytes, checksum })
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            sent = sending => sent,
        }
    }

    /// Sends the file in parts while it is compressed. Its checksum has to be
    /// known before the first part is sent, so it is read twice.
    async fn send_in_parts(&self, name: &WalFileName, path: &Path, bytes: u64) -> Result<Sent> {
        let _place = self.compressors.acquire().await;
        let checksum = self.checksum(path, bytes).await?;
        let _upload = self.uploads.acquire().await;
        let compression = self.options.compression;
        let key = layout::wal_file(name, compression.encoding());
        let request = Upload {
            attributes: attributes(&checksum),
            part_size_bytes: PART_SIZE_BYTES,
            note: or_cancelled(&self.cancel, self.open_uploads.note(&*self.store)).await?,
            ..Upload::create_only(key, self.cancel.clone())
        };
        let (path, before) = (path.to_owned(), checksum.clone());
        let compressed = Arc::clone(&self.compressed);
        let uploaded = upload(Arc::clone(&self.store), request, move |writer| {
            let (after, _) = compress(&path, bytes, compression, writer, &compressed)?;
            if after == before { Ok(()) } else { Err(changed(&path)) }
        })
        .await?;
        Ok(Sent { outcome: uploaded.outcome, bytes: uploaded.bytes, checksum })
    }
}

#[derive(Debug)]
struct OtherEncodings {
    known: Vec<Encoding>,
    read_at: Instant,
}

/// A file that was sent.
struct Sent {
    outcome: PutOutcome,
    /// How much was sent.
    bytes: u64,
    checksum: String,
}

fn attributes(checksum: &str) -> Attributes {
    Attributes { content_xxh128: Some(checksum.to_owned()), upload_id: None }
}

/// Compresses the file into `sink`; returns the checksum of its content, and `sink`.
fn compress<W: Write>(
    path: &Path,
    bytes: u64,
    compression: Compression,
    sink: W,
    progress: &AtomicU64,
) -> Result<(String, W)> {
    let encoder = Encoder::new(sink, compression)?;
    let (checksum, encoder) = copy(path, bytes, encoder, progress)?;
    Ok((checksum, encoder.finish()?))
}

/// Copies the file, which has `bytes`, into `sink`; returns the checksum of its
/// content, and `sink`. `progress` counts the bytes.
fn copy<W: Write>(
    path: &Path,
    bytes: u64,
    mut sink: W,
    progress: &AtomicU64,
) -> Result<(String, W)> {
    let mut file = open(path)?;
    let mut state = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut copied = 0;
    loop {
        let length = file.read(&mut buffer).map_err(|e| Error::file("read file", path, &e))?;
        if length == 0 {
            break;
        }
        state.update(&buffer[..length]);
        sink.write_all(&buffer[..length])
            .map_err(|source| Error::from_io("could not compress WAL", source))?;
        copied += length as u64;
        progress.fetch_add(length as u64, Ordering::Relaxed);
    }
    if copied != bytes {
        return Err(changed(path));
    }
    Ok((format!("{:032x}", state.digest128()), sink))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::file("open file", path, &error))
}

fn wrong_size(path: &Path, bytes: u64) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "file \"{}\" has {bytes} bytes, which is not the size of a WAL file",
            path.display()
        ),
    )
    .with_hint(
        "Replace the file with a sound copy: a standby may have one. If there is none, remove its mark in pg_wal/archive_status and take a base backup: older ones cannot be restored beyond this file.",
    )
}

fn changed(path: &Path) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("file \"{}\" changed while it was archived", path.display()),
    )
}
