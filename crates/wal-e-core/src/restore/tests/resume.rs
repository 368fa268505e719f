//! Restores that were interrupted and are resumed.

use super::*;
use crate::config::Face;

#[tokio::test]
async fn a_cancelled_restore_leaves_nothing() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let _ = fixture.store.clone().with(Operation::Get, When::From(5), Fault::Hang);
    let cancel = async {
        while fixture.store.calls(Operation::Get) < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fixture.cancel.cancel();
    };
    let (result, ()) = tokio::join!(fixture.fetch(NAME), cancel);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(fixture.nothing_restored());
}

/// Fails the call of this number, counted from now, and all after it.
async fn interrupted_at(fixture: &Fixture, get: u64) {
    let number = fixture.store.calls(Operation::Get) + get;
    let refuse = Fault::Refuse(ErrorKind::Unavailable);
    let _ = fixture.store.clone().with(Operation::Get, When::From(number), refuse);
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fixture.store.heal();
}

#[tokio::test]
async fn an_interrupted_restore_goes_on_with_what_is_missing() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let restored = fixture.dir.path().join("restored");
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    assert!(tars > 6, "{tars} tars");
    // Sentinel, list of files, manifest, label, control file; then the tars.
    interrupted_at(&fixture, 6 + tars - 3).await;
    assert!(!restored.join("global/pg_control").exists());

    // Nothing is resumed without being asked for, nor with other places.
    let error = fixture.fetch(NAME).await.unwrap_err();
    assert!(Face::Program.speak(error.hint().unwrap()).contains("--resume"), "{error:?}");
    let error = fixture.fetch_into(NAME, "elsewhere", true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(restored.join("wal_e.unfinished_restore").exists());

    let before = fixture.store.calls(Operation::Get);
    let fetched = fixture.resume().await.unwrap();
    // Those that were under way when the store failed may have been done or not.
    let gets = fixture.store.calls(Operation::Get) - before;
    assert!((5 + 2..5 + tars - 3).contains(&gets), "{gets} of {tars}");
    fixture.is_the_same(&fetched);
    assert!(fixture.resume().await.unwrap_err().message().contains("not empty"));
}

#[tokio::test]
async fn what_was_damaged_between_two_runs_is_fetched_again() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let restored = fixture.dir.path().join("restored");
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    let mut some: Vec<PathBuf> = files(&restored)
        .into_keys()
        .filter(|path| path.starts_with("base/5/"))
        .map(|path| restored.join(path))
        .collect();
    assert!(some.len() > 3);
    let spoilt = some.split_off(some.len() - 3);
    fs::remove_file(&spoilt[0]).unwrap();
    fs::write(&spoilt[1], "short").unwrap();
    fs::remove_file(&spoilt[2]).unwrap();
    symlink("/etc/passwd", &spoilt[2]).unwrap();
    fs::write(restored.join("stray"), "x").unwrap();
    let fetched = fixture.resume().await.unwrap();
    fixture.is_the_same(&fetched);
}

#[tokio::test]
async fn what_is_on_disk_may_be_in_cold_storage_by_now() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    fixture.memory.set_storage_class(&layout::tar_partition(NAME, "part_001.tar.lz4"), "GLACIER");
    let fetched = fixture.resume().await.unwrap();
    fixture.is_the_same(&fetched);
}

#[tokio::test]
async fn a_note_of_a_finished_restore_is_removed() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    let note = fixture.dir.path().join("restored/wal_e.unfinished_restore");
    let text = fs::read(&note).unwrap();
    fixture.resume().await.unwrap();
    assert!(!note.exists());
    fs::write(&note, text).unwrap();
    let before = fixture.store.calls(Operation::Get);
    fixture.resume().await.unwrap();
    assert_eq!(
        fixture.store.calls(Operation::Get) - before,
        3,
        "only the objects that describe the backup"
    );
    assert!(!note.exists());
}

#[tokio::test]
async fn damage_does_not_undo_what_an_earlier_run_restored() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let tars = fixture.keys().await.iter().filter(|key| key.contains("/part_")).count() as u64;
    interrupted_at(&fixture, 5 + tars).await;
    let key = layout::tar_partition(NAME, "backup_label.tar.lz4");
    let sound = fixture.bytes(&key).await;
    for object in ["?".into(), sound] {
        assert!(files(&fixture.dir.path().join("restored")).len() > 10);
        let put = fixture.memory.put(&key, object, PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        match fixture.resume().await {
            Ok(fetched) => fixture.is_the_same(&fetched),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }
    assert!(fixture.dir.path().join("restored/global/pg_control").exists());
}
