//! Files against the lists that the backup has of them.

use super::*;

/// As a restore does.
#[tokio::test]
async fn what_is_not_of_the_backup_is_left_out_and_noted() {
    let fixture = Fixture::new().await;
    let stray = ["README", "part_003.tar.gpg", "part_099.tar.lz4", "pg_control.tar.zst"];
    for name in stray {
        fixture.put(&layout::tar_partition(NAME, name), b"?".to_vec()).await;
    }
    assert!(fixture.failures().await.is_empty());
    let findings = fixture.verify().await.unwrap().findings;
    let noted = findings.iter().find(|row| row.ok.is_none()).unwrap();
    assert!(noted.detail.contains("4 objects") && noted.detail.contains("README"), "{noted:?}");
}

/// Where the list does not say which tar has which file, all are read.
#[tokio::test]
async fn an_extra_tar_and_files_that_appear_twice_are_reported() {
    let fixture = Fixture::new().await;
    let bytes = fixture.bytes(&fixture.tar("part_001")).await;
    fixture.put(&fixture.tar("part_099"), bytes).await;
    fixture.change_text(&layout::files_metadata(NAME), "\"/base/5/16410\",", "").await;
    fixture.assert_fails(&["file_list"], "part_099.tar.lz4").await;
    let failures = fixture.failures().await;
    assert!(failures.iter().any(|(_, detail)| detail.contains("twice")), "{failures:#?}");
    for name in ["README", "part_003.tar.gpg"] {
        fixture.put(&layout::tar_partition(NAME, name), b"?".to_vec()).await;
        let failures = fixture.failures().await;
        assert!(failures.iter().any(|(check, detail)| *check == "tars" && detail.contains(name)));
    }
}

#[tokio::test]
async fn a_changed_byte_of_an_uncompressed_tar_is_found_by_the_manifest() {
    let fixture = Fixture::encoded(Encoding::None).await;
    let tar = fixture.tar("part_002");
    // Far from the headers: within the content of the last file.
    fixture
        .change(&tar, |bytes| {
            let position = bytes.len() - 20_000;
            bytes[position] ^= 1;
        })
        .await;
    fixture.assert_fails(&["checksums"], "part_002.tar").await;
}

#[tokio::test]
async fn lists_that_disagree_with_the_tars_are_reported() {
    let fixture = Fixture::new().await;
    let key = layout::files_metadata(NAME);
    let whole = fixture.bytes(&key).await;
    // Out of the set of its tar alone.
    fixture.change_text(&key, "\"/base/5/16410\",", "").await;
    fixture.assert_fails(&["file_list"], "base/5/16410").await;
    fixture.put(&key, whole).await;
    fixture.change_text(&key, "/base/5/16410", "/base/5/99999").await;
    fixture.assert_fails(&["file_list"], "base/5/99999").await;
    fixture.change(&key, cut).await;
    fixture.assert_fails(&["files_metadata"], "files_metadata.json").await;
    fixture.memory.delete(&key).await.unwrap();
    fixture.assert_fails(&["files_metadata"], "files_metadata.json").await;
}

#[tokio::test]
async fn the_manifest_counts_only_when_it_is_sound() {
    let fixture = Fixture::new().await;
    let key = layout::backup_manifest(NAME, Encoding::Lz4);
    let sound = fixture.bytes(&key).await;
    let rename = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(std::mem::take(bytes)).unwrap();
        *bytes = text.replace("base/5/16410", "base/5/99999").into_bytes();
    };
    fixture.change_content(&key, rename).await;
    fixture.assert_fails(&["manifest"], "backup_manifest.lz4").await;
    fixture.put(&key, sound).await;
    fixture.change(&key, cut).await;
    fixture.assert_fails(&["manifest"], "backup_manifest.lz4").await;
    fixture.memory.delete(&key).await.unwrap();
    let verified = fixture.verify().await.unwrap();
    assert_eq!(verified.failures(), 0);
    let unknown: Vec<&str> = verified
        .findings
        .iter()
        .filter(|finding| finding.ok.is_none())
        .map(|finding| finding.check_name)
        .collect();
    assert_eq!(unknown, ["manifest", "checksums"]);
}
