//! A stream of unknown length into one object.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::upload_note::{Open, UploadNote};
use crate::error::{Error, Result};
use crate::layout::ObjectKey;
use crate::store::{Attributes, MultipartUpload, ObjectStore, PutMode, PutOutcome};
use crate::tasks::{blocking, joined};

/// Buffers of one upload: one is filled while the others are sent.
const BUFFERS: usize = 3;

/// The smallest part but the last that S3 takes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
pub const MIN_PART_SIZE_BYTES: usize = 5 * 1024 * 1024;

/// How long an upload that is given up may take to clean up after itself.
const CLEAN_UP_TIME: Duration = Duration::from_secs(5);

/// How many of the 10,000 parts that S3 takes for one object have the same size, which
/// is meant for all of an object whose size was foreseen. Some servers (Cloudflare R2)
/// take no others, so that this is left only where the object would not fit.
const EQUAL_PARTS: u64 = 8_000;

/// After those, the size doubles with each further 200 parts: an object may have fifty
/// times the size that was foreseen, or two terabytes.
const DOUBLE_EVERY: u64 = 200;

/// The size of the part of this number, counted from 1, where the first has `first_bytes`.
fn part_size_bytes(first_bytes: usize, number: u64) -> usize {
    let doublings = number.saturating_sub(EQUAL_PARTS).div_ceil(DOUBLE_EVERY);
    (0..doublings).fold(first_bytes, |bytes, _| bytes.saturating_mul(2))
}

/// What is to be uploaded, and how.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The object.
    pub key: ObjectKey,
    /// Whether it may replace one of that name.
    pub mode: PutMode,
    /// Kept with the object.
    pub attributes: Attributes,
    /// Size of the buffers, and of the parts of an object that is larger than one. Of one
    /// that turns out much larger than was foreseen, later parts are larger.
    pub part_size_bytes: usize,
    /// Where to note that it is open, once it is a multipart upload.
    pub note: Option<Arc<UploadNote>>,
    /// Ends the upload and leaves nothing of it.
    pub cancel: CancellationToken,
}

impl Upload {
    /// An upload that never replaces an object.
    pub fn create_only(key: ObjectKey, cancel: CancellationToken) -> Self {
        Upload {
            key,
            mode: PutMode::CreateOnly,
            attributes: Attributes::default(),
            part_size_bytes: MIN_PART_SIZE_BYTES,
            note: None,
            cancel,
        }
    }

    /// Noted as open in `note`, as long as it is.
    #[must_use]
    pub fn noted_in(mut self, note: Option<Arc<UploadNote>>) -> Self {
        self.note = note;
        self
    }

    /// With parts large enough for an object of up to `bytes`.
    #[must_use]
    pub fn sized_for(mut self, bytes: u64) -> Self {
        let needed = usize::try_from(bytes.div_ceil(EQUAL_PARTS)).unwrap_or(usize::MAX);
        self.part_size_bytes = self.part_size_bytes.max(needed);
        self
    }
}

/// An upload that ended well.
#[derive(Debug)]
#[must_use]
pub struct Uploaded<T> {
    /// Whether the object was stored, or one of that name was there.
    pub outcome: PutOutcome,
    /// Bytes of the object.
    pub bytes: u64,
    /// What the producer returned.
    pub value: T,
}

