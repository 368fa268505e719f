//! Encrypting.

use std::io::{self, Write};

use dryoc::classic::crypto_secretstream_xchacha20poly1305::{
    Header, State, crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_push,
};
use dryoc::constants::{
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_ABYTES,
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_TAG_FINAL as FINAL,
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_TAG_MESSAGE as MESSAGE,
};

use super::{CHUNK_BYTES, HEADER_BYTES, STORED_CHUNK_BYTES};
use crate::encryption::Key;
use crate::error::{Error, ErrorKind};

/// Encrypts what is written to it, into `W`.
///
/// Without [`finish`](Self::finish) the stream has no end, and is read as truncated.
/// [`flush`](Write::flush) passes on only full chunks: WAL-G reads no others before the end.
pub struct SecretStreamWriter<W: Write> {
    sink: W,
    state: State,
    /// Until the first chunk is written.
    header: Option<Header>,
    /// Content of the chunk that is not full.
    content: Box<[u8; CHUNK_BYTES]>,
    length: usize,
    /// The header and a chunk.
    stored: Box<[u8; HEADER_BYTES + STORED_CHUNK_BYTES]>,
    failed: bool,
}

impl<W: Write> SecretStreamWriter<W> {
    /// Writes to `sink`, encrypted with `key`. Nothing is written before there is a chunk.
    pub fn new(sink: W, key: &Key) -> Self {
        let mut state = State::new();
        let mut header = Header::default();
        crypto_secretstream_xchacha20poly1305_init_push(&mut state, &mut header, key.expose());
        Self::started(sink, state, header)
    }

    /// Writes as after a header that is known.
    #[cfg(test)]
    pub(in crate::encryption) fn with_header(sink: W, key: &Key, header: Header) -> Self {
        let state = super::reader::started(&header, key);
        Self::started(sink, state, header)
    }

    fn started(sink: W, state: State, header: Header) -> Self {
        SecretStreamWriter {
            sink,
            state,
            header: Some(header),
            content: Box::new([0; CHUNK_BYTES]),
            length: 0,
            stored: Box::new([0; HEADER_BYTES + STORED_CHUNK_BYTES]),
            failed: false,
        }
    }

    /// Where it is written to.
    pub fn get_ref(&self) -> &W {
        &self.sink
    }

    /// Where it is written to. What else is written there damages the stream.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Writes the last chunk, and gives the sink back. It does not flush it.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_chunk(FINAL)?;
        Ok(self.sink)
    }

    fn write_chunk(&mut self, tag: u8) -> io::Result<()> {
        // A chunk of which only a part was stored cannot be written again.
        if std::mem::replace(&mut self.failed, true) {
            return Err(io::Error::other("an earlier write failed"));
        }
        let start = match &self.header {
            Some(header) => {
                self.stored[..HEADER_BYTES].copy_from_slice(header);
                0
            }
            None => HEADER_BYTES,
        };
        let stored_length = self.length + CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_ABYTES;
        let end = HEADER_BYTES + stored_length;
        crypto_secretstream_xchacha20poly1305_push(
            &mut self.state,
            &mut self.stored[HEADER_BYTES..end],
            &self.content[..self.length],
            None,
            tag,
        )
        .map_err(|error| Error::new(ErrorKind::Bug, format!("could not encrypt: {error}")))?;
        self.sink.write_all(&self.stored[start..end])?;
        self.header = None;
        self.length = 0;
        self.failed = false;
        Ok(())
    }
}

impl<W: Write> Write for SecretStreamWriter<W> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let taken = content.len().min(CHUNK_BYTES - self.length);
        self.content[self.length..][..taken].copy_from_slice(&content[..taken]);
        self.length += taken;
        if self.length == CHUNK_BYTES {
            self.write_chunk(MESSAGE)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
