//! Delta backups of WAL-G, and what they build on.

use super::*;

mod resumed;

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
            ("/base/1/newer", false, false),
            ("/PG_VERSION", false, true),
        ],
        &[
            &[
                directory("/base"),
                file("/base/1/pages", &increment(4, &[(3, b'D'), (1, b'B')])),
                file("/base/1/shrinks", &increment(2, &[])),
                file("/base/1/new", &pages(b"n")),
            ],
            // Whole files alone.
            &[file("/base/1/newer", &pages(b"ww"))],
        ],
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
            ("/base/1/new", true, false),
            ("/base/1/newer", true, false),
            ("/PG_VERSION", false, false),
        ],
        &[
            &[
                directory("/base"),
                file("/base/1/pages", &increment(4, &[(0, b'A')])),
                file("/base/1/new", &increment(2, &[(1, b'N')])),
                file("/base/1/newer", &increment(2, &[(0, b'W')])),
            ],
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
        ("base/1/new", &pages(b"nN")),
        ("base/1/newer", &pages(b"Ww")),
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
