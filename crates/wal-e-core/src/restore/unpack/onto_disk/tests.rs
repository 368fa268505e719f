use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::*;
use crate::codec::Encoding;
use crate::codec::{Compression, Compressor};
use crate::notice;
use crate::postgres::{BackupManifest, SystemIdentifier};
use crate::sentinel::{FileMetadata, FilesMetadata};

mod damage;

fn tar(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    compress(&builder.into_inner().unwrap())
}

fn compress(data: &[u8]) -> Vec<u8> {
    let mut writer = Compressor::new(Vec::new(), Compression::default()).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o6747);
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn link(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, to: &str) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o777);
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, io::empty()).unwrap();
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Symlink;

struct Fixture {
    dir: tempfile::TempDir,
    sink: Sink,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target =
            Destination::prepare(&dir.path().join("data"), BTreeMap::new(), None, false).unwrap();
        let sink = Sink {
            target,
            assembly: Assembly::default(),
            deferred: Deferred::default(),
            manifest: None,
            budget: Budget::new(Some(0)),
            syncing: SyncPool::start().unwrap(),
            keeps_links: false,
        };
        Fixture { dir, sink }
    }

    fn unpack(&self, object: &[u8]) -> Result<Unpacked> {
        self.unpack_selected(object, &Selection::everything(), false)
    }

    /// Errors name the damaged member.
    fn unpack_selected(
        &self,
        object: &[u8],
        selection: &Selection,
        is_control: bool,
    ) -> Result<Unpacked> {
        let purpose = Purpose::Restore;
        let object = ArchivedObject::made_up(io::Cursor::new(object.to_vec()), Encoding::Lz4);
        onto_disk(object, &self.sink, selection, is_control, purpose).map_err(|broken| {
            let member = broken.member.unwrap_or_default();
            Error::new(broken.error.kind(), format!("in \"{member}\": {}", broken.error))
        })
    }

    fn place(&self, path: &str) -> PathBuf {
        self.sink.target.data_directory().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.place(path)).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_and_directories_are_unpacked_with_the_modes_that_postgresql_allows() {
    let fixture = Fixture::new();
    let object = tar(|builder| {
        add(builder, "/", DIRECTORY, b"");
        add(builder, "/base", DIRECTORY, b"");
        add(builder, "/base/1/2", FILE, b"content");
        add(builder, "./PG_VERSION", FILE, b"15");
    });
    let unpacked = fixture.unpack(&object).unwrap();
    assert_eq!((unpacked.files, unpacked.bytes), (2, 9));
    let members = [("", None), ("base", None), ("base/1/2", Some(7)), ("PG_VERSION", Some(2))];
    let members = members.map(|(path, size)| (path.to_owned(), size));
    assert_eq!(unpacked.members, members);
    assert_eq!(fixture.read("base/1/2"), "content");
    assert_eq!(mode(&fixture.place("base/1/2")), 0o740);
    assert_eq!(mode(&fixture.place("base/1")), 0o700, "a missing parent");
    assert_eq!(mode(&fixture.place("base")), 0o740);
}

