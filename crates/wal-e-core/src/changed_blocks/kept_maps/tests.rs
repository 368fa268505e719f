use super::*;
use crate::changed_blocks::RelationId;
use crate::postgres::TimelineId;
use crate::postgres::wal_sample::records::{Reference, changing, relation};
use crate::postgres::wal_sample::{SEGMENT_SIZE, WalWriter};

const FIRST: u64 = 3;

/// `pg_wal` with four segments, of which each changes its own number's block of relation 1, early,
/// and of relation 2, in a record that goes on in the next. Where in the last one a record begins
/// that changes relation 3.
struct PgWal {
    directory: tempfile::TempDir,
    middle: Lsn,
}

impl PgWal {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut log = WalWriter::new(1, FIRST);
        log.magic = 0xD118;
        for segment in 0..3 {
            log.write(&changing(10, &[Reference::to(relation(1), segment)], 0));
            log.fill_but(40);
            log.write(&changing(10, &[Reference::to(relation(2), segment)], 100));
        }
        log.write(&changing(10, &[Reference::to(relation(1), 3)], 0));
        let middle = Lsn(log.position().0.next_multiple_of(8));
        log.write(&changing(10, &[Reference::to(relation(3), 0)], 0));
        for (name, bytes) in log.segments() {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        PgWal { directory, middle }
    }

    fn maps(&self) -> KeptMaps {
        KeptMaps::beside(self.directory.path())
    }

    fn segment(number: u64) -> WalSegment {
        WalSegment { timeline: TimelineId(1), number: SegmentNumber(number) }
    }

    fn keep(&self, number: u64) {
        let map = self.maps().of_segment(PgWal::segment(number), SEGMENT_SIZE, None).unwrap();
        self.maps().keep(&map).unwrap();
    }

    /// PostgreSQL removes it.
    fn remove(&self, number: u64) {
        let name = PgWal::segment(number).file_name(SEGMENT_SIZE);
        fs::remove_file(self.directory.path().join(name)).unwrap();
    }

    fn changed(&self) -> Result<ChangedBlocks> {
        let from = Lsn(FIRST * SEGMENT_SIZE.bytes() + 40);
        let stretch = Stretch { timeline: TimelineId(1), from, to: self.middle };
        self.maps().changed_in(stretch, SEGMENT_SIZE, &CancellationToken::new())
    }

    /// What was changed, when it is known.
    fn is_known(&self) {
        let changed = self.changed().unwrap();
        let blocks = |number: u32| -> Vec<u32> {
            let of = |relation: RelationId| changed.of(relation);
            of(relation(number)).map(|of| of.blocks().iter().collect()).unwrap_or_default()
        };
        assert_eq!((blocks(1), blocks(2)), (vec![0, 1, 2, 3], vec![0, 1, 2]));
        assert_eq!(blocks(3), [0_u32; 0], "it is changed after the end");
    }
}

#[test]
fn maps_say_it_where_segments_are_gone_and_segments_where_there_is_no_map() {
    let wal = PgWal::new();
    wal.is_known();
    for number in [FIRST, FIRST + 2] {
        wal.keep(number);
        wal.remove(number);
    }
    wal.is_known();

    let place = wal.maps().place(PgWal::segment(FIRST), SEGMENT_SIZE);
    let sound = fs::read(&place).unwrap();
    fs::write(&place, &sound[..sound.len() - 1]).unwrap();
    assert_eq!(wal.changed().unwrap_err().kind(), ErrorKind::NotFound);
    // That of another segment under this name.
    let other = wal.maps().place(PgWal::segment(FIRST + 2), SEGMENT_SIZE);
    fs::copy(other, &place).unwrap();
    assert_eq!(wal.changed().unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(&place, sound).unwrap();
    wal.is_known();
}

#[test]
fn the_end_has_to_be_where_a_record_begins() {
    let mut wal = PgWal::new();
    wal.middle.0 -= 8;
    assert_eq!(wal.changed().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn maps_of_before_a_base_backup_are_removed() {
    let wal = PgWal::new();
    wal.maps().remove_before(SegmentNumber(FIRST + 2), SEGMENT_SIZE).unwrap();
    (FIRST..FIRST + 3).for_each(|number| wal.keep(number));
    fs::write(wal.maps().directory().join("other"), "").unwrap();
    wal.maps().remove_before(SegmentNumber(FIRST + 2), SEGMENT_SIZE).unwrap();
    let mut left: Vec<_> = fs::read_dir(wal.maps().directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [&PgWal::segment(FIRST + 2).file_name(SEGMENT_SIZE), "other"]);
}

#[test]
fn what_is_missing_is_seen_by_the_names() {
    let wal = PgWal::new();
    let missing = || {
        let from = Lsn(FIRST * SEGMENT_SIZE.bytes() + 40);
        let stretch = Stretch { timeline: TimelineId(1), from, to: wal.middle };
        wal.maps().first_missing(stretch, SEGMENT_SIZE).map(|error| error.to_string())
    };
    assert_eq!(missing(), None);
    wal.keep(FIRST + 1);
    wal.remove(FIRST + 1);
    assert_eq!(missing(), None);
    wal.remove(FIRST);
    let error = wal.changed().unwrap_err().to_string();
    assert_eq!(missing(), Some(error));
    wal.maps().remove_before(SegmentNumber(FIRST + 3), SEGMENT_SIZE).unwrap();
    assert!(missing().unwrap().contains(&PgWal::segment(FIRST).file_name(SEGMENT_SIZE)));
}

#[test]
fn a_place_for_maps_is_what_the_directory_of_the_wal_is() {
    let directory = tempfile::tempdir().unwrap();
    let maps = KeptMaps::beside(directory.path());
    assert!(!maps.are_wanted());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
    for _ in 0..2 {
        maps.make_directory().unwrap();
        assert!(maps.are_wanted());
    }
    let made = fs::metadata(directory.path().join("wal_e.changed_blocks")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o750);
    assert!(KeptMaps::beside(&directory.path().join("missing")).make_directory().is_err());
}
