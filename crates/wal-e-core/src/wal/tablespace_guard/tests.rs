use crate::config::Face;
use std::os::unix::fs::symlink;

use super::*;
use crate::notice;
use crate::postgres::wal_sample::{CLUSTER, SEGMENT_SIZE, WalWriter};
use crate::postgres::{RecordKind, WalReader, control_file};

const OID: u32 = 16_400;

/// A cluster that recovers, and directories outside of it.
struct Fixture {
    dir: tempfile::TempDir,
    wanted: NewTablespaces,
}

impl Fixture {
    /// With a directory "used" that is another cluster's, and "free", which is empty.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for directory in ["data/pg_wal", "data/pg_tblspc", "data/global", "free", "used/PG_15_0"] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        fs::write(dir.path().join("data/PG_VERSION"), "15\n").unwrap();
        let control = control_file::sample(CLUSTER, 1 << 20, Lsn(0));
        fs::write(dir.path().join("data/global/pg_control"), control).unwrap();
        Fixture { dir, wanted: NewTablespaces::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn link(&self) -> PathBuf {
        self.path(&format!("data/pg_tblspc/{OID}"))
    }

    fn guard(&self) -> TablespaceGuard {
        let (notices, _) = notice::channel();
        TablespaceGuard::new(&self.path("data"), self.wanted.clone(), notices)
    }

    /// Has the guard look at a segment, which then is where the server has it.
    fn admit(&self, segment: &(String, Vec<u8>), next: &Next) -> Result<(Admission, Vec<u8>)> {
        let file = self.path("data/pg_wal/RECOVERYXLOG");
        fs::write(&file, &segment.1).unwrap();
        let admission = self.guard().admit(&segment.0.parse().unwrap(), &file, next)?;
        fs::rename(&file, self.path("data/pg_wal").join(&segment.0)).unwrap();
        Ok((admission, fs::read(self.path("data/pg_wal").join(&segment.0)).unwrap()))
    }

    /// What is handed over of a log of one segment that creates a tablespace in `location`;
    /// `None` is the segment as it was.
    fn created_in(&self, location: &str) -> Result<Option<PathBuf>> {
        let mut log = WalWriter::new(1, 5);
        log.noise(9000);
        log.create_tablespace(OID, &self.text(location));
        log.noise(100);
        let segment = &log.segments()[0];
        let (admission, handed) = self.admit(segment, &Next::NotAsked)?;
        let changed = handed != segment.1;
        assert_eq!(admission, Admission::Ready { changed });
        Ok(changed.then(|| location_in(&[handed])))
    }
}

/// Where the log creates its tablespace, in which all records have to be sound.
fn location_in(segments: &[Vec<u8>]) -> PathBuf {
    let mut reader = WalReader::new(SegmentNumber(5).start_lsn(SEGMENT_SIZE), SEGMENT_SIZE);
    let mut records = Vec::new();
    for segment in segments {
        reader.feed(segment, &mut |record| records.push(record.kind));
    }
    assert_eq!(reader.ended().unwrap().reason, "there is no further record");
    assert_eq!(records.last(), Some(&RecordKind::Other), "there is a record after it");
    let location = |kind| match kind {
        RecordKind::TablespaceCreate { oid: OID, location } => Some(location),
        _ => None,
    };
    records.into_iter().find_map(location).unwrap()
}

#[test]
fn a_directory_of_another_cluster_is_not_handed_over() {
    let mut fixture = Fixture::new();
    let error = fixture.created_in("used").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe);
    assert!(error.message().contains("used"), "{error}");
    assert!(error.detail().unwrap().contains("000000010000000000000005"), "{error:?}");
    assert!(
        Face::Program.speak(error.hint().unwrap()).contains("--tablespace-mapping"),
        "{error:?}"
    );
    for (unusable, used, absent) in [
        (UnusablePlace::InPlace, Some(PathBuf::new()), Some(PathBuf::new())),
        (UnusablePlace::Use, None, None),
    ] {
        fixture.wanted.unusable = unusable;
        assert_eq!(fixture.created_in("used").unwrap(), used);
        assert_eq!(fixture.created_in("absent").unwrap(), absent);
    }
}

