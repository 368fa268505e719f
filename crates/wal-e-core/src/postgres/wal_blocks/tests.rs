use super::record::{self, Reading};
use super::*;
use crate::postgres::wal_sample::records::{
    Image, Made, Reference, changing, copying_database, creating, dropping, dropping_database,
    message, of_main_data, relation, truncating,
};
use crate::postgres::wal_sample::{CLUSTER, SEGMENT_SIZE, WalWriter};

/// What is said, in order.
#[derive(Debug, Default, PartialEq)]
struct Said(Vec<String>);

impl BlockSink for Said {
    fn block(&mut self, relation: &RelationId, block: u32) {
        self.0.push(format!("{} {block}", relation.number));
    }

    fn limit(&mut self, relation: &RelationId, blocks: u32) {
        self.0.push(format!("{} to {blocks}", relation.number));
    }

    fn database(&mut self, tablespace: u32, database: u32) {
        self.0.push(format!("{tablespace}/{database}"));
    }

    fn wal_level_is_minimal(&mut self) {
        self.0.push("minimal".to_owned());
    }
}

/// The record without its page.
fn whole(made: &Made) -> Vec<u8> {
    let total = 24 + made.data.len() as u32;
    let head = [&total.to_ne_bytes()[..], &[0; 12], &[made.info, made.rmgr, 0, 0], &[0; 4]];
    [head.concat(), made.data.clone()].concat()
}

fn read(magic: u16, made: &Made) -> Result<Vec<String>, &'static str> {
    let (record, mut said) = (whole(made), Said::default());
    match record::read(&record, record.len(), magic, &mut said)? {
        Reading::Done => Ok(said.0),
        Reading::Needs(bytes) => panic!("{bytes} of {}", record.len()),
    }
}

fn said(made: &Made) -> Vec<String> {
    let said = read(MAGIC_15, made).unwrap();
    for magic in [MAGIC_16, MAGIC_17, MAGIC_18] {
        assert_eq!(read(magic, made).as_ref(), Ok(&said));
    }
    said
}

fn refused(made: &Made) -> &'static str {
    read(MAGIC_15, made).unwrap_err()
}

#[test]
fn blocks_of_all_forms_are_read() {
    let (first, second) = (relation(10), relation(11));
    let references = [
        Reference { data: 7, ..Reference::to(first, 1) },
        Reference { image: Image::Whole, ..Reference::to(first, 2) },
        Reference { image: Image::WithHole(4000), data: 300, ..Reference::to(second, 3) },
        Reference { image: Image::Compressed(500, 0x04), ..Reference::to(second, 4) },
        Reference { image: Image::CompressedWhole(8191, 0x08), ..Reference::to(first, 5) },
        Reference { image: Image::Compressed(1, 0x10), ..Reference::to(first, u32::MAX - 1) },
        Reference { fork: 1, ..Reference::to(first, 6) },
        Reference { fork: 2, ..Reference::to(second, 7) },
        Reference { fork: 3, ..Reference::to(second, 8) },
        Reference::to(second, 0),
    ];
    let expected = ["10 1", "10 2", "11 3", "11 4", "10 5", "10 4294967294", "11 0"];
    for main in [0, 1, 255, 256, 70_000] {
        assert_eq!(said(&changing(10, &references, main)), expected);
    }
    // Those of extensions, too.
    assert_eq!(said(&changing(200, &references, 3)), expected);
    let all: Vec<_> = (0..33).map(|block| Reference::to(relation(block), block)).collect();
    assert_eq!(said(&changing(0, &all, 300)).len(), 33);
    let hint = Made { info: 0xA0, ..changing(0, &references[1..2], 0) };
    assert_eq!(said(&hint), ["10 2"]);
}

#[test]
fn an_origin_and_a_top_level_transaction_are_skipped() {
    let mut made = dropping(0x00, 0, &[relation(3)]);
    made.data.splice(0..0, [253, 9, 9, 252, 8, 8, 8, 8]);
    assert_eq!(said(&made), ["3 to 0"]);
}

