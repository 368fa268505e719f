//! The files of the program `lzop`, in which WAL-E stored everything: members that
//! follow one another, each a header and blocks of LZO1X data with checksums.
//!
//! All numbers are big-endian. A member is: the magic number; version, version of
//! the library, version that is needed (2 bytes each); method, level (1 each);
//! flags, mode, modification time low and high (4 each); name (1 byte of length,
//! and so many); checksum of all that but the magic number. A block is: length,
//! stored length (4 each), the checksums that the flags name (4 each), data.
//! A block of length 0, which is nothing but that, ends the member. The flag
//! F_MULTIPART (0x400) only says that there are several members.

use std::io::{self, BufRead, BufReader, Read};

use flate2::Crc;

use super::beginning::{Beginning, LZOP, read_exact};
use super::damage::{damaged, truncated};

/// What errors call it.
const STREAM: &str = "lzop stream";

/// Compressed bytes on their way in.
const BUFFER_BYTES: usize = 128 * 1024;

/// The largest block that `lzop` knows. What it writes has 256 kB.
const LARGEST_BLOCK_BYTES: u32 = 64 * 1024 * 1024;

/// Since this version headers have their present form; older ones were gone
/// before WAL-E came.
const FIRST_VERSION: u16 = 0x0940;
/// The newest version of the format, that of `lzop` 1.04.
const LAST_VERSION: u16 = 0x1040;

/// LZO1X-1, LZO1X-1(15) and LZO1X-999: one format, packed with more or less care.
const METHODS: [u8; 3] = [1, 2, 3];

const FLAG_ADLER32: u32 = 0x1;
const FLAG_STORED_ADLER32: u32 = 0x2;
const FLAG_EXTRA_FIELD: u32 = 0x40;
const FLAG_CRC32: u32 = 0x100;
const FLAG_STORED_CRC32: u32 = 0x200;
const FLAG_FILTER: u32 = 0x800;
const FLAG_HEADER_CRC32: u32 = 0x1000;

/// Reads the members of an `lzop` file until the end of the object.
pub(super) struct LzopReader<R: Read> {
    input: BufReader<Beginning<R>>,
    next: Next,
    /// The data of a block as it is stored.
    stored: Vec<u8>,
    /// The block that is being passed on, and how much of it was.
    block: Vec<u8>,
    passed: usize,
}

/// What follows the block that is being passed on.
#[derive(Clone, Copy)]
enum Next {
    /// A member; after the first, perhaps the end.
    Member { first: bool },
    /// A block of a member with these flags.
    Block { flags: u32 },
    /// Nothing.
    End,
}

impl<R: Read> LzopReader<R> {
    pub(super) fn new(input: Beginning<R>) -> Self {
        LzopReader {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            next: Next::Member { first: true },
            stored: Vec::new(),
            block: Vec::new(),
            passed: 0,
        }
    }

