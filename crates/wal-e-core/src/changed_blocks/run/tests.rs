use proptest::prelude::*;

use super::*;
use crate::changed_blocks::SegmentMapper;
use crate::postgres::wal_blocks::HEAD_BYTES;
use crate::postgres::wal_sample::records::{
    Image, Made, Reference, changing, copying_database, creating, dropping, dropping_database,
    message, relation, truncating,
};
use crate::postgres::wal_sample::{SEGMENT_SIZE, WalWriter};
use crate::postgres::{TimelineId, WalFileName};

const FIRST: u64 = 3;

/// The maps of all segments of a log, which are handed in as pieces.
fn maps(log: &WalWriter, piece: usize) -> Vec<SegmentMap> {
    let segments = log.segments();
    let of_one = |(name, bytes): &(String, Vec<u8>)| {
        let name: WalFileName = name.parse().unwrap();
        let number = name.segment_number(SEGMENT_SIZE).unwrap();
        let segment = WalSegment { timeline: name.timeline(), number };
        let mut mapper = SegmentMapper::new(segment, SEGMENT_SIZE);
        for piece in bytes.chunks(piece) {
            mapper.feed(piece).unwrap();
        }
        let map = mapper.finish().unwrap();
        SegmentMap::parse("map", &map.to_bytes()).unwrap()
    };
    segments.iter().map(of_one).collect()
}

fn start(segment: u64) -> Lsn {
    Lsn(segment * SEGMENT_SIZE.bytes())
}

fn changed(maps: &[SegmentMap]) -> Result<ChangedBlocks> {
    let end = maps.last().unwrap().segment().number.end_lsn(SEGMENT_SIZE);
    changed_between(maps.iter().cloned().map(Ok), start(FIRST), end)
}

/// A record, and what it changes.
#[derive(Debug, Clone)]
struct Change {
    made: Made,
    changed: ChangedBlocks,
}

fn change(made: Made, note: impl FnOnce(&mut ChangedBlocks)) -> Change {
    let mut changed = ChangedBlocks::default();
    note(&mut changed);
    Change { made, changed }
}

fn changes_blocks(rmgr: u8, references: Vec<Reference>, main: usize) -> Change {
    change(changing(rmgr, &references, main), |changed| {
        for reference in references.iter().filter(|reference| reference.fork == 0) {
            changed.note_block(reference.relation, reference.block);
        }
    })
}

fn drops(operation: u8, subtransactions: u32, relations: Vec<RelationId>) -> Change {
    change(dropping(operation, subtransactions, &relations), |changed| {
        relations.iter().for_each(|relation| changed.note_limit(*relation, 0));
    })
}

fn block_change() -> impl Strategy<Value = Change> {
    let image = prop_oneof![
        4 => Just(Image::None),
        1 => Just(Image::Whole),
        1 => (1_u16..8192).prop_map(Image::WithHole),
        1 => (1_u16..8192, 2_u8..5).prop_map(|(length, bit)| Image::Compressed(length, 1 << bit)),
        1 => (1_u16..8192, 2_u8..5)
            .prop_map(|(length, bit)| Image::CompressedWhole(length, 1 << bit)),
    ];
    let block = prop_oneof![0_u32..200, 0..u32::MAX];
    let data = prop_oneof![2 => Just(0_u16), 1 => 1_u16..300, 1 => 1_u16..];
    let reference = (1_u32..6, prop_oneof![5 => Just(0_u8), 1 => 1_u8..4], block, image, data);
    let reference = reference.prop_map(|(number, fork, block, image, data)| Reference {
        fork,
        image,
        data,
        ..Reference::to(relation(number), block)
    });
    let references = prop_oneof![
        6 => prop::collection::vec(reference.clone(), 0..4),
        1 => prop::collection::vec(reference, 0..=33),
    ];
    let main = prop_oneof![8 => 0_usize..600, 1 => 0_usize..400_000];
    // Heap, a B-tree, and an access method of an extension.
    let rmgr = prop_oneof![Just(10_u8), Just(11), Just(200)];
    (rmgr, references, main)
        .prop_map(|(rmgr, references, main)| changes_blocks(rmgr, references, main))
}