#[test]
fn what_cannot_be_of_a_server_is_refused() {
    let one = changing(10, &[Reference::to(relation(1), 1)], 9);
    let image =
        changing(10, &[Reference { image: Image::Whole, ..Reference::to(relation(1), 1) }], 0);
    let with = |made: &Made, at: usize, byte: u8| {
        let mut made = made.clone();
        made.data[at] = byte;
        made
    };
    assert!(said(&one).len() == 1 && said(&image).len() == 1);
    for (made, reason) in [
        (with(&one, 0, 33), "unknown kind"),
        (with(&one, 0, 251), "unknown kind"),
        (with(&one, 1, 0x04), "header of a block"),
        (with(&one, 1, 0x20), "header of a block"),
        (with(&one, 2, 5), "header of a block"),
        (with(&one, 1, 0x80), "relation before"),
        (with(&one, one.data.len() - 10, 10), "shorter than"),
        (with(&one, one.data.len() - 10, 8), "shorter than"),
        (with(&image, 4, 1), "header of an image"),
        (with(&image, 6, 1), "header of an image"),
        (with(&image, 8, 0x03), "header of an image"),
        (with(&image, 8, 0x22), "header of an image"),
        (with(&image, 8, 0x04), "header of an image"),
        (changing(10, &[Reference::to(relation(1), u32::MAX)], 0), "no block"),
        (changing(22, &[], 4), "resource manager"),
        (changing(127, &[], 4), "resource manager"),
        (Made { info: 0x01, ..message(5) }, "not known"),
        (Made { info: 0x01, ..changing(200, &[], 5) }, "not known"),
        (of_main_data(1, 0x70, vec![0; 40]), "transaction"),
        (of_main_data(1, 0x01, vec![0; 40]), "contradicts"),
        (of_main_data(1, 0x80, vec![4; 40]), "contradicts"),
        (of_main_data(1, 0x81, vec![4; 10]), "shorter than"),
        (of_main_data(2, 0x01, vec![0; 40]), "files"),
        (of_main_data(2, 0x11, vec![0; 15]), "shorter than"),
        (of_main_data(2, 0x21, vec![0; 19]), "shorter than"),
        (of_main_data(4, 0x31, vec![0; 40]), "database"),
        (of_main_data(4, 0x21, vec![9; 40]), "shorter than"),
        (of_main_data(0, 0xC0, vec![0; 40]), "the log"),
        (of_main_data(0, 0xF0, vec![0; 40]), "the log"),
        (of_main_data(0, 0x60, vec![0; 20]), "shorter than"),
    ] {
        let refused = refused(&made);
        assert!(refused.contains(reason), "{reason}: {refused} {made:?}");
    }
    let twice = changing(10, &[Reference::to(relation(1), 1), Reference::to(relation(2), 1)], 0);
    assert!(refused(&with(&twice, 20, 0)).contains("out of order"));
}

#[test]
fn relations_are_dropped_at_the_end_of_a_transaction() {
    for operation in [0x00, 0x20, 0x30, 0x40] {
        for subtransactions in [0, 300] {
            let relations: Vec<_> = (1..=3).map(relation).collect();
            let made = dropping(operation, subtransactions, &relations);
            assert_eq!(said(&made), ["1 to 0", "2 to 0", "3 to 0"]);
            assert!(said(&dropping(operation, subtransactions, &[])).is_empty());
        }
    }
    // PREPARE, ASSIGNMENT, INVALIDATIONS.
    for operation in [0x10, 0x50, 0x60] {
        assert!(said(&of_main_data(1, operation, vec![255; 100])).is_empty());
    }
}

#[test]
fn files_and_databases_are_created_cut_and_dropped() {
    assert_eq!(said(&creating(relation(4), 0)), ["4 to 0"]);
    assert!(said(&creating(relation(4), 1)).is_empty());
    assert_eq!(said(&truncating(relation(4), 9, 7)), ["4 to 9"]);
    assert!(said(&truncating(relation(4), 9, 6)).is_empty());
    assert_eq!(said(&copying_database(0x00, 7, 8)), ["7/8"]);
    assert_eq!(said(&copying_database(0x10, 7, 8)), ["7/8"]);
    assert_eq!(said(&dropping_database(&[5, 6], 8)), ["5/8", "6/8"]);
}

