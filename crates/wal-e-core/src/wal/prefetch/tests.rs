use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::fetch::FetchOptions;
use super::super::sample::{CLUSTER, SEGMENT_BYTES, segment};
use super::*;
use crate::codec::Encoding;
use crate::layout;
use crate::store::faulty::{FaultyStore, Operation};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ObjectStore, PutMode};

fn name(number: u32) -> WalFileName {
    format!("0000000100000000{number:08X}").parse().unwrap()
}

struct Fixture {
    wal: tempfile::TempDir,
    store: FaultyStore<MemoryStore>,
    directory: PrefetchDirectory,
    options: FetchOptions,
}

/// A helper that runs.
struct Helper {
    needed: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Helper {
    async fn dismiss(self) {
        self.needed.store(false, Ordering::Relaxed);
        self.task.await.unwrap().unwrap();
    }
}

impl Fixture {
    fn new() -> Self {
        let wal = tempfile::tempdir().unwrap();
        let directory = PrefetchDirectory::new(wal.path(), "s3://b/p");
        let options = FetchOptions { is_final: true, ..FetchOptions::only_checks(Some(CLUSTER)) };
        Fixture { wal, store: FaultyStore::new(MemoryStore::new()), directory, options }
    }

    async fn archive(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            let key = layout::wal_file(&name(number), Encoding::None);
            let body = segment(&name(number), number).into();
            let attributes = Attributes::default();
            let _ = self.store.put(&key, body, PutMode::Replace, &attributes).await.unwrap();
        }
    }

    fn note(&self, number: u32, depth: u16) {
        let position = Position {
            segment: name(number),
            segment_size: SegmentSize::new(SEGMENT_BYTES as u64).unwrap(),
            depth,
            ending: KeyEnding::new("").unwrap(),
        };
        self.directory.note(&position).unwrap();
        assert_eq!(self.directory.position(), Some(position));
    }

    fn help(&self) -> Helper {
        let needed = Arc::new(AtomicBool::new(true));
        let (directory, options) = (self.directory.clone(), self.options.clone());
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        let asked = Arc::clone(&needed);
        let task = tokio::spawn(async move {
            let is_needed = move || asked.load(Ordering::Relaxed);
            prefetch_ahead(&directory, store, &options, is_needed).await
        });
        Helper { needed, task }
    }

