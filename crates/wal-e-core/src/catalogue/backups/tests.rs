use super::*;
use crate::catalogue::list;
use crate::catalogue::stored_backup::StoredBackup;
use crate::layout::ObjectKey;
use crate::notice;
use crate::postgres::Lsn;
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, PutMode};

const OLD: &str = "base_000000010000000000000002";
const NEW: &str = "base_000000010000000000000004";

async fn put(store: &MemoryStore, key: &ObjectKey, json: &str) {
    let body = json.to_owned().into();
    let _ = store.put(key, body, PutMode::Replace, &Attributes::default()).await.unwrap();
}

/// Two backups with metadata; the newer one is a delta.
async fn archive() -> MemoryStore {
    let store = MemoryStore::new();
    for (name, delta) in [(OLD, ""), (NEW, r#""DeltaFrom": "base_000000010000000000000002","#)] {
        let sentinel = format!(r#"{{{delta} "LSN": 33554472, "Version": 2, "IsPermanent": true}}"#);
        put(&store, &layout::metadata(name), r#"{"start_lsn": 33554472, "hostname": "db1"}"#).await;
        put(&store, &layout::sentinel(name), &sentinel).await;
    }
    store
}

async fn listed(store: &dyn ObjectStore) -> (Vec<BackupInfo>, usize) {
    let (notices, queue) = notice::channel();
    (list(store, &notices).await.unwrap(), queue.drain().len())
}

const DAMAGED: [&str; 6] = ["", "{", "null", "[]", "<html>", r#"{"LSN": "0/2000028"}"#];

#[tokio::test]
async fn a_backup_whose_sentinel_cannot_be_read_is_listed_as_damaged_and_the_rest_as_it_is() {
    for sentinel in DAMAGED {
        let store = archive().await;
        put(&store, &layout::sentinel(OLD), sentinel).await;
        let (backups, warnings) = listed(&store).await;
        let kinds: Vec<_> = backups.iter().map(|backup| (&*backup.name, backup.kind())).collect();
        // Its sentinel was stored again.
        assert_eq!(kinds, [(NEW, BackupKind::Delta), (OLD, BackupKind::Damaged)], "{sentinel}");
        assert!(backups[1].damage().unwrap().contains(layout::sentinel(OLD).as_str()));
        assert_eq!(backups[1].hostname.as_deref(), Some("db1"), "its metadata say so");
        assert_eq!(backups[1].start_lsn, Some(Lsn(0x200_0028)));
        assert_eq!((backups[0].damage(), warnings), (None, 1));
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_read_change_nothing_but_what_they_say() {
    for metadata in ["", "{", "[]", r#"{"start_time": 5}"#] {
        let store = archive().await;
        put(&store, &layout::metadata(OLD), metadata).await;
        let (backups, warnings) = listed(&store).await;
        assert_eq!((backups[0].kind(), backups[0].permanent), (BackupKind::Full, true));
        assert!(backups[0].damage().unwrap().contains("metadata.json"), "{metadata}");
        assert_eq!(warnings, 1);
        let (notices, _queue) = notice::channel();
        assert_eq!(list_sound(&store, OLD, &notices).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn what_is_in_cold_storage_or_refused_hides_no_other_backup() {
    let store = archive().await;
    store.set_storage_class(&layout::sentinel(OLD), "GLACIER");
    let (backups, _) = listed(&store).await;
    assert_eq!(backups[0].kind(), BackupKind::Damaged);
    assert_eq!(backups[1].kind(), BackupKind::Delta);

    for (get, kinds) in [
        (1, [BackupKind::Damaged, BackupKind::Delta]),
        (3, [BackupKind::Full, BackupKind::Damaged]),
    ] {
        let store = FaultyStore::new(archive().await);
        let store = store.with(Operation::Get, When::Call(get), Fault::Refuse(ErrorKind::Denied));
        let (backups, _) = listed(&store).await;
        assert_eq!(backups.iter().map(BackupInfo::kind).collect::<Vec<_>>(), kinds);
    }
    let all = FaultyStore::new(archive().await);
    let all = all.with(Operation::Get, When::From(1), Fault::Refuse(ErrorKind::Denied));
    let (notices, _queue) = notice::channel();
    assert_eq!(list(&all, &notices).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_backup_that_was_deleted_since_it_was_listed_is_left_out() {
    let store = FaultyStore::new(archive().await);
    let store = store.with(Operation::Get, When::Call(1), Fault::Refuse(ErrorKind::NotFound));
    let (backups, warnings) = listed(&store).await;
    assert_eq!((backups.len(), warnings), (1, 0));
}

#[tokio::test]
async fn the_latest_backup_is_never_silently_an_older_one() {
    let store = archive().await;
    put(&store, &layout::sentinel(NEW), "{").await;
    let (notices, queue) = notice::channel();
    for wanted in ["LATEST", NEW] {
        let error = list_sound(&store, wanted, &notices).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(NEW), "{error}");
        assert!(error.hint().unwrap().contains(OLD), "{error:?}");
        let begun = StoredBackup::find(&store, wanted).await.unwrap_err();
        assert_eq!(begun, error, "a restore says the same");
    }
    assert!(queue.drain().is_empty());
    for wanted in ["AUTO", OLD] {
        let sound = list_sound(&store, wanted, &notices).await.unwrap();
        assert_eq!(sound.len(), 1);
        assert_eq!(queue.drain().len(), 1);
    }
}
