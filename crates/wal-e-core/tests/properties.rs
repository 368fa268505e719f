//! Round trips and invariants over arbitrary input.

use std::io::{Read, Write};

use proptest::prelude::*;
use wal_e_core::ErrorKind;
use wal_e_core::codec::{Compression, Compressor, Decompressor, Encoding};
use wal_e_core::postgres::tablespace_map::{self, MappedTablespace};
use wal_e_core::postgres::{
    Lsn, SegmentNumber, SegmentSize, TimelineId, WalFileKind, WalFileName, WalPageHeader,
    WalSegment,
};

fn segment_size() -> impl Strategy<Value = SegmentSize> {
    (20_u32..=30).prop_map(|bits| SegmentSize::new(1 << bits).expect("a legal size"))
}

fn compress(data: &[u8], compression: Compression, piece: usize) -> Vec<u8> {
    let mut writer = Compressor::new(Vec::new(), compression).expect("a writer");
    for piece in data.chunks(piece) {
        writer.write_all(piece).expect("memory takes everything");
    }
    writer.finish().expect("the end of the frame")
}

/// Hands out at most `piece` bytes a read.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.piece).min(self.rest.len());
        buffer[..length].copy_from_slice(&self.rest[..length]);
        self.rest = &self.rest[length..];
        Ok(length)
    }
}

fn decompress(frame: &[u8], encoding: Encoding, piece: usize) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    Decompressor::new(Pieces { rest: frame, piece }, encoding)?.read_to_end(&mut all)?;
    Ok(all)
}

/// Bytes that compress a little, as data files do.
fn data() -> impl Strategy<Value = Vec<u8>> {
    (proptest::collection::vec(any::<u8>(), 0..4000), 1_usize..200)
        .prop_map(|(seed, times)| seed.repeat(times))
}

/// Every method, and levels that are quick enough for many cases.
fn compression() -> impl Strategy<Value = Compression> {
    let level = |encoding, level| Compression::new(encoding, Some(level)).expect("a level");
    prop_oneof![
        (-5..=9).prop_map(move |n| level(Encoding::Lz4, n)),
        (0..=6).prop_map(move |n| level(Encoding::Zstd, n)),
        Just(level(Encoding::None, 0)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn lsns_come_back_from_text(lsn in any::<u64>()) {
        prop_assert_eq!(Lsn(lsn).to_string().parse::<Lsn>().unwrap(), Lsn(lsn));
    }

    #[test]
    fn segment_names_are_parsed_and_sort_as_the_wal_does(
        size in segment_size(),
        timeline in 1_u32..=u32::MAX,
        lsns in proptest::collection::vec(any::<u64>(), 2),
    ) {
        let segment = |lsn| WalSegment::containing(TimelineId(timeline), Lsn(lsn), size);
        let (a, b) = (segment(lsns[0]), segment(lsns[1]));
        let name: WalFileName = a.file_name(size).parse().unwrap();
        prop_assert_eq!(name.kind(), WalFileKind::Segment);
        prop_assert_eq!(name.timeline(), TimelineId(timeline));
        prop_assert_eq!(name.segment_number(size), Some(a.number));
        let range = a.number.start_lsn(size)..a.number.end_lsn(size);
        prop_assert!(range.contains(&Lsn(lsns[0])) || range.end == Lsn(u64::MAX));
        prop_assert_eq!(a.number.cmp(&b.number), a.file_name(size).cmp(&b.file_name(size)));
    }

    #[test]
    fn the_segment_before_an_lsn_holds_its_last_byte(size in segment_size(), lsn in 1_u64..) {
        let before = WalSegment::before(TimelineId(1), Lsn(lsn), size);
        prop_assert_eq!(before.number, SegmentNumber((lsn - 1) / size.bytes()));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,80}") {
        let _ = text.parse::<Lsn>();
        let _ = text.parse::<WalFileName>();
        let _ = text.parse::<wal_e_core::config::Prefix>();
        let _ = tablespace_map::parse(&text);
        let _ = wal_e_core::sentinel::parse::<wal_e_core::sentinel::Sentinel>("x", text.as_bytes());
    }

    #[test]
    fn no_bytes_make_a_wal_page_header_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..48),
        magic in any::<bool>(),
        file_bytes in any::<u64>(),
        size in segment_size(),
        lsn in any::<u64>(),
    ) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&[0x10, 0xD1, 0x02, 0x00]);
        }
        let header = WalPageHeader::parse(&bytes);
        prop_assert_eq!(header.is_some(), bytes.len() >= WalPageHeader::LENGTH);
        if let Some(header) = header {
            let segment = WalSegment::containing(TimelineId(1), Lsn(lsn), size);
            let name = WalFileName::segment(segment, size);
            let _ = header.check(&name, file_bytes);
            let fits = WalPageHeader {
                page_address: segment.number.start_lsn(size),
                timeline: TimelineId(1),
                segment_bytes: u32::try_from(size.bytes()).expect("at most 1 GB"),
                block_bytes: 8192,
                magic: 0xD118,
                flags: 0x0002,
                ..header
            };
            prop_assert_eq!(fits.check(&name, size.bytes()), Ok(()));
        }
    }

    #[test]
    fn tablespace_maps_come_back(
        tablespaces in proptest::collection::vec((any::<u32>(), "/[^\0]{0,40}"), 0..5),
    ) {
        let tablespaces: Vec<MappedTablespace> = tablespaces
            .into_iter()
            .map(|(oid, location)| MappedTablespace { oid, location })
            .collect();
        let text = tablespace_map::format(&tablespaces);
        prop_assert_eq!(tablespace_map::parse(&text).unwrap(), tablespaces);
    }

    #[test]
    fn frames_come_back_however_they_are_cut_into_pieces(
        data in data(),
        compression in compression(),
        written in 1_usize..300_000,
        read in 1_usize..300_000,
    ) {
        let frame = compress(&data, compression, written);
        prop_assert!(decompress(&frame, compression.encoding(), read).unwrap() == data);
    }

    #[test]
    fn a_truncated_frame_is_an_error_and_not_a_short_file(
        data in data(),
        compression in compression(),
        read in 1_usize..300_000,
        cut in any::<prop::sample::Index>(),
    ) {
        prop_assume!(compression.encoding() != Encoding::None);
        let frame = compress(&data, compression, 8192);
        let cut = &frame[..cut.index(frame.len())];
        let error = decompress(cut, compression.encoding(), read).unwrap_err();
        let error = wal_e_core::Error::from_io("could not read", error);
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_damaged_frame_never_becomes_other_content(
        data in data(),
        compression in compression(),
        position in any::<prop::sample::Index>(),
        bit in 0_u32..8,
    ) {
        prop_assume!(compression.encoding() != Encoding::None);
        let mut frame = compress(&data, compression, 8192);
        let position = position.index(frame.len());
        frame[position] ^= 1 << bit;
        match decompress(&frame, compression.encoding(), 8192) {
            // A bit that nothing depends on: a larger window, a reserved bit of the header.
            Ok(read) => prop_assert!(read == data),
            Err(error) => {
                let error = wal_e_core::Error::from_io("could not read", error);
                prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
        }
    }
}