#[test]
fn a_wal_level_that_is_minimal_is_told_by_the_records_that_have_it() {
    for (info, at, since) in [
        (0x60, 20, MAGIC_15),
        (0x00, 20, MAGIC_17),
        (0x10, 20, MAGIC_17),
        (0x90, 16, MAGIC_17),
        (0xE0, 0, MAGIC_17),
    ] {
        for (level, magic) in [(0, since), (1, since), (2, MAGIC_18), (0, MAGIC_18)] {
            let mut data = vec![255; 88];
            data[at..at + 4].copy_from_slice(&u32::to_ne_bytes(level));
            let said = read(magic, &of_main_data(0, info, data)).unwrap();
            assert_eq!(said == ["minimal"], level == 0, "{info:x} {level} {magic:x}: {said:?}");
        }
    }
    // Before 17, checkpoints do not have it.
    for info in [0x00, 0x10, 0x90] {
        assert!(read(MAGIC_16, &of_main_data(0, info, vec![0; 88])).unwrap().is_empty());
    }
}

fn log() -> WalWriter {
    let mut log = WalWriter::new(1, 5);
    log.write(&changing(10, &[Reference::to(relation(1), 1)], 20));
    log
}

fn scan(log: &WalWriter, segment: usize) -> Result<(SegmentEnds, Said), Unreadable> {
    scan_bytes(&log.segments()[segment].1, segment)
}

fn scan_bytes(bytes: &[u8], segment: usize) -> Result<(SegmentEnds, Said), Unreadable> {
    let start = Lsn((5 + segment as u64) * SEGMENT_SIZE.bytes());
    let mut scan = SegmentScan::new(start, SEGMENT_SIZE, Said::default());
    let fed = scan.feed(bytes);
    assert!(fed.is_ok() || scan.feed(&[]) == fed && scan.feed(&[1; 9000]) == fed);
    scan.finish()
}

#[test]
fn a_switch_ends_a_segment() {
    let mut log = log();
    let last = log.switch();
    let (ends, said) = scan(&log, 0).unwrap();
    assert_eq!(said.0, ["1 1"]);
    assert_eq!((ends.first_previous, ends.last_record), (Some(Lsn(0)), Some(last)));
    assert_eq!((ends.head, ends.tail), (Head::default(), None));
    assert_eq!((ends.system_identifier, ends.magic), (CLUSTER, MAGIC_15));
}

#[test]
fn a_switch_may_be_cut_by_the_end_of_a_segment() {
    for here in [8, 16, 24] {
        let mut log = log();
        log.fill_but(here);
        let last = log.switch();
        log.write(&changing(10, &[Reference::to(relation(1), 2)], 20));
        log.switch();
        let (first, _) = scan(&log, 0).unwrap();
        let (second, said) = scan(&log, 1).unwrap();
        let mut joint = Joint::default();
        joint.add(&first, &mut Said::default()).unwrap();
        joint.add(&second, &mut Said::default()).unwrap();
        if here == 24 {
            assert_eq!(
                (said.0.as_slice(), first.last_record),
                (&["1 2".to_owned()][..], Some(last))
            );
            continue;
        }
        assert_eq!((second.head.end, second.head.rest), (HeadEnd::Switch, 24 - here as u32));
        assert!(said.0.is_empty());
        let (third, said) = scan(&log, 2).unwrap();
        assert_eq!((said.0, third.first_previous), (vec!["1 2".to_owned()], Some(last)));
        joint.add(&third, &mut Said::default()).unwrap();
        // Nothing but a switch may be followed by nothing, and nothing follows a switch.
        let emptied = SegmentEnds {
            head: Head { end: HeadEnd::Whole, ..second.head.clone() },
            ..second.clone()
        };
        let mut joint = Joint::default();
        joint.add(&first, &mut Said::default()).unwrap();
        assert!(joint.add(&emptied, &mut Said::default()).is_err());
    }
}

