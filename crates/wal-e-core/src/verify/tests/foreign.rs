//! Backups of other programs, whose lists say more than their tars hold.

use serde_json::{Value, json};

use super::*;
use super::{Fixture, LABEL, NAME};
use crate::codec::Encoding;
use crate::postgres::{BLOCK_SIZE, Lsn, control_file};
use crate::verify::tar_content::tests::tar_of;
use crate::wal::sample::{CLUSTER, SEGMENT_BYTES};

const DELTA: &str = "base_000000010000000000000002_D_000000010000000000000002";

type Member<'a> = (&'a str, tar::EntryType, &'a [u8]);

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Symlink;

fn sentinel() -> Value {
    json!({"LSN": 0x20_0028, "FinishLSN": 0x40_0100, "SystemIdentifier": CLUSTER.0, "Version": 2})
}

fn part(members: &[&str]) -> Value {
    json!({"part_001.tar.lz4": members})
}

/// Stores a backup with one partition, and the small tars.
async fn put(
    fixture: &Fixture,
    backup: &str,
    sentinel: &Value,
    files: Option<&Value>,
    members: &[Member<'_>],
) {
    let control = control_file::sample(CLUSTER, SEGMENT_BYTES as u32, Lsn(0x20_0060));
    for (name, members) in [
        ("part_001", members),
        ("backup_label", &[("backup_label", FILE, LABEL.as_bytes())]),
        ("pg_control", &[("/global/pg_control", FILE, &control)]),
    ] {
        let name = Encoding::Lz4.file_name(format!("{name}.tar"));
        let key = layout::tar_partition(backup, &name);
        fixture.put(&key, fixture.encode(&tar_of(members))).await;
    }
    if let Some(files) = files {
        fixture.put(&layout::files_metadata(backup), files.to_string().into()).await;
    }
    fixture.put(&layout::metadata(backup), b"{}".to_vec()).await;
    fixture.put(&layout::sentinel(backup), sentinel.to_string().into()).await;
}

async fn empty() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.clear_backups().await;
    fixture
}

/// The rows that are neither right nor wrong, of a backup in which nothing is wrong.
async fn unknown(fixture: &Fixture) -> Vec<String> {
    let verified = fixture.verify().await.unwrap();
    assert_eq!(verified.failures(), 0, "{verified:#?}");
    let unknown = verified.findings.into_iter().filter(|finding| finding.ok.is_none());
    unknown.map(|finding| finding.detail).collect()
}

#[tokio::test]
async fn lists_with_directories_and_vanished_files_are_as_they_should_be() {
    let fixture = empty().await;
    let stale = control_file::sample(CLUSTER, SEGMENT_BYTES as u32, Lsn(0x10_0060));
    let members = [
        ("/base", DIRECTORY, &b""[..]),
        ("/base/5", DIRECTORY, b""),
        ("/base/5/1", FILE, b"one"),
        ("/global/pg_control", FILE, &stale),
        ("/pg_tblspc/16999/PG_15_202209061/5/1", FILE, b"two"),
        ("/conf", LINK, b""),
    ];
    let sets = part(&[
        "/base",
        "base/5",
        "./base/5/1",
        "/base/5/vanished",
        "/global/pg_control",
        "/pg_tblspc/16999/PG_15_202209061/5/1",
        "/conf",
        "/unlisted_link",
    ]);
    let listed = json!({"/base": {}, "/base/5": {}, "/base/5/1": {"IsSkipped": false}, "/conf": {},
        "/pg_tblspc/16999/PG_15_202209061/5/1": {}});
    let files = json!({"Files": listed, "TarFileSets": sets});
    put(&fixture, NAME, &sentinel(), Some(&files), &members).await;
    let rows = unknown(&fixture).await;
    for expected in [
        "1 symbolic links, which a restore leaves out",
        "tablespace 16999 stays a directory in pg_tblspc",
    ] {
        assert!(rows.iter().any(|row| row == expected), "{expected}: {rows:#?}");
    }

    // The first version kept the lists in the sentinel.
    let mut old = sentinel();
    old["Files"] = listed.clone();
    old["TarFileSets"] = sets.clone();
    old["Version"] = Value::Null;
    fixture.memory.delete(&layout::files_metadata(NAME)).await.unwrap();
    put(&fixture, NAME, &old, None, &members).await;
    let rows = unknown(&fixture).await;
    assert!(rows.iter().all(|row| !row.contains("made without")), "{rows:#?}");

    // In a full backup no older one has a file.
    let mut lacking = files.clone();
    lacking["Files"]["/base/5/vanished"] = json!({"IsSkipped": true});
    put(&fixture, NAME, &sentinel(), Some(&lacking), &members).await;
    fixture.assert_fails(&["file_list"], "base/5/vanished").await;

    let mut without_entry = files.clone();
    without_entry["Files"].as_object_mut().unwrap().remove("/base/5/1");
    put(&fixture, NAME, &sentinel(), Some(&without_entry), &members).await;
    fixture.assert_fails(&["file_list"], "base/5/1").await;

    let only_sets = json!({"TarFileSets": part(&["/base/5/1", "/base/5/lost"])});
    let members = [("/base/5/1", FILE, &b"one"[..])];
    put(&fixture, NAME, &sentinel(), Some(&only_sets), &members).await;
    fixture.assert_fails(&["file_list"], "base/5/lost").await;
}

