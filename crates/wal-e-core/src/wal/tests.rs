use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::sample::{self, CLUSTER};
use super::{FetchOptions, PushOptions, PushOutcome, Pushed, Pusher};
use crate::codec::{Compression, Encoding};
use crate::error::{ErrorKind, Result};
use crate::layout;
use crate::notice;
use crate::postgres::{SystemIdentifier, WalFileName};
use crate::store::faulty::{Fault, FaultyStore, Operation, When};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ObjectStore, PutMode};

const NO_ATTRIBUTES: Attributes = Attributes { content_xxh128: None, upload_id: None };
const SEGMENT: &str = "0000000100000000000000A1";

struct Fixture {
    dir: tempfile::TempDir,
    store: FaultyStore<MemoryStore>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Fixture { dir, store: FaultyStore::new(MemoryStore::new()) }
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The segment [`SEGMENT`], whose bytes depend on `seed`.
    fn segment(&self, seed: u32) -> PathBuf {
        let path = self.path(&format!("segment_{seed}"));
        fs::write(&path, sample::segment(&name(SEGMENT), seed)).unwrap();
        path
    }
}

fn options() -> PushOptions {
    PushOptions {
        compression: Compression::default(),
        other_encodings: Vec::new(),
        system_identifier: Some(CLUSTER),
        look_first: false,
        uploads: 1,
        compressors: 1,
        upload_note: None,
        maps: None,
    }
}

/// The size of the file that was fetched.
async fn fetch(store: Arc<dyn ObjectStore>, name: &WalFileName, destination: &Path) -> Result<u64> {
    let options = FetchOptions { is_final: true, ..FetchOptions::only_checks(Some(CLUSTER)) };
    Ok(super::fetch(&*store, name, destination, &options).await?.bytes)
}

async fn push_with(
    store: Arc<dyn ObjectStore>,
    options: PushOptions,
    name: &WalFileName,
    path: &Path,
) -> Result<Pushed> {
    let (notices, _) = notice::channel();
    let cancel = CancellationToken::new();
    Pusher::new(store, options, HashSet::new(), cancel, notices).push(name, path).await
}

async fn push(store: Arc<dyn ObjectStore>, name: &WalFileName, path: &Path) -> Result<Pushed> {
    push_with(store, options(), name, path).await
}

fn name(text: &str) -> WalFileName {
    text.parse().unwrap()
}

#[tokio::test]
async fn files_of_every_kind_come_back_as_they_were() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let small = fixture.path("small");
    fs::write(&small, "1\t0/3000000\tno recovery target specified\n").unwrap();
    for (file, path) in [
        (SEGMENT.to_owned(), &segment),
        (format!("{SEGMENT}.partial"), &segment),
        (format!("{SEGMENT}.00000028.backup"), &small),
        ("00000002.history".to_owned(), &small),
    ] {
        let pushed = push(fixture.store(), &name(&file), path).await.unwrap();
        assert_eq!(pushed.outcome, PushOutcome::Stored, "{file}");
        let restored = fixture.path("restored");
        let bytes = fetch(fixture.store(), &name(&file), &restored).await.unwrap();
        assert_eq!(fs::read(&restored).unwrap(), fs::read(path).unwrap(), "{file}");
        assert_eq!((bytes, pushed.bytes_read), (fs::metadata(path).unwrap().len(), bytes));
    }
    let left: Vec<_> = fs::read_dir(fixture.dir.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "no temporary file is left");
}

#[tokio::test]
async fn push_of_identical_segment_succeeds_again_without_reading_the_object() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let _ = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap();
    let again = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap();
    assert_eq!(again.outcome, PushOutcome::AlreadyThere);
    assert_eq!(fixture.store.calls(Operation::Get), 0);
}

#[tokio::test]
async fn an_identical_segment_without_a_kept_checksum_is_compared_by_content() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let _ = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap();
    // As a store without attributes, or another program, would have it.
    let key = layout::wal_file(&name(SEGMENT), Encoding::Lz4);
    let store = fixture.store();
    let body = store.get(&key, 0, None).await.unwrap().into_bytes(1 << 30).await.unwrap();
    let _ = store.put(&key, body, PutMode::Replace, &NO_ATTRIBUTES).await.unwrap();
    let again = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap();
    assert_eq!(again.outcome, PushOutcome::AlreadyThere);
}

