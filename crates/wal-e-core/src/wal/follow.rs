//! The records of archived WAL, followed from segment to segment.
//!
//! Segments of the usual size are fetched and decompressed whole, several at a time;
//! larger ones are streamed, one at a time. What a server would not replay is never
//! handed out: a record counts with its checksum and its link to the one before.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt};
use xxhash_rust::xxh3::Xxh3;

use super::fetch::{self, FetchOptions, Sink, locate_sound};
use crate::archived::{ArchivedObject, read_failed};
use crate::catalogue::locate::{KeyEnding, locate};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Notices;
use crate::postgres::{SegmentSize, WalEnd, WalFileName, WalReader, WalRecord, WalSegment};
use crate::store::ObjectStore;
use crate::tasks::blocking;

/// Segments that are fetched at the same time.
const IN_FLIGHT: usize = 4;

/// Larger segments are not held in memory.
const LARGEST_HELD_BYTES: u64 = 16 << 20;

/// How much is read between two looks at whether the visitor has seen enough.
const PIECE_BYTES: usize = 256 * 1024;

/// Name of work, should it panic.
const READING: &str = "reading archived WAL";

/// What looks at the records.
pub trait RecordVisitor: Send + 'static {
    /// Takes the next record.
    fn visit(&mut self, record: WalRecord);
    /// Whether it has seen enough.
    fn is_done(&self) -> bool;
    /// Takes the XXH3 checksum of a whole segment, after its records, unless it has seen
    /// enough before the segment's end.
    fn segment(&mut self, _segment: WalSegment, _xxh128: u128) {}
}

/// Why no further record was handed out.
#[derive(Debug)]
pub enum Stop {
    /// The visitor has seen enough.
    Enough,
    /// All segments were read.
    AllRead,
    /// The WAL ends in this segment: there is something else than a further record.
    Ended(WalSegment, WalEnd),
    /// The segment could not be read.
    Failed(WalSegment, Error),
}

/// Where reading ended.
#[derive(Debug)]
pub struct Followed<V> {
    /// With what it has seen.
    pub visitor: V,
    /// As it was after the last byte.
    pub reader: WalReader,
    /// How many segments were read.
    pub segments: u64,
    /// Why it ended.
    pub stop: Stop,
}

/// The WAL segments of an archive, to be read.
#[derive(Debug)]
pub struct ArchivedWal {
    store: Arc<dyn ObjectStore>,
    size: SegmentSize,
    notices: Notices,
    /// What the key of the last one ended with.
    likely: Mutex<Option<KeyEnding>>,
}

/// The content of one segment.
enum Content {
    Whole { bytes: Vec<u8>, xxh128: u128 },
    Stream(ArchivedObject),
}

impl ArchivedWal {
    /// Segments of this size.
    pub fn new(store: Arc<dyn ObjectStore>, size: SegmentSize, notices: Notices) -> Self {
        ArchivedWal { store, size, notices, likely: Mutex::default() }
    }

