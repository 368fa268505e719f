//! An object as a blocking stream.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectReader;

/// Chunks that may wait for the reader; a store hands out chunks of at most
/// some hundred kilobytes.
const CHUNKS_AHEAD: usize = 16;

/// The bytes of an object, for a thread that may block.
#[derive(Debug)]
pub struct DownloadReader {
    /// `None` is the end of the object; a channel that closes without it was cut.
    chunks: mpsc::Receiver<Result<Option<Bytes>>>,
    current: Bytes,
    ended: bool,
}

/// Reads ahead of the returned reader until the object ends or the reader is
/// dropped. Must be called on a tokio runtime; the reader must be used off it.
pub fn download(object: ObjectReader) -> DownloadReader {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let mut body = object.body;
    tokio::spawn(async move {
        loop {
            let chunk = tokio::select! {
                chunk = body.next_chunk() => chunk,
                () = sender.closed() => return,
            };
            let last = !matches!(chunk, Ok(Some(_)));
            if sender.send(chunk).await.is_err() || last {
                return;
            }
        }
    });
    DownloadReader { chunks, current: Bytes::new(), ended: false }
}

impl Read for DownloadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.current.has_remaining() {
            if self.ended {
                return Ok(0);
            }
            match self.chunks.blocking_recv() {
                Some(Ok(Some(chunk))) => self.current = chunk,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error.into()),
                None => {
                    return Err(Error::new(
                        ErrorKind::Cancelled,
                        "the download ended before the object did",
                    )
                    .into());
                }
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
