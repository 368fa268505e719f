use std::collections::BTreeMap;
use std::time::Instant;

use super::writing::clock_skew;
use super::*;
use crate::config::FileConfig;
use crate::notice;
use crate::postgres::SystemIdentifier;
use crate::sentinel::{self, Sentinel};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, PutMode};

const NO_ATTRIBUTES: Attributes = Attributes { content_xxh128: None, upload_id: None };
const LIMIT: Duration = Duration::from_millis(200);

fn claimant(system_identifier: u64) -> Claimant {
    Claimant {
        system_identifier: SystemIdentifier(system_identifier),
        hostname: "db1".to_owned(),
        data_directory: "/data".to_owned(),
        segment_size: None,
        known_prefixes: None,
    }
}

async fn check(store: &(impl ObjectStore + Clone + 'static), remote: bool) -> Vec<Check> {
    let rows = Rows::new("memory:", LIMIT);
    open_prefix(Arc::new(store.clone()), rows, remote, &claimant(1)).await
}

fn verdicts(rows: &[Check]) -> BTreeMap<&'static str, Option<bool>> {
    rows.iter().map(|row| (row.name, row.ok)).collect()
}

async fn objects(store: &dyn ObjectStore) -> Vec<String> {
    let objects = store::list_all(store, &ListRequest::default()).await.unwrap();
    objects.into_iter().map(|object| object.key.to_string()).collect()
}

async fn with_backup() -> MemoryStore {
    let store = MemoryStore::new();
    let sentinel = Sentinel { system_identifier: Some(SystemIdentifier(1)), ..Sentinel::full() };
    let key = layout::sentinel("base_000000010000000000000002");
    let put =
        store.put(&key, sentinel::to_json(&sentinel).into(), PutMode::Replace, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    store
}

/// Every row that does not pass says how to fix it, or why it was not made.
fn assert_sound(rows: &[Check]) {
    for row in rows {
        match row.ok {
            Some(true) => assert_eq!(row.hint, None, "{row:?}"),
            Some(false) => assert!(row.hint.is_some(), "{row:?}"),
            None => {
                assert!(row.hint.is_some() || row.detail.starts_with("not checked: "), "{row:?}")
            }
        }
    }
}

#[tokio::test]
async fn a_sound_prefix_passes_and_is_left_as_it_was() {
    let store = with_backup().await;
    let before = objects(&store).await;
    let rows = check(&store, false).await;
    assert!(rows.iter().all(|row| row.ok == Some(true)), "{rows:#?}");
    let names: Vec<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names, CHECKS[..LOCAL_CHECKS]);
    assert_eq!(objects(&store).await, before);

    let rows = check(&store, true).await;
    for row in &rows {
        // A store in memory has no server.
        let is_of_server = ABILITIES.contains(&row.name) || WAY.contains(&row.name);
        let expected = (!is_of_server).then_some(true);
        assert_eq!(row.ok, expected, "{row:?}");
    }
    assert_eq!(rows.len(), CHECKS.len());
}

#[tokio::test]
async fn an_empty_prefix_lacks_a_base_backup() {
    let rows = check(&MemoryStore::new(), false).await;
    assert_sound(&rows);
    let failed: Vec<_> = rows.iter().filter(|row| row.ok != Some(true)).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].name, failed[0].ok), (BASE_BACKUP, Some(false)));
}