/// Runs `produce` on a thread of its own and stores what it writes.
///
/// An object of at most one part is stored by one request, a larger one in
/// parts while it is produced. It becomes visible only after `produce` has
/// returned `Ok`.
///
/// # Cancel safety
/// Use the token of [`Upload`]: a dropped future leaves parts behind that only
/// the store's own clean-up removes.
pub async fn upload<T, F>(
    store: Arc<dyn ObjectStore>,
    upload: Upload,
    produce: F,
) -> Result<Uploaded<T>>
where
    T: Send + 'static,
    F: FnOnce(&mut PartWriter) -> Result<T> + Send + 'static,
{
    let (sender, mut parts) = mpsc::channel(BUFFERS);
    let (empty, buffers) = mpsc::channel(BUFFERS);
    for _ in 0..BUFFERS {
        empty.try_send(BytesMut::new()).expect("there is room for all");
    }
    let mut writer = PartWriter {
        sender,
        buffers,
        first_part_bytes: upload.part_size_bytes,
        part_size_bytes: upload.part_size_bytes,
        parts: 0,
        filling: None,
        cancel: upload.cancel.clone(),
    };
    let producer = tokio::task::spawn_blocking(move || {
        let value = produce(&mut writer)?;
        writer.finish().map_err(|error| Error::from_io("could not upload", error))?;
        Ok(value)
    });

    let consumed = consume(&*store, &upload, &mut parts, empty).await;
    // What the producer still wants to send has nowhere to go.
    parts.close();
    drop(parts);
    let produced = joined("an upload", producer.await);
    let (value, received) = match (produced, consumed) {
        (Ok(value), Ok(received)) => (value, received),
        (produced, Ok(received)) => {
            received.discard().await;
            return Err(produced.err().unwrap_or_else(Error::cancelled));
        }
        // The producer only failed because its parts were no longer taken.
        (_, Err(error)) => return Err(error),
    };
    if upload.cancel.is_cancelled() {
        received.discard().await;
        return Err(Error::cancelled());
    }
    let bytes = received.bytes();
    let outcome = received.store(&*store, &upload).await?;
    Ok(Uploaded { outcome, bytes, value })
}

/// All bytes of the producer: in memory, or in the store as parts.
enum Received {
    Small(Bytes),
    Parts { multipart: Arc<dyn MultipartUpload>, noted: Noted, bytes: u64 },
}

impl Received {
    fn bytes(&self) -> u64 {
        match self {
            Received::Small(body) => body.len() as u64,
            Received::Parts { bytes, .. } => *bytes,
        }
    }

    async fn store(self, store: &dyn ObjectStore, upload: &Upload) -> Result<PutOutcome> {
        match self {
            Received::Small(body) => {
                tokio::select! {
                    result = store.put(&upload.key, body, upload.mode, &upload.attributes) => result,
                    () = upload.cancel.cancelled() => Err(Error::cancelled()),
                }
            }
            Received::Parts { multipart, noted, .. } => {
                let result = multipart.complete().await;
                match result {
                    Ok(PutOutcome::Stored) => noted.ended(),
                    _ => abort(&*multipart, &noted).await,
                }
                result
            }
        }
    }

    async fn discard(self) {
        if let Received::Parts { multipart, noted, .. } = self {
            abort(&*multipart, &noted).await;
        }
    }
}

/// The upload has failed already; what an abort that fails too leaves stays in the
/// note for the next process, and without one is for the store's clean-up of
/// incomplete uploads.
async fn abort(multipart: &dyn MultipartUpload, noted: &Noted) {
    if let Ok(Ok(())) = tokio::time::timeout(CLEAN_UP_TIME, multipart.abort()).await {
        noted.ended();
    }
}

/// The entry of an open upload in a note, if it has one.
#[derive(Debug, Clone)]
struct Noted(Option<(Arc<UploadNote>, Open)>);

impl Noted {
    /// Notes that `multipart` has begun. An upload that cannot be noted goes on: it is
    /// only in the way if this process is killed.
    async fn new(upload: &Upload, multipart: &dyn MultipartUpload) -> Self {
        let (Some(note), Some(id)) = (&upload.note, multipart.id()) else { return Noted(None) };
        let open = Open::Upload { key: upload.key.clone(), id: id.to_owned() };
        let (note, noted) = (Arc::clone(note), Noted(Some((Arc::clone(note), open.clone()))));
        let _ = blocking("noting an upload", move || note.add(open)).await;
        noted
    }

    fn ended(&self) {
        if let Some((note, open)) = &self.0 {
            note.remove(open);
        }
    }
}

