//! The first bytes of an object, which show whether it is what its name says.

use std::io::ErrorKind::{Interrupted, UnexpectedEof};
use std::io::{self, BufReader, Read};

use super::Encoding;
use super::damage::truncated;
use crate::error::{Error, ErrorKind, Result};

/// How much of an object is looked at: more than any of the magic numbers has.
const HEAD_BYTES: usize = 32;

pub(super) const LZ4: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
/// `lz4 -l`, and what the Linux kernel uses.
pub(super) const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4C, 0x18];
const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const GZIP: [u8; 2] = [0x1F, 0x8B];
pub(super) const LZOP: [u8; 9] = [0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1A, b'\n'];

/// LZ4 and zstd frames for foreign data begin with 0x50 to 0x5F and these.
const SKIPPABLE: [u8; 3] = [0x2A, 0x4D, 0x18];

pub(super) const PERHAPS_ENCRYPTED: &str = "It may be encrypted: neither the name nor the object says so. Then give the key: WALG_LIBSODIUM_KEY_PATH names the file that has it.";

/// What errors call the bytes of an encoding.
fn what(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Lz4 => "LZ4 frame",
        Encoding::Zstd => "zstd frame",
        Encoding::None => "content",
        Encoding::Lzop => "lzop stream",
        Encoding::Lzma => "lzma stream",
        Encoding::Brotli => "brotli stream",
        Encoding::Gzip => "gzip stream",
    }
}

/// Passes the bytes of an object on, once the first of them are those of its
/// encoding. Counts them; does not bother its reader with interrupted calls.
pub(super) struct Beginning<R> {
    inner: R,
    encoding: Encoding,
    head: [u8; HEAD_BYTES],
    /// How much of the head has been read.
    length: usize,
    /// How much of it has been passed on.
    passed: usize,
    judged: bool,
    bytes: u64,
}

impl<R: Read> Beginning<R> {
    /// Reads `inner`, which should be encoded as `encoding`.
    pub(super) fn new(inner: R, encoding: Encoding) -> Self {
        Beginning {
            inner,
            encoding,
            head: [0; HEAD_BYTES],
            length: 0,
            passed: 0,
            judged: false,
            bytes: 0,
        }
    }

    /// How many bytes were passed on.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_head(&mut self) -> io::Result<()> {
        while self.length < HEAD_BYTES {
            match read(&mut self.inner, &mut self.head[self.length..])? {
                0 => break,
                length => self.length += length,
            }
        }
        judge(self.encoding, &self.head[..self.length])?;
        self.judged = true;
        Ok(())
    }
}

impl<R: Read> Read for Beginning<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.judged {
            self.read_head()?;
        }
        let length = if self.passed < self.length {
            let length = (&self.head[self.passed..self.length]).read(buffer)?;
            self.passed += length;
            length
        } else {
            read(&mut self.inner, buffer)?
        };
        self.bytes += length as u64;
        Ok(length)
    }
}

/// Fills `buffer` from the buffered bytes of an object. When they end before it is full, `what`
/// is truncated.
pub(super) fn read_exact<R: Read>(
    input: &mut BufReader<Beginning<R>>,
    buffer: &mut [u8],
    what: &str,
) -> io::Result<()> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        UnexpectedEof => truncated(what, input.get_ref().bytes()),
        _ => error,
    })
}

/// Some decoders lose their place when a read is interrupted.
fn read(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == Interrupted => {}
            result => return result,
        }
    }
}

fn judge(encoding: Encoding, head: &[u8]) -> Result<()> {
    if head.is_empty() {
        return Err(Error::new(ErrorKind::Corrupt, "the object is empty"));
    }
    if begins_as(encoding, head) {
        return Ok(());
    }
    if encoding == Encoding::Lz4 && head.starts_with(&LZ4_LEGACY) {
        return Err(Error::new(
            ErrorKind::Config,
            "it is an LZ4 frame of the legacy format, which is not supported",
        )
        .with_hint("Decompress it with \"lz4 -d\", and store it again under the same name as a frame of the present format, which \"lz4\" writes without \"-l\"."));
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!("invalid {}: it does not begin with the magic number", what(encoding)),
    )
    .with_hint(PERHAPS_ENCRYPTED))
}

/// Whether `head`, which may be all there is, begins as the encoding does.
pub(super) fn begins_as(encoding: Encoding, head: &[u8]) -> bool {
    let agrees = |magic: &[u8]| head.iter().zip(magic).all(|(byte, wanted)| byte == wanted);
    match encoding {
        Encoding::Lz4 => agrees(&LZ4) || is_skippable(head),
        Encoding::Zstd => agrees(&ZSTD) || is_skippable(head),
        Encoding::Lzop => agrees(&LZOP),
        Encoding::Gzip => agrees(&GZIP),
        Encoding::Lzma => begins_as_lzma(head),
        // Any byte may be the first; the decoder finds out.
        Encoding::Brotli | Encoding::None => true,
    }
}

/// Whether `head`, which is not empty and may be all there is, begins a frame for foreign data.
pub(super) fn is_skippable(head: &[u8]) -> bool {
    head[0] & 0xF0 == 0x50 && head[1..].iter().zip(SKIPPABLE).all(|(a, b)| *a == b)
}

/// There is no magic number, but few headers make sense: a byte of three small
/// numbers, the size of the dictionary, and that of the content, or all ones.
fn begins_as_lzma(head: &[u8]) -> bool {
    let (literal_context, literal_position) = (head[0] % 9, head[0] / 9 % 5);
    if head[0] >= 9 * 5 * 5 || literal_context + literal_position > 4 {
        return false;
    }
    match head.get(5..13).and_then(|size| size.try_into().ok()).map(u64::from_le_bytes) {
        // The limit of `xz` where it has to guess, too: 256 GiB.
        Some(size) => size == u64::MAX || size < 1 << 38,
        None => true,
    }
}
