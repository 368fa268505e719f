use std::io::Write;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::sample::{self, CLUSTER};
use super::object::{Kept, pass};
use super::*;
use crate::codec::{Compression, Compressor, Encoding};
use crate::notice::{self, NoticeQueue};
use crate::store::faulty::{FaultyStore, Operation};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, ObjectBody, ObjectReader, PutMode};
use crate::transfer::{cancellable, download};

mod gap;

const SEGMENT: &str = "0000000100000000000000A1";

/// What is written here; others are read as well.
const ENCODINGS: [Encoding; 3] = [Encoding::Lz4, Encoding::Zstd, Encoding::None];

struct Fixture {
    dir: tempfile::TempDir,
    store: FaultyStore<MemoryStore>,
    options: FetchOptions,
    notices: NoticeQueue,
}

impl Fixture {
    fn new() -> Self {
        let store = FaultyStore::new(MemoryStore::with_page_size(2));
        let (sender, notices) = notice::channel();
        let options = FetchOptions {
            system_identifier: Some(CLUSTER),
            likely: KeyEnding::default(),
            segment_size: Some(SegmentSize::DEFAULT),
            gap_patience: Some(Duration::ZERO),
            is_final: true,
            guard: None,
            notices: sender,
            cancel: CancellationToken::new(),
        };
        Fixture { dir: tempfile::tempdir().unwrap(), store, options, notices }
    }

    async fn put(&self, key: &ObjectKey, body: Vec<u8>, checksum: Option<String>) {
        let attributes = Attributes { content_xxh128: checksum, upload_id: None };
        let put = self.store.put(key, body.into(), PutMode::Replace, &attributes);
        let _ = put.await.unwrap();
    }

    async fn archive(&self, name: &str, encoding: Encoding, content: &[u8]) {
        let key = layout::wal_file(&name.parse().unwrap(), encoding);
        self.put(&key, compress(content, encoding), None).await;
    }

    /// The history of a timeline whose ancestors were left at these LSNs.
    async fn history(&self, timeline: u32, left: &[(u32, &str)]) {
        let lines: String = left.iter().map(|(of, lsn)| format!("{of}\t{lsn}\tx\n")).collect();
        let name = format!("{timeline:08X}.history");
        self.archive(&name, Encoding::Zstd, lines.as_bytes()).await;
    }

    async fn fetch(&self, name: &str) -> Result<Vec<u8>> {
        let destination = self.dir.path().join("restored");
        let result = fetch(&self.store, &name.parse().unwrap(), &destination, &self.options).await;
        let content = fs::read(&destination);
        let _ = fs::remove_file(&destination);
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 0, "nothing else is left");
        let fetched = result?;
        let content = content.unwrap();
        assert_eq!(fetched.bytes, content.len() as u64);
        let verified = verify(&self.store, &name.parse().unwrap(), Some(CLUSTER)).await;
        assert_eq!(verified, Ok(fetched.bytes));
        Ok(content)
    }

    fn calls(&self) -> [u64; 3] {
        [Operation::Get, Operation::List, Operation::Head].map(|op| self.store.calls(op))
    }
}

