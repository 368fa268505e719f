use std::sync::Arc;

use super::*;
use crate::layout::ObjectKey;
use crate::notice;
use crate::sentinel::Sentinel;
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::file::FileStore;
use crate::store::memory::MemoryStore;

fn claimant(system_identifier: u64, hostname: &str) -> Claimant {
    Claimant {
        system_identifier: SystemIdentifier(system_identifier),
        hostname: hostname.to_owned(),
        data_directory: format!("/data/{hostname}"),
        segment_size: None,
        known_prefixes: None,
    }
}

async fn claim(store: &dyn ObjectStore, claimant: &Claimant) -> Result<()> {
    super::claim(store, claimant, &notice::channel().0).await
}

async fn register(store: &dyn ObjectStore, encoding: Encoding) -> Result<Vec<Encoding>> {
    let registered = registered_wal_encodings(store).await?;
    register_wal_encoding(store, encoding, registered).await
}

async fn put(store: &dyn ObjectStore, key: &ObjectKey, content: impl Into<Bytes>) {
    let _ = store.put(key, content.into(), PutMode::Replace, &Attributes::default()).await.unwrap();
}

async fn put_wal(store: &dyn ObjectStore, name: &str) {
    put(store, &ObjectKey::from_listing(&format!("wal_005/{name}")).unwrap(), "wal").await;
}

async fn keys(store: &dyn ObjectStore) -> Vec<String> {
    let objects = list_all(store, &ListRequest::default()).await.unwrap();
    objects.into_iter().map(|object| object.key.to_string()).collect()
}

#[tokio::test]
async fn the_first_cluster_owns_the_prefix_and_its_copies_share_it() {
    let store = MemoryStore::new();
    assert_eq!(read(&store).await.unwrap(), None);
    claim(&store, &claimant(1, "a")).await.unwrap();
    let owner = read(&store).await.unwrap().unwrap();
    assert_eq!(owner.system_identifier, SystemIdentifier(1));
    assert_eq!((owner.hostname.as_str(), owner.data_directory.as_str()), ("a", "/data/a"));
    assert!(owner.claimed_at.is_some());
    claim(&store, &claimant(1, "standby")).await.unwrap();
    assert_eq!(read(&store).await.unwrap(), Some(owner));
    assert_eq!(keys(&store).await, ["wal_e/owner.json"]);
}

/// A prefix on a disk, and the empty mount point that it leaves.
#[tokio::test]
async fn a_prefix_that_has_lost_its_owner_is_refused_to_whom_it_belonged() {
    let (disk, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let prefix = disk.path().join("prefix");
    let (aside, cluster) = (disk.path().join("aside"), claimant(1, "a").remembering(data.path()));
    let mount = |from: &Path, to: &Path| std::fs::rename(from, to).unwrap();
    std::fs::create_dir(&prefix).unwrap();
    let store = FileStore::new(&prefix).unwrap();
    claim(&store, &cluster).await.unwrap();

    mount(&prefix, &aside);
    std::fs::create_dir(&prefix).unwrap();
    // A store that was open then stores nothing more.
    let key = ObjectKey::from_listing("wal_005/x").unwrap();
    let plain = Attributes::default();
    let put = store.put(&key, "x".into(), PutMode::CreateOnly, &plain);
    let error = put.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("owner.json\" has gone"), "{error:?}");
    // Nor does one that is opened then.
    let store = FileStore::new(&prefix).unwrap();
    let error = claim(&store, &cluster).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let lost = format!("prefix \"file://{}\" has lost its \"wal_e/owner.json\"", prefix.display());
    assert_eq!(error.message(), lost);
    assert!(error.hint().unwrap().contains("wal_e.known_prefixes"), "{error:?}");
    assert_eq!(inspect(&store, &cluster).await.unwrap_err().message(), lost);
    assert_eq!(std::fs::read_dir(&prefix).unwrap().count(), 0);

    // Back again, or given up on purpose.
    std::fs::remove_dir(&prefix).unwrap();
    mount(&aside, &prefix);
    claim(&store, &cluster).await.unwrap();
    std::fs::remove_dir_all(&prefix).unwrap();
    std::fs::create_dir(&prefix).unwrap();
    std::fs::remove_file(cluster.known_prefixes.as_ref().unwrap().path()).unwrap();
    claim(&store, &cluster).await.unwrap_err();
    claim(&FileStore::new(&prefix).unwrap(), &cluster).await.unwrap();
}