#[tokio::test]
async fn a_different_segment_is_refused_with_both_checksums_and_changes_nothing() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.segment(7), fixture.segment(8));
    let _ = push(fixture.store(), &name(SEGMENT), &first).await.unwrap();
    let error = push(fixture.store(), &name(SEGMENT), &second).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(SEGMENT));
    let sums = error.detail().unwrap().split(|c: char| !c.is_ascii_hexdigit());
    assert_eq!(sums.filter(|word| word.len() == 64).count(), 2, "{:?}", error.detail());
    let restored = fixture.path("restored");
    fetch(fixture.store(), &name(SEGMENT), &restored).await.unwrap();
    assert_eq!(fs::read(restored).unwrap(), fs::read(first).unwrap());
}

#[tokio::test]
async fn a_damaged_object_under_the_name_is_told_and_left() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let key = layout::wal_file(&name(SEGMENT), Encoding::Lz4);
    let store = fixture.store();
    let put = store.put(&key, "not lz4".into(), PutMode::Replace, &NO_ATTRIBUTES);
    let _ = put.await.unwrap();
    let error = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(key.as_str()) && error.hint().is_some());
}

#[tokio::test]
async fn a_file_that_is_no_segment_is_not_archived_as_one() {
    let fixture = Fixture::new();
    for (length, file) in
        [(0, SEGMENT), (1000, SEGMENT), (3 << 20, SEGMENT), (0, "00000002.history")]
    {
        let path = fixture.path("file");
        fs::write(&path, vec![0; length]).unwrap();
        let error = push(fixture.store(), &name(file), &path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} bytes as {file}");
    }
    assert_eq!(fixture.store.calls(Operation::Put), 0);
    let error = push(fixture.store(), &name(SEGMENT), &fixture.path("gone")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn a_segment_of_another_place_or_cluster_is_refused() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let next = name("0000000100000000000000A2");
    let error = push(fixture.store(), &next, &segment).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(next.as_str()) && error.detail().is_some());

    let other = SystemIdentifier(CLUSTER.0 + 1);
    let foreign = PushOptions { system_identifier: Some(other), ..options() };
    let pushed = push_with(fixture.store(), foreign, &name(SEGMENT), &segment).await;
    let detail = pushed.unwrap_err().detail().unwrap().to_owned();
    assert!(detail.contains(&CLUSTER.to_string()) && detail.contains(&other.to_string()));
    assert_eq!(fixture.store.calls(Operation::Put), 0);
}

#[tokio::test]
async fn an_empty_backup_history_file_is_archived_as_it_is() {
    let fixture = Fixture::new();
    let path = fixture.path("empty");
    fs::write(&path, "").unwrap();
    let history = name(&format!("{SEGMENT}.00000028.backup"));
    assert_eq!(push(fixture.store(), &history, &path).await.unwrap().bytes_read, 0);
    assert_eq!(fetch(fixture.store(), &history, &fixture.path("restored")).await.unwrap(), 0);
}

#[tokio::test]
async fn a_large_segment_goes_in_parts_and_comes_back() {
    let fixture = Fixture::new();
    let (path, size) = (fixture.path("large"), 64 << 20);
    let mut content = sample::segment(&name(SEGMENT), 7);
    content.resize(size, 0);
    // Bytes that do not compress, so that there are several parts.
    fastrand::Rng::with_seed(1).fill(&mut content[1 << 20..40 << 20]);
    // The third segment of 64 MB.
    content[8..16].copy_from_slice(&(2 * size as u64).to_ne_bytes());
    content[32..36].copy_from_slice(&(size as u32).to_ne_bytes());
    fs::write(&path, &content).unwrap();
    let large = name("000000010000000000000002");
    for outcome in [PushOutcome::Stored, PushOutcome::AlreadyThere] {
        assert_eq!(push(fixture.store(), &large, &path).await.unwrap().outcome, outcome);
    }
    assert!(fixture.store.calls(Operation::PutPart) >= 5);
    let restored = fixture.path("restored");
    fetch(fixture.store(), &large, &restored).await.unwrap();
    assert!(fs::read(restored).unwrap() == content);
}

