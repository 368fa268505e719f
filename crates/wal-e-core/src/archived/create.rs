//! Bytes that become an archived object.

use std::io::{self, Write};

use crate::codec::{Compression, Compressor};
use crate::config::Encryption;
use crate::encryption::SecretStreamWriter;
use crate::error::{Error, Result};

mod aside;

pub use aside::{Pieces, encode_aside};

/// Encodes and encrypts what is written to it, into `sink`.
pub struct Encoder<W: Write> {
    compressor: Compressor<Encrypting<W>>,
}

/// What comes after compression.
enum Encrypting<W: Write> {
    No(W),
    Yes(Box<SecretStreamWriter<W>>),
}

impl<W: Write> Encoder<W> {
    /// Encodes with this compression, and encrypts with the key to write with, if there is one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`], and those of `sink`.
    pub fn new(sink: W, compression: Compression, encryption: &Encryption) -> Result<Self> {
        let sink = match encryption.keyring.writing() {
            None => Encrypting::No(sink),
            Some(key) => Encrypting::Yes(Box::new(SecretStreamWriter::new(sink, key))),
        };
        let compressor = Compressor::new(sink, compression).map_err(failed)?;
        Ok(Encoder { compressor })
    }

    /// Ends the object and hands `sink` back. Without it the object is damaged.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn finish(self) -> Result<W> {
        match self.compressor.finish().map_err(failed)? {
            Encrypting::No(sink) => Ok(sink),
            Encrypting::Yes(writer) => writer.finish().map_err(not_encrypted),
        }
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

impl<W: Write> Write for Encrypting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Encrypting::No(sink) => sink.write(bytes),
            Encrypting::Yes(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encrypting::No(sink) => sink.flush(),
            Encrypting::Yes(writer) => writer.flush(),
        }
    }
}

fn not_encrypted(source: io::Error) -> Error {
    Error::from_io("could not encrypt", source)
}

fn failed(source: io::Error) -> Error {
    Error::from_io("could not compress", source)
}