fn compress(content: &[u8], encoding: Encoding) -> Vec<u8> {
    let compression = Compression::new(encoding, None).unwrap();
    let mut writer = Compressor::new(Vec::new(), compression).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn segment(seed: u32) -> Vec<u8> {
    sample::segment(&SEGMENT.parse().unwrap(), seed)
}

#[tokio::test]
async fn files_of_every_encoding_are_found_in_one_archive() {
    let fixture = Fixture::new();
    let names =
        ["0000000100000000000000A1", "0000000100000000000000A2", "0000000100000000000000A3"];
    let content = |name: &str| sample::segment(&name.parse().unwrap(), 3);
    for (name, encoding) in names.into_iter().zip(ENCODINGS) {
        fixture.archive(name, encoding, &content(name)).await;
    }
    for (name, encoding) in names.into_iter().zip(ENCODINGS) {
        assert!(fixture.fetch(name).await.unwrap() == content(name), "{encoding}");
    }
    assert!(fixture.store.calls(Operation::List) > 0);
}

#[tokio::test]
async fn a_file_with_the_likely_ending_takes_one_request() {
    for (text, encoding) in [
        (".lz4", Encoding::Lz4),
        (".zst", Encoding::Zstd),
        ("", Encoding::None),
        (".", Encoding::None),
    ] {
        let mut fixture = Fixture::new();
        let key = ObjectKey::from_listing(&format!("wal_005/{SEGMENT}{text}")).unwrap();
        fixture.put(&key, compress(&segment(7), encoding), None).await;
        let (name, path) = (SEGMENT.parse().unwrap(), fixture.dir.path().join("x"));
        let first = fetch(&fixture.store, &name, &path, &fixture.options).await.unwrap();
        assert_eq!(first.ending.as_str(), text);
        let before = fixture.calls();
        fixture.options.likely = first.ending.clone();
        assert_eq!(fetch(&fixture.store, &name, &path, &fixture.options).await, Ok(first));
        let after = fixture.calls();
        assert_eq!([after[0] - before[0], after[1] - before[1], after[2]], [1, 0, 0], "{text}");
    }
}

#[tokio::test]
async fn what_is_not_there_takes_two_requests() {
    let fixture = Fixture::new();
    fixture.archive("0000000100000000000000A0", Encoding::Lz4, &segment(7)).await;
    let error = fixture.fetch(SEGMENT).await.unwrap_err();
    assert_eq!((error.kind(), fixture.calls()), (ErrorKind::NotFound, [1, 1, 0]));
}

#[tokio::test]
async fn files_whose_names_begin_alike_are_not_confused() {
    let fixture = Fixture::new();
    for other in [format!("{SEGMENT}.partial"), format!("{SEGMENT}.00000028.backup")] {
        for encoding in ENCODINGS {
            fixture.archive(&other, encoding, &segment(3)).await;
        }
        let error = fixture.fetch(SEGMENT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "only {other} is there");
    }
    fixture.archive(SEGMENT, Encoding::None, &segment(7)).await;
    assert!(fixture.fetch(SEGMENT).await.unwrap() == segment(7));
    assert!(fixture.fetch(&format!("{SEGMENT}.partial")).await.unwrap() == segment(3));
}

#[tokio::test]
async fn an_uncompressed_name_may_end_with_a_dot_as_wal_g_wrote_it() {
    let fixture = Fixture::new();
    let key = ObjectKey::from_listing(&format!("wal_005/{SEGMENT}.")).unwrap();
    fixture.put(&key, segment(7), None).await;
    assert!(fixture.fetch(SEGMENT).await.unwrap() == segment(7));
}

#[tokio::test]
async fn an_encoding_that_cannot_be_read_is_not_taken_for_the_end_of_the_wal() {
    let fixture = Fixture::new();
    for extension in ["gpg", "lz4.gpg", "lzo.gpg"] {
        let key = ObjectKey::from_listing(&format!("wal_005/{SEGMENT}.{extension}")).unwrap();
        fixture.put(&key, b"?".to_vec(), None).await;
        let error = fixture.fetch(SEGMENT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(key.as_str()) && error.hint().is_some(), "{error}");
        fixture.store.clone().delete(&key).await.unwrap();
    }
    // Beside one that can be read it does not matter.
    let key = ObjectKey::from_listing(&format!("wal_005/{SEGMENT}.gpg")).unwrap();
    fixture.put(&key, b"?".to_vec(), None).await;
    fixture.archive(SEGMENT, Encoding::Zstd, &segment(7)).await;
    assert!(fixture.fetch(SEGMENT).await.unwrap() == segment(7));
}

#[tokio::test]
async fn what_is_not_there_is_told_from_an_archive_without_wal() {
    let fixture = Fixture::new();
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::Config);
    fixture.archive("0000000100000000000000A0", Encoding::Zstd, &segment(7)).await;
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_damaged_object_of_any_encoding_never_becomes_a_file() {
    let whole = segment(7);
    let checksum = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&whole));
    for encoding in ENCODINGS {
        let fixture = Fixture::new();
        let key = layout::wal_file(&SEGMENT.parse().unwrap(), encoding);
        let stored = compress(&whole, encoding);
        let mut flipped = stored.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for damaged in
            [stored[..middle].to_vec(), stored[..stored.len() - 1].to_vec(), flipped, Vec::new()]
        {
            fixture.put(&key, damaged, Some(checksum.clone())).await;
            let error = fixture.fetch(SEGMENT).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{encoding}");
            assert!(error.message().contains(key.as_str()), "{error}");
        }
        fixture.put(&key, stored, Some(checksum.clone())).await;
        assert!(fixture.fetch(SEGMENT).await.unwrap() == whole);
    }
}

