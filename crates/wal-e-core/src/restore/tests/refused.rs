//! What is refused before anything is written.

use super::*;

#[tokio::test]
async fn tars_that_cannot_be_read_are_reported_before_anything_is_written() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    // Without a list of files it is unknown that they are not part of the backup.
    let sentinel = layout::sentinel(NAME);
    let json = String::from_utf8(fixture.bytes(&sentinel).await.to_vec()).unwrap();
    let json = json.replacen('{', "{\"FilesMetadataDisabled\":true,", 1);
    let put = fixture.memory.put(&sentinel, json.into(), PutMode::Replace, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    for (key, kind) in [
        (layout::tar_partition(NAME, "part_009.tar.lz4.gpg"), ErrorKind::Config),
        (layout::tar_partition(NAME, "README"), ErrorKind::Config),
        (layout::tar_partition(NAME, "pg_control.tar.zst"), ErrorKind::Corrupt),
        (layout::tar_partition(NAME, "backup_label.tar"), ErrorKind::Corrupt),
    ] {
        let put = fixture.memory.put(&key, "?".into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{key}");
        assert!(error.message().contains(key.as_str()) && error.hint().is_some(), "{error}");
        assert!(fixture.nothing_restored());
        fixture.memory.delete(&key).await.unwrap();
    }
    fixture.comes_back().await;
}

#[tokio::test]
async fn a_restore_without_label_or_list_of_files_is_refused() {
    for key in [layout::tar_partition(NAME, "backup_label.tar.lz4"), layout::files_metadata(NAME)] {
        let fixture = Fixture::new().await;
        fixture.push().await.unwrap();
        fixture.memory.delete(&key).await.unwrap();
        let error = fixture.fetch(NAME).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{key}");
        assert!(fixture.nothing_restored());
    }
}

#[tokio::test]
async fn an_unknown_backup_is_refused_with_the_names_that_exist() {
    let fixture = Fixture::new().await;
    let error = fixture.fetch("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fixture.push().await.unwrap();
    let error = fixture.fetch("base_000000010000000000000099").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains(NAME));
    assert!(fixture.nothing_restored());
}

#[tokio::test]
async fn what_lies_in_cold_storage_is_named_before_anything_is_written() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let cold = [
        layout::sentinel(NAME),
        layout::files_metadata(NAME),
        layout::tar_partition(NAME, "part_003.tar.lz4"),
        layout::tar_partition(NAME, "part_005.tar.lz4"),
    ];
    cold.iter().for_each(|key| fixture.memory.set_storage_class(key, "GLACIER"));
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for key in &cold {
        assert!(error.detail().unwrap().contains(key.as_str()), "{error:?}");
    }
    assert!(fixture.nothing_restored());
    cold.iter().for_each(|key| fixture.memory.set_storage_class(key, "STANDARD"));
    fixture.comes_back().await;
}
