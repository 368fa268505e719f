//! What is not merged, and is left as it is.

use super::super::*;
use super::fixture::{Fixture, begun, bytes};
use crate::notice;
use crate::sentinel::to_json;
use crate::store::memory::MemoryStore;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_delta_of_wal_e_is_not_merged() {
    let fixture = Fixture::of_chain(2, 1).await;
    let error = fixture.merge(&fixture.chain[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("is a full one"), "{error}");
    let error = fixture.merge("base_000000010000000000000099").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let manifest = layout::backup_manifest(fixture.tip(), fixture.compression.encoding());
    fixture.memory.delete(&manifest).await.unwrap();
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("no backup manifest that can be read"), "{error}");
    assert!(
        fixture.keys("").await.iter().all(|key| !key.contains("base_000000010000000000000004/"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_a_prefix_that_is_not_known_to_be_the_clusters() {
    let fixture = Fixture::of_chain(12, 1).await;
    fixture.memory.delete(&layout::owner()).await.unwrap();
    let before = fixture.keys("").await;
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("owner.json") && error.hint().is_some(), "{error}");
    let other = Claimant::on_this_host(crate::postgres::SystemIdentifier(7), "/other");
    let elsewhere = MemoryStore::with_page_size(4);
    owner::claim(&elsewhere, &other, &notice::channel().0).await.unwrap();
    fixture.put(&layout::owner(), bytes(&elsewhere, &layout::owner()).await).await;
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.hint().unwrap().contains("two clusters"), "{error}");
    fixture.memory.delete(&layout::owner()).await.unwrap();
    assert_eq!(fixture.keys("").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_left_alone() {
    let fixture = Fixture::of_chain(3, 1).await;
    let merged = fixture.merge("LATEST").await.unwrap();
    let before = fixture.keys("").await;
    let error = fixture.merge(fixture.tip()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("exists already"), "{error}");
    assert_eq!(fixture.keys("").await, before);
    // A backup of this name may be under way elsewhere.
    crate::base_backup::delete_objects(&fixture.memory, &merged).await.unwrap();
    fixture.draft(&merged).say_begun().await.unwrap();
    let error = fixture.merge(fixture.tip()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("may be under way"), "{error}");
    assert!(error.detail().unwrap().contains("\"db1\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_attempt_left_is_removed() {
    let fixture = Fixture::of_chain(4, 1).await;
    let name = layout::full_name(fixture.tip()).to_owned();
    let here = this_process().expect("the system says which process this is");
    let (numbered_by, _) = here.rsplit_once(' ').unwrap();
    // No process has the greatest number.
    for process in [format!("{numbered_by} {}", i32::MAX), here.clone()] {
        fixture.put(&layout::begun(&name), to_json(&begun(&hostname(), Some(process)))).await;
        let half = layout::tar_partition(&name, "part_077.tar.lz4");
        fixture.put(&half, b"half".to_vec()).await;
        assert_eq!(fixture.merge("LATEST").await.unwrap(), name);
        assert!(fixture.keys("").await.iter().all(|key| !key.contains("part_077")));
        crate::base_backup::delete_objects(&fixture.memory, &name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_may_be_making_is_left_alone() {
    let fixture = Fixture::of_chain(4, 1).await;
    let name = layout::full_name(fixture.tip()).to_owned();
    let here = this_process().unwrap();
    let (numbered_by, _) = here.rsplit_once(' ').unwrap();
    // One that runs, one of another container or boot, and what cannot be understood.
    let processes = [format!("{numbered_by} 1"), format!("x{numbered_by} 1"), "7".to_owned()];
    for process in processes {
        fixture.put(&layout::begun(&name), to_json(&begun(&hostname(), Some(process)))).await;
        let error = fixture.merge("LATEST").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_became_complete_meanwhile_is_no_left_over() {
    let fixture = Fixture::of_chain(4, 1).await;
    let merged = fixture.merge("LATEST").await.unwrap();
    let before = fixture.keys("").await;
    // The process that made it is this one, which has ended for all that its name says.
    let error = name::make_free(&fixture.memory, &merged).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fixture.keys("").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_verification_found_damaged_is_not_merged() {
    let fixture = Fixture::of_chain(10, 2).await;
    let key = layout::verification(&fixture.chain[1], false);
    let json =
        br#"{"verified_at":"2026-01-01T00:00:00Z","failures":1,"first_failure":"wal: a gap"}"#;
    fixture.put(&key, json.to_vec()).await;
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&fixture.chain[1]), "{error}");
    assert!(error.message().contains("wal: a gap"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_latest_backup_is_merged() {
    let fixture = Fixture::of_chain(8, 2).await;
    let error = fixture.merge(&fixture.chain[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("is not the latest one"), "{error}");
    assert!(error.message().contains(fixture.tip()), "{error}");
}