#[tokio::test]
async fn another_prefix_and_another_cluster_s_memory_are_no_reason_to_refuse() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = claimant(1, "a").remembering(data.path());
    claim(&FileStore::new(one.path()).unwrap(), &cluster).await.unwrap();
    claim(&FileStore::new(two.path()).unwrap(), &cluster).await.unwrap();
    std::fs::remove_dir_all(one.path().join("wal_e")).unwrap();
    let standby = claimant(1, "b").remembering(other.path());
    claim(&FileStore::new(one.path()).unwrap(), &standby).await.unwrap();
    // Where nothing can be remembered, nothing is refused, and a notice says so.
    let (notices, queue) = notice::channel();
    let nowhere = claimant(1, "c").remembering(Path::new("/nonexistent"));
    super::claim(&FileStore::new(two.path()).unwrap(), &nowhere, &notices).await.unwrap();
    assert!(queue.drain()[0].message.contains("wal_e.known_prefixes"));
}

#[tokio::test]
async fn another_cluster_is_refused_before_it_writes() {
    let store = FaultyStore::new(MemoryStore::new());
    claim(&store, &claimant(1, "a")).await.unwrap();
    let puts = store.calls(Operation::Put);
    let error = claim(&store, &claimant(2, "b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.message(), "prefix \"memory:\" belongs to another cluster");
    let detail = error.detail().unwrap();
    for fact in ["identifier 1", "identifier 2", "\"a\"", "\"b\"", "\"/data/a\"", "\"/data/b\""] {
        assert!(detail.contains(fact), "{detail}");
    }
    assert!(error.hint().unwrap().contains("prefix of its own"));
    assert_eq!(store.calls(Operation::Put), puts);
}

#[tokio::test]
async fn a_cluster_whose_segments_have_another_size_is_refused_before_it_writes() {
    let store = FaultyStore::new(MemoryStore::new());
    let with = |bytes| claimant(1, "a").with_segment_size(SegmentSize::new(bytes));
    claim(&store, &with(16 << 20)).await.unwrap();
    claim(&store, &with(16 << 20)).await.unwrap();
    claim(&store, &claimant(1, "a")).await.unwrap();
    let puts = store.calls(Operation::Put);
    let error = claim(&store, &with(64 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.message(), "the WAL segments of this cluster had 16 MB, and have 64 MB now");
    assert!(error.hint().unwrap().contains("new prefix"), "{error:?}");
    assert_eq!(store.calls(Operation::Put), puts);
    // An owner that does not say it, as other versions of wal_e may not.
    let owner = br#"{"system_identifier": 1}"#.to_vec();
    put(&store, &layout::owner(), owner).await;
    claim(&store, &with(64 << 20)).await.unwrap();
}

#[tokio::test]
async fn base_backups_of_another_cluster_count_where_nobody_has_claimed() {
    for (identifier, refused) in [(Some(7), true), (Some(2), false), (None, false)] {
        let store = MemoryStore::new();
        let backup = "base_000000010000000000000002";
        let sentinel = Sentinel {
            system_identifier: identifier.map(SystemIdentifier),
            hostname: Some("old".to_owned()),
            ..Sentinel::full()
        };
        put(&store, &layout::sentinel(backup), sentinel::to_json(&sentinel)).await;
        let claimed = claim(&store, &claimant(2, "b")).await;
        assert_eq!(claimed.is_err(), refused, "{claimed:?}");
        if let Err(error) = claimed {
            let detail = error.detail().unwrap();
            for fact in [backup, "identifier 7", "\"old\"", "identifier 2", "\"b\""] {
                assert!(detail.contains(fact), "{detail}");
            }
            assert_eq!(keys(&store).await, [layout::sentinel(backup).to_string()]);
        }
    }
}

#[tokio::test]
async fn a_damaged_sentinel_does_not_hide_the_cluster_that_another_tells() {
    let store = MemoryStore::new();
    let sentinel = Sentinel { system_identifier: Some(SystemIdentifier(7)), ..Sentinel::full() };
    put(&store, &layout::sentinel("base_000000010000000000000002"), sentinel::to_json(&sentinel))
        .await;
    put(&store, &layout::sentinel("base_000000010000000000000004"), "{").await;
    let error = claim(&store, &claimant(2, "b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    claim(&store, &claimant(7, "a")).await.unwrap();
}

#[tokio::test]
async fn a_damaged_owner_is_named_and_left() {
    for damaged in ["", "{}", "{\"system_identifier\": \"1\"}", "[]", "1"] {
        let store = MemoryStore::new();
        put(&store, &layout::owner(), damaged).await;
        let error = claim(&store, &claimant(1, "a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("wal_e/owner.json"), "{error}");
        assert!(error.hint().is_some());
    }
    let store = MemoryStore::new();
    put(&store, &layout::owner(), "{\"system_identifier\": 1, \"later\": {}}").await;
    claim(&store, &claimant(1, "a")).await.unwrap();
}

#[tokio::test]
async fn of_many_claimants_at_once_one_wins() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let claims = (1..=16).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { claim(&*store, &claimant(number, "host")).await })
    });
    let mut winners = 0;
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            Ok(()) => winners += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
        }
    }
    assert_eq!(winners, 1);
}

