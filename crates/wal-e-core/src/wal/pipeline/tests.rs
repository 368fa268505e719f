use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Pipeline, archived_already};
use crate::codec::{Compression, Encoding};
use crate::error::ErrorKind;
use crate::layout;
use crate::notice;
use crate::postgres::WalFileName;
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{ListRequest, list_all};
use crate::wal::sample::{self, WalDirectory};
use crate::wal::{PushOptions, PushOutcome, Pusher};

type Store = FaultyStore<MemoryStore>;

fn pipeline_with(
    store: &Store,
    wal: &WalDirectory,
    uploads: usize,
    listed: HashSet<WalFileName>,
) -> Pipeline {
    let options = PushOptions {
        compression: Compression::default(),
        other_encodings: Vec::new(),
        system_identifier: Some(sample::CLUSTER),
        look_first: false,
        uploads,
        compressors: 2,
        upload_note: None,
        maps: None,
    };
    let (notices, _) = notice::channel();
    let cancel = CancellationToken::new();
    let pusher = Pusher::new(Arc::new(store.clone()), options, listed, cancel, notices);
    Pipeline::new(pusher, wal.path())
}

fn pipeline(store: &Store, wal: &WalDirectory, uploads: usize) -> Pipeline {
    pipeline_with(store, wal, uploads, HashSet::new())
}

/// Waits until the archive has these files, and no others.
async fn wait_for_archived(store: &Store, names: &[&WalFileName]) {
    let mut wanted: Vec<String> =
        names.iter().map(|name| layout::wal_file(name, Encoding::Lz4).to_string()).collect();
    wanted.sort();
    let request = ListRequest { prefix: layout::wal(), ..ListRequest::default() };
    let archived = async {
        loop {
            let objects = list_all(store, &request).await.unwrap();
            let found: Vec<String> = objects.iter().map(|object| object.key.to_string()).collect();
            if found == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), archived).await.expect("they are archived");
}

#[tokio::test]
async fn files_that_wait_are_sent_ahead_and_answered_without_another_upload() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let names: Vec<_> = (1..=12).map(|number| wal.ready_segment(number)).collect();
    let pipeline = pipeline(&store, &wal, 3);
    assert_eq!(pipeline.push(&names[0]).await.unwrap().outcome, PushOutcome::Stored);
    wait_for_archived(&store, &names.iter().collect::<Vec<_>>()).await;
    wal.mark_done(&names[0]);
    for name in &names[1..] {
        assert_eq!(pipeline.push(name).await.unwrap().outcome, PushOutcome::Stored);
        wal.mark_done(name);
    }
    assert_eq!(store.calls(Operation::Put), 12);
    assert_eq!(store.calls(Operation::Head), 0, "nothing had to be looked for");
    // What comes later is found, too.
    let later = wal.ready_segment(13);
    assert_eq!(pipeline.push(&later).await.unwrap().outcome, PushOutcome::Stored);
}

#[tokio::test]
async fn with_one_place_nothing_is_sent_ahead() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let (first, second) = (wal.ready_segment(1), wal.ready_segment(2));
    let pipeline = pipeline(&store, &wal, 1);
    pipeline.push(&first).await.unwrap();
    wal.mark_done(&first);
    pipeline.close().await;
    wait_for_archived(&store, &[&first]).await;
    assert!(wal.file(&second).exists());
}

#[tokio::test]
async fn no_segment_accompanies_the_history_of_a_timeline() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let (first, second) = (wal.ready_segment(1), wal.ready_segment(2));
    let history: WalFileName = "00000002.history".parse().unwrap();
    fs::write(wal.file(&history), "1\t0/3000000\tno recovery target specified\n").unwrap();
    wal.mark_ready(&history);
    let pipeline = pipeline(&store, &wal, 4);
    pipeline.push(&history).await.unwrap();
    assert_eq!(pipeline.in_flight(), 0);
    wait_for_archived(&store, &[&history]).await;
    wal.mark_done(&history);
    pipeline.push(&first).await.unwrap();
    wait_for_archived(&store, &[&history, &first, &second]).await;
}

#[tokio::test]
async fn files_in_flight_are_as_many_as_there_are_places() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let names: Vec<_> = (1..=20).map(|number| wal.ready_segment(number)).collect();
    let store = store.with(Operation::Put, When::From(2), Fault::Hang);
    let pipeline = Arc::new(pipeline(&store, &wal, 4));
    pipeline.push(&names[0]).await.unwrap();
    wal.mark_done(&names[0]);
    let pushing = tokio::spawn({
        let (pipeline, name) = (Arc::clone(&pipeline), names[1].clone());
        async move { pipeline.push(&name).await }
    });
    let all_sending = async {
        while store.calls(Operation::Put) < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_sending).await.expect("four are sent");
    assert_eq!(pipeline.in_flight(), 6, "and two are compressed");
    // A store that hangs does not keep anybody.
    tokio::time::timeout(Duration::from_secs(30), pipeline.close()).await.expect("it ends");
    assert_eq!(pushing.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(store.calls(Operation::Put), 5);
}

