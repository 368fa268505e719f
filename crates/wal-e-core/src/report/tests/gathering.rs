//! What is found out about an archive, and how often it is asked for that.

use std::sync::Arc;

use super::super::gather;
use super::*;
use crate::layout::{self, ObjectKey};
use crate::sentinel::{self, Sentinel};
use crate::store::faulty::{FaultyStore, Operation};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ObjectStore, PutMode};

async fn put(store: &MemoryStore, key: &ObjectKey, body: Vec<u8>) {
    let _ = store.put(key, body.into(), PutMode::CreateOnly, &Attributes::default()).await.unwrap();
}

/// Ten backups, each with its segment; of the last one the sentinel is damaged.
async fn archive() -> FaultyStore<MemoryStore> {
    let store = MemoryStore::new();
    for number in 1..=10 {
        let name = format!("base_{}", segment(1, number * 2));
        let sentinel = Sentinel {
            lsn: Some(Lsn(number * 2 * SEGMENT + 40)),
            finish_lsn: Some(Lsn(number * 2 * SEGMENT + 400)),
            finish_time: Some(day(1)),
            compressed_size: Some(7),
            ..Sentinel::full()
        };
        let metadata = sentinel::to_json(&sentinel.metadata());
        put(&store, &layout::metadata(&name), metadata.to_vec()).await;
        let sentinel = sentinel::to_json(&sentinel);
        let sentinel = if number == 10 { b"{".to_vec() } else { sentinel.to_vec() };
        put(&store, &layout::sentinel(&name), sentinel).await;
        let key = format!("{}{}", layout::wal(), segment(1, number * 2));
        put(&store, &ObjectKey::from_listing(&key).unwrap(), vec![0; 8]).await;
    }
    FaultyStore::new(store)
}

async fn gathered(store: &FaultyStore<MemoryStore>, policy: Option<Policy>) -> Report {
    let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let prefix = "memory".to_owned();
    gather(&store, prefix, policy, Face::Program, day(2)).await.unwrap()
}

#[tokio::test]
async fn an_empty_archive_can_be_looked_at() {
    let store = FaultyStore::new(MemoryStore::new());
    let policy = Policy { full_backups: 1, ..Policy::default() };
    let report = gathered(&store, Some(policy)).await;
    assert_eq!((report.backups.len(), report.windows.len(), report.holes.is_none()), (0, 0, true));
    assert!(report.page().contains("No restore is possible."));
}

#[tokio::test]
async fn what_is_strange_is_said_once_and_the_rest_is_shown() {
    let policy = Policy { full_backups: 1, ..Policy::default() };
    let report = gathered(&archive().await, Some(policy)).await;
    assert_eq!(report.backups.len(), 10);
    assert_eq!((report.timelines[0].segments, report.timelines[0].missing), (10, 9));
    let deleted = report.retention.as_ref().unwrap().items.iter();
    assert!(deleted.filter(|item| item.action == Action::Delete).count() > 0);
    let mut warnings = report.warnings.clone();
    warnings.dedup();
    assert_eq!(warnings, report.warnings);
    assert!(report.page().contains("cannot be restored as it is"), "{warnings:?}");
    assert!(gathered(&archive().await, None).await.retention.is_none());
}

#[tokio::test]
async fn what_retention_asks_about_backups_is_not_read_again() {
    let reads = async |policy| {
        let store = archive().await;
        gathered(&store, policy).await;
        store.calls(Operation::Get)
    };
    let policy = Policy { full_backups: 1, ..Policy::default() };
    assert_eq!(reads(Some(policy)).await, reads(None).await);
}
