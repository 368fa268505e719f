//! Streams through the zstd frame format (RFC 8878).
//!
//! What is written is what WAL-G writes and reads: one frame with a checksum
//! of the content. The decoder of the library itself notices a frame that ends
//! too early and bytes after a frame that do not begin another one.

use std::io::{self, BufReader, Read, Write};

use zstd::stream::{raw, zio};

use super::beginning::Beginning;
use super::damage::{as_corrupt, truncated};
use super::sink::FirstError;

/// What errors call it.
const FRAME: &str = "zstd frame";

/// Compressed bytes on their way out or in.
const BUFFER_BYTES: usize = 128 * 1024;

/// The largest window that is written: 8 MiB, what WAL-G writes and every
/// decoder must accept (RFC 8878, section 3.1.1.1.2). The levels from
/// [`FIRST_LARGE`] on would take up to 128 MiB.
const WRITTEN_WINDOW_LOG: u32 = 23;
const FIRST_LARGE: i32 = 20;

/// Tables that find matches, in 4-byte entries: 64 and 32 MiB. The same levels
/// would take up to 640 MiB for each stream, with any window.
const CHAIN_LOG: u32 = 24;
const HASH_LOG: u32 = 23;

/// The largest window that is read: 128 MiB, what level 22 of the `zstd` tool
/// asks for, and the limit at which that tool itself stops. A reader holds its
/// window in memory, and several tars are read at once: WAL-G's limit of 512
/// MiB would let a few damaged headers take all memory there is. What WAL-G
/// writes has a window of 8 MiB.
const READ_WINDOW_LOG_MAX: u32 = 27;

/// Compresses into one zstd frame.
pub(super) struct ZstdWriter<W: Write> {
    writer: zio::Writer<FirstError<W>, raw::Encoder<'static>>,
}

impl<W: Write> ZstdWriter<W> {
    /// Compresses into `inner`; level 0 is zstd's default.
    pub(super) fn new(inner: W, level: i32) -> io::Result<Self> {
        let mut encoder = raw::Encoder::new(level)?;
        encoder.set_parameter(raw::CParameter::ChecksumFlag(true))?;
        if level >= FIRST_LARGE {
            encoder.set_parameter(raw::CParameter::WindowLog(WRITTEN_WINDOW_LOG))?;
            encoder.set_parameter(raw::CParameter::ChainLog(CHAIN_LOG))?;
            encoder.set_parameter(raw::CParameter::HashLog(HASH_LOG))?;
        }
        let sink = FirstError::new(inner);
        Ok(ZstdWriter { writer: zio::Writer::new_with_capacity(sink, encoder, BUFFER_BYTES) })
    }

    /// Writes the end of the frame and its checksum, and gives the inner writer back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let finished = self.writer.finish();
        let (sink, _encoder) = self.writer.into_inner();
        // The first error says more than the one that follows from it.
        let inner = sink.into_inner()?;
        finished.map(|()| inner)
    }

    pub(super) fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer.write(buffer)
    }
}

/// Decompresses zstd frames.
pub(super) struct ZstdReader<R: Read> {
    reader: zio::Reader<BufReader<Beginning<R>>, raw::Decoder<'static>>,
}

impl<R: Read> ZstdReader<R> {
    pub(super) fn new(inner: Beginning<R>) -> io::Result<Self> {
        let mut decoder = raw::Decoder::new()?;
        decoder.set_parameter(raw::DParameter::WindowLogMax(READ_WINDOW_LOG_MAX))?;
        let buffered = BufReader::with_capacity(BUFFER_BYTES, inner);
        Ok(ZstdReader { reader: zio::Reader::new(buffered, decoder) })
    }

    /// `buffer` is not empty.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return as_corrupt(FRAME, error);
            }
            truncated(FRAME, self.reader.reader().get_ref().bytes())
        })
    }
}
