//! Streams through the LZ4 frame format.
//!
//! What is written is what WAL-G writes and reads: one modern frame with
//! independent blocks and a checksum of the content.

use std::io::{self, BufReader, BufWriter, Read, Write};

use lzzzz::lz4f::{
    BlockMode, BlockSize, BufReadDecompressor, ContentChecksum, Preferences, PreferencesBuilder,
    WriteCompressor,
};

use super::beginning::Beginning;
use super::damage::as_corrupt;
use super::frame::FrameReader;
use super::sink::FirstError;

/// The size of a block before compression. Larger blocks compress hardly
/// better and cost memory in every stream.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;

fn preferences(level: i32) -> Preferences {
    PreferencesBuilder::new()
        .block_size(BlockSize::Max256KB)
        .block_mode(BlockMode::Independent)
        .content_checksum(ContentChecksum::Enabled)
        .compression_level(level)
        .build()
}

/// Compresses into one LZ4 frame. Dropping it writes the frame's end too.
pub(super) struct Lz4Writer<W: Write> {
    // The compressor makes a block of each write, however small.
    blocks: BufWriter<WriteCompressor<FirstError<W>>>,
}

impl<W: Write> Lz4Writer<W> {
    /// Compresses into `inner`; level 0 is the fast compressor.
    pub(super) fn new(inner: W, level: i32) -> io::Result<Self> {
        let compressor = WriteCompressor::new(FirstError::new(inner), preferences(level))?;
        Ok(Lz4Writer { blocks: BufWriter::with_capacity(BLOCK_BYTES, compressor) })
    }

    /// Writes the end of the frame and its checksum, and gives the inner writer back.
    pub(super) fn finish(self) -> io::Result<W> {
        let compressor = self.blocks.into_inner().map_err(io::IntoInnerError::into_error)?;
        // It swallows errors while it writes the frame's end; the sink kept them.
        compressor.into_inner().into_inner()
    }

    pub(super) fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // Up to a whole block, so that each write of the compressor is one.
        let room = BLOCK_BYTES - self.blocks.buffer().len();
        let length = buffer.len().min(if room == 0 { BLOCK_BYTES } else { room });
        self.blocks.write(&buffer[..length])
    }
}

/// Decompresses LZ4 frames.
pub(super) struct Lz4Reader<R: Read> {
    decompressor: BufReadDecompressor<'static, BufReader<FrameReader<Beginning<R>>>>,
}

impl<R: Read> Lz4Reader<R> {
    pub(super) fn new(inner: Beginning<R>) -> io::Result<Self> {
        let frames = BufReader::with_capacity(BLOCK_BYTES, FrameReader::new(inner));
        Ok(Lz4Reader { decompressor: BufReadDecompressor::new(frames)? })
    }

    /// `buffer` is not empty.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.decompressor.read(buffer);
        let frames = self.decompressor.get_ref().get_ref();
        match result {
            // The decoder takes the end of its input for the end of the data, or fails
            // without saying that the input ended.
            Ok(0) if !frames.is_complete() => Err(frames.truncated().into()),
            Err(_) if frames.is_truncated() => Err(frames.truncated().into()),
            result => result.map_err(|error| as_corrupt("LZ4 frame", error)),
        }
    }
}
