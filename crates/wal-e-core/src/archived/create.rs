//! Bytes that become an archived object.

use std::io::{self, Write};

use crate::codec::{Compression, Compressor};
use crate::error::{Error, Result};

mod aside;

pub use aside::{Pieces, encode_aside};

/// Encodes what is written to it, into `sink`.
pub struct Encoder<W: Write> {
    compressor: Compressor<W>,
}

impl<W: Write> Encoder<W> {
    /// Encodes with this compression.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`], and those of `sink`.
    pub fn new(sink: W, compression: Compression) -> Result<Self> {
        let compressor = Compressor::new(sink, compression).map_err(failed)?;
        Ok(Encoder { compressor })
    }

    /// Ends the object and hands `sink` back. Without it the object is damaged.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn finish(self) -> Result<W> {
        self.compressor.finish().map_err(failed)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.compressor.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.compressor.flush()
    }
}

fn failed(source: io::Error) -> Error {
    Error::from_io("could not compress", source)
}