    /// Hands the records of `segments`, which must be consecutive, to `visitor`. It takes
    /// one request a segment, and one to find out how the first is encoded. Of several
    /// objects of one segment, the first sound one is read. `read` gets the number of
    /// segments that have been read, after each.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] at the end of the runtime; others are in what it returns.
    pub async fn follow<V: RecordVisitor>(
        &self,
        segments: impl IntoIterator<Item = WalSegment, IntoIter: Send> + Send,
        mut reader: WalReader,
        mut visitor: V,
        read: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Followed<V>> {
        let ahead = if self.size.bytes() > LARGEST_HELD_BYTES { 1 } else { IN_FLIGHT };
        let mut segments = segments.into_iter().peekable();
        if let Some(first) = segments.peek().filter(|_| self.likely().is_none()) {
            let name = WalFileName::segment(*first, self.size);
            // Where this fails, so does reading it.
            let located = locate(&*self.store, &name).await.ok().flatten();
            self.remember(located.and_then(|located| KeyEnding::of(&located.key, &name)));
        }
        let mut contents = stream::iter(segments)
            .map(|segment| async move { (segment, self.content(segment).await) })
            .buffered(ahead);
        let mut count = 0;
        while let Some((segment, content)) = contents.next().await {
            let content = match content {
                Ok(content) => content,
                Err(error) => {
                    let stop = Stop::Failed(segment, error);
                    return Ok(Followed { visitor, reader, segments: count, stop });
                }
            };
            let passed = pass(segment, content, reader, visitor).await?;
            (reader, visitor) = (passed.reader, passed.visitor);
            count += 1;
            read(count);
            let stop = if visitor.is_done() {
                Stop::Enough
            } else if let Some(error) = passed.failed {
                Stop::Failed(segment, error)
            } else if let Some(end) = reader.ended() {
                Stop::Ended(segment, end.clone())
            } else {
                continue;
            };
            return Ok(Followed { visitor, reader, segments: count, stop });
        }
        Ok(Followed { visitor, reader, segments: count, stop: Stop::AllRead })
    }

    fn likely(&self) -> Option<KeyEnding> {
        self.likely.lock().ok()?.clone()
    }

    fn remember(&self, ending: Option<KeyEnding>) {
        if let (Ok(mut likely), Some(_)) = (self.likely.lock(), &ending) {
            *likely = ending;
        }
    }

    async fn content(&self, segment: WalSegment) -> Result<Content> {
        let name = WalFileName::segment(segment, self.size);
        match self.size.bytes() > LARGEST_HELD_BYTES {
            true => self.stream(&name).await,
            false => self.whole(&name).await,
        }
    }

    async fn whole(&self, name: &WalFileName) -> Result<Content> {
        let options = FetchOptions {
            likely: self.likely().unwrap_or_default(),
            notices: self.notices.clone(),
            ..FetchOptions::only_checks(None)
        };
        let sound =
            fetch::read(&*self.store, name, &options, Sink::Memory(self.size.bytes())).await?;
        self.remember(Some(sound.ending));
        Ok(Content::Whole { xxh128: sound.content.digest(), bytes: sound.bytes })
    }

    async fn stream(&self, name: &WalFileName) -> Result<Content> {
        let located = locate_sound(&*self.store, name).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("WAL file \"{name}\" is not in the archive"))
        })?;
        let encoding = located.encoding.readable(&self.store.url(located.key.as_str()))?;
        Ok(Content::Stream(ArchivedObject::open(&*self.store, &located.key, encoding).await?))
    }
}

struct Passed<V> {
    reader: WalReader,
    visitor: V,
    failed: Option<Error>,
}

/// Takes one segment through the reader.
async fn pass<V: RecordVisitor>(
    segment: WalSegment,
    content: Content,
    mut reader: WalReader,
    mut visitor: V,
) -> Result<Passed<V>> {
    blocking(READING, move || {
        let mut failed = None;
        match content {
            Content::Whole { bytes, xxh128 } => {
                for piece in bytes.chunks(PIECE_BYTES) {
                    if reader.ended().is_some() || visitor.is_done() {
                        break;
                    }
                    reader.feed(piece, &mut |record| visitor.visit(record));
                }
                visitor.segment(segment, xxh128);
            }
            Content::Stream(object) => {
                let url = object.url().to_owned();
                match stream_through(object, &mut reader, &mut visitor) {
                    Ok(Some(xxh128)) => visitor.segment(segment, xxh128),
                    Ok(None) => {}
                    Err(source) => failed = Some(read_failed(&url, source)),
                }
            }
        }
        Ok(Passed { reader, visitor, failed })
    })
    .await
}

/// Returns the checksum, if all of it has passed.
fn stream_through<V: RecordVisitor>(
    object: ArchivedObject,
    reader: &mut WalReader,
    visitor: &mut V,
) -> io::Result<Option<u128>> {
    let mut content = object.content()?;
    let mut checksum = Xxh3::new();
    let mut buffer = vec![0; PIECE_BYTES];
    while reader.ended().is_none() && !visitor.is_done() {
        let length = content.read(&mut buffer)?;
        if length == 0 {
            return Ok(Some(checksum.digest128()));
        }
        checksum.update(&buffer[..length]);
        reader.feed(&buffer[..length], &mut |record| visitor.visit(record));
    }
    Ok(None)
}