#[test]
fn records_that_end_early_are_no_segment() {
    // Zeros.
    let log = log();
    let failed = scan(&log, 0).unwrap_err();
    assert_eq!(failed.reason, "the records end");
    // A page that was there before, as of a recycled segment.
    let mut recycled = log.segments()[0].1.clone();
    let mut old = WalWriter::new(1, 2);
    old.fill_but(0);
    let old = &old.segments()[0].1;
    let end = log.position().0.next_multiple_of(8) as usize % recycled.len();
    recycled[end..].copy_from_slice(&old[end..]);
    scan_bytes(&recycled, 0).unwrap_err();
    // A record of another place.
    let mut moved = WalWriter::new(1, 5);
    moved.write(&message(10));
    let mut bytes = moved.segments()[0].1.clone();
    let record = bytes[40..80].to_vec();
    bytes[80..120].copy_from_slice(&record);
    let failed = scan_bytes(&bytes, 0).unwrap_err();
    assert_eq!(failed.lsn.0 % SEGMENT_SIZE.bytes(), 80);
    assert!(failed.reason.contains("follows"), "{failed:?}");
}

#[test]
fn a_segment_is_whole() {
    let mut log = log();
    log.switch();
    let bytes = log.segments()[0].1.clone();
    for cut in [0, 1, 40, 8192, bytes.len() - 8192, bytes.len() - 1] {
        assert!(scan_bytes(&bytes[..cut], 0).unwrap_err().reason.contains("early"), "{cut}");
    }
    let long = [&bytes[..], &bytes[..]].concat();
    assert!(scan_bytes(&long, 0).unwrap_err().reason.contains("too long"));
}

#[test]
fn pages_are_those_of_the_segment() {
    let mut log = log();
    log.fill_but(0);
    let bytes = log.segments()[0].1.clone();
    scan_bytes(&bytes, 0).unwrap();
    for (at, byte) in [
        (0, 0x11),
        (2, 0x00),
        (2, 0x12),
        (4, 0x00),
        (14, 0x01),
        (34, 0x20),
        (37, 0x40),
        (8192, 0x13),
        (8192 + 2, 0x00),
        (8192 + 2, 0x03),
        (8192 + 2, 0x09),
        (8192 + 4, 0x00),
        (8192 + 9, 0x00),
        (8192 + 16, 0x00),
        (8192 * 2 + 17, 0xFF),
    ] {
        let mut bytes = bytes.clone();
        assert_ne!(bytes[at], byte, "{at}");
        bytes[at] = byte;
        assert!(scan_bytes(&bytes, 0).is_err(), "{at}");
    }
    let mut later = bytes.clone();
    later[8192 * 3 + 4] = 2;
    assert!(scan_bytes(&later, 0).unwrap_err().reason.contains("earlier timeline"));
    // The first segment of a timeline: pages of the one before come first.
    for page in later.chunks_mut(8192).skip(3) {
        page[4] = 2;
    }
    let (ends, _) = scan_bytes(&later, 0).unwrap();
    assert_eq!((ends.first_timeline, ends.last_timeline), (TimelineId(1), TimelineId(2)));
}

