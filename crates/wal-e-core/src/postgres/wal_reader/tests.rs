use time::OffsetDateTime;
use time::macros::datetime;

use super::super::wal_sample::{SEGMENT_SIZE, WalWriter};
use super::super::{BLOCK_SIZE, SegmentNumber};
use super::*;

const NOON: OffsetDateTime = datetime!(2026-11-23 12:00:00 UTC);

/// Reads `bytes` in pieces of `piece` bytes.
fn read(start: Lsn, bytes: &[u8], piece: usize) -> (Vec<WalRecord>, WalReader) {
    let mut reader = WalReader::new(start, SEGMENT_SIZE);
    let mut records = Vec::new();
    for piece in bytes.chunks(piece) {
        reader.feed(piece, &mut |record| records.push(record));
    }
    (records, reader)
}

fn start_of(segment: u64) -> Lsn {
    SegmentNumber(segment).start_lsn(SEGMENT_SIZE)
}

fn content(log: &WalWriter) -> Vec<u8> {
    log.segments().into_iter().flat_map(|(_, content)| content).collect()
}

/// A log of some segments with records of every size, and where those are that matter.
fn log() -> (WalWriter, Vec<Lsn>) {
    let mut log = WalWriter::new(1, 5);
    let mut starts = vec![log.commit(700, NOON)];
    for length in (0..400).map(|n| n * 37) {
        log.noise(length);
    }
    starts.push(log.restore_point("here", NOON));
    log.noise(2_500_000);
    starts.push(log.abort(701, NOON));
    log.switch();
    starts.push(log.commit(702, NOON));
    (log, starts)
}

#[test]
fn records_are_found_across_pages_and_segments() {
    let (log, starts) = log();
    let bytes = content(&log);
    for piece in [1, 7, 4096, BLOCK_SIZE, 1 << 22] {
        let (records, reader) = read(start_of(5), &bytes, piece);
        assert_eq!(records.len(), 406);
        let told: Vec<_> =
            records.iter().filter(|record| record.kind != RecordKind::Other).collect();
        assert_eq!(told.iter().map(|record| record.start).collect::<Vec<_>>(), starts);
        let commit = RecordKind::TransactionEnd { xid: Some(702), time: NOON, committed: true };
        assert_eq!(told[3].kind, commit);
        for (record, next) in records.iter().zip(&records[1..]) {
            assert!(record.start < record.end && record.end <= next.start);
        }
        let end = reader.ended().unwrap();
        assert_eq!(
            (end.lsn, end.reason.as_str()),
            (records[405].end, "there is no further record")
        );
    }
}

#[test]
fn reading_may_begin_with_any_segment() {
    let (log, starts) = log();
    for (number, (_, content)) in (5..).zip(log.segments()) {
        let (records, _) = read(start_of(number), &content, 1000);
        let inside = |lsn: &&Lsn| lsn.0 / SEGMENT_SIZE.bytes() == number;
        let expected: Vec<_> = starts.iter().filter(inside).copied().collect();
        let told = records.iter().filter(|record| record.kind != RecordKind::Other);
        assert_eq!(told.map(|record| record.start).collect::<Vec<_>>(), expected, "{number}");
    }
}

#[test]
fn reading_may_begin_with_any_record_and_with_nothing_else() {
    let (log, _) = log();
    let mut bytes = content(&log);
    let (whole, _) = read(start_of(5), &bytes, 4096);
    let from = &whole[200];
    let read_from = |bytes: &[u8], lsn| {
        let (mut reader, mut records) = (WalReader::at_record(lsn, SEGMENT_SIZE), Vec::new());
        bytes.chunks(1000).for_each(|piece| reader.feed(piece, &mut |r| records.push(r)));
        (records, reader)
    };
    let (records, _) = read_from(&bytes, from.start);
    assert_eq!(records, whole[200..]);
    let (records, reader) = read_from(&bytes, Lsn(from.start.0 + 8));
    assert!(records.is_empty() && reader.ended().unwrap().lsn.0 == from.start.0 + 8);
    // What is damaged before it is not read by a server either.
    let before = (whole[199].start.0 - start_of(5).0) as usize;
    bytes[before + 30] ^= 0x5A;
    assert_eq!(read_from(&bytes, from.start).0, whole[200..]);
    assert!(read(start_of(5), &bytes, 4096).0.len() < 200);
}

