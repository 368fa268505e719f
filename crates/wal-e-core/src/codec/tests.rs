use std::io::{self, Read, Write};

use super::lz4::BLOCK_BYTES;
use super::*;
use crate::error::{Error, ErrorKind};

mod foreign;

/// Every method at its default, and the ends of its levels.
fn compressions() -> Vec<Compression> {
    let levels = [
        (Encoding::Lz4, &[0, -5, 3, 12][..]),
        (Encoding::Zstd, &[0, 1, 19][..]),
        (Encoding::None, &[0][..]),
    ];
    let pairs = levels.into_iter().flat_map(|(encoding, levels)| {
        levels.iter().map(move |level| Compression::new(encoding, Some(*level)).unwrap())
    });
    pairs.collect()
}

fn default(encoding: Encoding) -> Compression {
    Compression::new(encoding, None).unwrap()
}

fn compress(data: &[u8], compression: Compression) -> Vec<u8> {
    let mut writer = Compressor::new(Vec::new(), compression).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

pub(super) fn decompress(data: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    Decompressor::new(data, encoding)?.read_to_end(&mut all)?;
    Ok(all)
}

pub(super) fn corrupt(data: &[u8], encoding: Encoding) -> Error {
    let error = Error::from_io("", decompress(data, encoding).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    error
}

pub(super) fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 7 % 251) as u8).collect()
}

/// Bytes that do not compress.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The window that a zstd frame asks for, in bytes: RFC 8878, section 3.1.1.1.
fn window_of(frame: &[u8]) -> u64 {
    assert_eq!(frame[..4], [0x28, 0xB5, 0x2F, 0xFD]);
    assert_eq!(frame[4] & 0x20, 0, "a frame of several segments says its window");
    let (exponent, mantissa) = (u64::from(frame[5] >> 3), u64::from(frame[5] & 7));
    let base = 1 << (10 + exponent);
    base + base / 8 * mantissa
}

#[test]
fn lz4_frames_have_the_form_that_wal_g_reads() {
    let frame = compress(b"hello", Compression::default());
    // Version 1, independent blocks, content checksum; blocks of 256 kB.
    assert_eq!(frame[..6], [0x04, 0x22, 0x4D, 0x18, 0x64, 0x50]);
}

#[test]
fn zstd_frames_have_a_checksum_and_a_window_that_every_reader_takes() {
    for level in 0..=22 {
        let compression = Compression::new(Encoding::Zstd, Some(level)).unwrap();
        let frame = compress(&sample(10_000), compression);
        assert_eq!(frame[4] & 0x04, 0x04, "level {level} has a checksum");
        assert_eq!(frame[4] & 0x03, 0, "level {level} needs no dictionary");
        assert!(window_of(&frame) <= 8 << 20, "level {level}: {}", window_of(&frame));
    }
}

#[test]
fn what_is_not_compressed_is_stored_as_it_is() {
    let data = sample(1_000_000);
    assert!(compress(&data, default(Encoding::None)) == data);
    assert!(decompress(&data, Encoding::None).unwrap() == data);
}

#[test]
fn round_trips_of_every_size_around_a_block() {
    for compression in compressions() {
        for length in [0, 1, 5, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 1_000_000] {
            let data = sample(length);
            let read = decompress(&compress(&data, compression), compression.encoding()).unwrap();
            assert!(read == data, "{length} bytes, {compression}");
        }
        let data = noise(400_000);
        let read = decompress(&compress(&data, compression), compression.encoding()).unwrap();
        assert!(read == data, "noise, {compression}");
    }
}

#[test]
fn a_higher_level_compresses_better() {
    // Words in no order: hard to find all repetitions of.
    let words: Vec<u8> =
        noise(60_000).iter().flat_map(|n| format!("{} ", n % 97).into_bytes()).collect();
    for (encoding, low, high) in [(Encoding::Lz4, -5, 12), (Encoding::Zstd, 1, 19)] {
        let size = |level| compress(&words, Compression::new(encoding, Some(level)).unwrap()).len();
        assert!(size(high) < size(low), "{encoding}: {} and {}", size(high), size(low));
    }
}

#[test]
fn many_small_writes_make_the_same_frame() {
    let data = sample(1_000_000);
    for compression in compressions() {
        let mut writer = Compressor::new(Vec::new(), compression).unwrap();
        for piece in data.chunks(100) {
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
        }
        let frame = writer.finish().unwrap();
        let whole = compress(&data, compression);
        assert!(frame == whole, "{compression}: {} and {} bytes", frame.len(), whole.len());
    }
}