#[test]
fn a_directory_that_is_free_is_the_server_s_to_use() {
    let fixture = Fixture::new();
    assert_eq!(fixture.created_in("free").unwrap(), None);
    assert_eq!(fixture.created_in("absent").unwrap(), None, "it says so itself");
    // Replayed once, and again after a restart.
    fs::create_dir(fixture.path("free/PG_15_0")).unwrap();
    symlink(fixture.path("free"), fixture.link()).unwrap();
    assert_eq!(fixture.created_in("free").unwrap(), None);
    // Another version's is no obstacle to the server.
    fs::remove_file(fixture.link()).unwrap();
    fs::rename(fixture.path("used/PG_15_0"), fixture.path("used/PG_14_0")).unwrap();
    assert_eq!(fixture.created_in("used").unwrap(), None);
}

#[test]
fn a_tablespace_that_is_mapped_goes_where_the_link_leads() {
    let mut fixture = Fixture::new();
    for (below, to) in [(false, "new/place"), (true, "all/16400")] {
        let _ = fs::remove_file(fixture.link());
        if below {
            fixture.wanted.mapping.clear();
            fixture.wanted.below = Some(fixture.path("all"));
        } else {
            fixture.wanted.mapping = vec![(fixture.path("used/"), fixture.path(to))];
        }
        for _again in 0..2 {
            assert_eq!(fixture.created_in("used").unwrap(), Some(PathBuf::new()));
            assert_eq!(fs::read_link(fixture.link()).unwrap(), fixture.path(to));
            assert!(fixture.path(to).is_dir());
        }
    }
    fs::remove_file(fixture.link()).unwrap();
    fixture.wanted.below = None;
    fixture.wanted.mapping = vec![(fixture.path("used"), fixture.path("used"))];
    assert_eq!(fixture.created_in("used").unwrap_err().kind(), ErrorKind::Unsafe);
    assert!(fs::read_link(fixture.link()).is_err());
}

#[test]
fn a_tablespace_that_is_there_stays_where_it_is() {
    let fixture = Fixture::new();
    // Mapped at the restore, or kept in the data directory by it.
    symlink(fixture.path("free"), fixture.link()).unwrap();
    assert_eq!(fixture.created_in("used").unwrap(), Some(PathBuf::new()));
    fs::remove_file(fixture.link()).unwrap();
    fs::create_dir(fixture.link()).unwrap();
    assert_eq!(fixture.created_in("used").unwrap(), Some(PathBuf::new()));
    fs::remove_dir(fixture.link()).unwrap();
    // The server has not made the link yet.
    let map = format!("{OID} {}\n", fixture.text("free"));
    fs::write(fixture.path("data/tablespace_map"), map).unwrap();
    assert_eq!(fixture.created_in("used").unwrap(), Some(PathBuf::new()));
}

#[test]
fn a_blind_restore_keeps_new_tablespaces_inside() {
    let mut fixture = Fixture::new();
    fixture.wanted.in_place = true;
    for location in ["used", "free", "absent"] {
        assert_eq!(fixture.created_in(location).unwrap(), Some(PathBuf::new()));
    }
    assert!(fixture.link().symlink_metadata().is_err(), "replay makes it");
}

#[test]
fn what_is_not_replayed_does_not_matter() {
    let fixture = Fixture::new();
    let label = |lsn| {
        let label = format!(
            "START WAL LOCATION: {lsn} (file 000000010000000000000005)\nCHECKPOINT LOCATION: {lsn}\n"
        );
        fs::write(fixture.path("data/backup_label"), label).unwrap();
    };
    for lsn in ["0/5FFFF8", "0/600000"] {
        label(lsn);
        assert_eq!(fixture.created_in("used").unwrap(), None, "{lsn}");
    }
    label("0/500028");
    assert!(fixture.created_in("used").is_err());
}

