use super::*;
use crate::postgres::wal_blocks::HEAD_BYTES;
use crate::postgres::wal_sample::records::{
    Reference, changing, creating, dropping, dropping_database, message, relation,
};
use crate::postgres::wal_sample::{SEGMENT_SIZE, WalWriter};
use crate::postgres::{SegmentNumber, TimelineId};

fn log() -> WalWriter {
    let mut log = WalWriter::new(1, 9);
    for block in [0, 1, 2, 3, 7, 9, 10, 100_000, u32::MAX - 1] {
        log.write(&changing(10, &[Reference::to(relation(20), block)], 5));
    }
    log.write(&changing(10, &[Reference::to(relation(u32::MAX), 5)], 5));
    log.write(&creating(relation(30), 0));
    log.write(&dropping_database(&[1663, 1700], 6));
    log.fill_but(320);
    log.write(&dropping(0x00, 0, &(0..100).map(relation).collect::<Vec<_>>()));
    log.write(&message(100));
    log.switch();
    log
}

fn map_of(log: &WalWriter, index: usize) -> SegmentMap {
    let segment = WalSegment { timeline: TimelineId(1), number: SegmentNumber(9 + index as u64) };
    let mut mapper = SegmentMapper::new(segment, SEGMENT_SIZE);
    mapper.feed(&log.segments()[index].1).unwrap();
    mapper.finish().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let log = log();
    for index in 0..log.segments().len() {
        let map = map_of(&log, index);
        let bytes = map.to_bytes();
        assert_eq!(SegmentMap::parse("m", &bytes).unwrap(), map);
    }
    let map = map_of(&log, 0);
    assert_eq!(map.ends().tail.as_ref().unwrap().bytes.len(), 320);
    assert_eq!(
        map_of(&log, 1).ends().head.bytes.len(),
        HEAD_BYTES.min(24 + 2 + 3 + 24 + 4 + 1200 - 320)
    );
    assert_eq!(map.changed().of(relation(20)).unwrap().blocks().len(), 9);
    assert_eq!(map.changed().of(relation(30)).unwrap().limit(), Some(0));
    assert_eq!(map.changed().databases().count(), 2);
    assert!(map.to_bytes().len() < 500);
    assert!(!map.wal_level_is_minimal());
}

#[test]
fn what_is_damaged_is_refused() {
    let bytes = map_of(&log(), 0).to_bytes();
    for length in 0..bytes.len() {
        let error = SegmentMap::parse("some map", &bytes[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("\"some map\""));
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        SegmentMap::parse("m", &damaged).unwrap_err();
        // With the right checksum, it is read as what it says, or not at all.
        let content = damaged.len() - 4;
        let crc = crc32c::crc32c(&damaged[..content]).to_le_bytes();
        damaged[content..].copy_from_slice(&crc);
        if let Ok(map) = SegmentMap::parse("m", &damaged) {
            assert_eq!(map.to_bytes(), damaged, "there is one way only to write a map");
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    SegmentMap::parse("m", &longer).unwrap_err();
}

#[test]
fn a_range_of_blocks_cannot_be_longer_than_the_segment_has_room_for() {
    let map = map_of(&log(), 0);
    let mut huge = map.clone();
    huge.changed.note_blocks(relation(40), (0..=(1 << 17) + 1).collect());
    SegmentMap::parse("m", &huge.to_bytes()).unwrap_err();
}

#[test]
fn the_map_of_a_later_timeline_is_not_made() {
    let mut log = WalWriter::new(2, 9);
    log.switch();
    let segment = WalSegment { timeline: TimelineId(1), number: SegmentNumber(9) };
    let mut mapper = SegmentMapper::new(segment, SEGMENT_SIZE);
    mapper.feed(&log.segments()[0].1).unwrap();
    let error = mapper.finish().unwrap_err();
    assert!(error.message().contains("later timeline"), "{error}");
    assert!(error.message().contains("000000010000000000000009"), "{error}");
}