    fn whole(&self) -> Vec<WalFileName> {
        let mut names: Vec<_> =
            self.directory.whole_files().into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    async fn wait_for(&self, numbers: impl IntoIterator<Item = u32>) {
        let expected: Vec<WalFileName> = numbers.into_iter().map(name).collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.whole() != expected {
            assert!(Instant::now() < deadline, "{:?}, not {expected:?}", self.whole());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What `wal-fetch` gets.
    async fn take(&self, number: u32) -> Taken {
        let directory = self.directory.clone();
        let destination = self.wal.path().join("RECOVERYXLOG");
        tokio::task::spawn_blocking(move || {
            let taken = directory.take(&name(number), &destination, Some(CLUSTER), None);
            if matches!(taken, Taken::Served(_)) {
                assert!(fs::read(&destination).unwrap() == segment(&name(number), number));
                fs::remove_file(&destination).unwrap();
            }
            assert!(!destination.exists());
            taken
        })
        .await
        .unwrap()
    }

    fn served() -> Taken {
        Taken::Served(SegmentSize::new(SEGMENT_BYTES as u64).unwrap())
    }
}

#[tokio::test]
async fn segments_are_fetched_ahead_once_and_go_when_no_server_needs_them() {
    let fixture = Fixture::new();
    fixture.archive(1..=9).await;
    assert_eq!(fixture.take(2).await, Taken::Absent);
    fixture.note(1, 3);
    let helper = fixture.help();
    fixture.wait_for(2..=4).await;
    assert!(fixture.directory.has_helper());
    for number in 2..=9 {
        assert_eq!(fixture.take(number).await, Fixture::served(), "{number}");
        fixture.note(number, 3);
        fixture.wait_for(number + 1..=(number + 3).min(9)).await;
    }
    // Nobody asked for 1. Of what is not there the first was asked for once, if it came
    // to that yet, and the second perhaps at the same time.
    let gets = fixture.store.calls(Operation::Get);
    assert!((8..=8 + 2).contains(&gets), "{gets}");
    assert_eq!(fixture.store.calls(Operation::List), 0);
    helper.dismiss().await;
    assert!(!fixture.directory.has_helper());
    assert_eq!(fs::read_dir(fixture.wal.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_does_not_follow_the_position_is_removed() {
    let fixture = Fixture::new();
    fixture.archive(1..=40).await;
    fixture.note(1, 4);
    let helper = fixture.help();
    fixture.wait_for(2..=5).await;
    fixture.note(30, 2);
    fixture.wait_for(31..=32).await;
    fixture.note(3, 4);
    fixture.wait_for(4..=7).await;
    fixture.note(5, 1);
    fixture.wait_for(6..=6).await;
    let timeline = Position {
        segment: "000000020000000000000006".parse().unwrap(),
        ..fixture.directory.position().unwrap()
    };
    fixture.directory.note(&timeline).unwrap();
    fixture.wait_for([]).await;
    helper.dismiss().await;
}

#[tokio::test]
async fn a_file_that_is_not_what_it_was_is_never_used() {
    let fixture = Fixture::new();
    fixture.archive(1..=9).await;
    fixture.note(1, 8);
    let helper = fixture.help();
    fixture.wait_for(2..=9).await;
    let path = |number| fixture.directory.find(&name(number)).unwrap();
    let whole = fs::read(path(2)).unwrap();
    let mut flipped = whole.clone();
    flipped[SEGMENT_BYTES / 2] ^= 1;
    fs::write(path(2), &flipped).unwrap();
    fs::write(path(3), &whole).unwrap();
    fs::write(path(4), &segment(&name(4), 4)[..SEGMENT_BYTES / 2]).unwrap();
    fs::write(path(5), "").unwrap();
    let outside = fixture.wal.path().join("outside");
    fs::write(&outside, segment(&name(6), 6)).unwrap();
    fs::remove_file(path(6)).unwrap();
    let other_mark = fixture.directory.path().join(format!("{}-{:032x}", name(6), 0));
    fs::rename(&outside, other_mark).unwrap();
    for number in 2..=6 {
        let taken = fixture.take(number).await;
        assert!(matches!(taken, Taken::Unusable(_)), "{number}: {taken:?}");
        assert!(fixture.directory.find(&name(number)).is_none(), "it is removed");
    }
    // A link to something sound is not followed.
    fs::rename(path(7), fixture.wal.path().join("moved")).unwrap();
    let content = Content::of(&segment(&name(7), 7));
    let link = fixture.directory.place(&name(7), &content);
    std::os::unix::fs::symlink(fixture.wal.path().join("moved"), link).unwrap();
    assert!(matches!(fixture.take(7).await, Taken::Unusable(_)));
    assert_eq!(fixture.take(8).await, Fixture::served());
    // Another cluster's, however it came there.
    let destination = fixture.wal.path().join("x");
    let taken = fixture.directory.take(&name(9), &destination, Some(SystemIdentifier(5)), None);
    assert!(matches!(taken, Taken::Unusable(_)), "{taken:?}");
    helper.dismiss().await;
}

#[tokio::test]
async fn segments_of_another_archive_are_not_used_and_its_helper_leaves() {
    let fixture = Fixture::new();
    fixture.archive(1..=4).await;
    fixture.note(1, 3);
    let helper = fixture.help();
    fixture.wait_for(2..=4).await;
    let other = PrefetchDirectory::new(fixture.wal.path(), "s3://b/other");
    let destination = fixture.wal.path().join("x");
    assert_eq!(other.position(), None);
    assert!(matches!(other.take(&name(2), &destination, None, None), Taken::Unusable(_)));
    other.note(&fixture.directory.position().unwrap()).unwrap();
    helper.task.await.unwrap().unwrap();
    assert_eq!(fs::read_dir(fixture.wal.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_second_helper_leaves_and_a_new_one_clears_up_after_a_killed_one() {
    let fixture = Fixture::new();
    fixture.archive(1..=9).await;
    fixture.note(1, 2);
    let helper = fixture.help();
    fixture.wait_for(2..=3).await;
    fixture.help().task.await.unwrap().unwrap();
    fixture.directory.remove_leftovers();
    assert_eq!(fixture.whole().len(), 2, "nothing takes them from a helper that lives");
    // Killed: nothing is cleaned up.
    helper.task.abort();
    assert!(helper.task.await.unwrap_err().is_cancelled());
    assert!(!fixture.directory.has_helper());
    fs::write(fixture.directory.running(&name(7)), "").unwrap();
    fs::write(fixture.directory.part(&name(7)), "half").unwrap();
    assert_eq!(fixture.take(7).await, Taken::Absent);
    fixture.note(2, 2);
    let helper = fixture.help();
    fixture.wait_for(3..=4).await;
    assert!(!fixture.directory.running(&name(7)).exists());
    assert!(!fixture.directory.part(&name(7)).exists());
    assert_eq!(fixture.store.calls(Operation::Get), 3, "3 was there still");
    helper.task.abort();
    assert!(helper.task.await.unwrap_err().is_cancelled());
    fixture.directory.remove_leftovers();
    assert_eq!(fs::read_dir(fixture.wal.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_damaged_object_is_left_to_the_server_to_ask_for() {
    let fixture = Fixture::new();
    fixture.archive([1, 2, 4, 5]).await;
    let key = layout::wal_file(&name(3), Encoding::None);
    let attributes = Attributes::default();
    let _ = fixture.store.put(&key, "?".into(), PutMode::Replace, &attributes).await.unwrap();
    fixture.note(1, 1);
    let helper = fixture.help();
    fixture.wait_for(2..=2).await;
    fixture.note(2, 4);
    while fixture.store.calls(Operation::Get) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fixture.take(3).await, Taken::Absent);
    // The server got it in another way.
    fixture.note(3, 4);
    fixture.wait_for(4..=5).await;
    helper.dismiss().await;
}

#[tokio::test]
async fn a_directory_of_another_user_is_neither_used_nor_touched() {
    let fixture = Fixture::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let own = fixture.wal.path().join(OWN_DIRECTORY);
    std::os::unix::fs::symlink(elsewhere.path(), &own).unwrap();
    let position = Position {
        segment: name(1),
        segment_size: SegmentSize::DEFAULT,
        depth: 1,
        ending: KeyEnding::default(),
    };
    assert_eq!(fixture.directory.note(&position).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    fs::remove_file(&own).unwrap();

    fixture.note(1, 1);
    let mode = fs::metadata(fixture.directory.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fs::set_permissions(fixture.directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(fixture.directory.note(&position).unwrap_err().kind(), ErrorKind::Config);
    fixture.directory.remove_leftovers();
    assert!(fixture.directory.path().exists());
}

#[test]
fn a_position_that_cannot_be_read_is_none() {
    let fixture = Fixture::new();
    fixture.note(1, 8);
    let path = fixture.directory.path().join("position");
    let archive = &fixture.directory.archive;
    for text in [
        String::new(),
        archive.clone(),
        format!("{archive} 000000010000000000000001 16777216 8"),
        format!("{archive} 000000010000000000000001 16777217 8 "),
        format!("{archive} 000000010000000000000001 16777216 99999 "),
        format!("{archive} 000000010000000000000001 16777216 8 .x/y"),
        format!("{archive} ../../etc/passwd 16777216 8 "),
        format!("{archive} 00000001.history 16777216 8 "),
        "other 000000010000000000000001 16777216 8 ".to_owned(),
    ] {
        fs::write(&path, &text).unwrap();
        assert_eq!(fixture.directory.position(), None, "{text}");
    }
    fs::write(&path, format!("{archive} 000000010000000000000001 16777216 8 ")).unwrap();
    assert!(fixture.directory.position().is_some());
}