/// The loser has looked before the winner writes, and writes after it.
#[tokio::test]
async fn who_comes_between_look_and_claim_is_seen() {
    let memory = MemoryStore::new();
    let slow = FaultyStore::new(memory.clone()).with(
        Operation::Put,
        When::Call(1),
        Fault::Delay(std::time::Duration::from_millis(50)),
    );
    let late = tokio::spawn({
        let slow = slow.clone();
        async move { claim(&slow, &claimant(2, "late")).await }
    });
    while slow.calls(Operation::Put) == 0 {
        tokio::task::yield_now().await;
    }
    claim(&memory, &claimant(1, "early")).await.unwrap();
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn encodings_are_remembered() {
    let store = MemoryStore::new();
    assert!(register(&store, Encoding::Lz4).await.unwrap().is_empty());
    assert_eq!(register(&store, Encoding::None).await.unwrap(), [Encoding::Lz4]);
    assert_eq!(register(&store, Encoding::Zstd).await.unwrap(), [Encoding::Lz4, Encoding::None]);
    assert_eq!(register(&store, Encoding::Lz4).await.unwrap(), [Encoding::None, Encoding::Zstd]);
    assert_eq!(
        keys(&store).await,
        ["wal_e/wal_encodings/lz4", "wal_e/wal_encodings/none", "wal_e/wal_encodings/zstd"]
    );
}

#[tokio::test]
async fn once_known_an_encoding_costs_one_request() {
    let store = FaultyStore::new(MemoryStore::new());
    register(&store, Encoding::Lz4).await.unwrap();
    let (puts, lists) = (store.calls(Operation::Put), store.calls(Operation::List));
    register(&store, Encoding::Lz4).await.unwrap();
    assert_eq!(store.calls(Operation::Put), puts);
    assert_eq!(store.calls(Operation::List), lists + 1);
}

#[tokio::test]
async fn wal_of_another_tool_is_found_by_its_names() {
    let store = MemoryStore::new();
    for name in [
        "00000002.history.zst",
        "000000010000000000000001",
        "000000010000000000000002.partial.zst",
        "000000010000000000000003.br",
        "000000010000000000000004.lzo",
        "000000010000000000000005.lz4.gpg",
        "notes.lz4",
    ] {
        put_wal(&store, name).await;
    }
    assert_eq!(
        register(&store, Encoding::Lz4).await.unwrap(),
        [Encoding::Brotli, Encoding::Lzop, Encoding::None, Encoding::Zstd]
    );
}

#[tokio::test]
async fn an_interrupted_registration_is_made_up_for() {
    let memory = MemoryStore::new();
    put_wal(&memory, "000000010000000000000001.zst").await;
    put_wal(&memory, "000000010000000000000002").await;
    for call in 1..=3 {
        let store = FaultyStore::new(memory.clone()).with(
            Operation::Put,
            When::Call(call),
            Fault::Refuse(ErrorKind::Unavailable),
        );
        assert!(register(&store, Encoding::Lz4).await.is_err() || call > 1);
    }
    assert_eq!(register(&memory, Encoding::Lz4).await.unwrap(), [Encoding::None, Encoding::Zstd]);
}
