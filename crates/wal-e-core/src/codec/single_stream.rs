//! Encodings that have one stream for each object and no checksum.

use std::io::{self, BufRead, BufReader, Read};

use super::beginning::Beginning;
use super::damage::{damaged, truncated};
use crate::error::{Error, Result};

/// Compressed bytes on their way in.
const BUFFER_BYTES: usize = 128 * 1024;

/// What one call of a decoder did.
pub(super) struct Step {
    /// Bytes of the input that are done with.
    pub(super) consumed: usize,
    /// Bytes that were written to the output.
    pub(super) produced: usize,
    /// Whether the stream has ended.
    pub(super) ended: bool,
}

/// A decoder that takes its input in pieces and sees the end of its stream.
pub(super) trait StreamDecoder {
    /// What errors call the stream.
    const WHAT: &'static str;

    /// What may be the cause when a stream is not sound.
    const HINT: Option<&'static str> = None;

    /// Decodes some of `input`, perhaps all, into `output`.
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step>;
}

/// Reads one stream. Its end must be seen, and nothing may follow it: where there is
/// no checksum, that is all there is to go by.
pub(super) struct SingleStream<R: Read, D> {
    input: BufReader<Beginning<R>>,
    decoder: D,
    ended: bool,
}

impl<R: Read, D: StreamDecoder> SingleStream<R, D> {
    pub(super) fn new(input: Beginning<R>, decoder: D) -> Self {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        SingleStream { input, decoder, ended: false }
    }

    /// `buffer` is not empty.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let input = self.input.fill_buf()?;
            let at_end = input.is_empty();
            let step = self.decoder.decode(input, buffer)?;
            self.input.consume(step.consumed);
            self.ended = step.ended;
            if step.produced > 0 {
                return Ok(step.produced);
            }
            if self.ended {
                break;
            }
            if at_end {
                return Err(hinted::<D>(truncated(D::WHAT, self.input.get_ref().bytes())));
            }
            if step.consumed == 0 {
                return Err(hinted::<D>(damaged(D::WHAT, "it cannot be decoded")));
            }
        }
        if self.input.fill_buf()?.is_empty() {
            return Ok(0);
        }
        Err(hinted::<D>(damaged(D::WHAT, "other bytes follow its end")))
    }
}

fn hinted<D: StreamDecoder>(error: io::Error) -> io::Error {
    match D::HINT {
        None => error,
        Some(hint) => Error::from_io("", error).with_hint(hint).into(),
    }
}
