//! The stream that reads every encoding.

use std::io::{self, Read};

use super::Encoding;
use super::lz4::Lz4Reader;
use super::zstd::ZstdReader;
use crate::error::{Error, ErrorKind};

/// Gives the content of stored bytes.
///
/// A frame that ends too early, has a wrong checksum or is followed by anything
/// but another frame, and an empty object that should be a frame, are
/// [`ErrorKind::Corrupt`] inside the `io::Error`. The checksum is proved only
/// by reading until the end. [`Encoding::None`] proves nothing.
pub struct Decompressor<R: Read>(Reader<R>);

enum Reader<R: Read> {
    Lz4(Lz4Reader<R>),
    Zstd(ZstdReader<R>),
    None(R),
}

impl<R: Read> Decompressor<R> {
    /// Reads `inner`, whose bytes are encoded as `encoding`.
    pub fn new(inner: R, encoding: Encoding) -> io::Result<Self> {
        Ok(Decompressor(match encoding {
            Encoding::Lz4 => Reader::Lz4(Lz4Reader::new(inner)?),
            Encoding::Zstd => Reader::Zstd(ZstdReader::new(inner)?),
            Encoding::None => Reader::None(inner),
        }))
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match &mut self.0 {
            Reader::Lz4(reader) => reader.read(buffer),
            Reader::Zstd(reader) => reader.read(buffer),
            Reader::None(reader) => reader.read(buffer),
        }
    }
}

/// A decoder's own complaints carry no core error; those of the stream below
/// carry one, or come from the operating system.
pub(super) fn as_corrupt(frame: &str, error: io::Error) -> io::Error {
    let foreign = match error.get_ref() {
        Some(inner) => inner.downcast_ref::<Error>().is_none(),
        None => false,
    };
    if foreign {
        return Error::new(ErrorKind::Corrupt, format!("invalid {frame} frame: {error}")).into();
    }
    error
}