fn any_change() -> impl Strategy<Value = Change> {
    let operation = prop_oneof![Just(0x00_u8), Just(0x20), Just(0x30), Just(0x40)];
    prop_oneof![
        8 => block_change(),
        2 => (operation, 0_u32..50, 0_u32..60).prop_map(|(operation, subtransactions, count)| {
            drops(operation, subtransactions, (10..10 + count).map(relation).collect())
        }),
        1 => (1_u32..6, 0_u32..4).prop_map(|(number, fork)| {
            change(creating(relation(number), fork), |changed| {
                if fork == 0 {
                    changed.note_limit(relation(number), 0);
                }
            })
        }),
        1 => (1_u32..6, any::<u32>(), 0_u32..8).prop_map(|(number, blocks, flags)| {
            change(truncating(relation(number), blocks, flags), |changed| {
                if flags & 1 == 1 {
                    changed.note_limit(relation(number), blocks);
                }
            })
        }),
        1 => (0_u8..2, 1_u32..9).prop_map(|(info, database)| {
            change(copying_database(info << 4, 1663, database), |changed| {
                changed.note_database(1663, database);
            })
        }),
        1 => (1_u32..9).prop_map(|database| {
            change(dropping_database(&[1663, 9], database), |changed| {
                changed.note_database(1663, database);
                changed.note_database(9, database);
            })
        }),
    ]
}

/// What comes next in a log.
#[derive(Debug, Clone)]
enum Step {
    Change(Change),
    /// The segment is filled up to so many times 8 bytes before its end.
    Fill(usize),
    Switch,
    /// The server dies while it writes this record.
    Die(Change),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => any_change().prop_map(Step::Change),
        3 => (0_usize..200).prop_map(Step::Fill),
        1 => Just(Step::Switch),
        1 => any_change().prop_map(Step::Die),
    ];
    prop::collection::vec(step, 1..40)
}

/// The log, and what it changes.
fn write(steps: &[Step]) -> (WalWriter, ChangedBlocks) {
    let mut log = WalWriter::new(1, FIRST);
    log.magic = 0xD118;
    let mut expected = ChangedBlocks::default();
    for step in steps {
        match step {
            Step::Change(change) => {
                log.write(&change.made);
                expected.merge(change.changed.clone());
            }
            Step::Fill(words) => log.fill_but(words * 8),
            Step::Switch => {
                log.switch();
            }
            Step::Die(change) => {
                let room = 8192 - log.position().0.next_multiple_of(8) as usize % 8192;
                if (change.made.data.len() + 24) > room && room < 8192 {
                    log.die_in(|log| log.write(&change.made), 0);
                    // What was there of it may count, or not.
                    expected.merge(change.changed.clone());
                }
            }
        }
    }
    log.switch();
    (log, expected)
}

/// Whether all of one is in the other.
fn is_in(less: &ChangedBlocks, more: &ChangedBlocks) -> bool {
    let mut both = more.clone();
    both.merge(less.clone());
    both == *more
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn maps_joined_say_what_all_records_change(steps in steps(), piece in 1_usize..300_000) {
        let (log, expected) = write(&steps);
        let maps = maps(&log, 256 << 10);
        let got = changed(&maps).unwrap();
        let died = steps.iter().any(|step| matches!(step, Step::Die(_)));
        if died {
            prop_assert!(is_in(&got, &expected));
        } else {
            prop_assert_eq!(got, expected);
        }
        prop_assert!(maps == self::maps(&log, piece));
    }
}

/// A log of two segments, of which the first ends so many bytes into the record.
fn cut(change: &Change, here: usize) -> Vec<SegmentMap> {
    let mut log = WalWriter::new(1, FIRST);
    log.fill_but(here);
    log.write(&change.made);
    log.write(&message(10));
    log.switch();
    maps(&log, 1 << 20)
}

#[test]
fn a_record_is_read_wherever_it_is_cut() {
    let many = (0..33).map(|number| Reference {
        image: Image::Compressed(20, 0x04),
        data: 5,
        ..Reference::to(relation(number), number)
    });
    let many = changes_blocks(10, many.collect(), 300);
    let length = many.made.data.len() + 24;
    for here in (8..length).step_by(8) {
        assert_eq!(changed(&cut(&many, here)).unwrap(), many.changed, "{here} of {length}");
    }
}

#[test]
fn a_commit_that_drops_many_relations_is_read_or_refused() {
    let commit = drops(0x00, 20, (0..300).map(relation).collect());
    let length = commit.made.data.len() + 24;
    let (mut read, mut refused) = (0, 0);
    for here in (8..length).step_by(40) {
        match changed(&cut(&commit, here)) {
            Ok(changed) => {
                assert_eq!(changed, commit.changed, "{here} of {length}");
                read += 1;
            }
            Err(error) => {
                assert!(length - here > HEAD_BYTES, "{here} of {length}: {error}");
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                refused += 1;
            }
        }
    }
    assert!(read > 20 && refused > 50, "{read} {refused}");
    // In one segment, there may be many more.
    let commit = drops(0x00, 1000, (0..50_000).map(relation).collect());
    let mut log = WalWriter::new(1, FIRST);
    log.write(&commit.made);
    log.switch();
    assert_eq!(changed(&maps(&log, 1 << 20)).unwrap(), commit.changed);
}

