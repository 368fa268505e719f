//! Gzip files (RFC 1952): members that follow one another, each with a checksum.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::beginning::Beginning;
use super::damage::{as_corrupt, truncated};

/// What errors call it.
const STREAM: &str = "gzip stream";

/// Compressed bytes on their way in.
const BUFFER_BYTES: usize = 128 * 1024;

/// Reads gzip members until the end of the object.
pub(super) struct GzipReader<R: Read> {
    decoder: MultiGzDecoder<BufReader<Beginning<R>>>,
}

impl<R: Read> GzipReader<R> {
    pub(super) fn new(inner: Beginning<R>) -> Self {
        let buffered = BufReader::with_capacity(BUFFER_BYTES, inner);
        GzipReader { decoder: MultiGzDecoder::new(buffered) }
    }

    /// `buffer` is not empty.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                truncated(STREAM, self.decoder.get_ref().get_ref().bytes())
            }
            _ => as_corrupt(STREAM, error),
        })
    }
}
