//! Streams of the `.lzma` format, also called LZMA_alone: what came before `.xz`.

use std::io;

use liblzma::stream::{Action, Error as LzmaError, Status, Stream};

use super::beginning::Beginning;
use super::single_stream::{SingleStream, Step, StreamDecoder};
use crate::error::{Error, ErrorKind, Result};

/// The most memory that a stream may ask for: a dictionary of 128 MiB, as large as
/// the largest window of a zstd frame that is read, and what goes with it. Several
/// tars are read at once, and the size is only a number in a header that may be
/// damaged. WAL-G writes 8 MiB, `xz -9` 64 MiB.
const MEMORY_LIMIT_BYTES: u64 = (128 + 1) * 1024 * 1024;

/// Reads one `.lzma` stream.
pub(super) type LzmaReader<R> = SingleStream<R, LzmaDecoder>;

impl<R: io::Read> LzmaReader<R> {
    /// Reads `input`.
    pub(super) fn lzma(input: Beginning<R>) -> io::Result<Self> {
        let stream = Stream::new_lzma_decoder(MEMORY_LIMIT_BYTES)?;
        Ok(SingleStream::new(input, LzmaDecoder(stream)))
    }
}

pub(super) struct LzmaDecoder(Stream);

impl StreamDecoder for LzmaDecoder {
    const WHAT: &'static str = "lzma stream";

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step> {
        let (read, written) = (self.0.total_in(), self.0.total_out());
        let status = self.0.process(input, output, Action::Run).map_err(described)?;
        // Neither passes the length of its slice.
        let since = |total: u64, before: u64| (total - before) as usize;
        Ok(Step {
            consumed: since(self.0.total_in(), read),
            produced: since(self.0.total_out(), written),
            ended: status == Status::StreamEnd,
        })
    }
}

fn described(error: LzmaError) -> Error {
    let invalid = |why: &str| Error::new(ErrorKind::Corrupt, format!("invalid lzma stream: {why}"));
    match error {
        LzmaError::MemLimit => invalid("its dictionary is larger than 128 MiB"),
        LzmaError::Data => invalid("its data is damaged"),
        LzmaError::Format | LzmaError::Options => invalid("its header makes no sense"),
        LzmaError::Mem => Error::new(ErrorKind::Io, "out of memory for an lzma stream"),
        LzmaError::Program | LzmaError::NoCheck | LzmaError::UnsupportedCheck => {
            Error::new(ErrorKind::Bug, format!("could not use the lzma decoder: {error}"))
        }
    }
}