/// A full backup and a delta of it, with one page of `/base/5/1`.
async fn delta(increment: &[u8], in_parent: &str, sentinel_of_delta: &Value) -> Fixture {
    let fixture = empty().await;
    let page = [1; BLOCK_SIZE];
    let files = json!({"Files": {"/base/5/1": {}, in_parent: {}},
        "TarFileSets": part(&["/base/5/1", in_parent])});
    let members = [("/base/5/1", FILE, &page[..]), (in_parent, FILE, b"same")];
    put(&fixture, NAME, &sentinel(), Some(&files), &members).await;
    let files = json!({
        "Files": {"/base/5/1": {"IsIncremented": true}, "/base/5/2": {"IsSkipped": true}},
        "TarFileSets": part(&["/base/5/1", "/base/5/2"])});
    let members = [("/base/5/1", FILE, increment)];
    put(&fixture, DELTA, sentinel_of_delta, Some(&files), &members).await;
    fixture
}

fn increment(pages: u32) -> Vec<u8> {
    let size = (BLOCK_SIZE as u64).to_le_bytes();
    [&b"wi1\x55"[..], &size, &pages.to_le_bytes(), &[0; 4], &[7; BLOCK_SIZE]].concat()
}

fn sentinel_of_delta(parent: &str, parent_lsn: u64) -> Value {
    let mut sentinel = sentinel();
    sentinel["DeltaFrom"] = parent.into();
    sentinel["DeltaLSN"] = parent_lsn.into();
    sentinel
}

#[tokio::test]
async fn a_delta_passes_only_if_a_restore_takes_it() {
    let sound = sentinel_of_delta(NAME, 0x20_0028);
    let fixture = delta(&increment(1), "/base/5/2", &sound).await;
    unknown(&fixture).await;

    let fixture = delta(&increment(2), "/base/5/2", &sound).await;
    fixture.assert_fails(&["tars"], "base/5/1").await;

    // Each of the two is sound alone.
    let fixture = delta(&increment(1), "/base/5/3", &sound).await;
    fixture.assert_fails(&["delta"], "base/5/2").await;
    let fixture = delta(&increment(1), "/base/5/2", &sentinel_of_delta(NAME, 1)).await;
    fixture.assert_fails(&["delta"], NAME).await;
}

#[tokio::test]
async fn no_key_is_made_of_a_name_that_is_none() {
    for parent in ["../secret", "base_000000010000000000000001/../../x", ""] {
        let fixture = delta(&increment(1), "/base/5/2", &sentinel_of_delta(parent, 1)).await;
        fixture.assert_fails(&["delta"], parent).await;
    }
}

#[tokio::test]
async fn files_that_are_too_large_for_their_backup_are_reported() {
    let fixture = empty().await;
    let mut small = sentinel();
    small["FilesMetadataDisabled"] = true.into();
    small["UncompressedSize"] = 1000.into();
    put(&fixture, NAME, &small, None, &[]).await;
    let zeros = fixture.encode(&vec![0; 64 << 20]);
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_mode(0o600);
    header.set_size(20 * (64 << 20));
    header.set_cksum();
    let mut object = fixture.encode(header.as_bytes());
    object.extend(zeros.repeat(20));
    fixture.put(&layout::tar_partition(NAME, "part_001.tar.lz4"), object).await;
    fixture.assert_fails(&["tars"], NAME).await;
}
