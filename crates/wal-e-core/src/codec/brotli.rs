//! Brotli streams (RFC 7932).

use std::io;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::beginning::{Beginning, PERHAPS_ENCRYPTED};
use super::single_stream::{SingleStream, Step, StreamDecoder};
use crate::error::{Error, ErrorKind, Result};

/// Reads one brotli stream.
pub(super) type BrotliReader<R> = SingleStream<R, BrotliDecoder>;

impl<R: io::Read> BrotliReader<R> {
    /// Reads `input`.
    pub(super) fn brotli(input: Beginning<R>) -> Self {
        // Strict: windows up to 16 MiB, as in RFC 7932, and not of 1 GiB.
        let state = BrotliState::new_strict(
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        SingleStream::new(input, BrotliDecoder { state: Box::new(state), produced: 0 })
    }
}

pub(super) struct BrotliDecoder {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    /// The decoder counts for itself, but wants a place to keep the count.
    produced: usize,
}

impl StreamDecoder for BrotliDecoder {
    const WHAT: &'static str = "brotli stream";

    // Any bytes may be the beginning of a stream.
    const HINT: Option<&'static str> = Some(PERHAPS_ENCRYPTED);

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step> {
        let (mut input_left, mut consumed) = (input.len(), 0);
        let (mut output_left, mut produced) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut input_left,
            &mut consumed,
            input,
            &mut output_left,
            &mut produced,
            output,
            &mut self.produced,
            &mut self.state,
        );
        let ended = match result {
            BrotliResult::ResultSuccess => true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
            BrotliResult::ResultFailure => {
                let message = "invalid brotli stream: it cannot be decoded";
                let error = Error::new(ErrorKind::Corrupt, message);
                return Err(error.with_hint(PERHAPS_ENCRYPTED));
            }
        };
        Ok(Step { consumed, produced, ended })
    }
}
