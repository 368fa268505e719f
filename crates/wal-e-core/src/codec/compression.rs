//! What to write, and the stream that writes it.

use std::fmt;
use std::io::{self, Write};

use super::Encoding;
use super::encoding::not_written;
use super::lz4::Lz4Writer;
use super::sink::FirstError;
use super::zstd::ZstdWriter;
use crate::error::{Error, ErrorKind, Result};

/// How objects are compressed when they are written. The default is LZ4 at its
/// default level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compression {
    method: Method,
    level: i32,
}

/// What there is a writer for: a [`Compression`] of anything else cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Method {
    #[default]
    Lz4,
    Zstd,
    None,
}

impl Compression {
    /// A method and one of its levels:
    ///
    /// * LZ4: 1 and 2 are the fast compressor, 3 to 12 the slower ones that
    ///   compress better, -1 to -5 faster than fast.
    /// * zstd: 1 to 22.
    /// * none has no levels.
    ///
    /// 0, as no level at all, is the method's own default: LZ4's fast
    /// compressor, and level 3 of zstd.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a level that the method does not have, and for an
    /// encoding that is read only.
    pub fn new(encoding: Encoding, level: Option<i32>) -> Result<Self> {
        let level = level.unwrap_or(0);
        let (method, levels, hint) = match encoding {
            Encoding::Lz4 => (
                Method::Lz4,
                -5..=12,
                "The levels of lz4 are -5 to 12; 0, its default, is the fast compressor.",
            ),
            Encoding::Zstd => {
                (Method::Zstd, 0..=22, "The levels of zstd are 1 to 22; 0 is its default, 3.")
            }
            Encoding::None => {
                (Method::None, 0..=0, "Leave the level at 0 when nothing is compressed.")
            }
            Encoding::Lzop | Encoding::Lzma | Encoding::Brotli | Encoding::Gzip => {
                return Err(not_written(&encoding.to_string()));
            }
        };
        if levels.contains(&level) {
            return Ok(Compression { method, level });
        }
        Err(Error::new(
            ErrorKind::Config,
            format!("compression method \"{encoding}\" has no level {level}"),
        )
        .with_hint(hint))
    }

    /// How what is written will be encoded.
    pub fn encoding(self) -> Encoding {
        match self.method {
            Method::Lz4 => Encoding::Lz4,
            Method::Zstd => Encoding::Zstd,
            Method::None => Encoding::None,
        }
    }

    /// The level; 0 is the method's own default.
    pub fn level(self) -> i32 {
        self.level
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            0 => self.encoding().fmt(f),
            level => write!(f, "{}, level {level}", self.encoding()),
        }
    }
}

/// Compresses what is written, and passes it on.
///
/// Only [`finish`](Compressor::finish) makes the object complete: the receiver of the
/// bytes must not take their end for success, because dropping the compressor may look
/// the same to it. Once the inner writer has failed, so does everything after it.
pub struct Compressor<W: Write>(Writer<W>);

enum Writer<W: Write> {
    Lz4(Lz4Writer<W>),
    Zstd(ZstdWriter<W>),
    None(FirstError<W>),
}

impl<W: Write> Compressor<W> {
    /// Compresses into `inner` as `compression` says.
    pub fn new(inner: W, compression: Compression) -> io::Result<Self> {
        let level = compression.level;
        Ok(Compressor(match compression.method {
            Method::Lz4 => Writer::Lz4(Lz4Writer::new(inner, level)),
            Method::Zstd => Writer::Zstd(ZstdWriter::new(inner, level)?),
            Method::None => Writer::None(FirstError::new(inner)),
        }))
    }

    /// Writes what is left and the checksum, and gives the inner writer back.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Writer::Lz4(writer) => writer.finish(),
            Writer::Zstd(writer) => writer.finish(),
            Writer::None(writer) => writer.into_inner(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Writer::Lz4(writer) => writer.write(buffer),
            Writer::Zstd(writer) => writer.write(buffer),
            Writer::None(writer) => writer.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A block ends when it is full; flushing would only make small ones.
        Ok(())
    }
}
