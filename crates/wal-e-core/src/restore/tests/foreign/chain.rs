//! Delta backups of WAL-G, and what they build on.

use super::*;

const FIRST: &str = "base_000000010000000000000004_D_000000010000000000000002";
const SECOND: &str = "base_000000010000000000000006_D_000000010000000000000004";

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

/// At every point of interruption, and whichever file was lost meanwhile.
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
    assert!(error.message().contains("has 3 of its files, such as \"base/1/new\""), "{error}");
    assert!(!fixture.data().join("global/pg_control").exists());
}

/// Damage in any tar of any level: all of it is named, and sound tars are not read again.
#[tokio::test]
async fn a_chain_with_damage_is_resumed_once_it_is_repaired() {
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

/// What the oldest backup gave stays; pages of newer ones are fetched again.
#[tokio::test]
async fn a_resumed_restore_of_a_chain_keeps_complete_files() {
    let damaged = layout::tar_partition(FULL, "part_001.tar.lz4");
    let newest = layout::tar_partition(SECOND, "part_001.tar.lz4");
    let gets_of_all = {
        let fixture = Fixture::new();
        chain(&fixture).await;
        fixture.fetch(SECOND).await.unwrap();
        fixture.store.calls(Operation::Get)
    };
    for (newest_is_replaced, file_is_lost, kept) in
        [(false, false, 1), (true, false, 0), (false, true, 0)]
    {
        let fixture = Fixture::new();
        chain(&fixture).await;
        let bytes = async |key| {
            let object = fixture.store.get(key, 0, None).await.unwrap();
            object.into_bytes(1 << 30).await.unwrap().to_vec()
        };
        let whole = bytes(&damaged).await;
        fixture.put(&damaged, b"damaged".to_vec()).await;
        fixture.fetch(SECOND).await.unwrap_err();
        fixture.put(&damaged, whole).await;
        if newest_is_replaced {
            fixture.put(&newest, bytes(&newest).await).await;
        }
        if file_is_lost {
            fs::remove_file(fixture.data().join("base/1/later")).unwrap();
        }
        let before = fixture.store.calls(Operation::Get);
        let (resumed, _) = fixture.fetch_with(SECOND, TablespacePlaces::default(), true).await;
        resumed.unwrap();
        assert_eq!(gets_of_all - (fixture.store.calls(Operation::Get) - before), kept);
        assert!(fixture.restored() == expected_of_the_chain());
    }
}

/// The store fails at any request, and when the restore is resumed at any other.
#[tokio::test]
async fn a_restore_of_a_chain_may_be_interrupted_twice() {
    let refuse = || Fault::Refuse(ErrorKind::Unavailable);
    for (first, second) in (1..20).flat_map(|first| (1..20).map(move |second| (first, second))) {
        let fixture = Fixture::new();
        chain(&fixture).await;
        for get in [first, second] {
            let from = When::From(fixture.store.calls(Operation::Get) + get);
            let _ = fixture.store.clone().with(Operation::Get, from, refuse());
            let _ = fixture.fetch_with(SECOND, TablespacePlaces::default(), true).await;
            fixture.store.heal();
        }
        if !fixture.data().join("global/pg_control").exists() {
            let (resumed, _) = fixture.fetch_with(SECOND, TablespacePlaces::default(), true).await;
            resumed.unwrap();
        }
        assert!(fixture.restored() == expected_of_the_chain(), "{first} and {second}");
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
async fn files_that_are_not_listed_are_skipped_with_a_warning() {
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
async fn tars_that_a_killed_backup_left_are_skipped_with_a_warning() {
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
async fn the_size_of_copied_tars_is_not_limited_by_what_was_packed() {
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
