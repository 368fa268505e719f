//! Streams through the LZ4 frame format.
//!
//! What is written is what WAL-G writes and reads: one modern frame with
//! independent blocks and a checksum of the content.

use std::io::{self, BufReader, BufWriter, Read, Write};

use lzzzz::lz4f::{
    BlockMode, BlockSize, BufReadDecompressor, ContentChecksum, Preferences, PreferencesBuilder,
    WriteCompressor,
};

use super::FrameReader;
use crate::error::{Error, ErrorKind};

/// The size of a block before compression. Larger blocks compress hardly
/// better and cost memory in every stream.
const BLOCK_BYTES: usize = 256 * 1024;

fn preferences() -> Preferences {
    PreferencesBuilder::new()
        .block_size(BlockSize::Max256KB)
        .block_mode(BlockMode::Independent)
        .content_checksum(ContentChecksum::Enabled)
        .build()
}

/// Compresses into one LZ4 frame.
///
/// Only [`finish`](Lz4Writer::finish) makes the frame complete as far as the
/// caller may know: dropping the writer writes the frame's end too, so whoever
/// receives the bytes must not take their end for success.
pub struct Lz4Writer<W: Write> {
    // The compressor makes a block of each write, however small.
    blocks: BufWriter<WriteCompressor<FirstError<W>>>,
}

impl<W: Write> Lz4Writer<W> {
    /// Compresses what is written and passes it on to `inner`.
    pub fn new(inner: W) -> io::Result<Self> {
        let sink = FirstError { inner, error: None };
        let compressor = WriteCompressor::new(sink, preferences())?;
        Ok(Lz4Writer { blocks: BufWriter::with_capacity(BLOCK_BYTES, compressor) })
    }

    /// Writes the end of the frame and its checksum, and gives the inner writer back.
    pub fn finish(self) -> io::Result<W> {
        let compressor = self.blocks.into_inner().map_err(io::IntoInnerError::into_error)?;
        // It swallows errors while it writes the frame's end; the sink kept them.
        let sink = compressor.into_inner();
        match sink.error {
            Some(error) => Err(error),
            None => Ok(sink.inner),
        }
    }
}

impl<W: Write> Write for Lz4Writer<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // Up to a whole block, so that each write of the compressor is one.
        let room = BLOCK_BYTES - self.blocks.buffer().len();
        let length = buffer.len().min(if room == 0 { BLOCK_BYTES } else { room });
        self.blocks.write(&buffer[..length])
    }

    fn flush(&mut self) -> io::Result<()> {
        // A block ends when it is full; flushing would only make small ones.
        Ok(())
    }
}

/// Remembers the first error of the inner writer.
struct FirstError<W> {
    inner: W,
    error: Option<io::Error>,
}

impl<W: Write> Write for FirstError<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.error.is_some() {
            return Err(io::Error::other("an earlier write failed"));
        }
        self.inner.write(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.error = Some(clone_io(error));
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// `io::Error` is not `Clone`: the same words and kind.
fn clone_io(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(core) => core.clone().into(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Decompresses LZ4 frames. A frame that ends too early, has a wrong checksum
/// or is followed by anything but another frame is [`ErrorKind::Corrupt`]
/// (inside the `io::Error`).
pub struct Lz4Reader<R: Read> {
    decompressor: BufReadDecompressor<'static, BufReader<FrameReader<R>>>,
}

impl<R: Read> Lz4Reader<R> {
    /// Decompresses `inner`.
    pub fn new(inner: R) -> io::Result<Self> {
        let frames = BufReader::with_capacity(BLOCK_BYTES, FrameReader::new(inner));
        Ok(Lz4Reader { decompressor: BufReadDecompressor::new(frames)? })
    }
}

impl<R: Read> Read for Lz4Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = self.decompressor.read(buffer).map_err(as_corrupt)?;
        if length == 0 {
            let frames = self.decompressor.get_ref().get_ref();
            if !frames.is_complete() {
                return Err(frames.truncated().into());
            }
        }
        Ok(length)
    }
}

/// The decoder's own complaints carry no core error; those of the stream below do.
fn as_corrupt(error: io::Error) -> io::Error {
    let foreign = match error.get_ref() {
        Some(inner) => inner.downcast_ref::<Error>().is_none(),
        None => false,
    };
    if foreign {
        return Error::new(ErrorKind::Corrupt, format!("invalid LZ4 frame: {error}")).into();
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compress(data: &[u8]) -> Vec<u8> {
        let mut writer = Lz4Writer::new(Vec::new()).unwrap();
        writer.write_all(data).unwrap();
        writer.finish().unwrap()
    }

    fn decompress(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Lz4Reader::new(data)?.read_to_end(&mut all)?;
        Ok(all)
    }

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n / 7 % 251) as u8).collect()
    }

    #[test]
    fn frames_have_the_form_that_wal_g_reads() {
        let frame = compress(b"hello");
        // Version 1, independent blocks, content checksum; blocks of 256 kB.
        assert_eq!(frame[..6], [0x04, 0x22, 0x4D, 0x18, 0x64, 0x50]);
    }

    #[test]
    fn round_trips_of_every_size_around_a_block() {
        for length in [0, 1, 5, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3_000_000] {
            let data = sample(length);
            assert_eq!(decompress(&compress(&data)).unwrap(), data, "{length} bytes");
        }
    }

    #[test]
    fn many_small_writes_make_whole_blocks() {
        let data = sample(1_000_000);
        let mut writer = Lz4Writer::new(Vec::new()).unwrap();
        for piece in data.chunks(100) {
            writer.write_all(piece).unwrap();
        }
        assert!(writer.finish().unwrap() == compress(&data));
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error() {
        let frame = compress(&sample(600_000));
        for length in (0..frame.len()).step_by(97).chain(frame.len() - 9..frame.len()) {
            let error = decompress(&frame[..length]).unwrap_err();
            let error = Error::from_io("", error);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {length}: {error}");
        }
    }

    #[test]
    fn flipped_bits_and_trailing_bytes_are_errors() {
        let frame = compress(&sample(300_000));
        for position in (0..frame.len()).step_by(41) {
            let mut damaged = frame.clone();
            damaged[position] ^= 0x10;
            match decompress(&damaged) {
                Err(error) => {
                    assert_eq!(Error::from_io("", error).kind(), ErrorKind::Corrupt);
                }
                Ok(_) => panic!("a flipped bit at {position} was not noticed"),
            }
        }
        let mut longer = frame;
        longer.extend_from_slice(b"garbage");
        assert!(decompress(&longer).is_err());
    }

    #[test]
    fn frames_that_follow_one_another_are_one_stream() {
        let mut both = compress(b"first ");
        both.extend(compress(b"second"));
        assert_eq!(decompress(&both).unwrap(), b"first second");
    }

    #[test]
    fn an_error_of_the_sink_is_not_swallowed_at_the_end() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(28))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Lz4Writer::new(Full).unwrap();
        writer.write_all(b"small").unwrap();
        assert!(writer.finish().is_err());
    }
}
