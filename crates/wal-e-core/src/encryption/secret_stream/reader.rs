//! Decrypting.

use std::io::{self, Read};

use dryoc::classic::crypto_secretstream_xchacha20poly1305::{
    Header, State, crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_pull,
};
use dryoc::constants::{
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_ABYTES,
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_TAG_FINAL as FINAL,
};

use super::{CHUNK_BYTES, HEADER_BYTES, STORED_CHUNK_BYTES};
use crate::encryption::Key;
use crate::encryption::pieces::fill;
use crate::error::{Error, ErrorKind};

/// Gives the content of a stream.
///
/// What it gives is authentic, and all of it once it has said that there is no more. A stream
/// that was altered, whose chunks are not in their order, which ends too early or does not end
/// where it says is [`ErrorKind::Corrupt`] inside the `io::Error`. So is one of another key,
/// which looks like a first chunk that was altered.
///
/// Tags that WAL-G does not write are read as libsodium has them: PUSH means nothing here, and
/// REKEY is obeyed. A FINAL chunk may be full.
pub struct SecretStreamReader<R: Read> {
    stream: R,
    key: Key,
    /// From the header on.
    state: Option<State>,
    stored: Box<[u8; STORED_CHUNK_BYTES]>,
    /// What is left of the chunk is between the two.
    content: Box<[u8; CHUNK_BYTES]>,
    start: usize,
    end: usize,
    /// How many chunks have been read.
    chunks: u64,
    /// How many bytes of the stream have been read.
    bytes: u64,
    is_finished: bool,
    failed: bool,
}

impl<R: Read> SecretStreamReader<R> {
    /// Reads `stream`, which was encrypted with `key`, from its header on.
    pub fn new(stream: R, key: &Key) -> Self {
        SecretStreamReader {
            stream,
            key: key.clone(),
            state: None,
            stored: Box::new([0; STORED_CHUNK_BYTES]),
            content: Box::new([0; CHUNK_BYTES]),
            start: 0,
            end: 0,
            chunks: 0,
            bytes: 0,
            is_finished: false,
            failed: false,
        }
    }

    fn read_header(&mut self) -> io::Result<State> {
        let mut header = Header::default();
        let length = fill(&mut self.stream, &mut header)?;
        self.bytes += length as u64;
        if length < HEADER_BYTES {
            return Err(self.truncated());
        }
        Ok(started(&header, &self.key))
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.read_header()?,
        };
        let length = fill(&mut self.stream, &mut self.stored[..])?;
        self.bytes += length as u64;
        if length < CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_ABYTES {
            return Err(self.truncated());
        }
        let stored = &self.stored[..length];
        let Some((tag, content_length)) = pull(&mut state, stored, &mut self.content[..]) else {
            return Err(self.altered(length));
        };
        match tag {
            FINAL => self.check_end(length)?,
            0..FINAL if length < STORED_CHUNK_BYTES => return Err(self.truncated()),
            0..FINAL => {}
            _ => return Err(damaged(format!("chunk {} has an unknown tag", self.chunks + 1))),
        }
        self.state = Some(state);
        self.is_finished = tag == FINAL;
        self.chunks += 1;
        (self.start, self.end) = (0, content_length);
        Ok(())
    }

    /// After the FINAL chunk of `length` bytes: only one that is full can have anything behind
    /// it, others were read up to the end.
    fn check_end(&mut self, length: usize) -> io::Result<()> {
        if length == STORED_CHUNK_BYTES && fill(&mut self.stream, &mut [0])? > 0 {
            return Err(damaged("bytes follow its end"));
        }
        Ok(())
    }

    fn truncated(&self) -> io::Error {
        let message = format!("the libsodium stream is truncated after {} bytes", self.bytes);
        Error::new(ErrorKind::Corrupt, message).into()
    }

    fn altered(&self, length: usize) -> io::Error {
        let number = self.chunks + 1;
        damaged(match (self.chunks, length) {
            (0, _) => "it is of another key, or its beginning was altered or truncated".to_owned(),
            (_, STORED_CHUNK_BYTES) => {
                format!("chunk {number} was altered, or is not in its place")
            }
            // What follows the end is taken for a part of the last chunk.
            _ => format!("chunk {number}, the last, was altered, truncated or added to"),
        })
    }
}

impl<R: Read> Read for SecretStreamReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(io::Error::other("an earlier read failed"));
        }
        while self.start == self.end && !self.is_finished {
            self.failed = true;
            self.read_chunk()?;
            self.failed = false;
        }
        let length = (&self.content[self.start..self.end]).read(buffer)?;
        self.start += length;
        Ok(length)
    }
}

/// Whether a stream that begins with `beginning`, a header and a chunk that is full or the
/// last, is one of `key`.
pub(in crate::encryption) fn opens(beginning: &[u8], key: &Key) -> bool {
    let Some((header, chunk)) = beginning.split_first_chunk::<HEADER_BYTES>() else { return false };
    pull(&mut started(header, key), chunk, &mut [0; CHUNK_BYTES]).is_some()
}

pub(super) fn started(header: &Header, key: &Key) -> State {
    let mut state = State::new();
    crypto_secretstream_xchacha20poly1305_init_pull(&mut state, header, key.expose());
    state
}

/// The tag of a chunk and the length of its content, if it is authentic.
fn pull(state: &mut State, stored: &[u8], content: &mut [u8]) -> Option<(u8, usize)> {
    let mut tag = 0;
    crypto_secretstream_xchacha20poly1305_pull(state, content, &mut tag, stored, None)
        .ok()
        .map(|length| (tag, length))
}

fn damaged(why: impl std::fmt::Display) -> io::Error {
    Error::new(ErrorKind::Corrupt, format!("invalid libsodium stream: {why}")).into()
}
