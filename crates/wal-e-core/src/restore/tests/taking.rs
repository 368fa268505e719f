//! What a base backup leaves in the store, and when it does not finish.

use super::*;
use crate::postgres::ServerStart;
use crate::transfer::{Open, UploadNote};

#[tokio::test]
async fn the_objects_are_those_that_wal_g_reads() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let keys = fixture.keys().await;
    let own = format!("basebackups_005/{NAME}");
    for key in [
        format!("{own}/tar_partitions/part_001.tar.lz4"),
        format!("{own}/tar_partitions/part_002.tar.lz4"),
        format!("{own}/tar_partitions/pg_control.tar.lz4"),
        format!("{own}/tar_partitions/backup_label.tar.lz4"),
        format!("{own}/metadata.json"),
        format!("{own}/files_metadata.json"),
        format!("{own}/backup_manifest.lz4"),
        format!("{own}_backup_stop_sentinel.json"),
    ] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    let backups = list(&fixture.memory, &notice::channel().0).await.unwrap();
    assert_eq!(backups.len(), 1);
    let backup = &backups[0];
    assert_eq!((backup.name.as_str(), backup.permanent), (NAME, true));
    assert_eq!((backup.start_lsn, backup.stop_lsn), (Some(Lsn(0x20_0028)), Some(Lsn(0x30_0100))));
    assert_eq!(backup.timeline, TimelineId(1));
    assert!(backup.compressed_bytes.unwrap() < backup.uncompressed_bytes.unwrap());
}

#[tokio::test]
async fn a_backup_of_the_same_name_is_refused() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(NAME) && error.hint().is_some());
}

/// The base backup of another name that was killed, with one upload that was noted by its
/// number, and one whose answer was lost.
const KILLED: &str = "base_000000010000000000000001";

impl Fixture {
    fn note(&self) -> PathBuf {
        self.data().join("wal_e.unfinished_backup.server")
    }

    /// Says that the server has been started so many seconds from now.
    fn start_server(&self, seconds: i64) {
        let started = OffsetDateTime::now_utc().unix_timestamp() + seconds;
        let lock_file = format!("11\n{}\n{started}\n", self.data().display());
        fs::write(self.data().join("postmaster.pid"), lock_file).unwrap();
    }

    /// Leaves what a killed backup leaves; returns the keys of its uploads.
    async fn kill_backup(&self) -> [layout::ObjectKey; 2] {
        let lock_file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let note = UploadNote::claim(&self.note(), ServerStart::parse(&lock_file));
        let note = note.unwrap().unwrap();
        note.add(Open::Below(layout::backup_directory(KILLED))).unwrap();
        let [noted, lost] =
            ["part_001.tar.lz4", "part_002.tar.lz4"].map(|tar| layout::tar_partition(KILLED, tar));
        let begin = async |key| {
            let begun = self.memory.begin_multipart(key, PutMode::CreateOnly, &NO_ATTRIBUTES);
            begun.await.unwrap().id().unwrap().to_owned()
        };
        let id = begin(&noted).await;
        note.add(Open::Upload { key: noted.clone(), id }).unwrap();
        begin(&lost).await;
        [noted, lost]
    }
}

#[tokio::test]
async fn the_uploads_of_a_backup_that_was_killed_are_ended_by_the_next() {
    for restarted in [false, true] {
        let fixture = Fixture::new().await;
        fixture.start_server(-100);
        fixture.kill_backup().await;
        if restarted {
            fixture.start_server(1);
        }
        fixture.push().await.unwrap();
        assert!(fixture.memory.open_uploads().is_empty(), "restarted: {restarted}");
        assert!(!fixture.note().exists());
    }
}

