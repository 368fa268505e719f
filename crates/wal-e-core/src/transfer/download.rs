//! An object as a blocking stream.

use std::io::{self, Read};

use bytes::Bytes;

use super::chunks::{Chunks, channel, give, pump};
use crate::store::ObjectReader;

/// Chunks that may wait for the reader; a store hands out chunks of at most
/// some hundred kilobytes.
const CHUNKS_AHEAD: usize = 16;

/// The bytes of an object, for a thread that may block.
#[derive(Debug)]
pub struct DownloadReader {
    chunks: Chunks,
    current: Bytes,
    ended: bool,
}

/// Reads ahead of the returned reader until the object ends or the reader is
/// dropped. Must be called on a tokio runtime; the reader must be used off it.
pub fn download(object: ObjectReader) -> DownloadReader {
    let (sender, chunks) = channel(CHUNKS_AHEAD);
    tokio::spawn(pump(object.body, sender));
    DownloadReader { chunks, current: Bytes::new(), ended: false }
}

impl Read for DownloadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.next()? {
                Some(chunk) => self.current = chunk,
                None => self.ended = true,
            }
        }
        Ok(give(&mut self.current, buffer))
    }
}
