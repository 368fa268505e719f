//! A merge that fails leaves no backup.

use super::super::*;
use super::fixture::Fixture;
use crate::notice;
use crate::store::faulty::{Fault, FaultyStore, Operation, When};

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_chain_is_named_and_nothing_becomes_a_backup() {
    for (number, tar) in [(0, "part_001.tar"), (1, "part_002.tar"), (2, "pg_control.tar")] {
        let fixture = Fixture::of_chain(5, 2).await;
        let backup = fixture.chain[number].clone();
        fixture.damage(&backup, tar).await;
        let error = fixture.merge("LATEST").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.message().contains(&backup) && error.message().contains(tar), "{error}");
        let merged = layout::full_name(fixture.tip()).to_owned();
        let list = crate::catalogue::list(&fixture.memory, &notice::channel().0).await.unwrap();
        assert!(list.iter().all(|backup| backup.name != merged));
        // It is known to have been given up.
        let begun = crate::catalogue::read_begun(&fixture.memory, &layout::begun(&merged)).await;
        assert!(begun.unwrap().unwrap().ended_at.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_anywhere_gets_no_backup_and_the_next_attempt_succeeds() {
    let puts = {
        let fixture = Fixture::of_chain(6, 2).await;
        let before = fixture.store.calls(Operation::Put);
        fixture.merge("LATEST").await.unwrap();
        fixture.store.calls(Operation::Put) - before
    };
    for number in 1..=puts {
        let mut fixture = Fixture::of_chain(6, 2).await;
        fixture.store = FaultyStore::new(fixture.memory.clone()).with(
            Operation::Put,
            When::Call(number),
            Fault::Refuse(ErrorKind::Denied),
        );
        let error = fixture.merge("LATEST").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let merged = layout::full_name(fixture.tip()).to_owned();
        assert!(fixture.memory.head(&layout::sentinel(&merged)).await.unwrap().is_none());
        fixture.merge("LATEST").await.unwrap();
        let (files, _) = fixture.restored(&merged).await;
        assert!(fixture.backed_up.iter().all(|(path, content)| files.get(path) == Some(content)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_deleted_meanwhile_is_not_a_backup_that_is_not_there() {
    let gets = {
        let fixture = Fixture::of_chain(9, 1).await;
        let before = fixture.store.calls(Operation::Get);
        fixture.merge("LATEST").await.unwrap();
        fixture.store.calls(Operation::Get) - before
    };
    let mut fixture = Fixture::of_chain(9, 1).await;
    // The last one that is read is the tar of the label.
    fixture.store = FaultyStore::new(fixture.memory.clone()).with(
        Operation::Get,
        When::Call(gets),
        Fault::Refuse(ErrorKind::NotFound),
    );
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.message().contains("backup_label.tar"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_merge_leaves_no_backup_and_no_temporary_files() {
    let fixture = Fixture::of_chain(7, 2).await;
    fixture.cancel.cancel();
    let error = fixture.merge("LATEST").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn a_temporary_directory_that_is_not_there_is_named() {
    let missing = PathBuf::from("/nowhere/at/all");
    let error = Spool::new(&missing).unwrap_err();
    assert!(error.message().contains("/nowhere/at/all"), "{error}");
}
