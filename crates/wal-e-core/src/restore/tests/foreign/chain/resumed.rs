//! Restores of chains that are interrupted.

use std::time::Duration;

use super::*;
use crate::restore::Fetched;

async fn resume(fixture: &Fixture) -> Result<Fetched> {
    fixture.fetch_with(SECOND, TablespacePlaces::default(), true).await.0
}

/// Begins the restore, or goes on with it, and drops it once its request of this number waits: what
/// is on disk then is what a kill leaves.
async fn kill_at(fixture: &Fixture, get: u64) {
    let number = fixture.store.calls(Operation::Get) + get;
    let _ = fixture.store.clone().with(Operation::Get, When::From(number), Fault::Hang);
    let hangs = async {
        while fixture.store.calls(Operation::Get) < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = resume(fixture) => drop(ended.unwrap()),
        () = hangs => {}
    }
    // The tasks end, and with them the locks on the directories.
    while fixture.store.running() > 0 {
        tokio::task::yield_now().await;
    }
    fixture.store.heal();
}

fn waiting(fixture: &Fixture) -> PathBuf {
    fixture.data().join("wal_e.unfinished_restore.pages")
}

async fn bytes(fixture: &Fixture, key: &ObjectKey) -> Vec<u8> {
    let object = fixture.store.get(key, 0, None).await.unwrap();
    object.into_bytes(1 << 30).await.unwrap().to_vec()
}

/// Where a restore is killed, twice, and whichever file was lost meanwhile.
#[tokio::test]
async fn a_restore_that_is_killed_goes_on_from_anywhere() {
    // Three sentinels with their lists, label and control file, then six tars.
    let (first_tar, last) = (9, 14);
    let fresh = {
        let fixture = Fixture::new();
        chain(&fixture).await;
        fixture.fetch(SECOND).await.unwrap()
    };
    for (first, second) in
        (first_tar..=last).flat_map(|at| (first_tar..=last).map(move |it| (at, it)))
    {
        for lost in ["", "base/1/pages", "base/1/newer", "base/1/new", "base/1/same", "PG_VERSION"]
        {
            let fixture = Fixture::new();
            chain(&fixture).await;
            kill_at(&fixture, first).await;
            assert!(fixture.data().join("wal_e.unfinished_restore").exists());
            let lost_file = fixture.data().join(lost);
            if !lost.is_empty() && lost_file.exists() {
                fs::remove_file(&lost_file).unwrap();
            }
            kill_at(&fixture, second).await;
            if !fixture.data().join("global/pg_control").exists() {
                let fetched = resume(&fixture).await.unwrap();
                assert_eq!(fetched, fresh);
            }
            let what = format!("killed at {first} and {second}, without {lost:?}");
            assert!(fixture.restored() == expected_of_the_chain(), "{what}");
            assert!(!waiting(&fixture).exists(), "{what}");
        }
    }
}

/// Damage in any tar of any level: all of it is named.
#[tokio::test]
async fn a_chain_with_damage_is_resumed_once_it_is_repaired() {
    let tars = [
        (FULL, "part_001.tar.lz4"),
        (FULL, "part_002.tar.lz4"),
        (FIRST, "part_001.tar.lz4"),
        (FIRST, "part_002.tar.lz4"),
        (SECOND, "part_001.tar.lz4"),
        (SECOND, "part_002.tar.lz4"),
    ];
    for first in 0..tars.len() {
        for second in first..tars.len() {
            let fixture = Fixture::new();
            chain(&fixture).await;
            let mut whole = Vec::new();
            for index in [first, second] {
                let key = layout::tar_partition(tars[index].0, tars[index].1);
                let bytes = bytes(&fixture, &key).await;
                if whole.iter().all(|(other, _)| *other != key) {
                    // All members come, with pages and all, and then the checksum is wrong.
                    let mut damaged = bytes.clone();
                    *damaged.last_mut().unwrap() ^= 1;
                    fixture.put(&key, damaged).await;
                    whole.push((key, bytes));
                }
            }
            let error = fixture.fetch(SECOND).await.unwrap_err();
            let said = format!("{error} {}", error.detail().unwrap_or_default());
            for (key, _) in &whole {
                assert!(said.contains(key.as_str()), "{said}");
            }
            assert_eq!(said.matches("object \"").count(), whole.len(), "{said}");
            for (key, bytes) in whole {
                fixture.put(&key, bytes).await;
            }
            assert!(!waiting(&fixture).exists());
            resume(&fixture).await.unwrap();
            assert!(fixture.restored() == expected_of_the_chain(), "{first} and {second}");
        }
    }
}