#[test]
fn segments_of_another_cluster_history_or_older_timeline_do_not_follow() {
    let reason_of = |bytes: &[u8], cluster| {
        let mut reader = WalReader::new(start_of(5), SEGMENT_SIZE).expect_cluster(cluster);
        reader.feed(bytes, &mut |_| {});
        reader.ended().unwrap().reason.clone()
    };
    let size = SEGMENT_SIZE.bytes() as usize;
    let (log, _) = log();
    let sound = content(&log);
    let mut other = sound.clone();
    other[size + 24] ^= 1;
    assert!(reason_of(&other, None).contains("system identifier"));
    assert!(reason_of(&sound, Some(SystemIdentifier(5))).contains("not 5"));
    let mut older = sound.clone();
    older[2 * size + 4..2 * size + 8].copy_from_slice(&0_u32.to_ne_bytes());
    assert!(reason_of(&older, None).contains("timeline 0 follows one of timeline 1"));
    // Another history of the same cluster and timeline.
    let [one, other] = [600_000, 700_000].map(|bytes| {
        let mut log = WalWriter::new(1, 5);
        log.noise(bytes);
        log.noise(1_200_000 - bytes);
        log.noise(100);
        content(&log)
    });
    assert!(reason_of(&one, None).contains("no further record"));
    let mixed = [&one[..size], &other[size..]].concat();
    assert!(reason_of(&mixed, None).contains("checksum"));
}

#[test]
fn a_record_that_goes_on_in_the_next_segment_is_waited_for() {
    let mut log = WalWriter::new(1, 5);
    let filled = |log: &WalWriter| log.position().0 % SEGMENT_SIZE.bytes();
    while filled(&log) < SEGMENT_SIZE.bytes() - 48 {
        log.noise(0);
    }
    let lsn = log.restore_point("across", NOON);
    let segments = log.segments();
    let (records, mut reader) = read(start_of(5), &segments[0].1, 4096);
    assert!(records.iter().all(|record| record.kind == RecordKind::Other));
    assert!(reader.waits_for_record_that_matters() && reader.ended().is_none());
    let mut found = Vec::new();
    reader.feed(&segments[1].1, &mut |record| found.push(record));
    assert_eq!(found[0].start, lsn);
    assert!(matches!(&found[0].kind, RecordKind::RestorePoint { name, .. } if name == "across"));
}

#[test]
fn a_server_that_died_within_a_record_went_on_in_the_next_page() {
    let mut log = WalWriter::new(1, 5);
    log.noise(100);
    log.broken_record();
    let after = log.commit(700, NOON);
    let (records, _) = read(start_of(5), &content(&log), 512);
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].start, after);
}

#[test]
fn a_timeline_goes_on_where_the_one_before_was_left() {
    let mut first = WalWriter::new(1, 5);
    first.commit(700, NOON);
    let fork = first.position();
    let mut second = first.fork(2);
    first.commit(701, NOON);
    let on_second = second.commit(702, NOON);
    assert!(on_second >= fork);
    let (records, _) = read(start_of(5), &content(&second), 4096);
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].start, on_second);
}

#[test]
fn damage_ends_the_log_where_it_is() {
    let (log, _) = log();
    let bytes = content(&log);
    let (whole, _) = read(start_of(5), &bytes, 4096);
    // In a record, in a page header, in the first word of a record.
    let first_of_second_page = whole.iter().find(|r| r.start.0 > start_of(5).0 + 8192).unwrap();
    for at in [9000, 8193, 8200, (first_of_second_page.start.0 - start_of(5).0) as usize] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x5A;
        let (records, reader) = read(start_of(5), &damaged, 4096);
        let end = reader.ended().unwrap();
        assert!(records.len() < whole.len() && whole.starts_with(&records), "{at}");
        assert!(end.lsn.0 <= start_of(5).0 + at as u64, "{at}: {end:?}");
    }
    // A stale segment of the same size instead of the right one.
    let mut stale = bytes.clone();
    stale.copy_within(0..1 << 20, 1 << 20);
    let (_, reader) = read(start_of(5), &stale, 4096);
    assert!(reader.ended().unwrap().reason.contains("the one of LSN"), "{reader:?}");
}

#[test]
fn garbage_never_panics() {
    let mut random = fastrand::Rng::with_seed(7);
    let (log, _) = log();
    let sound = content(&log);
    for round in 0..300 {
        let mut bytes = sound[..random.usize(..200_000)].to_vec();
        if round % 10 == 0 {
            random.fill(&mut bytes);
        }
        for _ in 0..random.usize(1..20) {
            if let Some(byte) = bytes.get_mut(random.usize(..200_000)) {
                *byte = random.u8(..);
            }
        }
        read(start_of(5), &bytes, random.usize(1..20_000));
        read(Lsn(u64::MAX - (1 << 20) + 1), &bytes, 8192);
        read(Lsn(random.u64(..)), &bytes, 8192);
    }
}
