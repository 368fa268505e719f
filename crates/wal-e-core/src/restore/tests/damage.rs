//! Objects that are damaged.

use super::*;
use crate::config::Face;

async fn replace(fixture: &Fixture, key: &layout::ObjectKey, body: bytes::Bytes) {
    let put = fixture.memory.put(key, body, PutMode::Replace, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
}

#[tokio::test]
async fn a_restore_of_damaged_objects_names_them_and_is_resumed_once_they_are_repaired() {
    for tar in ["part_002.tar.lz4", "pg_control.tar.lz4", "backup_label.tar.lz4"] {
        let fixture = Fixture::new().await;
        fixture.push().await.unwrap();
        let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
        let key = layout::tar_partition(NAME, tar);
        let whole = fixture.bytes(&key).await;
        let mut flipped = whole.to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        for damaged in [whole.slice(..whole.len() - 5), flipped.into()] {
            replace(&fixture, &key, damaged).await;
            let before = fixture.store.calls(Operation::Get);
            let error = fixture.fetch(NAME).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{tar}");
            assert!(error.message().contains(tar), "{error}");
            assert!(Face::Program.speak(error.hint().unwrap()).contains("--resume"), "{error:?}");
            let gets = fixture.store.calls(Operation::Get) - before;
            assert_eq!(gets, 3 + 2 + tars + 1, "each tar once, the damaged one twice");
            let restored = fixture.dir.path().join("restored");
            assert!(!restored.join("global/pg_control").exists());
            assert!(files(&restored).len() > 10, "{tar}: the others are restored");

            replace(&fixture, &key, whole.clone()).await;
            let before = fixture.store.calls(Operation::Get);
            let fetched = fixture.resume().await.unwrap();
            let of_parts = u64::from(tar.starts_with("part_"));
            assert_eq!(fixture.store.calls(Operation::Get) - before, 3 + 2 + of_parts);
            fixture.is_the_same(&fetched);
            for directory in ["restored", "restored_space"] {
                fs::remove_dir_all(fixture.dir.path().join(directory)).unwrap();
            }
        }

        fixture.memory.delete(&key).await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{tar} is missing");
        assert!(error.message().contains(tar), "{error}");
        assert!(fixture.nothing_restored(), "it is known before anything is written");
    }
}

#[tokio::test]
async fn everything_that_is_damaged_is_in_one_report() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let damaged = ["part_002.tar.lz4", "part_004.tar.lz4", "backup_label.tar.lz4"];
    for tar in damaged {
        replace(&fixture, &layout::tar_partition(NAME, tar), "?".into()).await;
    }
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(NAME) && error.message().contains(" 3 "), "{error}");
    let lines: Vec<&str> = error.detail().unwrap().lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for tar in damaged {
        assert!(lines.iter().any(|line| line.contains(tar)), "{tar}: {lines:?}");
    }
}

/// Whichever object it meets, of those that have a checksum.
#[tokio::test]
async fn a_bit_that_flips_on_the_way_does_no_harm() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    // Sentinel, list of files and manifest come before.
    for get in 4..=8 {
        let number = fixture.store.calls(Operation::Get) + get;
        let _ = fixture.store.clone().with(Operation::Get, When::Call(number), Fault::FlipBits);
        let fetched = fixture.fetch(NAME).await.unwrap();
        fixture.is_the_same(&fetched);
        for directory in ["restored", "restored_space"] {
            fs::remove_dir_all(fixture.dir.path().join(directory)).unwrap();
        }
    }
}

#[tokio::test]
async fn files_of_tars_without_checksums_are_compared_with_the_manifest() {
    for tar in ["part_002.tar", "pg_control.tar", "backup_label.tar"] {
        let mut fixture = Fixture::new().await;
        fixture.compression = Compression::new(Encoding::None, None).unwrap();
        fixture.push().await.unwrap();
        let key = layout::tar_partition(NAME, tar);
        let mut content = fixture.bytes(&key).await.to_vec();
        let (place, name) = {
            let mut archive = tar::Archive::new(&content[..]);
            let mut members = archive.entries().unwrap().map(Result::unwrap);
            let member = members.find(|member| member.size() > 2).unwrap();
            (member.raw_file_position(), member.path().unwrap().display().to_string())
        };
        content[usize::try_from(place).unwrap() + 1] ^= 4;
        let put = fixture.memory.put(&key, content.into(), PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{tar}");
        for word in [tar, &name, "CRC-32C"] {
            assert!(error.message().contains(word), "{word}: {error}");
        }
        let restored = fixture.dir.path().join("restored");
        assert!(!restored.join("global/pg_control").exists());
        assert!(!restored.join(name.trim_start_matches('/')).exists());
    }
}