#[tokio::test]
async fn oldest_and_newest_backup_are_named() {
    let store = with_backup().await;
    for number in [5, 9] {
        let key = layout::sentinel(&format!("base_00000001000000000000000{number}"));
        let put = store.put(&key, "{}".into(), PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
    }
    let rows = check(&store, false).await;
    let row = rows.iter().find(|row| row.name == BASE_BACKUP).unwrap();
    let order = ["3;", "oldest", "base_000000010000000000000002", "newest", "0009"];
    let mut rest = row.detail.as_str();
    for word in order {
        rest = rest.split_once(word).unwrap_or_else(|| panic!("{word}: {}", row.detail)).1;
    }
}

#[tokio::test]
async fn a_base_backup_of_the_cluster_that_was_replaced_does_not_count() {
    let store = with_backup().await;
    owner::claim(&store, &claimant(2), &notice::channel().0).await.unwrap_err();
    let (key, owner) = (layout::owner(), r#"{"system_identifier": 2}"#);
    let put = store.put(&key, owner.into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    let rows = Rows::new("memory:", LIMIT);
    let rows = open_prefix(Arc::new(store), rows, false, &claimant(2)).await;
    assert_sound(&rows);
    let failed: Vec<_> = rows.iter().filter(|row| row.ok != Some(true)).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].detail.contains("another cluster, with system identifier 1"), "{failed:?}");
}

#[tokio::test]
async fn the_prefix_of_another_cluster_is_not_written_to() {
    let store = FaultyStore::new(MemoryStore::new());
    owner::claim(&store, &claimant(2), &notice::channel().0).await.unwrap();
    let (puts, before) = (store.calls(Operation::Put), objects(&store).await);
    let rows = check(&store, true).await;
    assert_sound(&rows);
    let verdicts = verdicts(&rows);
    assert_eq!(verdicts[OWNER], Some(false));
    for name in [WRITABLE, CREATE_ONLY, CHECKSUM, DELETABLE, CLOCK_SKEW] {
        assert_eq!(verdicts[name], None);
    }
    assert_eq!(store.calls(Operation::Put), puts);
    assert_eq!(objects(&store).await, before);
}

#[tokio::test]
async fn a_refusal_is_told_for_what_it_is_for() {
    for (operation, failing, skipped) in [
        (Operation::Get, vec![READABLE, CREDENTIALS], vec![OWNER, WRITABLE, CHECKSUM, DELETABLE]),
        (Operation::List, vec![LISTABLE, OWNER], vec![BASE_BACKUP, WRITABLE]),
        (Operation::Put, vec![WRITABLE], vec![CREATE_ONLY, CHECKSUM, DELETABLE, CLOCK_SKEW]),
        (Operation::Head, vec![CLOCK_SKEW], vec![]),
    ] {
        let store = FaultyStore::new(MemoryStore::new()).with(
            operation,
            When::From(1),
            Fault::Refuse(ErrorKind::Denied),
        );
        let rows = check(&store, true).await;
        assert_sound(&rows);
        let verdicts = verdicts(&rows);
        assert_eq!(verdicts.len(), CHECKS.len());
        for name in failing {
            assert_eq!(verdicts[name], Some(false), "{name}: {rows:#?}");
        }
        for name in skipped {
            assert_eq!(verdicts[name], None, "{name}: {rows:#?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_keeps_what_it_has_is_a_matter_of_choice() {
    let store = FaultyStore::new(with_backup().await).with(
        Operation::Delete,
        When::From(1),
        Fault::Refuse(ErrorKind::Denied),
    );
    let rows = check(&store, false).await;
    assert_sound(&rows);
    for row in rows {
        assert_eq!(row.ok, if row.name == DELETABLE { None } else { Some(true) }, "{row:?}");
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_asked_once() {
    for operation in [Operation::Get, Operation::List, Operation::Put, Operation::Delete] {
        let store =
            FaultyStore::new(with_backup().await).with(operation, When::From(1), Fault::Hang);
        let rows = check(&store, true).await;
        let asked = [Operation::Get, Operation::List, Operation::Put, Operation::Delete];
        let later = asked.iter().skip_while(|asked| **asked != operation).skip(1);
        assert!(later.map(|later| store.calls(*later)).sum::<u64>() <= 2, "{rows:#?}");
        assert_sound(&rows);
        assert_eq!(rows.len(), CHECKS.len(), "{rows:#?}");
        let failed = rows.iter().filter(|row| row.ok == Some(false)).count();
        assert_eq!(failed, 1, "{rows:#?}");
    }
}

#[tokio::test]
async fn a_clock_that_differs_by_more_than_a_minute_is_told() {
    let store = MemoryStore::new();
    let key = layout::check_object(1);
    let put = store.put(&key, "x".into(), PutMode::Replace, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    for (offset_seconds, ok, words) in [
        (0, true, "differ by at most"),
        (-50, true, "differ by at most"),
        (50, true, "differ by at most"),
        (-3600, false, "behind"),
        (3600, false, "ahead of"),
    ] {
        let mut rows = Rows::new("memory:", LIMIT);
        let local = time::OffsetDateTime::now_utc() + time::Duration::seconds(offset_seconds);
        clock_skew(&mut rows, &store, &key, local, local).await;
        let rows = rows.in_order();
        let row = rows.last().unwrap();
        assert_eq!((row.name, row.ok), (CLOCK_SKEW, Some(ok)), "{row:?}");
        assert!(row.detail.contains(words), "{row:?}");
    }
}

#[tokio::test]
async fn a_prefix_that_cannot_be_opened_is_named() {
    let directory = "/nonexistent/archive".into();
    let config = StoreConfig::from(StorePlace::File(FileConfig { directory }));
    let (notices, _queue) = notice::channel();
    let begin = Instant::now();
    let rows = prefix(&config, &claimant(1), notices).await;
    assert!(begin.elapsed() < STEP_LIMIT);
    assert_sound(&rows);
    assert_eq!((rows[0].name, rows[0].ok), (PREFIX, Some(false)));
    assert!(rows[0].detail.contains("/nonexistent/archive"), "{:?}", rows[0]);
    assert!(rows[1..].iter().all(|row| row.ok.is_none()));
    assert_eq!(rows.len(), LOCAL_CHECKS);
}