/// What tars without pages gave stays; the others are fetched again.
#[tokio::test]
async fn a_resumed_restore_of_a_chain_keeps_complete_files() {
    let damaged = layout::tar_partition(FULL, "part_001.tar.lz4");
    let newest = layout::tar_partition(SECOND, "part_001.tar.lz4");
    let gets_of_all = {
        let fixture = Fixture::new();
        chain(&fixture).await;
        fixture.fetch(SECOND).await.unwrap();
        fixture.store.calls(Operation::Get)
    };
    for (newest_is_replaced, file_is_lost, kept) in
        [(false, false, 2), (true, false, 0), (false, true, 1)]
    {
        let fixture = Fixture::new();
        chain(&fixture).await;
        let whole = bytes(&fixture, &damaged).await;
        fixture.put(&damaged, b"damaged".to_vec()).await;
        fixture.fetch(SECOND).await.unwrap_err();
        fixture.put(&damaged, whole).await;
        if newest_is_replaced {
            fixture.put(&newest, bytes(&fixture, &newest).await).await;
        }
        if file_is_lost {
            fs::remove_file(fixture.data().join("base/1/later")).unwrap();
        }
        let before = fixture.store.calls(Operation::Get);
        resume(&fixture).await.unwrap();
        assert_eq!(gets_of_all - (fixture.store.calls(Operation::Get) - before), kept);
        assert!(fixture.restored() == expected_of_the_chain());
    }
}

/// A newer backup's object is another one by now, and damaged: nothing of the older ones counts.
#[tokio::test]
async fn a_resumed_restore_that_keeps_nothing_removes_what_an_earlier_run_left() {
    let fixture = Fixture::new();
    chain(&fixture).await;
    fixture.put(&layout::tar_partition(FULL, "part_001.tar.lz4"), b"damaged".to_vec()).await;
    fixture.fetch(SECOND).await.unwrap_err();
    assert!(fixture.data().join("base/1/later").exists());
    fixture.put(&layout::tar_partition(SECOND, "part_001.tar.lz4"), b"damaged".to_vec()).await;
    assert_eq!(resume(&fixture).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(fixture.restored().is_empty());
}

/// Links and named pipes are listed by WAL-G, and not restored.
#[tokio::test]
async fn what_was_skipped_is_not_missing_when_a_restore_is_resumed() {
    let fixture = Fixture::new();
    let listed = [("/server.crt", false, false), ("/pipe", false, false), ("/x", false, false)];
    let link = ("/server.crt", tar::EntryType::Symlink, "/etc/server.crt".as_bytes());
    let pipe = ("/pipe", tar::EntryType::Fifo, b"".as_slice());
    let sentinel =
        json!({"LSN": 0x200_0028, "SystemIdentifier": 7, "Version": 2, "UncompressedSize": 99});
    put_level(&fixture, FULL, sentinel, &listed, &[&[link], &[pipe], &[file("/x", b"x")]]).await;
    let damaged = layout::tar_partition(FULL, "part_003.tar.lz4");
    let whole = bytes(&fixture, &damaged).await;
    fixture.put(&damaged, b"damaged".to_vec()).await;
    let restore = async || fixture.fetch_with(FULL, TablespacePlaces::default(), true).await.0;
    restore().await.unwrap_err();
    fixture.put(&damaged, whole).await;
    restore().await.unwrap();
    assert_eq!(fixture.restored()["x"], b"x");
}
