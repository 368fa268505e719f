//! Damaged tars, and tars that are only checked.

use super::*;

#[test]
fn damage_is_noticed_wherever_it_is() {
    let mut content = vec![0; 700_000];
    fastrand::Rng::with_seed(7).fill(&mut content);
    let object = tar(|builder| add(builder, "/a", FILE, &content));
    for length in (0..object.len()).step_by(object.len() / 50) {
        let error = Fixture::new().unpack(&object[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {length}");
    }
    // The content's checksum is the last four bytes of all.
    let mut damaged = object.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(Fixture::new().unpack(&damaged).unwrap_err().kind(), ErrorKind::Corrupt);
    // The error of a cut in a file names it.
    let error = Fixture::new().unpack(&object[..object.len() / 2]).unwrap_err();
    assert!(error.message().contains("\"/a\""), "{error}");
}

/// Ten gigabytes of zeros take no more than a few kilobytes to store, and are
/// refused before any of it is written.
#[test]
fn more_than_the_backup_says_is_refused() {
    let fixture = Fixture::new();
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[0] = b'a';
    header.set_mode(0o600);
    header.set_size(7 << 30);
    header.set_cksum();
    let error = fixture.unpack(&compress(header.as_bytes())).unwrap_err();
    assert!(error.message().contains("much larger"), "{error}");
    assert!(!fixture.place("a").exists());
}

/// Everything that a tar can hold, so that it can be unpacked again, and damage at its end.
#[test]
fn nothing_of_a_damaged_tar_stays_and_it_can_be_unpacked_once_more() {
    let mut fixture = Fixture::new();
    fixture.sink.keeps_links = true;
    fixture.sink.budget = Budget::new(Some(0));
    let mut list = with_pages("/base/1/3");
    list.files.insert("/base/1/2".to_owned(), FileMetadata::default());
    let selection = Selection::of_tip(&list, true).unwrap();
    let object = tar(|builder| {
        add(builder, "/base/1/2", FILE, b"x");
        add(builder, "/base/1/3", FILE, &second_page());
        add(builder, "/global/pg_control", FILE, b"control");
        link(builder, "/link", LINK, "base");
    });
    let mut damaged = object.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let waiting = fixture.sink.target.place(&waiting_pages(Path::new("base/1/3")));
    let used = |fixture: &Fixture| fixture.sink.budget.used();
    for attempt in [&damaged, &damaged, &object] {
        assert_eq!(used(&fixture), 0);
        assert!(!fixture.place("base/1/2").exists() && !fixture.sink.deferred.has_control());
        assert!(!waiting.exists());
        assert!(fixture.sink.assembly.begun(Path::new("base/1/3")).is_none());
        assert_eq!(selection.missing(), Some((2, "base/1/2")));
        let unpacked = fixture.unpack_selected(attempt, &selection, false);
        assert_eq!(unpacked.is_ok(), attempt == &object);
    }
    assert_eq!(selection.missing(), None);
    assert_eq!(fs::read(waiting).unwrap(), [7; 8192]);
    assert_eq!(fs::read_dir(fixture.place("base/1")).unwrap().count(), 1);
    assert!(fixture.sink.deferred.has_control());
}

#[test]
fn a_tar_that_is_only_checked_leaves_nothing_and_damage_is_found_all_the_same() {
    let fixture = Fixture::new();
    let list = with_pages("/base/1/3");
    let look = |content: &[u8]| {
        let selection = Selection::of_tip(&list, true).unwrap();
        let object = tar(|builder| {
            add(builder, "/base", DIRECTORY, b"");
            add(builder, "/base/1/3", FILE, content);
            add(builder, "/backup_label", FILE, b"label");
        });
        let stored = io::Cursor::new(object.clone());
        let object = ArchivedObject::made_up(stored, Encoding::Lz4);
        onto_disk(object, &fixture.sink, &selection, false, Purpose::Look)
    };
    let mut increment = b"wi1\x55".to_vec();
    increment.extend([0; 12]);
    assert!(look(&increment).unwrap().members.is_empty());
    let broken = look(b"no increment").unwrap_err();
    assert_eq!(broken.member.as_deref(), Some("/base/1/3"));
    assert_eq!(fs::read_dir(fixture.place("")).unwrap().count(), 0);
}
