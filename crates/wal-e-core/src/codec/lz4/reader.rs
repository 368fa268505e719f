//! Frames into content.

use std::io::{self, BufRead, BufReader, Read};

use lzzzz::lz4;
use xxhash_rust::xxh32::{Xxh32, xxh32};

use super::header::Header;
use super::writer::STORED;
use crate::codec::beginning::{Beginning, LZ4, is_skippable, read_exact};
use crate::codec::damage;
use crate::error::{Error, ErrorKind};

/// What errors call it.
const FRAME: &str = "LZ4 frame";

/// How much is read at once of what is smaller than a block.
const BUFFER_BYTES: usize = 64 * 1024;

/// How far back blocks refer that are not independent.
const WINDOW_BYTES: usize = 64 * 1024;

/// Decompresses LZ4 frames, one after the other. A truncated object must never look like a
/// short file: the input may end only after the end of a frame.
pub(in crate::codec) struct Lz4Reader<R: Read> {
    inner: BufReader<Beginning<R>>,
    /// The frame that has begun.
    frame: Option<Frame>,
    /// The content of the last block.
    content: Vec<u8>,
    /// How much of it has been handed out.
    passed: usize,
    /// A block as it is stored.
    stored: Vec<u8>,
}

/// A frame that has begun.
struct Frame {
    header: Header,
    checksum: Xxh32,
    /// The size of its content so far.
    content_bytes: u64,
    /// The content before the next block, as far as it may refer to it.
    window: Vec<u8>,
}

impl<R: Read> Lz4Reader<R> {
    pub(in crate::codec) fn new(inner: Beginning<R>) -> Self {
        Lz4Reader {
            inner: BufReader::with_capacity(BUFFER_BYTES, inner),
            frame: None,
            content: Vec::new(),
            passed: 0,
            stored: Vec::new(),
        }
    }

    /// `buffer` is not empty.
    pub(in crate::codec) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.passed == self.content.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let length = (&self.content[self.passed..]).read(buffer)?;
        self.passed += length;
        Ok(length)
    }

    /// Reads on to the next block, or past the begin or the end of a frame. Returns whether there
    /// was anything.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(mut frame) = self.frame.take() else { return self.begin_frame() };
        let length = self.number()?;
        if length == 0 {
            self.end_frame(&frame)?;
        } else {
            self.read_block(&mut frame, length)?;
            self.frame = Some(frame);
        }
        Ok(true)
    }

    /// Returns false at the end of the input.
    fn begin_frame(&mut self) -> io::Result<bool> {
        if self.position() > 0 && self.inner.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut magic = [0; 4];
        self.read_exact(&mut magic)?;
        if is_skippable(&magic) {
            let length = u64::from(self.number()?);
            let skipped = io::copy(&mut (&mut self.inner).take(length), &mut io::sink())?;
            return if skipped == length { Ok(true) } else { Err(self.truncated()) };
        }
        if magic != LZ4 {
            return Err(self.damaged("it does not begin with the magic number"));
        }
        let mut bytes = [0; 15];
        self.read_exact(&mut bytes[..1])?;
        let length = Header::length(bytes[0]);
        self.read_exact(&mut bytes[1..length])?;
        let header = Header::parse(&bytes[..length]).map_err(|why| self.damaged(why))?;
        let (checksum, window) = (Xxh32::new(0), Vec::new());
        self.frame = Some(Frame { header, checksum, content_bytes: 0, window });
        Ok(true)
    }

    fn end_frame(&mut self, frame: &Frame) -> io::Result<()> {
        let differs = |said: Option<u64>| said.is_some_and(|said| said != frame.content_bytes);
        if differs(frame.header.content_bytes) {
            return Err(self.damaged("its content does not have the size that its header says"));
        }
        if frame.header.content_checksum && self.number()? != frame.checksum.digest() {
            return Err(self.damaged("its content does not have its checksum"));
        }
        Ok(())
    }

    fn read_block(&mut self, frame: &mut Frame, length: u32) -> io::Result<()> {
        let bytes = (length & !STORED) as usize;
        let header = frame.header;
        if bytes > header.block_bytes {
            return Err(self.damaged("a block is larger than its header says"));
        }
        let mut stored = std::mem::take(&mut self.stored);
        stored.resize(bytes, 0);
        self.read_exact(&mut stored)?;
        if header.block_checksums && self.number()? != xxh32(&stored, 0) {
            return Err(self.damaged("a block does not have its checksum"));
        }
        self.passed = 0;
        if length & STORED == 0 {
            self.content.resize(header.block_bytes, 0);
            let content = &mut self.content;
            let decompressed = match frame.window.is_empty() {
                true => lz4::decompress(&stored, content),
                false => lz4::decompress_with_dict(&stored, content, &frame.window),
            };
            let bytes = decompressed.map_err(|_| self.damaged("a block cannot be decompressed"))?;
            self.content.truncate(bytes);
            self.stored = stored;
        } else {
            self.stored = std::mem::replace(&mut self.content, stored);
        }
        frame.passed(&self.content);
        Ok(())
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        read_exact(&mut self.inner, buffer, FRAME)
    }

    /// How much has been read, in bytes.
    fn position(&self) -> u64 {
        self.inner.get_ref().bytes() - self.inner.buffer().len() as u64
    }

    fn truncated(&self) -> io::Error {
        damage::truncated(FRAME, self.position())
    }

    fn damaged(&self, why: &str) -> io::Error {
        let message = format!("invalid {FRAME} at byte {}: {why}", self.position());
        Error::new(ErrorKind::Corrupt, message).into()
    }
}

impl Frame {
    /// Takes account of a block's content.
    fn passed(&mut self, content: &[u8]) {
        self.content_bytes += content.len() as u64;
        if self.header.content_checksum {
            self.checksum.update(content);
        }
        if !self.header.independent_blocks {
            let kept = WINDOW_BYTES.saturating_sub(content.len()).min(self.window.len());
            self.window.drain(..self.window.len() - kept);
            self.window.extend_from_slice(&content[content.len().saturating_sub(WINDOW_BYTES)..]);
        }
    }
}