fn three_segments() -> Vec<SegmentMap> {
    let mut log = WalWriter::new(1, FIRST);
    for segment in 0..3 {
        log.write(&changing(10, &[Reference::to(relation(1), segment)], 0));
        log.fill_but(40);
        log.write(&changing(10, &[Reference::to(relation(2), segment)], 100));
    }
    log.switch();
    maps(&log, 1 << 20)
}

#[test]
fn a_map_that_is_missing_is_an_error() {
    let maps = three_segments();
    assert_eq!(maps.len(), 4);
    let run = |chosen: &[usize], from: u64, to: u64| {
        let chosen = chosen.iter().map(|index| Ok(maps[*index].clone()));
        changed_between(chosen, Lsn(from), Lsn(to)).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            error.message().to_owned()
        })
    };
    let begin = start(FIRST).0;
    let size = SEGMENT_SIZE.bytes();
    let changes = run(&[0, 1], begin + 100, begin + size + 8000).unwrap();
    let blocks = |number| changes.of(relation(number)).unwrap().blocks().iter().collect::<Vec<_>>();
    assert_eq!((blocks(1), blocks(2)), (vec![0, 1], vec![0]));
    run(&[0, 1, 2, 3], begin, begin + 4 * size).unwrap();
    assert!(run(&[0, 2], begin, begin + size).unwrap_err().contains("000000010000000000000004"));
    assert!(run(&[1], begin, begin + size).unwrap_err().contains("000000010000000000000003"));
    assert!(run(&[0, 0], begin, begin + size).is_err());
    assert!(run(&[], begin, begin + 1).is_err());
    assert!(run(&[0], begin, begin + size + 41).is_err());
    // The last record of the segment goes on, and begins before the end.
    assert!(run(&[0], begin, begin + size).is_err());
    assert!(run(&[0], begin, begin + size - 40).is_ok());
    // Nothing goes on: the page header of the next one is no record.
    let mut log = WalWriter::new(1, FIRST);
    log.switch();
    let one = self::maps(&log, 8192);
    let upto = |to| changed_between(one.iter().cloned().map(Ok), Lsn(begin), Lsn(to));
    assert!(upto(begin + size + 40).is_ok() && upto(begin + size + 41).is_err());
}

#[test]
fn a_map_of_another_log_is_an_error() {
    let maps = three_segments();
    let mut other = WalWriter::new(1, FIRST);
    other.write(&message(1000));
    for _ in 0..3 {
        other.fill_but(48);
        other.write(&changing(10, &[Reference::to(relation(2), 1)], 100));
    }
    other.switch();
    let others = self::maps(&other, 1 << 20);
    let error = changed(&[maps[0].clone(), others[1].clone()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("000000010000000000000004"), "{error}");
    let mut earlier = maps[1].clone();
    let mut later = maps[0].clone();
    later.segment.timeline = TimelineId(2);
    earlier.segment.timeline = TimelineId(2);
    let error = changed(&[later, earlier]).unwrap_err();
    assert!(error.message().contains("earlier timeline"), "{error}");
}

#[test]
fn a_timeline_is_left_within_a_segment() {
    let mut log = WalWriter::new(1, FIRST);
    log.write(&changing(10, &[Reference::to(relation(1), 1)], 0));
    log.fill_but(40);
    log.write(&changing(10, &[Reference::to(relation(2), 2)], 100));
    let before = maps(&log_filled(log.clone()), 1 << 20).remove(0);
    let mut next = log.fork(2);
    next.write(&changing(10, &[Reference::to(relation(3), 3)], 100));
    next.switch();
    let after = maps(&next, 1 << 20).remove(0);
    assert_eq!(after.ends().first_timeline, TimelineId(1));
    let changes = changed(&[before, after]).unwrap();
    assert!([1, 2, 3].iter().all(|number| changes.of(relation(*number)).is_some()));
}

/// The log, its last segment filled.
fn log_filled(mut log: WalWriter) -> WalWriter {
    log.switch();
    log
}

#[test]
fn a_wal_level_that_was_minimal_is_an_error() {
    let mut log = WalWriter::new(1, FIRST);
    log.parameter_change(100, 1);
    log.switch();
    changed(&maps(&log, 1 << 20)).unwrap();
    log.parameter_change(100, 0);
    log.switch();
    let error = changed(&maps(&log, 1 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    // Also where the record is cut.
    for here in [8, 24, 40] {
        let mut log = WalWriter::new(1, FIRST);
        log.fill_but(here);
        log.parameter_change(100, 0);
        log.switch();
        let error = changed(&maps(&log, 1 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{here}");
    }
}
