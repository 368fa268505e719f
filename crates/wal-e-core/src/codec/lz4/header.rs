//! The header of an LZ4 frame.
//!
//! Format: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.

use xxhash_rust::xxh32::xxh32;

use crate::codec::beginning::LZ4;

const VERSION: u8 = 0x40;
const VERSION_MASK: u8 = 0xC0;
const INDEPENDENT_BLOCKS: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const RESERVED: u8 = 0x02;
const DICTIONARY: u8 = 0x01;

/// How long the header is that is written, with the magic number.
pub(super) const HEADER_BYTES: usize = 7;

/// The byte for blocks of at most 256 kB.
const BLOCKS_OF_256_KB: u8 = 5 << 4;

/// What a header says of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// No block refers to the content of those before it.
    pub(super) independent_blocks: bool,
    /// A checksum follows each block.
    pub(super) block_checksums: bool,
    /// The size of the content in bytes, where it is said.
    pub(super) content_bytes: Option<u64>,
    /// A checksum of the content follows the last block.
    pub(super) content_checksum: bool,
    /// What a block has at most, compressed or not, in bytes.
    pub(super) block_bytes: usize,
}

impl Header {
    /// The header of what is written, with the magic number: independent blocks of 256 kB, a
    /// checksum of the content.
    pub(super) fn written() -> [u8; HEADER_BYTES] {
        let [m0, m1, m2, m3] = LZ4;
        let flags = VERSION | INDEPENDENT_BLOCKS | CONTENT_CHECKSUM;
        [m0, m1, m2, m3, flags, BLOCKS_OF_256_KB, checksum(&[flags, BLOCKS_OF_256_KB])]
    }

    /// How many bytes there are after the magic number, by the first of them.
    pub(super) fn length(flags: u8) -> usize {
        let of = |flag, length| if flags & flag == 0 { 0 } else { length };
        3 + of(CONTENT_SIZE, 8) + of(DICTIONARY, 4)
    }

    /// Reads the bytes after the magic number.
    ///
    /// # Errors
    /// Why no frame can be read that begins so.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let [flags, blocks, middle @ .., sum] = bytes else {
            return Err("its header is too short");
        };
        if flags & VERSION_MASK != VERSION {
            return Err("its version is not supported");
        }
        if checksum(&bytes[..bytes.len() - 1]) != *sum {
            return Err("its header does not have its checksum");
        }
        if flags & RESERVED != 0 || blocks & 0x8F != 0 {
            return Err("its header has bits that mean nothing");
        }
        if flags & DICTIONARY != 0 {
            return Err("it needs a dictionary, which is not supported");
        }
        let block_bytes = match blocks >> 4 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err("its blocks have no size"),
        };
        Ok(Header {
            independent_blocks: flags & INDEPENDENT_BLOCKS != 0,
            block_checksums: flags & BLOCK_CHECKSUMS != 0,
            content_bytes: middle.first_chunk().map(|size| u64::from_le_bytes(*size)),
            content_checksum: flags & CONTENT_CHECKSUM != 0,
            block_bytes,
        })
    }
}

fn checksum(descriptor: &[u8]) -> u8 {
    xxh32(descriptor, 0).to_le_bytes()[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows the magic number, with its checksum.
    fn descriptor(bytes: &[u8]) -> Vec<u8> {
        [bytes, &[checksum(bytes)]].concat()
    }

    #[test]
    fn what_is_written_says_what_it_is() {
        let written = Header::written();
        assert_eq!(written.len(), 4 + Header::length(written[4]));
        let header = Header::parse(&written[4..]).unwrap();
        assert!(header.independent_blocks && header.content_checksum && !header.block_checksums);
        assert_eq!((header.content_bytes, header.block_bytes), (None, super::super::BLOCK_BYTES));
    }

    #[test]
    fn a_header_may_say_the_size_of_the_content() {
        let bytes = descriptor(&[0x48, 0x70, 1, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes.len(), Header::length(bytes[0]));
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.content_bytes, header.block_bytes), (Some(513), 4 << 20));
    }

    #[test]
    fn what_no_reader_knows_is_refused() {
        for bytes in [[0x84, 0x50], [0x46, 0x50], [0x44, 0x51], [0x44, 0xD0], [0x44, 0x30]] {
            assert!(Header::parse(&descriptor(&bytes)).is_err(), "{bytes:?}");
        }
        let with_dictionary = descriptor(&[0x45, 0x50, 1, 0, 0, 0]);
        assert!(Header::parse(&with_dictionary).unwrap_err().contains("dictionary"));
        assert!(Header::parse(&[0x44, 0x50, 0]).unwrap_err().contains("checksum"));
    }
}