#[test]
fn a_frame_cut_anywhere_is_an_error() {
    for encoding in [Encoding::Lz4, Encoding::Zstd] {
        for data in [sample(20_000), noise(300_000), Vec::new()] {
            let frame = compress(&data, default(encoding));
            let step = (frame.len() / 2000).max(1);
            let end = frame.len().saturating_sub(30);
            for length in (0..end).step_by(step).chain(end..frame.len()) {
                let error = corrupt(&frame[..length], encoding);
                let word = if length == 0 { "empty" } else { "" };
                assert!(error.message().contains(word), "cut at {length}: {error}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing() {
    for encoding in [Encoding::Lz4, Encoding::Zstd] {
        for (data, repeats) in [(sample(300_000), true), (noise(30_000), false)] {
            let frame = compress(&data, default(encoding));
            for position in (0..30).chain((30..frame.len()).step_by(7)) {
                for bit in [0x01, 0x10, 0x80].into_iter().filter(|_| position < frame.len()) {
                    let mut damaged = frame.clone();
                    damaged[position] ^= bit;
                    match decompress(&damaged, encoding) {
                        Err(_) => drop(corrupt(&damaged, encoding)),
                        // A match may as well begin a period earlier; a zstd header may ask for
                        // more window than it needs, and has a bit that readers ignore.
                        Ok(read) => {
                            assert!(read == data, "{encoding}: bit {bit} of byte {position}");
                            assert!(repeats || position < 6, "{encoding}: byte {position}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_follows_a_frame_is_another_frame_or_an_error() {
    for encoding in [Encoding::Lz4, Encoding::Zstd] {
        let frame = compress(&sample(300_000), default(encoding));
        for garbage in
            [&b"g"[..], b"\0", b"\0\0\0\0", b"garbage", &frame[..frame.len() - 1], &frame[..3]]
        {
            let mut longer = frame.clone();
            longer.extend_from_slice(garbage);
            corrupt(&longer, encoding);
        }
        let mut both = compress(b"first ", default(encoding));
        both.extend(compress(b"second", default(encoding)));
        assert_eq!(decompress(&both, encoding).unwrap(), b"first second");
    }
}

#[test]
fn a_frame_of_another_kind_is_an_error() {
    let (lz4, zstd) =
        (compress(b"x", default(Encoding::Lz4)), compress(b"x", default(Encoding::Zstd)));
    corrupt(&lz4, Encoding::Zstd);
    corrupt(&zstd, Encoding::Lz4);
    for encoding in [Encoding::Lz4, Encoding::Zstd] {
        corrupt(b"neither of them", encoding);
    }
}

#[test]
fn a_window_larger_than_memory_should_hold_is_refused() {
    let mut frame = compress(&sample(300_000), default(Encoding::Zstd));
    frame[5] = 17 << 3; // 128 MiB
    assert!(decompress(&frame, Encoding::Zstd).is_ok());
    frame[5] = 18 << 3;
    corrupt(&frame, Encoding::Zstd);
}

#[test]
fn errors_of_the_source_are_not_taken_for_damage() {
    struct Broken(Option<io::Error>);
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.take().unwrap_or_else(|| Error::cancelled().into()))
        }
    }
    for encoding in Encoding::ALL {
        for (error, kind) in [
            (Error::cancelled().into(), ErrorKind::Cancelled),
            (io::Error::from_raw_os_error(5), ErrorKind::Io),
        ] {
            let mut reader = Decompressor::new(Broken(Some(error)), encoding).unwrap();
            let error = Error::from_io("", reader.read(&mut [0; 10]).unwrap_err());
            assert_eq!(error.kind(), kind, "{encoding}");
        }
    }
}

/// Fails once, at the write that would pass `room` bytes, and then takes everything.
struct FailsOnce {
    room: usize,
    failed: bool,
}

impl Write for FailsOnce {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if !self.failed && buffer.len() > self.room {
            self.failed = true;
            return Err(io::Error::from_raw_os_error(28));
        }
        self.room = self.room.saturating_sub(buffer.len());
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_of_the_sink_is_never_swallowed() {
    let data = noise(1_000_000);
    for compression in compressions() {
        for room in [0, 1, 10, 100_000, 999_990] {
            let sink = FailsOnce { room, failed: false };
            let mut writer = Compressor::new(sink, compression).unwrap();
            // A caller that goes on after an error still learns of it in the end.
            let failed =
                data.chunks(50_000).filter(|piece| writer.write_all(piece).is_err()).count();
            let end = writer.finish();
            assert!(end.is_err(), "{compression}, {room} bytes, {failed} failed writes");
        }
    }
}

#[test]
fn a_small_object_that_does_not_fit_is_an_error_at_the_end() {
    for compression in compressions() {
        let mut writer =
            Compressor::new(FailsOnce { room: 0, failed: false }, compression).unwrap();
        let _ = writer.write_all(b"small");
        let error = writer.finish().map(|_| ()).unwrap_err();
        assert_eq!(Error::from_io("", error).kind(), ErrorKind::DiskFull, "{compression}");
    }
}

#[test]
fn methods_and_levels_are_checked() {
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::from_name(&encoding.to_string()), Some(encoding));
        assert_eq!(
            Encoding::from_extension(encoding.extension().unwrap_or_default()),
            Some(encoding)
        );
        let parsed = encoding.to_string().parse::<Encoding>();
        let compression = Compression::new(encoding, None);
        if Encoding::WRITABLE.contains(&encoding) {
            assert_eq!(parsed.unwrap(), encoding);
            assert_eq!(compression.unwrap().encoding(), encoding);
        } else {
            assert_eq!(parsed.unwrap_err(), compression.unwrap_err());
        }
    }
    for method in ["lzo", "lzop", "lzma", "brotli", "gzip"] {
        let error = method.parse::<Encoding>().unwrap_err();
        let message = format!("compression method \"{method}\" is not supported");
        assert_eq!(error.message(), message);
    }
    for method in ["", "LZ4", "zst", "br", "lzma", "brotli", "gzip"] {
        let error = method.parse::<Encoding>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint().is_some() && error.message().contains(method));
    }
    for (encoding, level) in [
        (Encoding::Lz4, 13),
        (Encoding::Lz4, -6),
        (Encoding::Zstd, 23),
        (Encoding::Zstd, -1),
        (Encoding::None, 1),
    ] {
        let error = Compression::new(encoding, Some(level)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(&encoding.to_string()) && error.hint().is_some());
    }
    assert_eq!(default(Encoding::Lz4), Compression::default());
    assert_eq!(Compression::new(Encoding::Zstd, Some(19)).unwrap().to_string(), "zstd, level 19");
}