    /// `buffer` is not empty. Not to be called again after an error.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.passed == self.block.len() {
            self.next = match self.next {
                Next::Member { first } => {
                    if !first && self.input.fill_buf()?.is_empty() {
                        Next::End
                    } else {
                        Next::Block { flags: self.read_header()? }
                    }
                }
                Next::Block { flags } => {
                    if self.read_block(flags)? {
                        Next::Block { flags }
                    } else {
                        Next::Member { first: false }
                    }
                }
                Next::End => return Ok(0),
            }
        }
        let length = (&self.block[self.passed..]).read(buffer)?;
        self.passed += length;
        Ok(length)
    }

    /// Reads the header of a member; returns its flags.
    fn read_header(&mut self) -> io::Result<u32> {
        if self.array()? != LZOP {
            return Err(damaged(STREAM, "it does not begin with the magic number"));
        }
        // What the checksum is of.
        let mut header = Vec::with_capacity(64);
        let version = self.header_u16(&mut header)?;
        if version < FIRST_VERSION {
            return Err(damaged(STREAM, format_args!("its version, {version:#06x}, is too old")));
        }
        let _library = self.header_u16(&mut header)?;
        let needed = self.header_u16(&mut header)?;
        let [method, _level] = self.header_field(&mut header)?;
        let flags = self.header_u32(&mut header)?;
        if flags & FLAG_FILTER != 0 {
            self.header_u32(&mut header)?;
        }
        let _mode = self.header_u32(&mut header)?;
        let _modified: [u8; 8] = self.header_field(&mut header)?;
        let [name_length] = self.header_field(&mut header)?;
        for _ in 0..name_length {
            let _: [u8; 1] = self.header_field(&mut header)?;
        }
        self.check_header(flags, &header)?;
        if needed > LAST_VERSION {
            return Err(damaged(STREAM, format_args!("it needs version {needed:#06x} of lzop")));
        }
        if !METHODS.contains(&method) {
            return Err(damaged(STREAM, format_args!("its method {method} is not LZO1X")));
        }
        if flags & FLAG_FILTER != 0 {
            return Err(damaged(STREAM, "its data passed a filter, which is not supported"));
        }
        if flags & FLAG_EXTRA_FIELD != 0 {
            // No version of lzop writes one.
            return Err(damaged(STREAM, "its header has an extra field, which is not supported"));
        }
        Ok(flags)
    }

    fn check_header(&mut self, flags: u32, header: &[u8]) -> io::Result<()> {
        let found = if flags & FLAG_HEADER_CRC32 != 0 { crc32(header) } else { adler32(header) };
        if self.u32()? == found {
            return Ok(());
        }
        Err(damaged(STREAM, "the checksum of its header is wrong"))
    }

    /// Reads the next block and verifies it; false at the end of the member.
    fn read_block(&mut self, flags: u32) -> io::Result<bool> {
        self.block.clear();
        self.passed = 0;
        let length = self.u32()?;
        if length == 0 {
            return Ok(false);
        }
        if length > LARGEST_BLOCK_BYTES {
            return Err(damaged(STREAM, format_args!("a block has {length} bytes")));
        }
        let stored_length = self.u32()?;
        if stored_length == 0 || stored_length > length {
            let why = format_args!("a block of {length} bytes is stored in {stored_length}");
            return Err(damaged(STREAM, why));
        }
        let is_compressed = stored_length < length;
        let adler = self.checksum_if(flags & FLAG_ADLER32 != 0)?;
        let crc = self.checksum_if(flags & FLAG_CRC32 != 0)?;
        // Of what is stored as it is there is one checksum.
        let stored_adler = self.checksum_if(is_compressed && flags & FLAG_STORED_ADLER32 != 0)?;
        let stored_crc = self.checksum_if(is_compressed && flags & FLAG_STORED_CRC32 != 0)?;
        self.read_stored(stored_length)?;
        verify(&self.stored, stored_adler, stored_crc)?;
        if is_compressed {
            self.block.resize(length as usize, 0);
            match lzokay::decompress::decompress(&self.stored, &mut self.block) {
                Ok(decompressed) if decompressed == self.block.len() => {}
                Ok(decompressed) => {
                    let why = format_args!("a block of {length} bytes has only {decompressed}");
                    return Err(damaged(STREAM, why));
                }
                Err(error) => {
                    let why = format_args!("a block cannot be decompressed: {error}");
                    return Err(damaged(STREAM, why));
                }
            }
        } else {
            std::mem::swap(&mut self.stored, &mut self.block);
        }
        verify(&self.block, adler, crc)?;
        Ok(true)
    }

    /// Takes memory only for bytes that are there: the length may be wrong.
    fn read_stored(&mut self, length: u32) -> io::Result<()> {
        self.stored.clear();
        let read = (&mut self.input).take(length.into()).read_to_end(&mut self.stored)?;
        if read as u64 == u64::from(length) { Ok(()) } else { Err(self.truncated()) }
    }

    fn checksum_if(&mut self, present: bool) -> io::Result<Option<u32>> {
        if present { self.u32().map(Some) } else { Ok(None) }
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn header_u16(&mut self, header: &mut Vec<u8>) -> io::Result<u16> {
        self.header_field(header).map(u16::from_be_bytes)
    }

    fn header_u32(&mut self, header: &mut Vec<u8>) -> io::Result<u32> {
        self.header_field(header).map(u32::from_be_bytes)
    }

    fn header_field<const N: usize>(&mut self, header: &mut Vec<u8>) -> io::Result<[u8; N]> {
        let field = self.array()?;
        header.extend_from_slice(&field);
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        read_exact(&mut self.input, &mut bytes, STREAM)?;
        Ok(bytes)
    }

    fn truncated(&self) -> io::Error {
        truncated(STREAM, self.input.get_ref().bytes())
    }
}

fn verify(bytes: &[u8], adler: Option<u32>, crc: Option<u32>) -> io::Result<()> {
    let is_right = adler.is_none_or(|adler| adler == adler32(bytes))
        && crc.is_none_or(|crc| crc == crc32(bytes));
    if is_right { Ok(()) } else { Err(damaged(STREAM, "the checksum of a block is wrong")) }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// RFC 1950, section 8.2.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    /// As many bytes as cannot make the sums overflow.
    const RUN: usize = 5552;
    let (mut a, mut b) = (1_u32, 0_u32);
    for run in bytes.chunks(RUN) {
        for byte in run {
            a = a.wrapping_add(u32::from(*byte));
            b = b.wrapping_add(a);
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
        assert_eq!(adler32(b""), 1);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        // The sums are as large as they get before they are reduced.
        assert_eq!(adler32(&[0xFF; 20_000]), {
            let (mut a, mut b) = (1_u64, 0_u64);
            for _ in 0..20_000 {
                a += 0xFF;
                b += a;
            }
            u32::try_from(((b % 65_521) << 16) | (a % 65_521)).unwrap()
        });
    }
}
