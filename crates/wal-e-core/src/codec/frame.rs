//! The outline of LZ4 frames, followed as their bytes pass.
//!
//! The decoder reports a damaged block or checksum, but takes the end of its
//! input for the end of the data, wherever that is. A truncated object must
//! never look like a short file, so [`FrameReader`] follows headers, block
//! lengths and end marks and says whether the input may end here.
//!
//! Format: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.

use std::io::{self, Read};

use crate::error::{Error, ErrorKind};

const FRAME_MAGIC: u32 = 0x184D_2204;
/// Frames for foreign data, to be skipped: `0x184D2A50` to `0x184D2A5F`.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;

const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAG_CONTENT_CHECKSUM: u8 = 0x04;
const FLAG_DICTIONARY: u8 = 0x01;

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Magic,
    SkippableLength,
    Flags,
    BlockLength,
    /// Bytes whose content does not matter here, and what comes after them.
    Opaque(u64, After),
}

/// What follows opaque bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Block,
    Frame,
}

/// Passes compressed bytes on and follows the outline of their frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    inner: R,
    field: Field,
    pending: [u8; 4],
    pending_length: usize,
    flags: u8,
    frames: u64,
    bytes: u64,
    ended: bool,
}

impl<R: Read> FrameReader<R> {
    /// Follows the frames of `inner`.
    pub(super) fn new(inner: R) -> Self {
        FrameReader {
            inner,
            field: Field::Magic,
            pending: [0; 4],
            pending_length: 0,
            flags: 0,
            frames: 0,
            bytes: 0,
            ended: false,
        }
    }

    /// Whether at least one frame has passed and none is open.
    pub(super) fn is_complete(&self) -> bool {
        self.field == Field::Magic && self.pending_length == 0 && self.frames > 0
    }

    /// Whether the input has ended in the middle of a frame, or before one.
    pub(super) fn is_truncated(&self) -> bool {
        self.ended && !self.is_complete()
    }

    /// The error for an input that ended in the middle of a frame.
    pub(super) fn truncated(&self) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            format!("the LZ4 frame is truncated after {} bytes", self.bytes),
        )
    }

    fn damaged(&self, what: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("invalid LZ4 frame at byte {}: {what}", self.bytes))
    }

    fn follow(&mut self, mut input: &[u8]) -> Result<(), Error> {
        while !input.is_empty() {
            if let Field::Opaque(left, after) = self.field {
                let taken = left.min(input.len() as u64);
                self.bytes += taken;
                input = &input[taken as usize..];
                self.field = match (left - taken, after) {
                    (0, After::Block) => Field::BlockLength,
                    (0, After::Frame) => self.end_frame(),
                    (rest, _) => Field::Opaque(rest, after),
                };
                continue;
            }
            let wanted = if self.field == Field::Flags { 1 } else { 4 };
            let taken = (wanted - self.pending_length).min(input.len());
            self.pending[self.pending_length..self.pending_length + taken]
                .copy_from_slice(&input[..taken]);
            self.pending_length += taken;
            input = &input[taken..];
            if self.pending_length == wanted {
                self.field = self.after_field()?;
                self.pending_length = 0;
            }
            self.bytes += taken as u64;
        }
        Ok(())
    }

    /// The field that follows the one just read into `pending`.
    fn after_field(&mut self) -> Result<Field, Error> {
        let word = u32::from_le_bytes(self.pending);
        Ok(match self.field {
            Field::Magic if word == FRAME_MAGIC => Field::Flags,
            Field::Magic if word & 0xFFFF_FFF0 == SKIPPABLE_MAGIC => Field::SkippableLength,
            Field::Magic => return Err(self.damaged("it does not begin with the magic number")),
            Field::SkippableLength => Field::Opaque(u64::from(word), After::Frame).or_end(self),
            Field::Flags => {
                self.flags = self.pending[0];
                if self.flags >> 6 != 1 {
                    return Err(self.damaged("its version is not supported"));
                }
                // The block size byte and the header's checksum, and what the flags add.
                let mut rest = 2;
                if self.flags & FLAG_CONTENT_SIZE != 0 {
                    rest += 8;
                }
                if self.flags & FLAG_DICTIONARY != 0 {
                    rest += 4;
                }
                Field::Opaque(rest, After::Block)
            }
            Field::BlockLength if word == 0 => {
                let checksum = if self.flags & FLAG_CONTENT_CHECKSUM != 0 { 4 } else { 0 };
                Field::Opaque(checksum, After::Frame).or_end(self)
            }
            Field::BlockLength => {
                // The highest bit marks a block that is stored uncompressed.
                let checksum = if self.flags & FLAG_BLOCK_CHECKSUM != 0 { 4 } else { 0 };
                Field::Opaque(u64::from(word & 0x7FFF_FFFF) + checksum, After::Block)
            }
            Field::Opaque(..) => unreachable!("opaque bytes are not collected"),
        })
    }

    fn end_frame(&mut self) -> Field {
        self.frames += 1;
        Field::Magic
    }
}

impl Field {
    /// This, or the end of the frame when there is nothing to skip.
    fn or_end<R: Read>(self, reader: &mut FrameReader<R>) -> Field {
        if self == Field::Opaque(0, After::Frame) { reader.end_frame() } else { self }
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.ended |= length == 0 && !buffer.is_empty();
        self.follow(&buffer[..length])?;
        Ok(length)
    }
}
