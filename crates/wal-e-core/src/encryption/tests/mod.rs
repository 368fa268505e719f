use std::io::{self, Read, Write};

use super::secret_stream::{HEADER_BYTES, STORED_CHUNK_BYTES};
use super::*;
use crate::error::{Error, ErrorKind, Result};

mod damage;
mod keys;
mod opening;
mod openpgp;
mod vectors;

/// Bytes of content in a chunk.
const CHUNK: usize = STORED_CHUNK_BYTES - 17;

/// The key of the vectors.
fn key() -> Key {
    Key::new(std::array::from_fn(|n| n as u8 + 1))
}

fn other_key() -> Key {
    Key::new([7; 32])
}

/// The content of the vectors.
fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 7 % 251) as u8).collect()
}

fn encrypt(content: &[u8], key: &Key) -> Vec<u8> {
    let mut writer = SecretStreamWriter::new(Vec::new(), key);
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

/// Reads until the end, and takes the core error out of that of the stream.
fn read(mut stream: impl Read) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    match stream.read_to_end(&mut content) {
        Ok(_) => Ok(content),
        Err(error) => Err(Error::from_io("", error)),
    }
}

fn decrypt(stored: &[u8], key: &Key) -> Result<Vec<u8>> {
    read(SecretStreamReader::new(stored, key))
}

/// Gives at most as many bytes as it is told, and is interrupted every other time.
struct Pieces<R>(R, usize, bool);

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.2 = !self.2;
        if self.2 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}