#[test]
fn what_a_server_did_not_finish_is_left_out() {
    // Within a segment, from one page to the next.
    let mut log = log();
    log.die_in(|log| log.write(&message(20_000)), 1);
    log.write(&changing(10, &[Reference::to(relation(1), 2)], 20));
    log.switch();
    assert_eq!(scan(&log, 0).unwrap().1.0, ["1 1", "1 2"]);

    // At the end of a segment, and in the next one.
    for pages in [0, 2] {
        let mut log = self::log();
        log.fill_but(96);
        let commit = dropping(0x00, 0, &(0..3000).map(relation).collect::<Vec<_>>());
        log.die_in(|log| log.write(&commit), pages);
        log.write(&changing(10, &[Reference::to(relation(1), 2)], 20));
        log.switch();
        let (first, _) = scan(&log, 0).unwrap();
        let (second, said) = scan(&log, 1).unwrap();
        assert_eq!((said.0, second.head.end), (vec!["1 2".to_owned()], HeadEnd::Abandoned));
        let (mut joint, mut said) = (Joint::default(), Said::default());
        joint.add(&first, &mut said).unwrap();
        assert!(joint.unread().is_some());
        joint.add(&second, &mut said).unwrap();
        assert_eq!((said.0.len(), joint.unread()), (0, None));
    }
}

#[test]
fn a_record_that_covers_segments_is_followed() {
    let mut log = log();
    log.fill_but(160);
    let references: Vec<_> = (0..9).map(|block| Reference::to(relation(2), block)).collect();
    log.write(&changing(10, &references, 3 << 20));
    log.write(&changing(10, &[Reference::to(relation(1), 2)], 20));
    log.switch();
    let (mut joint, mut said) = (Joint::default(), Said::default());
    let mut all = Vec::new();
    for segment in 0..log.segments().len() {
        let (ends, own) = scan(&log, segment).unwrap();
        joint.add(&ends, &mut said).unwrap();
        all.extend(own.0);
    }
    assert_eq!(all, ["1 1", "1 2"]);
    assert_eq!(said.0.len(), 9);
    // From the middle on, it is nobody's.
    let (mut joint, mut said) = (Joint::default(), Said::default());
    for segment in 1..log.segments().len() {
        joint.add(&scan(&log, segment).unwrap().0, &mut said).unwrap();
    }
    assert!(said.0.is_empty());
}

#[test]
fn segments_of_two_logs_do_not_join() {
    let write = |log: &mut WalWriter| {
        log.fill_but(200);
        log.write(&message(2000));
        log.write(&message(20));
        log.switch();
    };
    let mut log = log();
    write(&mut log);
    let (first, _) = scan(&log, 0).unwrap();
    let (second, _) = scan(&log, 1).unwrap();
    let join = |second: &SegmentEnds| {
        let mut joint = Joint::default();
        joint.add(&first, &mut Said::default()).unwrap();
        joint.add(second, &mut Said::default()).map_err(|error| error.reason)
    };
    join(&second).unwrap();
    let change = |change: &dyn Fn(&mut SegmentEnds)| {
        let mut second = second.clone();
        change(&mut second);
        join(&second).unwrap_err()
    };
    assert!(change(&|ends| ends.start.0 += SEGMENT_SIZE.bytes()).contains("not the next"));
    assert!(change(&|ends| ends.segment_size = SegmentSize::DEFAULT).contains("size"));
    assert!(change(&|ends| ends.system_identifier.0 += 1).contains("cluster"));
    assert!(change(&|ends| ends.magic = MAGIC_16).contains("version"));
    assert!(change(&|ends| ends.first_timeline.0 = 0).contains("timeline"));
    assert!(change(&|ends| ends.head.rest += 8).contains("does not continue"));
    assert!(change(&|ends| ends.head = Head::default()).contains("does not continue"));
    assert!(change(&|ends| ends.first_previous = Some(Lsn(8))).contains("follows"));
    // All that the segments have in common is that no record is cut between them.
    let last = |bytes: usize| {
        let mut log = self::log();
        log.fill_but(bytes);
        if bytes > 0 {
            log.write(&message(bytes - 29));
        }
        log.write(&message(20));
        log.switch();
        (scan(&log, 0).unwrap().0, scan(&log, 1).unwrap().0)
    };
    let mut joint = Joint::default();
    joint.add(&last(0).0, &mut Said::default()).unwrap();
    let failed = joint.clone().add(&last(320).1, &mut Said::default()).unwrap_err();
    assert!(failed.reason.contains("follows"), "{failed:?}");
    joint.add(&last(0).1, &mut Said::default()).unwrap();
}
