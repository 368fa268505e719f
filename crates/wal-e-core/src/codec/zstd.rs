//! Streams through the zstd frame format (RFC 8878).
//!
//! What is written is what WAL-G writes and reads: one frame with a checksum
//! of the content. The decoder of the library itself notices a frame that ends
//! too early and bytes after a frame that do not begin another one.

use std::io::{self, BufReader, Read, Write};

use zstd::stream::{raw, zio};

use super::decompressor::as_corrupt;
use super::sink::FirstError;
use crate::error::{Error, ErrorKind};

/// Compressed bytes on their way out or in.
const BUFFER_BYTES: usize = 128 * 1024;

/// The largest window that is written: 8 MiB, what WAL-G writes and every
/// decoder must accept (RFC 8878, section 3.1.1.1.2). The levels from
/// [`FIRST_LARGE_WINDOW`] on would take up to 128 MiB, and many times that
/// while compressing.
const WRITTEN_WINDOW_LOG: u32 = 23;
const FIRST_LARGE_WINDOW: i32 = 20;

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
        if level >= FIRST_LARGE_WINDOW {
            encoder.set_parameter(raw::CParameter::WindowLog(WRITTEN_WINDOW_LOG))?;
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
    reader: zio::Reader<BufReader<Counted<R>>, raw::Decoder<'static>>,
}

impl<R: Read> ZstdReader<R> {
    pub(super) fn new(inner: R) -> io::Result<Self> {
        let mut decoder = raw::Decoder::new()?;
        decoder.set_parameter(raw::DParameter::WindowLogMax(READ_WINDOW_LOG_MAX))?;
        let counted = Counted { inner, bytes: 0 };
        let buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
        Ok(ZstdReader { reader: zio::Reader::new(buffered, decoder) })
    }

    /// `buffer` is not empty.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return as_corrupt("zstd", error);
            }
            let message = match self.reader.reader().get_ref().bytes {
                0 => "the object is empty".to_owned(),
                bytes => format!("the zstd frame is truncated after {bytes} bytes"),
            };
            Error::new(ErrorKind::Corrupt, message).into()
        })
    }
}

/// Counts, so that an error can say where the input ended.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes += length as u64;
        Ok(length)
    }
}
