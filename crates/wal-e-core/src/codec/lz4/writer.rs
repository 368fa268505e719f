//! Content into a frame.

use std::io::{self, Write};

use lzzzz::{lz4, lz4_hc};
use xxhash_rust::xxh32::Xxh32;

use super::BLOCK_BYTES;
use super::header::{HEADER_BYTES, Header};
use crate::codec::sink::FirstError;

/// The first level of the compressor that compresses better, as lz4's own programs have it.
const FIRST_HIGH: i32 = 3;

/// The highest bit of a block's length: it is stored as it is.
pub(super) const STORED: u32 = 1 << 31;

/// What the length of a block takes.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Compresses into one LZ4 frame, which has an end only after [`finish`](Lz4Writer::finish).
pub(in crate::codec) struct Lz4Writer<W: Write> {
    inner: FirstError<W>,
    /// Until it is written, with the first block or the end.
    header: Option<[u8; HEADER_BYTES]>,
    level: i32,
    /// What is not yet a whole block.
    begun: Vec<u8>,
    /// Room for the length of a block and the block.
    compressed: Vec<u8>,
    checksum: Xxh32,
}

impl<W: Write> Lz4Writer<W> {
    /// Compresses into `inner`; level 0 is the fast compressor.
    pub(in crate::codec) fn new(inner: W, level: i32) -> Self {
        Lz4Writer {
            inner: FirstError::new(inner),
            header: Some(Header::written()),
            level,
            begun: Vec::with_capacity(BLOCK_BYTES),
            compressed: vec![0; LENGTH_BYTES + lz4::max_compressed_size(BLOCK_BYTES)],
            checksum: Xxh32::new(0),
        }
    }

    /// Writes what is left, the end of the frame and its checksum, and gives the inner writer
    /// back.
    pub(in crate::codec) fn finish(mut self) -> io::Result<W> {
        self.end_block()?;
        self.begin()?;
        self.inner.write_all(&0_u32.to_le_bytes())?;
        self.inner.write_all(&self.checksum.digest().to_le_bytes())?;
        self.inner.into_inner()
    }

    pub(in crate::codec) fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.begun.is_empty() && buffer.len() >= BLOCK_BYTES {
            self.write_block(&buffer[..BLOCK_BYTES])?;
            return Ok(BLOCK_BYTES);
        }
        let taken = buffer.len().min(BLOCK_BYTES - self.begun.len());
        self.begun.extend_from_slice(&buffer[..taken]);
        if self.begun.len() == BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.header.take() {
            Some(header) => self.inner.write_all(&header),
            None => Ok(()),
        }
    }

    fn end_block(&mut self) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.begun);
        if !block.is_empty() {
            self.write_block(&block)?;
        }
        block.clear();
        self.begun = block;
        Ok(())
    }

    fn write_block(&mut self, content: &[u8]) -> io::Result<()> {
        self.begin()?;
        self.checksum.update(content);
        let (length, block) = self.compressed.split_at_mut(LENGTH_BYTES);
        let compressed = if self.level < FIRST_HIGH {
            // lz4's programs understand negative levels so.
            lz4::compress(content, block, 1 - self.level.min(0))
        } else {
            lz4_hc::compress(content, block, self.level)
        };
        let bytes = compressed.map_err(io::Error::other)?;
        if bytes < content.len() {
            length.copy_from_slice(&block_length(bytes, 0));
            return self.inner.write_all(&self.compressed[..LENGTH_BYTES + bytes]);
        }
        self.inner.write_all(&block_length(content.len(), STORED))?;
        self.inner.write_all(content)
    }
}

fn block_length(bytes: usize, flag: u32) -> [u8; LENGTH_BYTES] {
    let bytes = u32::try_from(bytes).expect("a block is smaller than 4 MB");
    (bytes | flag).to_le_bytes()
}