/// Takes the producer's parts until it ends.
async fn consume(
    store: &dyn ObjectStore,
    upload: &Upload,
    parts: &mut mpsc::Receiver<Bytes>,
    empty: mpsc::Sender<BytesMut>,
) -> Result<Received> {
    let first_two = async {
        let first = parts.recv().await;
        let second = parts.recv().await;
        (first, second)
    };
    let (first, second) = tokio::select! {
        both = first_two => both,
        () = upload.cancel.cancelled() => return Err(Error::cancelled()),
    };
    let (first, second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (Some(only), None) => return Ok(Received::Small(only)),
        (None, _) => return Ok(Received::Small(Bytes::new())),
    };

    // A multipart upload that has begun is aborted below; one that is dropped
    // while it begins would stay open, so it gets some time.
    let multipart: Arc<dyn MultipartUpload> = tokio::select! {
        result = store.begin_multipart(&upload.key, upload.mode, &upload.attributes) => result?.into(),
        () = async {
            upload.cancel.cancelled().await;
            tokio::time::sleep(CLEAN_UP_TIME).await;
        } => return Err(Error::cancelled()),
    };
    let noted = Noted::new(upload, &*multipart).await;
    let mut sending = JoinSet::new();
    let sent = tokio::select! {
        sent = send_parts(&multipart, [first, second], parts, empty, &mut sending) => sent,
        () = upload.cancel.cancelled() => Err(Error::cancelled()),
    };
    // A part that arrives after the abort would stay.
    sending.shutdown().await;
    match sent {
        Ok(bytes) => Ok(Received::Parts { multipart, noted, bytes }),
        Err(error) => {
            abort(&*multipart, &noted).await;
            Err(error)
        }
    }
}

/// Sends parts as they come, several at a time; returns the bytes of all.
async fn send_parts(
    multipart: &Arc<dyn MultipartUpload>,
    first: [Bytes; 2],
    parts: &mut mpsc::Receiver<Bytes>,
    empty: mpsc::Sender<BytesMut>,
    sending: &mut JoinSet<Result<()>>,
) -> Result<u64> {
    let mut waiting = first.into_iter();
    let mut number = 0;
    let mut offset = 0;
    loop {
        let part = match waiting.next() {
            Some(part) => Some(part),
            None => tokio::select! {
                part = parts.recv() => part,
                Some(result) = sending.join_next() => {
                    joined("the upload of a part", result)?;
                    continue;
                }
            },
        };
        let Some(bytes) = part else { break };
        number += 1;
        let at = offset;
        offset += bytes.len() as u64;
        let (multipart, empty) = (Arc::clone(multipart), empty.clone());
        sending.spawn(async move {
            multipart.put_part(number, at, bytes.clone()).await?;
            // The same memory again, or, should the store still hold it, new memory.
            let buffer = bytes.try_into_mut().unwrap_or_default();
            // The producer may have ended.
            let _ = empty.send(buffer).await;
            Ok(())
        });
    }
    while let Some(result) = sending.join_next().await {
        joined("the upload of a part", result)?;
    }
    Ok(offset)
}

/// Takes the bytes of an object on the producer's thread.
#[derive(Debug)]
pub struct PartWriter {
    sender: mpsc::Sender<Bytes>,
    /// Empty ones; closed when the upload has ended.
    buffers: mpsc::Receiver<BytesMut>,
    first_part_bytes: usize,
    /// Of the part that is being filled.
    part_size_bytes: usize,
    /// How many parts were begun.
    parts: u64,
    filling: Option<BytesMut>,
    cancel: CancellationToken,
}

impl PartWriter {
    fn send(&mut self) -> io::Result<()> {
        match self.filling.take() {
            Some(bytes) => self.sender.blocking_send(bytes.freeze()).map_err(|_| self.closed()),
            None => Ok(()),
        }
    }

    /// The upload ended before its producer did; its own error says why.
    fn closed(&self) -> io::Error {
        if self.cancel.is_cancelled() {
            return Error::cancelled().into();
        }
        io::Error::from(io::ErrorKind::BrokenPipe)
    }

    fn finish(mut self) -> io::Result<()> {
        self.send()
    }
}

impl Write for PartWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.filling.as_ref().is_some_and(|bytes| bytes.len() == self.part_size_bytes) {
            self.send()?;
        }
        let bytes = match &mut self.filling {
            Some(bytes) => bytes,
            None => {
                let mut empty = self.buffers.blocking_recv().ok_or_else(|| self.closed())?;
                empty.clear();
                self.parts += 1;
                self.part_size_bytes = part_size_bytes(self.first_part_bytes, self.parts);
                // Memory that is not written to is not used: the size wastes nothing.
                empty.reserve(self.part_size_bytes);
                self.filling.insert(empty)
            }
        };
        let length = buffer.len().min(self.part_size_bytes - bytes.len());
        bytes.extend_from_slice(&buffer[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
