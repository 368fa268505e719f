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

const WAL_E: &str = "base_00000001000000000000000A_00000040";
const FULL: &str = "base_000000010000000000000002";
const FIRST: &str = "base_000000010000000000000004_D_000000010000000000000002";
const SECOND: &str = "base_000000010000000000000006_D_000000010000000000000004";

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

/// What each backup of the chain lists: name, pages only, in an older backup.
type Listed<'a> = &'a [(&'a str, bool, bool)];

async fn put_level(
    fixture: &Fixture,
    name: &str,
    sentinel: serde_json::Value,
    listed: Listed<'_>,
    tars: &[&[Member<'_>]],
) {
    let files: serde_json::Map<_, _> = listed
        .iter()
        .map(|(name, pages, skipped)| {
            let file = json!({"IsIncremented": pages, "IsSkipped": skipped, "MTime": ""});
            ((*name).to_owned(), file)
        })
        .collect();
    let mut sets = serde_json::Map::new();
    for (number, members) in (1..).zip(tars) {
        let tar = layout::partition_file_name(number, Default::default());
        fixture.put_tar(name, &tar, members).await;
        let mut names: Vec<_> = members.iter().map(|(name, ..)| json!(name)).collect();
        // One that vanished before WAL-G came to it.
        names.push(json!("/base/1/vanished"));
        sets.insert(tar, json!(names));
    }
    let list = json!({"Files": files, "TarFileSets": sets});
    fixture.put(&layout::files_metadata(name), list.to_string().into()).await;
    let label = [file("backup_label", name.as_bytes()), file("tablespace_map", b"")];
    fixture.put_tar(name, "backup_label.tar.lz4", &label).await;
    let control = [file("/global/pg_control", name.as_bytes())];
    fixture.put_tar(name, "pg_control.tar.lz4", &control).await;
    fixture.put_sentinel(name, sentinel).await;
}

/// A full backup and two deltas on it.
async fn chain(fixture: &Fixture) {
    put_level(
        fixture,
        FULL,
        json!({"LSN": 0x200_0028, "SystemIdentifier": 7, "Version": 2, "UncompressedSize": 99}),
        &[
            ("/base", false, false),
            ("/base/1/same", false, false),
            ("/base/1/pages", false, false),
            ("/base/1/shrinks", false, false),
            ("/base/1/dropped", false, false),
            ("/base/1/later", false, false),
            ("/PG_VERSION", false, false),
        ],
        &[
            &[
                directory("/base"),
                file("/base/1/same", &pages(b"s")),
                file("/base/1/pages", &pages(b"abc")),
                file("/base/1/dropped", b"dropped"),
            ],
            &[
                file("/base/1/shrinks", &pages(b"0123")),
                file("/base/1/later", &pages(b"l")),
                file("/PG_VERSION", b"15"),
            ],
        ],
    )
    .await;
    put_level(
        fixture,
        FIRST,
        json!({"LSN": 0x400_0028, "SystemIdentifier": 7, "Version": 2, "DeltaFrom": FULL,
               "DeltaLSN": 0x200_0028, "DeltaFullName": FULL, "DeltaCount": 1}),
        &[
            ("/base", false, false),
            ("/base/1/same", false, true),
            ("/base/1/pages", true, false),
            ("/base/1/shrinks", true, false),
            ("/base/1/later", false, true),
            ("/base/1/new", false, false),
            ("/PG_VERSION", false, true),
        ],
        &[&[
            directory("/base"),
            file("/base/1/pages", &increment(4, &[(3, b'D'), (1, b'B')])),
            file("/base/1/shrinks", &increment(2, &[])),
            file("/base/1/new", &pages(b"n")),
        ]],
    )
    .await;
    put_level(
        fixture,
        SECOND,
        json!({"LSN": 0x600_0028, "SystemIdentifier": 7, "Version": 2, "DeltaFrom": FIRST,
               "DeltaLSN": 0x400_0028, "DeltaFullName": FULL, "DeltaCount": 2}),
        &[
            ("/base", false, false),
            ("/base/1/same", false, true),
            ("/base/1/pages", true, false),
            ("/base/1/shrinks", true, false),
            ("/base/1/later", true, false),
            ("/base/1/new", false, true),
            ("/PG_VERSION", false, false),
        ],
        &[
            &[directory("/base"), file("/base/1/pages", &increment(4, &[(0, b'A')]))],
            &[
                file("/base/1/shrinks", &increment(3, &[(2, b'2')])),
                file("/base/1/later", &increment(1, &[(0, b'L')])),
                file("/PG_VERSION", b"16"),
            ],
        ],
    )
    .await;
}

fn expected_of_the_chain() -> BTreeMap<String, Vec<u8>> {
    map(&[
        ("base/1/same", &pages(b"s")),
        ("base/1/pages", &pages(b"ABcD")),
        ("base/1/shrinks", &pages(b"012")),
        ("base/1/later", &pages(b"L")),
        ("base/1/new", &pages(b"n")),
        ("PG_VERSION", b"16"),
        ("backup_label", SECOND.as_bytes()),
        ("tablespace_map", b""),
        ("global/pg_control", SECOND.as_bytes()),
    ])
}

#[tokio::test]
async fn a_chain_of_deltas_becomes_what_the_last_one_saw() {
    let fixture = Fixture::new();
    chain(&fixture).await;
    fixture.fetch(SECOND).await.unwrap();
    let restored = fixture.restored();
    let expected = expected_of_the_chain();
    assert_eq!(restored.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(restored == expected, "contents differ");

    let fixture = Fixture::new();
    chain(&fixture).await;
    fixture.fetch(FULL).await.unwrap();
    assert_eq!(fixture.restored()["base/1/dropped"], b"dropped");
    assert_eq!(fixture.restored()["base/1/shrinks"], pages(b"0123"));
}

/// Wherever it is interrupted, and whatever was lost meanwhile.
#[tokio::test]
async fn a_restore_of_a_chain_goes_on_from_anywhere() {
    // Three sentinels with their lists, label and control file, then five tars.
    for get in 9..=13 {
        for lost in ["", "base/1/pages", "base/1/shrinks", "base/1/new", "PG_VERSION"] {
            let fixture = Fixture::new();
            chain(&fixture).await;
            let refuse = Fault::Refuse(ErrorKind::Unavailable);
            let _ = fixture.store.clone().with(Operation::Get, When::From(get), refuse);
            fixture.fetch(SECOND).await.unwrap_err();
            fixture.store.heal();
            let lost_file = fixture.data().join(lost);
            if !lost.is_empty() && lost_file.exists() {
                fs::remove_file(&lost_file).unwrap();
            }
            let places = TablespacePlaces::default();
            let (resumed, _) = fixture.fetch_with(SECOND, places, true).await;
            resumed.unwrap();
            assert!(fixture.restored() == expected_of_the_chain(), "after {get}, without {lost:?}");
        }
    }
}

#[tokio::test]
async fn a_chain_that_is_broken_is_refused_by_name() {
    let sentinel = |from: &str, lsn: u64, system: u64| {
        json!({"LSN": 0x400_0028, "SystemIdentifier": system, "Version": 2, "DeltaFrom": from,
               "DeltaLSN": lsn, "DeltaFullName": FULL, "DeltaCount": 1})
    };
    for (middle, word) in [
        (sentinel(FULL, 0x200_0029, 7), "start LSN"),
        (sentinel(FULL, 0x200_0028, 8), "system identifier"),
        (sentinel(SECOND, 0x200_0028, 7), "is a delta of"),
        (sentinel(FIRST, 0x200_0028, 7), "is a delta of"),
        (sentinel("../elsewhere", 0x200_0028, 7), "is a delta of"),
        (sentinel("base_000000010000000000000099", 0x200_0028, 7), "000000000099"),
    ] {
        let fixture = Fixture::new();
        chain(&fixture).await;
        fixture.put_sentinel(FIRST, middle).await;
        fixture.is_refused(SECOND, word).await;
    }
    for (key, word) in [
        (layout::sentinel(FULL), FULL),
        (layout::files_metadata(SECOND), "files_metadata"),
        (layout::files_metadata(FULL), "files_metadata"),
        (layout::tar_partition(FULL, "part_002.tar.lz4"), "part_002"),
    ] {
        let fixture = Fixture::new();
        chain(&fixture).await;
        fixture.store.delete(&key).await.unwrap();
        fixture.is_refused(SECOND, word).await;
    }
    // The middle one lacks a file that the last one takes from it.
    let fixture = Fixture::new();
    chain(&fixture).await;
    fixture.put_tar(FIRST, "part_001.tar.lz4", &[file("/base/1/other", b"")]).await;
    let error = fixture.fetch(SECOND).await.unwrap_err();
    assert!(error.message().contains("has 3 of its files, as \"base/1/new\""), "{error}");
    assert!(!fixture.data().join("global/pg_control").exists());
}

/// Damage in any tar of any level: all is named, and what is sound need not come again.
#[tokio::test]
async fn a_chain_with_damage_goes_on_once_it_is_mended() {
    let tars = [
        (FULL, "part_001.tar.lz4"),
        (FULL, "part_002.tar.lz4"),
        (FIRST, "part_001.tar.lz4"),
        (SECOND, "part_001.tar.lz4"),
        (SECOND, "part_002.tar.lz4"),
    ];
    for first in 0..tars.len() {
        for second in first..tars.len() {
            let fixture = Fixture::new();
            chain(&fixture).await;
            let mut whole = Vec::new();
            for index in [first, second] {
                let key = layout::tar_partition(tars[index].0, tars[index].1);
                let object = fixture.store.get(&key, 0, None).await.unwrap();
                let bytes = object.into_bytes(1 << 30).await.unwrap().to_vec();
                if whole.iter().all(|(other, _)| *other != key) {
                    // All members come, with pages and all, and then the checksum is wrong.
                    let mut damaged = bytes.clone();
                    *damaged.last_mut().unwrap() ^= 1;
                    fixture.put(&key, damaged).await;
                    whole.push((key, bytes));
                }
            }
            let error = fixture.fetch(SECOND).await.unwrap_err();
            let said = format!("{error} {}", error.detail().unwrap_or_default());
            for (key, _) in &whole {
                assert!(said.contains(key.as_str()), "{said}");
            }
            assert_eq!(said.matches("object \"").count(), whole.len(), "{said}");
            for (key, bytes) in whole {
                fixture.put(&key, bytes).await;
            }
            let (resumed, _) = fixture.fetch_with(SECOND, TablespacePlaces::default(), true).await;
            resumed.unwrap();
            assert!(fixture.restored() == expected_of_the_chain(), "{first} and {second}");
        }
    }
}

#[tokio::test]
async fn cold_storage_is_found_in_every_backup_of_a_chain() {
    let fixture = Fixture::new();
    chain(&fixture).await;
    let cold = [
        layout::sentinel(SECOND),
        layout::tar_partition(FIRST, "part_001.tar.lz4"),
        layout::tar_partition(FULL, "part_002.tar.lz4"),
    ];
    cold.iter().for_each(|key| fixture.store.inner().set_storage_class(key, "DEEP_ARCHIVE"));
    for key in &cold {
        fixture.is_refused(SECOND, key.as_str()).await;
    }
}

#[tokio::test]
async fn files_that_are_not_listed_are_left_out_and_told() {
    let fixture = Fixture::new();
    chain(&fixture).await;
    let (shrinks, later) = (pages(b"0123"), pages(b"l"));
    let members = [
        file("/base/1/stale", b"stale"),
        file("/base/1/shrinks", &shrinks),
        file("/base/1/later", &later),
        file("/PG_VERSION", b"15"),
    ];
    fixture.put_tar(FULL, "part_002.tar.lz4", &members).await;
    let (fetched, notices) = fixture.fetch_with(FULL, TablespacePlaces::default(), false).await;
    fetched.unwrap();
    assert!(!fixture.restored().contains_key("base/1/stale"));
    assert!(notices.iter().any(|notice| notice.message.contains("base/1/stale")), "{notices:?}");
}

/// Of a killed backup, which began in the same segment, more was stored than of this one.
#[tokio::test]
async fn tars_that_a_killed_backup_left_are_left_out_and_told() {
    let fixture = Fixture::new();
    chain(&fixture).await;
    let old = pages(b"xyz");
    let stale = [file("/base/1/pages", &old), file("/PG_VERSION", b"14")];
    fixture.put_tar(FULL, "part_003.tar.lz4", &stale).await;
    fixture.put(&layout::tar_partition(FULL, "part_001.tar.zst"), b"cut off".to_vec()).await;
    fixture.put(&layout::tar_partition(FULL, "pg_control.tar.zst"), b"cut off".to_vec()).await;
    let (fetched, notices) = fixture.fetch_with(SECOND, TablespacePlaces::default(), false).await;
    fetched.unwrap();
    assert!(fixture.restored() == expected_of_the_chain());
    let told = notices.iter().find(|notice| notice.message.contains(FULL));
    assert!(told.unwrap().message.contains("3 objects"), "{notices:?}");
}

/// As WAL-G's copy composer makes them: `UncompressedSize` counts what was packed anew.
#[tokio::test]
async fn the_size_of_tars_that_were_copied_is_not_told_by_what_was_packed() {
    for (name, catalog, is_taken) in [
        ("copy_0.tar.lz4", None, true),
        ("copy_0.tar.lz4", Some(3_u64 << 30), true),
        ("copy_0.tar.lz4", Some(5), false),
        ("part_002.tar.lz4", None, false),
    ] {
        let fixture = Fixture::new();
        chain(&fixture).await;
        fixture.store.delete(&layout::files_metadata(FULL)).await.unwrap();
        fixture.put(&layout::tar_partition(FULL, name), two_gigabytes()).await;
        let mut sentinel = json!({"UncompressedSize": 99, "FilesMetadataDisabled": true});
        sentinel["DataCatalogSize"] = json!(catalog);
        fixture.put_sentinel(FULL, sentinel).await;
        if name == "part_002.tar.lz4" {
            fixture.store.delete(&layout::tar_partition(FULL, "part_001.tar.lz4")).await.unwrap();
        }
        let error = fixture.fetch(FULL).await.unwrap_err();
        let word = if is_taken { "truncated" } else { "much larger" };
        assert!(error.message().contains(word), "{name} {catalog:?}: {error}");
    }
}

/// A tar that ends after the header of a large file.
fn two_gigabytes() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("base/2/1").unwrap();
    header.set_mode(0o600);
    header.set_size(2 << 30);
    header.set_cksum();
    let mut writer = Compressor::new(Vec::new(), Compression::default()).unwrap();
    writer.write_all(header.as_bytes()).unwrap();
    writer.finish().unwrap()
}
