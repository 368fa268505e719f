//! One WAL file into the store.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::compare::compare_with_archived;
use super::open_uploads::OpenUploads;
use crate::changed_blocks::KeptMaps;
use crate::codec::{Compression, Encoding};
use crate::error::{Error, Result};
use crate::layout;
use crate::notice::Notices;
use crate::owner;
use crate::postgres::{SegmentSize, SystemIdentifier, WalFileName};
use crate::store::{ObjectStore, PutOutcome};
use crate::tasks::Work;

mod bodies;
mod inspect;
mod mapping;
mod send;

use bodies::Bodies;

/// How often the archive is asked in which other encodings it has WAL.
const READ_ENCODINGS_EVERY: Duration = Duration::from_secs(60);

/// A file of at most this size is compressed in memory, in one pass, and stored
/// by one request: the segments of nearly every server.
const WHOLE_BYTES: u64 = SegmentSize::DEFAULT.bytes();

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
    /// Where it is noted which blocks the segments change; it is not, when it is `None`.
    pub maps: Option<KeptMaps>,
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
    bodies: Bodies,
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
            bodies: Bodies::default(),
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
    pub fn push<'a>(&'a self, name: &'a WalFileName, path: &'a Path) -> Work<'a, Result<Pushed>> {
        Box::pin(async move {
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
                compare_with_archived(&self.store, name, encoding, path, checksum).await?;
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
                        compare_with_archived(&self.store, name, encoding, path, sent.checksum)
                            .await?;
                    }
                    pushed(PushOutcome::Stored, sent.bytes)
                }
                PutOutcome::AlreadyExists => {
                    let encoding = self.options.compression.encoding();
                    compare_with_archived(&self.store, name, encoding, path, sent.checksum).await?;
                    pushed(PushOutcome::AlreadyThere, sent.bytes)
                }
            }
        })
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
}

#[derive(Debug)]
struct OtherEncodings {
    known: Vec<Encoding>,
    read_at: Instant,
}

/// Opens a file that is to be archived.
fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::file("open file", path, &error))
}