#[tokio::test]
async fn the_uploads_of_the_server_that_this_is_a_copy_of_go_on() {
    // A copy of the files.
    let fixture = Fixture::new().await;
    fixture.start_server(-100);
    let uploads = fixture.kill_backup().await;
    let copy = fixture.dir.path().join("copy");
    fs::copy(fixture.note(), &copy).unwrap();
    fs::rename(&copy, fixture.note()).unwrap();
    fixture.start_server(1);
    fixture.push().await.unwrap();
    assert_eq!(fixture.memory.open_uploads(), uploads);
    assert!(!fixture.note().exists());

    // A copy of the file system: the original has stored something since this one started.
    let fixture = Fixture::new().await;
    fixture.start_server(-100);
    let uploads = fixture.kill_backup().await;
    let stored = layout::tar_partition(KILLED, "part_003.tar.lz4");
    let put = fixture.memory.put(&stored, "tar".into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    fixture.start_server(-10);
    fixture.push().await.unwrap();
    assert_eq!(fixture.memory.open_uploads(), uploads);
    assert!(!fixture.note().exists());
}

#[tokio::test]
async fn without_the_right_to_list_uploads_those_that_were_noted_are_ended_and_no_note_stays() {
    let fixture = Fixture::new().await;
    fixture.start_server(-100);
    let [_, lost] = fixture.kill_backup().await;
    let refuse = Fault::Refuse(ErrorKind::Denied);
    let _ = fixture.store.clone().with(Operation::AbortAll, When::From(1), refuse);
    let (notices, queue) = notice::channel();
    fixture.push_telling(notices).await.unwrap();
    assert_eq!(fixture.memory.open_uploads(), [lost]);
    assert!(!fixture.note().exists(), "it would grow with each backup");
    let said: Vec<String> = queue.drain().into_iter().map(|notice| notice.message).collect();
    let said: Vec<&String> = said.iter().filter(|line| line.contains("AbortAll")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn a_backup_that_runs_is_not_taken_for_dead() {
    let fixture = Fixture::new().await;
    let note = fs::File::create(fixture.data().join("wal_e.unfinished_backup.server")).unwrap();
    note.lock().unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(note);
    fixture.push().await.unwrap();
}

#[tokio::test]
async fn a_backup_that_fails_anywhere_leaves_no_sentinel_and_no_open_upload() {
    for (operation, call) in [
        (Operation::Put, 1),
        (Operation::Put, 4),
        (Operation::Put, 8),
        (Operation::List, 1),
        (Operation::List, 3),
    ] {
        let fixture = Fixture::new().await;
        let refuse = Fault::Refuse(ErrorKind::Denied);
        let _ = fixture.store.clone().with(operation, When::From(call), refuse);
        let error = fixture.push().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{operation:?} {call}");
        let keys = fixture.keys().await;
        assert!(!keys.iter().any(|key| key.ends_with("sentinel.json")), "{operation:?} {call}");
        assert!(fixture.memory.open_uploads().is_empty());
        assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_sentinel_waits_for_the_wal() {
    let fixture = Fixture::new().await;
    let last: WalFileName = "000000010000000000000003".parse().unwrap();
    fixture.memory.delete(&layout::wal_file(&last, Encoding::Lz4)).await.unwrap();
    let waiting = async {
        while fixture.store.calls(Operation::List) < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(
            list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty(),
            "listed before its WAL is there"
        );
        let asked_for = OffsetDateTime::now_utc();
        fixture.archive(last.as_str()).await;
        asked_for
    };
    let (name, asked_for) = tokio::join!(fixture.push(), waiting);
    assert_eq!(name.unwrap(), NAME);
    // The wait does not count: a transaction in it is after the backup.
    let backup = list(&fixture.memory, &notice::channel().0).await.unwrap().remove(0);
    assert!(backup.finish_time.unwrap() <= asked_for, "{backup:?}");
}

#[tokio::test]
async fn wal_counts_as_archived_in_any_encoding_that_can_be_read() {
    let segments = ["000000010000000000000002", "000000010000000000000003"];
    let fixture = Fixture::new().await;
    for (segment, encoding) in segments.into_iter().zip([Encoding::Zstd, Encoding::None]) {
        let lz4 = layout::wal_file(&segment.parse().unwrap(), Encoding::Lz4);
        fixture.memory.delete(&lz4).await.unwrap();
        fixture.archive_as(segment, encoding).await;
    }
    assert_eq!(fixture.push().await.unwrap(), NAME);

    let fixture = Fixture::new().await;
    let last = layout::wal_file(&segments[1].parse().unwrap(), Encoding::Lz4);
    fixture.memory.delete(&last).await.unwrap();
    let foreign = last.as_str().replace(".lz4", ".gpg");
    let key = layout::ObjectKey::from_listing(&foreign).unwrap();
    let put = fixture.memory.put(&key, "?".into(), PutMode::CreateOnly, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains(&foreign), "{error}");
    assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
}

#[tokio::test]
async fn wal_is_waited_for_with_listings_alone() {
    let fixture = Fixture::new().await;
    fixture.push().await.unwrap();
    let request = ListRequest { prefix: layout::base_backups(), ..ListRequest::default() };
    let objects = list_all(&fixture.memory, &request).await.unwrap();
    let tars = objects.iter().filter(|object| layout::tar_of(&object.key).is_some()).count();
    // What the prefix says of encryption, the name, WAL of others, all WAL from start to stop, and the encoding of the first; then
    // the tars, three of them with each request.
    assert_eq!(fixture.store.calls(Operation::List), 5 + tars.div_ceil(3) as u64);
    // The sentinel of that name, and no segment.
    assert_eq!(fixture.store.calls(Operation::Head), 1);
}

#[tokio::test]
async fn a_backup_is_refused_where_the_archive_has_wal_of_another_copy() {
    let segments = ["000000010000000000000002", "000000010000000000000003"];
    let marks = |fixture: &Fixture| fixture.data().join("pg_wal/archive_status");
    // Not finished by this server.
    for unfinished in segments {
        let fixture = Fixture::new().await;
        for segment in segments.iter().filter(|segment| **segment >= unfinished) {
            fs::remove_file(marks(&fixture).join(format!("{segment}.done"))).unwrap();
            fs::write(fixture.data().join("pg_wal").join(segment), "being written").unwrap();
        }
        let error = fixture.push().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains(unfinished) && error.hint().is_some(), "{error}");
        assert!(fixture.keys().await.iter().all(|key| key.starts_with("wal_005/")));
        // The primary of a standby is ahead of it.
        fs::write(fixture.data().join("standby.signal"), "").unwrap();
        for segment in segments {
            let _ = fs::remove_file(fixture.data().join("pg_wal").join(segment));
        }
        fixture.push().await.unwrap();
    }
    // Finished with other content.
    let fixture = Fixture::new().await;
    fs::write(fixture.data().join("pg_wal").join(segments[1]), "other").unwrap();
    let error = fixture.push().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(segments[1]), "{error}");
}

#[tokio::test]
async fn a_backup_is_not_completed_with_wal_of_another_copy() {
    let last = "000000010000000000000003";
    let name: WalFileName = last.parse().unwrap();
    let key = layout::wal_file(&name, Encoding::Lz4);
    let own = WalWriter::of_backup(Lsn(0x20_0028), Lsn(0x30_0100)).segments().remove(1).1;
    // As long as its end record, without it; and with other content after the end.
    let mut other = WalWriter::new(1, 3);
    other.noise(500);
    other.switch();
    let mut longer = own.clone();
    longer[0x8000] ^= 1;
    for (content, has_own) in [(other.segments().remove(0).1, false), (longer, true)] {
        let fixture = Fixture::new().await;
        fixture.memory.delete(&key).await.unwrap();
        if has_own {
            fs::write(fixture.data().join("pg_wal").join(last), &own).unwrap();
        }
        let waiting = async {
            while fixture.store.calls(Operation::List) < 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            fixture.put_wal(last, Encoding::Lz4, &content).await;
        };
        let (result, ()) = tokio::join!(fixture.push(), waiting);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains(last) && error.hint().is_some(), "{error}");
        assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_cancelled_backup_ends_without_a_sentinel() {
    let fixture = Fixture::new().await;
    let last: WalFileName = "000000010000000000000003".parse().unwrap();
    fixture.memory.delete(&layout::wal_file(&last, Encoding::Lz4)).await.unwrap();
    // With its mark, the server would have archived it elsewhere.
    fs::remove_file(fixture.data().join(format!("pg_wal/archive_status/{last}.done"))).unwrap();
    let cancel = async {
        while fixture.store.calls(Operation::List) < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fixture.cancel.cancel();
    };
    let (result, ()) = tokio::join!(fixture.push(), cancel);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(list(&fixture.memory, &notice::channel().0).await.unwrap().is_empty());
}
