//! What is found in a tar.

use std::io;

use super::*;
use crate::codec::Encoding;

/// A tar with members of these names, kinds and contents.
pub(in super::super) fn tar_of(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn expected() -> Expected {
    Expected {
        most_files: 100,
        increments: Arc::default(),
        has_manifest: false,
        names: Arc::new(AtomicU64::new(1 << 20)),
    }
}

fn object(stored: impl io::Read + Send + 'static) -> ArchivedObject {
    ArchivedObject::made_up(stored, Encoding::None)
}

fn read(tar: &[u8]) -> TarContent {
    TarContent::read(object(io::Cursor::new(tar.to_vec())), &expected()).unwrap()
}

const REGULAR: tar::EntryType = tar::EntryType::Regular;

#[test]
fn a_sound_tar_gives_its_files() {
    let tar = tar_of(&[
        ("/", tar::EntryType::Directory, b""),
        ("/base/1", REGULAR, b"one"),
        ("backup_label", REGULAR, b"label"),
    ]);
    let content = read(&tar);
    assert!(content.problems.is_empty(), "{content:?}");
    assert_eq!(content.kept, [("backup_label".to_owned(), b"label".to_vec())]);
    let first = TarFile {
        path: "base/1".to_owned(),
        member_bytes: 3,
        size_bytes: 3,
        crc32c: Some(crc32c::crc32c(b"one")),
    };
    assert_eq!(content.files[0], first);
    assert_eq!((content.files.len(), content.others.len()), (2, 1));
    // Some writers leave the end of the tar out, or even the rest of its last block.
    for left_out in [1024, 1024 + 500] {
        assert!(read(&tar[..tar.len() - left_out]).problems.is_empty());
    }
}

#[test]
fn faults_are_reported_and_reading_continues() {
    let tar = tar_of(&[
        ("../outside", REGULAR, b"x"),
        ("/device", tar::EntryType::Char, b""),
        ("/pipe", tar::EntryType::Fifo, b""),
        ("/block", tar::EntryType::Block, b""),
        ("/hard", tar::EntryType::Link, b""),
        ("/base/1", REGULAR, b"one"),
    ]);
    let content = read(&tar);
    assert_eq!((content.problems.len(), content.more_problems), (3, 1));
    assert!(content.problems[0].contains("../outside"), "{content:?}");
    assert!(!content.ended_early);
    assert_eq!(content.files.last().unwrap().path, "base/1");
    let content = read(&tar_of(&[("/", REGULAR, b"x")]));
    assert!(content.problems[0].contains("data directory's name"), "{content:?}");
}

#[test]
fn links_are_counted() {
    let link = tar::EntryType::Symlink;
    let content = read(&tar_of(&[("/a", link, b""), ("b", link, b"")]));
    assert!(content.problems.is_empty(), "{content:?}");
    assert_eq!(content.links, 2);
    assert_eq!(content.others, ["a", "b"]);
}

/// A backup with a manifest was written by this program.
#[test]
fn a_backup_with_a_manifest_has_only_files_and_directories() {
    let expected = Expected { has_manifest: true, ..expected() };
    for kind in [tar::EntryType::Symlink, tar::EntryType::Fifo] {
        let tar = tar_of(&[("/a", kind, b""), ("/base/1", REGULAR, b"one")]);
        let content = TarContent::read(object(io::Cursor::new(tar)), &expected).unwrap();
        assert!(content.problems[0].contains("\"/a\""), "{content:?}");
        assert_eq!((content.files.len(), content.ended_early), (1, false));
    }
}

/// As a restore, whose control file comes last.
#[test]
fn only_a_file_of_its_size_is_taken_for_the_control_file() {
    for (name, kind, size) in [
        ("/global/pg_control", tar::EntryType::Directory, 0),
        ("/global/pg_control/file", REGULAR, 1),
        ("/global/pg_control", REGULAR, 1 << 20),
    ] {
        let content = read(&tar_of(&[(name, kind, &vec![0; size])]));
        assert!(content.problems[0].contains(name), "{content:?}");
    }
}

#[test]
fn damage_ends_the_reading() {
    let tar = tar_of(&[("/base/1", REGULAR, &[1; 2000]), ("/base/2", REGULAR, b"two")]);
    let mut flipped = tar.clone();
    flipped[5] ^= 1;
    let trailing = [&tar[..], b"more"].concat();
    let zeros = [&tar[..], &vec![0; 2 << 20]].concat();
    let cut = tar[..1500].to_vec();
    for damaged in [flipped, trailing, zeros, cut] {
        let content = read(&damaged);
        assert!(content.ended_early && content.problems.len() == 1, "{content:?}");
    }
    let one = Expected { most_files: 1, ..expected() };
    let content = TarContent::read(object(io::Cursor::new(tar.clone())), &one).unwrap();
    assert!(content.ended_early && content.problems[0].contains("more than 1"));
    assert!(read(b"").files.is_empty());
}

/// A PAX header of this kind, with one record.
fn records(kind: tar::EntryType, key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (1..8).map(|digits| rest.len() + digits);
    let length = length.into_iter().find(|length| length.to_string().len() + rest.len() == *length);
    tar_of(&[("pax", kind, format!("{}{rest}", length.unwrap()).as_bytes())])
}

#[test]
fn what_a_restore_does_not_read_is_refused_here_too() {
    let file = tar_of(&[("base/1", REGULAR, b"one")]);
    for (kind, key, value) in [
        (tar::EntryType::XHeader, "GNU.sparse.major", "1"),
        (tar::EntryType::XGlobalHeader, "path", "base/2"),
    ] {
        let header = records(kind, key, value);
        let content = read(&[&header[..header.len() - 1024], &file].concat());
        assert!(!content.problems.is_empty(), "{key}: {content:?}");
    }
}

#[test]
fn names_without_end_are_not_held_in_memory() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = io::Read::chain(io::Cursor::new(header.as_bytes().to_vec()), io::repeat(b'x'));
    let content = TarContent::read(object(endless), &expected()).unwrap();
    assert!(content.ended_early && content.problems[0].contains("too large"), "{content:?}");

    let long = records(tar::EntryType::XHeader, "path", &"x".repeat(5000));
    let file = tar_of(&[("base/1", REGULAR, b"one")]);
    let content = read(&[&long[..long.len() - 1024], &file].concat());
    assert!(content.ended_early && content.problems[0].contains("5000 bytes"), "{content:?}");

    let names = Arc::new(AtomicU64::new(100));
    let few = Expected { names, ..expected() };
    let directory = tar::EntryType::Directory;
    let tar = tar_of(&[("/a", directory, b""), ("/b", directory, b"")]);
    let content = TarContent::read(object(io::Cursor::new(tar.clone())), &few).unwrap();
    assert!(content.ended_early && content.others == ["a"], "{content:?}");
}

#[test]
fn increments_are_checked() {
    let sound = [&b"wi1\x55"[..], &8192_u64.to_le_bytes(), &[0; 4]].concat();
    let increments = Arc::new(HashSet::from(["base/1".to_owned()]));
    let expected = Expected { increments, ..expected() };
    let read = |content: &[u8]| {
        let tar = tar_of(&[("/base/1", REGULAR, content), ("/base/2", REGULAR, b"two")]);
        TarContent::read(object(io::Cursor::new(tar.clone())), &expected).unwrap()
    };
    let content = read(&sound);
    assert!(content.problems.is_empty(), "{content:?}");
    let TarFile { member_bytes, size_bytes, crc32c, .. } = content.files[0];
    assert_eq!((member_bytes, size_bytes, crc32c), (16, 8192, None));
    for damaged in [&sound[..15], &[&sound[..], b"x"].concat(), b"wi2", b""] {
        let content = read(damaged);
        assert!(content.problems[0].contains("base/1"), "{content:?}");
        assert_eq!((content.files.len(), content.ended_early), (2, false));
    }
}
