//! The chunks of a body, from the task that receives them to a thread that may block.

use std::io;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectBody;

/// Where a task puts what it receives. `None` is the end of the body; a channel
/// that closes without it was cut.
pub(super) type Sender = mpsc::Sender<Result<Option<Bytes>>>;

/// The chunks that have come, for the thread.
#[derive(Debug)]
pub(super) struct Chunks {
    receiver: mpsc::Receiver<Result<Option<Bytes>>>,
}

/// A channel in which at most `ahead` chunks wait for the thread.
pub(super) fn channel(ahead: usize) -> (Sender, Chunks) {
    let (sender, receiver) = mpsc::channel(ahead);
    (sender, Chunks { receiver })
}

/// Receives a body until it ends or no one waits for it.
pub(super) async fn pump(mut body: Box<dyn ObjectBody>, sender: Sender) {
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
}

impl Chunks {
    /// Waits for the next chunk; `None` is the end, to be asked for once.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let cut =
            || Err(Error::new(ErrorKind::Cancelled, "the download ended before the object did"));
        Ok(self.receiver.blocking_recv().unwrap_or_else(cut)?)
    }
}

/// Moves as much as fits from a chunk into `buffer`, and returns how much.
pub(super) fn give(chunk: &mut Bytes, buffer: &mut [u8]) -> usize {
    let length = buffer.len().min(chunk.len());
    chunk.copy_to_slice(&mut buffer[..length]);
    length
}