#[tokio::test]
async fn a_damaged_object_is_replaced_by_the_file_in_another_encoding() {
    for (damaged, sound) in [(Encoding::Lz4, Encoding::Zstd), (Encoding::Zstd, Encoding::Lz4)] {
        let mut fixture = Fixture::new();
        fixture.options.likely = KeyEnding::new(&damaged.file_name("")).unwrap();
        let name = SEGMENT.parse().unwrap();
        fixture.put(&layout::wal_file(&name, damaged), b"?".to_vec(), None).await;
        fixture.archive(SEGMENT, sound, &segment(7)).await;
        assert!(fixture.fetch(SEGMENT).await.unwrap() == segment(7));
        let notice = fixture.notices.drain().remove(0);
        for encoding in [damaged, sound] {
            let key = layout::wal_file(&name, encoding);
            assert!(notice.message.contains(&format!("{key}\"")), "{}", notice.message);
        }
        // When both are, the error is about the first one's damage.
        fixture.put(&layout::wal_file(&name, sound), b"?".to_vec(), None).await;
        let error = fixture.fetch(SEGMENT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(layout::wal_file(&name, damaged).as_str()), "{error}");
    }
}

#[tokio::test]
async fn a_segment_of_another_place_or_cluster_never_becomes_a_file() {
    let mut fixture = Fixture::new();
    let other = sample::segment(&"0000000100000000000000A2".parse().unwrap(), 3);
    fixture.archive(SEGMENT, Encoding::Lz4, &other).await;
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::Corrupt);

    fixture.archive(SEGMENT, Encoding::Lz4, &segment(3)).await;
    fixture.options.system_identifier = Some(SystemIdentifier(5));
    let error = fixture.fetch(SEGMENT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(SEGMENT), "{error}");
    let name = SEGMENT.parse().unwrap();
    let verified = verify(&fixture.store, &name, fixture.options.system_identifier).await;
    assert_eq!(verified.unwrap_err().kind(), ErrorKind::Conflict);
    fixture.options.system_identifier = None;
    fixture.fetch(SEGMENT).await.unwrap();
}

/// A body that never goes on.
struct Stuck;

#[async_trait]
impl ObjectBody for Stuck {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_cancelled_fetch_comes_back_and_leaves_nothing() {
    let cancel = CancellationToken::new();
    let mut fixture = Fixture::new();
    fixture.archive(SEGMENT, Encoding::None, &segment(7)).await;
    let key = layout::wal_file(&SEGMENT.parse().unwrap(), Encoding::None);
    let info = fixture.store.head(&key).await.unwrap().unwrap();
    let stuck = ObjectReader { info, body: Box::new(Stuck) };
    let stored = download(cancellable(stuck, cancel.clone()));
    let object = ArchivedObject::made_up(stored, Encoding::None);
    let path = fixture.dir.path().join("x");
    let (created, seen) = (path.clone(), path.clone());
    let passing = blocking("a test", move || {
        let mut file = Some(Temporary::create(created)?);
        pass(object, file.as_mut(), &mut Kept::default()).map(drop)
    });
    let cancelling = async {
        while !seen.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cancel.cancel();
    };
    let (passed, ()) = tokio::join!(passing, cancelling);
    assert_eq!(passed.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!path.exists());

    fixture.options.cancel = cancel;
    assert_eq!(fixture.fetch(SEGMENT).await.unwrap_err().kind(), ErrorKind::Cancelled);
}