/// A log in which the record begins so many bytes before the end of the first segment.
fn divided(location: &str, bytes_before: u64) -> WalWriter {
    let mut log = WalWriter::new(1, 5);
    let begin = SegmentNumber(6).start_lsn(SEGMENT_SIZE).0 - bytes_before;
    while begin - log.position().0 > 4000 {
        log.noise(1000);
    }
    let rest = begin - log.position().0.next_multiple_of(8);
    log.noise(usize::try_from(rest).unwrap() - 24);
    assert_eq!(log.create_tablespace(OID, location).0, begin);
    log.noise(100);
    log
}

#[test]
fn a_record_in_two_segments_is_handed_over_without_the_directory() {
    let mut fixture = Fixture::new();
    fixture.wanted.in_place = true;
    let location = fixture.text("used");
    for before in (8..32 + location.len() as u64).step_by(8) {
        let segments = divided(&location, before).segments();
        assert_eq!(
            location_in(&[segments[0].1.clone(), segments[1].1.clone()]),
            Path::new(&location)
        );
        let beginning = segments[1].1[..TablespaceGuard::BEGINNING].to_vec();
        let (first, _) = fixture.admit(&segments[0], &Next::NotAsked).unwrap();
        // As long as the header is not whole, nothing in the first one has to be changed.
        assert_eq!(first == Admission::NeedsNext, before >= 24, "{before}");
        let (_, first) = fixture.admit(&segments[0], &Next::Begins(beginning)).unwrap();
        assert_eq!(first != segments[0].1, before >= 24, "{before}");
        for _again in 0..2 {
            let (admission, second) = fixture.admit(&segments[1], &Next::NotAsked).unwrap();
            assert!(matches!(admission, Admission::Ready { .. }));
            assert_eq!(location_in(&[first.clone(), second]), Path::new(""), "{before}");
        }
    }
}

#[test]
fn a_record_whose_end_was_not_there_is_looked_at_when_it_is() {
    let mut fixture = Fixture::new();
    let (used, free) = (fixture.text("used"), fixture.text("free"));
    for before in (8..56).step_by(8) {
        let segments = divided(&used, before).segments();
        let (admission, first) = fixture.admit(&segments[0], &Next::Absent).unwrap();
        assert_eq!((admission, &first), (Admission::Ready { changed: false }, &segments[0].1));
        let error = fixture.admit(&segments[1], &Next::NotAsked).unwrap_err();
        assert!(error.message().contains("used"), "{before}: {error}");
        fixture.wanted.in_place = true;
        match fixture.admit(&segments[1], &Next::NotAsked) {
            Ok((_, second)) => assert_eq!(location_in(&[first, second]), Path::new("")),
            Err(error) => {
                assert!(before >= 24 && error.hint().unwrap().contains("again"), "{error:?}");
            }
        }
        fixture.wanted.in_place = false;
        let segments = divided(&free, before).segments();
        fixture.admit(&segments[0], &Next::Absent).unwrap();
        let (_, second) = fixture.admit(&segments[1], &Next::NotAsked).unwrap();
        assert_eq!(second, segments[1].1, "{before}");
    }
}

#[test]
fn a_local_segment_is_replaced_only_where_it_must_be() {
    let mut fixture = Fixture::new();
    let mut log = WalWriter::new(1, 5);
    log.create_tablespace(OID, &fixture.text("used"));
    log.noise(100);
    let (name, content) = &log.segments()[0];
    fs::write(fixture.path("data/pg_wal").join(name), content).unwrap();
    let (name, copy) = (name.parse().unwrap(), fixture.path("copy"));
    assert!(fixture.guard().admit_local(&name, &copy).is_err());
    fixture.wanted.in_place = true;
    assert!(fixture.guard().admit_local(&name, &copy).unwrap());
    assert_eq!(location_in(&[fs::read(&copy).unwrap()]), Path::new(""));
    fixture.wanted = NewTablespaces { unusable: UnusablePlace::Use, ..Default::default() };
    assert!(!fixture.guard().admit_local(&name, &copy).unwrap());
}