#[tokio::test]
async fn a_cluster_that_is_not_the_archives_takes_no_names_ahead() {
    let (store, wal, other) =
        (Store::new(MemoryStore::new()), WalDirectory::new(), WalDirectory::new());
    let names: Vec<_> = (1..=6).map(|number| wal.ready_segment(number)).collect();
    // The same cluster, started from a copy, has another history.
    let of_other = other.ready_segment(1);
    fs::write(other.file(&of_other), sample::segment(&of_other, 77)).unwrap();
    pipeline(&store, &other, 4).push(&of_other).await.unwrap();

    let pipeline = pipeline(&store, &wal, 4);
    for _ in 0..2 {
        assert_eq!(pipeline.push(&names[0]).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(pipeline.in_flight(), 0);
    }
    wait_for_archived(&store, &[&of_other]).await;
    // Once it is settled, everything goes on.
    wal.mark_done(&names[0]);
    pipeline.push(&names[1]).await.unwrap();
    wait_for_archived(&store, &names.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_file_that_is_not_what_it_should_be_stalls_no_other() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let names: Vec<_> = (1..=6).map(|number| wal.ready_segment(number)).collect();
    let sound = fs::read(wal.file(&names[1])).unwrap();
    fs::write(wal.file(&names[0]), "").unwrap();
    fs::write(wal.file(&names[1]), sample::segment(&names[2], 9)).unwrap();
    let pipeline = pipeline(&store, &wal, 2);
    for bad in &names[..2] {
        let error = pipeline.push(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(bad.as_str()) && error.hint().is_some());
    }
    wait_for_archived(&store, &names[2..].iter().collect::<Vec<_>>()).await;
    // Mended, it goes, and the others are answered.
    fs::write(wal.file(&names[0]), sample::segment(&names[0], 1)).unwrap();
    fs::write(wal.file(&names[1]), sound).unwrap();
    for name in &names {
        pipeline.push(name).await.unwrap();
        wal.mark_done(name);
    }
    assert_eq!(store.calls(Operation::Put), 6);
}

#[tokio::test]
async fn while_the_store_fails_only_what_is_asked_for_is_tried() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let names: Vec<_> = (1..=9).map(|number| wal.ready_segment(number)).collect();
    let down = Fault::Refuse(ErrorKind::Unavailable);
    let store = store.with(Operation::Put, When::From(1), down);
    let pipeline = pipeline(&store, &wal, 3);
    assert_eq!(pipeline.push(&names[0]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    while pipeline.in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let tried = store.calls(Operation::Put);
    assert_eq!(tried, 1);
    assert!(pipeline.push(&names[0]).await.is_err());
    assert_eq!(store.calls(Operation::Put), tried + 1);
    store.heal();
    for name in &names {
        assert_eq!(pipeline.push(name).await.unwrap().outcome, PushOutcome::Stored);
        wal.mark_done(name);
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_after_it_was_sent_is_looked_at_again() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let (first, second) = (wal.ready_segment(1), wal.ready_segment(2));
    let pipeline = pipeline(&store, &wal, 2);
    pipeline.push(&first).await.unwrap();
    wait_for_archived(&store, &[&first, &second]).await;
    wal.mark_done(&first);
    let replacement = wal.path().join("replacement");
    fs::write(&replacement, sample::segment(&second, 99)).unwrap();
    fs::rename(&replacement, wal.file(&second)).unwrap();
    assert_eq!(pipeline.push(&second).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn after_a_kill_what_was_sent_ahead_is_known_again_without_another_upload() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let names: Vec<_> = (1..=5).map(|number| wal.ready_segment(number)).collect();
    let killed = pipeline(&store, &wal, 4);
    killed.push(&names[0]).await.unwrap();
    wait_for_archived(&store, &names.iter().collect::<Vec<_>>()).await;
    drop(killed);

    let late = wal.ready_segment(6);
    let listed = archived_already(&store, wal.path()).await.unwrap();
    assert_eq!(listed, names.iter().cloned().collect());
    let next = pipeline_with(&store, &wal, 4, listed);
    for name in &names {
        assert_eq!(next.push(name).await.unwrap().outcome, PushOutcome::AlreadyThere);
        wal.mark_done(name);
    }
    assert_eq!(next.push(&late).await.unwrap().outcome, PushOutcome::Stored);
    assert_eq!(store.calls(Operation::Put), 6);
    assert_eq!(store.calls(Operation::Get), 0, "the checksums were enough");
}

#[tokio::test]
async fn finishing_waits_for_what_is_under_way_and_names_it() {
    let (store, wal) = (Store::new(MemoryStore::new()), WalDirectory::new());
    let names: Vec<_> = (1..=8).map(|number| wal.ready_segment(number)).collect();
    let slow = Fault::Delay(Duration::from_millis(50));
    let store = store.with(Operation::Put, When::From(1), slow);
    let pipeline = pipeline(&store, &wal, 4);
    pipeline.push(&names[0]).await.unwrap();
    let mut ahead: Vec<_> =
        pipeline.finish(Duration::from_secs(30)).await.into_iter().map(|(name, _)| name).collect();
    ahead.sort();
    assert!(ahead.len() >= 3, "{ahead:?}");
    wait_for_archived(&store, &[&names[0]].into_iter().chain(&ahead).collect::<Vec<_>>()).await;
}