#[test]
fn hostile_members_are_refused() {
    for (name, kind) in [
        ("../escape", FILE),
        ("/base/../../escape", FILE),
        ("..", DIRECTORY),
        ("/", FILE),
        ("/hard", tar::EntryType::Link),
        ("/device", tar::EntryType::Char),
        ("/block", tar::EntryType::Block),
        ("/sparse", tar::EntryType::GNUSparse),
    ] {
        let fixture = Fixture::new();
        let object = tar(|builder| add(builder, name, kind, b""));
        let error = fixture.unpack(&object).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
        assert!(error.message().contains(name), "{error}");
        assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 1, "{name}");
        assert_eq!(fs::read_dir(fixture.place("")).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn named_pipes_are_skipped() {
    let fixture = Fixture::new();
    let object = tar(|builder| {
        add(builder, "/pipe", tar::EntryType::Fifo, b"");
        add(builder, "/base/pipe", tar::EntryType::Fifo, b"");
        add(builder, "/file", FILE, b"x");
    });
    let unpacked = fixture.unpack(&object).unwrap();
    assert_eq!(unpacked.fifo, Some(PathBuf::from("pipe")));
    assert_eq!(unpacked.members, [("file".to_owned(), Some(1))]);
    assert_eq!(fs::read_dir(fixture.place("")).unwrap().count(), 1);
}

#[test]
fn a_backup_of_wal_e_s_own_has_neither_pipes_nor_links() {
    for (kind, to) in [(tar::EntryType::Fifo, ""), (LINK, "base")] {
        let mut fixture = Fixture::new();
        let empty = BackupManifest::new(150_000, SystemIdentifier(1), Vec::new(), Vec::new());
        fixture.sink.manifest = Some(Manifest::new(empty));
        let object = tar(|builder| link(builder, "/base/5/1259", kind, to));
        let error = fixture.unpack(&object).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("/base/5/1259"), "{error}");
    }
}

#[test]
fn nothing_but_a_file_is_taken_for_the_control_file() {
    for (name, kind) in [
        ("/global/pg_control", DIRECTORY),
        ("/global/pg_control/file", FILE),
        ("/global/pg_control", LINK),
        ("/global/pg_control", tar::EntryType::Fifo),
    ] {
        let mut fixture = Fixture::new();
        fixture.sink.keeps_links = true;
        let object = tar(|builder| link(builder, name, kind, "x"));
        assert_eq!(fixture.unpack(&object).unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
    }
}

#[test]
fn notes_of_an_older_restore_are_left_out() {
    let fixture = Fixture::new();
    let object = tar(|builder| {
        add(builder, "/wal_e.unfinished_restore", FILE, b"x");
        add(builder, "/pg_tblspc/16384/wal_e.unfinished_restore", FILE, b"x");
    });
    assert!(fixture.unpack(&object).unwrap().is_needed_again);
    assert_eq!(fs::read_dir(fixture.place("")).unwrap().count(), 0);
}

#[test]
fn links_of_wal_g_are_skipped_and_nothing_is_written_through_them() {
    let fixture = Fixture::new();
    let object = tar(|builder| {
        link(builder, "/link", LINK, "/etc");
        add(builder, "/link/file", FILE, b"x");
    });
    let unpacked = fixture.unpack(&object).unwrap();
    assert_eq!(unpacked.links, 1);
    assert_eq!(fixture.read("link/file"), "x");
    assert!(fixture.place("link").symlink_metadata().unwrap().is_dir());
}

#[test]
fn links_of_wal_e_are_made_last_and_only_within_the_data_directory() {
    let mut fixture = Fixture::new();
    fixture.sink.keeps_links = true;
    let outside = fixture.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let object = tar(|builder| {
        link(builder, "through", LINK, outside.to_str().unwrap());
        add(builder, "through/file", FILE, b"x");
        link(builder, "base/up", LINK, "../../outside");
        link(builder, "conf/server.crt", LINK, "../real/server.crt");
        link(builder, "pg_xlog", LINK, "/elsewhere");
        link(builder, "pg_tblspc/16384", LINK, "/elsewhere");
        add(builder, "real/server.crt", FILE, b"certificate");
    });
    let unpacked = fixture.unpack(&object).unwrap();
    assert!(unpacked.is_needed_again, "the tar is needed again after an interruption");
    let (notices, queue) = notice::channel();
    fixture.sink.deferred.make_links(&fixture.sink.target, &notices).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fixture.read("through/file"), "x");
    assert_eq!(fixture.read("conf/server.crt"), "certificate");
    assert!(fixture.place("pg_xlog").symlink_metadata().unwrap().is_dir());
    assert!(fixture.place("base/up").symlink_metadata().is_err());
    assert!(fixture.place("pg_tblspc/16384").symlink_metadata().is_err());
    assert_eq!(queue.drain().len(), 4);
}

#[test]
fn a_file_is_never_written_twice() {
    for (first, second) in
        [("/a", "a"), ("/a/b", "/a"), ("/global/pg_control", "global/pg_control")]
    {
        let fixture = Fixture::new();
        let object = tar(|builder| {
            add(builder, first, FILE, b"first");
            add(builder, second, FILE, b"second");
        });
        assert_eq!(fixture.unpack(&object).unwrap_err().kind(), ErrorKind::Corrupt, "{first}");
    }
}

#[test]
fn the_control_file_is_kept_back_and_the_one_of_its_own_tar_counts() {
    let object = |content: &[u8]| tar(|builder| add(builder, "global/pg_control", FILE, content));
    for own_first in [true, false] {
        let fixture = Fixture::new();
        let unpack = |content: &[u8], is_control: bool| {
            let everything = Selection::everything();
            fixture.unpack_selected(&object(content), &everything, is_control)
        };
        unpack(if own_first { b"own" } else { b"copy" }, own_first).unwrap();
        unpack(if own_first { b"copy" } else { b"own" }, !own_first).unwrap();
        assert!(!fixture.place("global").exists());
        fixture.sink.deferred.write_control(&fixture.sink.target).unwrap();
        assert_eq!(fixture.read("global/pg_control"), "own");
        assert_eq!(fs::read_dir(fixture.place("global")).unwrap().count(), 1);
    }
    let fixture = Fixture::new();
    let large = object(&vec![0; 1 << 20]);
    assert!(fixture.unpack(&large).unwrap_err().message().contains("too large"));
}

#[test]
fn only_what_is_listed_is_taken() {
    let fixture = Fixture::new();
    let mut list = FilesMetadata::default();
    list.files.insert("/base/1/2".to_owned(), FileMetadata::default());
    let selection = Selection::of_tip(&list, false).unwrap();
    let object = tar(|builder| {
        add(builder, "base/1/2", FILE, b"x");
        add(builder, "base/1/3", FILE, b"stale");
        add(builder, "backup_label", FILE, b"label");
    });
    let unpacked = fixture.unpack_selected(&object, &selection, false).unwrap();
    assert!(!fixture.place("base/1/3").exists());
    assert_eq!(fixture.read("backup_label"), "label");
    assert_eq!((unpacked.unlisted, unpacked.first_unlisted.as_deref()), (1, Some("base/1/3")));
    assert_eq!(selection.missing(), None);
}

/// A delta of a file of two pages, with the second.
fn second_page() -> Vec<u8> {
    let mut increment = b"wi1\x55".to_vec();
    increment.extend(16_384_u64.to_le_bytes());
    increment.extend(1_u32.to_le_bytes());
    increment.extend(1_u32.to_le_bytes());
    increment.extend([7; 8192]);
    increment
}

fn with_pages(path: &str) -> FilesMetadata {
    let mut list = FilesMetadata::default();
    let pages = FileMetadata { is_incremented: true, ..FileMetadata::default() };
    list.files.insert(path.to_owned(), pages);
    list
}

#[test]
fn pages_of_a_file_come_from_the_newest_backup_that_has_them() {
    let fixture = Fixture::new();
    let list = with_pages("/base/1/2");
    let newer = Selection::of_tip(&list, true).unwrap();
    let object = tar(|builder| add(builder, "/base/1/2", FILE, &second_page()));
    let unpacked = fixture.unpack_selected(&object, &newer, false).unwrap();
    assert_eq!((unpacked.files, unpacked.bytes), (0, 0));
    assert!(unpacked.is_needed_again && unpacked.members.is_empty());
    let older = FilesMetadata {
        files: [("/base/1/2".to_owned(), FileMetadata::default())].into(),
        ..FilesMetadata::default()
    };
    let older = newer.of_parent(&older, false, "base_0").unwrap();
    let object = tar(|builder| add(builder, "/base/1/2", FILE, &[1; 3 * 8192]));
    let unpacked = fixture.unpack_selected(&object, &older, false).unwrap();
    assert_eq!((unpacked.files, unpacked.bytes), (1, 2 * 8192));
    assert_eq!(unpacked.completed, [Path::new("base/1/2")]);
    assert_eq!(unpacked.members, [("base/1/2".to_owned(), Some(16_384))]);
    assert_eq!(fs::read(fixture.place("base/1/2")).unwrap(), [[1; 8192], [7; 8192]].concat());
    let waiting = fixture.sink.target.place(&waiting_pages(Path::new("base/1/2")));
    assert_eq!(fs::read(&waiting).unwrap(), [7; 8192]);
    fixture.sink.forget_waiting(&unpacked.completed).unwrap();
    assert!(!waiting.exists() && fixture.sink.assembly.begun(Path::new("base/1/2")).is_none());
}

#[test]
fn no_pages_wait_for_a_file_that_an_earlier_run_completed() {
    let fixture = Fixture::new();
    fixture.sink.assembly.were_complete([PathBuf::from("base/1/2")]);
    let object = tar(|builder| add(builder, "/base/1/2", FILE, &second_page()));
    let selection = Selection::of_tip(&with_pages("/base/1/2"), true).unwrap();
    assert!(fixture.unpack_selected(&object, &selection, false).unwrap().is_needed_again);
    assert_eq!(selection.missing(), None);
    assert_eq!(fs::read_dir(fixture.sink.target.data_directory()).unwrap().count(), 0);
}

#[test]
fn pages_are_not_written_through_a_link() {
    let fixture = Fixture::new();
    let other = fixture.dir.path().join("other");
    fs::write(&other, b"precious").unwrap();
    fs::create_dir_all(fixture.place("base/1")).unwrap();
    let waiting = fixture.sink.target.place(&waiting_pages(Path::new("base/1/2")));
    fs::create_dir_all(waiting.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&other, waiting).unwrap();
    let object = tar(|builder| add(builder, "/base/1/2", FILE, &second_page()));
    let selection = Selection::of_tip(&with_pages("/base/1/2"), true).unwrap();
    assert!(fixture.unpack_selected(&object, &selection, false).is_err());
    assert_eq!(fs::read(&other).unwrap(), b"precious");
}
