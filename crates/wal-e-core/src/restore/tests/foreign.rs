//! Backups as WAL-G and WAL-E store them, down to the bytes of their tars.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalogue::list;
use crate::codec::{Compression, Compressor};
use crate::error::{ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::{self, Notice};
use crate::postgres::{BLOCK_SIZE, Lsn};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ObjectStore, PutMode};

mod chain;

const WAL_E: &str = "base_00000001000000000000000A_00000040";
const FULL: &str = "base_000000010000000000000002";

struct Fixture {
    dir: tempfile::TempDir,
    store: FaultyStore<MemoryStore>,
}

/// A member: name, type, content or where a link leads.
type Member<'a> = (&'a str, tar::EntryType, &'a [u8]);

fn file<'a>(name: &'a str, content: &'a [u8]) -> Member<'a> {
    (name, tar::EntryType::Regular, content)
}

fn directory(name: &str) -> Member<'_> {
    (name, tar::EntryType::Directory, b"")
}

/// A tar, with or without the zeros at its end.
fn tar(members: &[Member<'_>], is_ended: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if kind.is_dir() { 0o700 } else { 0o600 });
        header.set_size(0);
        if kind.is_file() {
            header.set_size(content.len() as u64);
        } else {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
        }
        header.set_cksum();
        bytes.extend(header.as_bytes());
        if kind.is_file() {
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    if is_ended {
        bytes.resize(bytes.len() + 1024, 0);
    }
    let mut writer = Compressor::new(Vec::new(), Compression::default()).unwrap();
    writer.write_all(&bytes).unwrap();
    writer.finish().unwrap()
}

fn pages(content: &[u8]) -> Vec<u8> {
    content.iter().flat_map(|byte| [*byte; BLOCK_SIZE]).collect()
}

fn increment(file_pages: u64, changed: &[(u32, u8)]) -> Vec<u8> {
    let mut bytes = b"wi1\x55".to_vec();
    bytes.extend((file_pages * BLOCK_SIZE as u64).to_le_bytes());
    bytes.extend(u32::try_from(changed.len()).unwrap().to_le_bytes());
    bytes.extend(changed.iter().flat_map(|(block, _)| block.to_le_bytes()));
    bytes.extend(changed.iter().flat_map(|(_, fill)| [*fill; BLOCK_SIZE]));
    bytes
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Fixture { dir, store: FaultyStore::new(MemoryStore::new()) }
    }

    async fn put(&self, key: &ObjectKey, body: Vec<u8>) {
        let attributes = Attributes::default();
        let _ = self.store.put(key, body.into(), PutMode::Replace, &attributes).await.unwrap();
    }

    async fn put_tar(&self, backup: &str, name: &str, members: &[Member<'_>]) {
        self.put(&layout::tar_partition(backup, name), tar(members, true)).await;
    }

    async fn put_sentinel(&self, backup: &str, json: serde_json::Value) {
        self.put(&layout::sentinel(backup), json.to_string().into()).await;
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn fetch(&self, name: &str) -> Result<Fetched> {
        self.fetch_with(name, TablespacePlaces::default(), false).await.0
    }

    async fn fetch_with(
        &self,
        name: &str,
        tablespaces: TablespacePlaces,
        resume: bool,
    ) -> (Result<Fetched>, Vec<Notice>) {
        let (notices, queue) = notice::channel();
        let request = FetchRequest { tablespaces, resume, ..plain_request(name, self.data()) };
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        let cancel = CancellationToken::new();
        let result = fetch(store, request, Arc::default(), notices, cancel).await;
        (result, queue.drain())
    }

    fn restored(&self) -> BTreeMap<String, Vec<u8>> {
        let walk = walkdir::WalkDir::new(self.data()).into_iter().map(|entry| entry.unwrap());
        walk.filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let path = entry.path().strip_prefix(self.data()).unwrap();
                (path.to_str().unwrap().to_owned(), fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    /// Asserts that the restore is refused, names `word`, and leaves nothing.
    async fn is_refused(&self, name: &str, word: &str) {
        let error = self.fetch(name).await.unwrap_err();
        let said = format!("{error} {}", error.detail().unwrap_or_default());
        assert!(said.contains(word), "{said}");
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Config), "{error:?}");
        assert!(!self.data().exists(), "something is left");
    }
}

fn map(files: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect()
}

/// A backup of WAL-E: relative names, the root as `/`, no directories for
/// tablespaces, and control file, label and map among the rest.
async fn wal_e(fixture: &Fixture, location: &str) {
    fixture
        .put_tar(
            WAL_E,
            "part_00000000.tar.lz4",
            &[
                directory("/"),
                directory("base/"),
                file("global/pg_control", b"control"),
                file("base/1/2", b"two"),
                ("server.crt", tar::EntryType::Symlink, b"base/1/2"),
                ("pg_xlog", tar::EntryType::Symlink, b"/wal"),
            ],
        )
        .await;
    let map = format!("16384 {location}\n");
    fixture
        .put_tar(
            WAL_E,
            "part_00000001.tar.lz4",
            &[
                file("backup_label", b"label"),
                file("tablespace_map", map.as_bytes()),
                file("pg_tblspc/16384/PG_14_1/5/6", b"six"),
            ],
        )
        .await;
    let spec = json!({"base_prefix": "/pgdata/", "tablespaces": ["16384"],
        "16384": {"loc": format!("{location}/"), "link": "pg_tblspc/16384"}});
    let sentinel = json!({"wal_segment_backup_stop": "00000001000000000000000B",
        "wal_segment_offset_backup_stop": "00000256", "expanded_size_bytes": 100, "spec": spec});
    fixture.put_sentinel(WAL_E, sentinel).await;
}

#[tokio::test]
async fn a_backup_of_wal_e_is_listed_and_restored() {
    let fixture = Fixture::new();
    let place = fixture.dir.path().join("space");
    wal_e(&fixture, place.to_str().unwrap()).await;
    let backup = &list(&fixture.store, &notice::channel().0).await.unwrap()[0];
    assert_eq!(backup.start_lsn, Some(Lsn(0xA00_0000 + 40)));
    assert_eq!(backup.stop_lsn, Some(Lsn(0xB00_0000 + 256)));
    assert_eq!((backup.uncompressed_bytes, &backup.delta_from), (Some(100), &None));

    let (fetched, notices) = fixture.fetch_with("LATEST", TablespacePlaces::default(), false).await;
    assert_eq!(fetched.unwrap().files, 5);
    assert_eq!(notices.iter().filter(|notice| notice.message.contains("pg_xlog")).count(), 1);
    let map_text = format!("16384 {}\n", place.display());
    let expected = map(&[
        ("global/pg_control", b"control"),
        ("base/1/2", b"two"),
        ("backup_label", b"label"),
        ("tablespace_map", map_text.as_bytes()),
    ]);
    assert_eq!(fixture.restored(), expected);
    assert_eq!(fs::read(place.join("PG_14_1/5/6")).unwrap(), b"six");
    assert_eq!(fs::read(fixture.data().join("server.crt")).unwrap(), b"two");
    assert!(fixture.data().join("pg_xlog").is_dir());
}

#[tokio::test]
async fn tablespaces_can_stay_in_the_data_directory() {
    let fixture = Fixture::new();
    wal_e(&fixture, "/no/such/place").await;
    let fetched = fixture.fetch_with(WAL_E, TablespacePlaces::InPlace, false).await;
    fetched.0.unwrap();
    let restored = fixture.restored();
    assert_eq!(restored["pg_tblspc/16384/PG_14_1/5/6"], b"six");
    assert_eq!(restored["tablespace_map"], b"");
    let settings = String::from_utf8(restored["postgresql.auto.conf"].clone()).unwrap();
    assert!(settings.contains("\nallow_in_place_tablespaces = on\n"), "{settings}");
}

#[tokio::test]
async fn a_lost_tar_of_wal_e_is_noticed_by_its_number() {
    for lost in ["part_00000000.tar.lz4", "part_00000001.tar.lz4"] {
        let fixture = Fixture::new();
        wal_e(&fixture, "/no/such/place").await;
        fixture.put_tar(WAL_E, "part_00000002.tar.lz4", &[file("last", b"")]).await;
        fixture.store.delete(&layout::tar_partition(WAL_E, lost)).await.unwrap();
        fixture.is_refused(WAL_E, lost).await;
    }
}

/// As WAL-G takes it over the replication protocol: names without a slash, the
/// control file twice, the second time in a tar that does not end.
#[tokio::test]
async fn a_backup_with_an_empty_sentinel_has_everything_taken() {
    let fixture = Fixture::new();
    let members = [
        file("backup_label", b"label"),
        file("tablespace_map", b""),
        file("base/1/2", b"two"),
        file("global/pg_control", b"copy"),
    ];
    fixture.put_tar(FULL, "part_001.tar.lz4", &members).await;
    let own = tar(&[file("global/pg_control", &[7; 8192])], false);
    fixture.put(&layout::tar_partition(FULL, "pg_control.tar.lz4"), own).await;
    fixture.put_sentinel(FULL, json!({})).await;
    fixture.fetch(FULL).await.unwrap();
    let expected = map(&[
        ("backup_label", b"label"),
        ("tablespace_map", b""),
        ("base/1/2", b"two"),
        ("global/pg_control", &[7; 8192]),
    ]);
    assert_eq!(fixture.restored(), expected);
}

#[tokio::test]
async fn a_tablespace_without_a_place_is_refused_before_its_files_come() {
    let fixture = Fixture::new();
    fixture.put_tar(FULL, "part_001.tar.lz4", &[file("pg_tblspc/16384/x", b"x")]).await;
    let label = [file("backup_label", b"label"), file("tablespace_map", b"16384 /old\n")];
    fixture.put_tar(FULL, "backup_label.tar.lz4", &label).await;
    fixture.put_tar(FULL, "pg_control.tar.lz4", &[file("/global/pg_control", b"c")]).await;
    fixture.put_sentinel(FULL, json!({})).await;
    fixture.is_refused(FULL, "16384").await;
    let place = fixture.dir.path().join("space");
    let given = TablespacePlaces::Given(BTreeMap::from([(16384, place.clone())]));
    fixture.fetch_with(FULL, given, false).await.0.unwrap();
    assert_eq!(fs::read(place.join("x")).unwrap(), b"x");
}