#[tokio::test]
async fn an_archive_that_has_the_file_in_another_encoding_gets_no_second_one() {
    let fixture = Fixture::new();
    let (segment, different) = (fixture.segment(7), fixture.segment(8));
    let zstd = Compression::new(Encoding::Zstd, None).unwrap();
    let first = PushOptions { compression: zstd, ..options() };
    let _ = push_with(fixture.store(), first, &name(SEGMENT), &segment).await.unwrap();
    let also = PushOptions { other_encodings: vec![Encoding::Zstd], ..options() };
    let again = push_with(fixture.store(), also.clone(), &name(SEGMENT), &segment).await.unwrap();
    assert_eq!(again.outcome, PushOutcome::AlreadyThere);
    let error = push_with(fixture.store(), also, &name(SEGMENT), &different).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fixture.store.calls(Operation::Put), 1);
}

#[tokio::test]
async fn a_file_that_another_program_stored_gets_no_second_one() {
    let fixture = Fixture::new();
    let (segment, different) = (fixture.segment(7), fixture.segment(8));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut fs::File::open(&segment).unwrap(), &mut gzip).unwrap();
    let key = layout::wal_file(&name(SEGMENT), Encoding::Gzip);
    let body = gzip.finish().unwrap().into();
    let none = Attributes::default();
    let _ = fixture.store.put(&key, body, PutMode::CreateOnly, &none).await.unwrap();
    let other_encodings =
        crate::owner::register_wal_encoding(&*fixture.store(), Encoding::Lz4, Vec::new())
            .await
            .unwrap();
    let also = PushOptions { other_encodings, ..options() };
    let again = push_with(fixture.store(), also.clone(), &name(SEGMENT), &segment).await.unwrap();
    assert_eq!(again.outcome, PushOutcome::AlreadyThere);
    let error = push_with(fixture.store(), also, &name(SEGMENT), &different).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_standby_looks_before_it_sends() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let standby = PushOptions { look_first: true, ..options() };
    for outcome in [PushOutcome::Stored, PushOutcome::AlreadyThere] {
        let pushed = push_with(fixture.store(), standby.clone(), &name(SEGMENT), &segment).await;
        assert_eq!(pushed.unwrap().outcome, outcome);
    }
    assert_eq!(fixture.store.calls(Operation::Put), 1);
}

#[tokio::test]
async fn a_file_the_archive_does_not_have_is_not_found_and_leaves_nothing() {
    let fixture = Fixture::new();
    let restored = fixture.path("restored");
    let error = fetch(fixture.store(), &name(SEGMENT), &restored).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "an archive without any WAL is a wrong one");
    let _ = push(fixture.store(), &name(SEGMENT), &fixture.segment(7)).await.unwrap();
    let next = name("0000000100000000000000A2");
    let error = fetch(fixture.store(), &next, &restored).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 1, "only the segment");
}

#[tokio::test]
async fn a_damaged_object_never_becomes_a_file() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let _ = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap();
    let key = layout::wal_file(&name(SEGMENT), Encoding::Lz4);
    let store = fixture.store();
    let whole = store.get(&key, 0, None).await.unwrap().into_bytes(1 << 30).await.unwrap();
    for damaged in [whole.slice(..whole.len() / 2), whole.slice(..whole.len() - 1), "".into()] {
        let put = store.put(&key, damaged, PutMode::Replace, &NO_ATTRIBUTES);
        let _ = put.await.unwrap();
        let restored = fixture.path("restored");
        let error = fetch(fixture.store(), &name(SEGMENT), &restored).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(key.as_str()));
        assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 1, "only the segment");
    }
    // Whole, but not what was pushed.
    let attributes = Attributes { content_xxh128: Some("0".repeat(32)), upload_id: None };
    let _ = store.put(&key, whole, PutMode::Replace, &attributes).await.unwrap();
    let error =
        fetch(fixture.store(), &name(SEGMENT), &fixture.path("restored")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn an_object_whose_answer_was_lost_is_known_again() {
    let fixture = Fixture::new();
    let segment = fixture.segment(7);
    let lost = Fault::LoseAnswer(ErrorKind::Unavailable);
    let _ = fixture.store.clone().with(Operation::Put, When::Call(1), lost);
    let error = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // The server asks again later.
    let again = push(fixture.store(), &name(SEGMENT), &segment).await.unwrap();
    assert_eq!(again.outcome, PushOutcome::AlreadyThere);
}
