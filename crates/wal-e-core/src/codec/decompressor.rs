//! The stream that reads every encoding.

use std::io::{self, Read};

use super::Encoding;
use super::beginning::Beginning;
use super::brotli::BrotliReader;
use super::gzip::GzipReader;
use super::lz4::Lz4Reader;
use super::lzma::LzmaReader;
use super::lzop::LzopReader;
use super::zstd::ZstdReader;
use crate::error::{Error, ErrorKind};

/// Gives the content of stored bytes.
///
/// Bytes that end too early, have a wrong checksum or are followed by anything but
/// another frame (member) of the same encoding, and an empty object that should be
/// one, are [`ErrorKind::Corrupt`] inside the `io::Error`. The checksum is proved only
/// by reading until the end. [`Encoding::Lzma`] and [`Encoding::Brotli`] have none, and
/// one stream an object: damage shows there only where it breaks the stream.
/// [`Encoding::None`] proves nothing.
///
/// An LZ4 frame of the legacy format is [`ErrorKind::Config`]: it is there and other programs can
/// read it.
pub struct Decompressor<R: Read> {
    reader: Reader<R>,
    /// Some decoders take an error for the end.
    failed: bool,
}

enum Reader<R: Read> {
    Lz4(Lz4Reader<R>),
    Zstd(ZstdReader<R>),
    None(R),
    Lzop(LzopReader<R>),
    Lzma(LzmaReader<R>),
    Brotli(BrotliReader<R>),
    Gzip(GzipReader<R>),
}

impl<R: Read> Decompressor<R> {
    /// Reads `inner`, whose bytes are encoded as `encoding`.
    pub fn new(inner: R, encoding: Encoding) -> io::Result<Self> {
        let start = |inner| Beginning::new(inner, encoding);
        let reader = match encoding {
            Encoding::Lz4 => Reader::Lz4(Lz4Reader::new(start(inner))),
            Encoding::Zstd => Reader::Zstd(ZstdReader::new(start(inner))?),
            Encoding::None => Reader::None(inner),
            Encoding::Lzop => Reader::Lzop(LzopReader::new(start(inner))),
            Encoding::Lzma => Reader::Lzma(LzmaReader::lzma(start(inner))?),
            Encoding::Brotli => Reader::Brotli(BrotliReader::brotli(start(inner))),
            Encoding::Gzip => Reader::Gzip(GzipReader::new(start(inner))),
        };
        Ok(Decompressor { reader, failed: false })
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(io::Error::other("an earlier read failed"));
        }
        let result = match &mut self.reader {
            Reader::Lz4(reader) => reader.read(buffer),
            Reader::Zstd(reader) => reader.read(buffer),
            Reader::None(reader) => return reader.read(buffer),
            Reader::Lzop(reader) => reader.read(buffer),
            Reader::Lzma(reader) => reader.read(buffer),
            Reader::Brotli(reader) => reader.read(buffer),
            Reader::Gzip(reader) => reader.read(buffer),
        };
        self.failed = result.is_err();
        result
    }
}

/// Puts the name of the object into an error of a [`Decompressor`] that says that
/// the object cannot be read ([`ErrorKind::Config`]); others stay as they are.
pub fn named(url: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::Config {
        return error;
    }
    let message = format!("object \"{url}\" cannot be read: {}", error.message());
    error.with_message(message)
}
