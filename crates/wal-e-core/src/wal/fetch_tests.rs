use std::io::Write;

use super::*;
use crate::codec::{Compression, Compressor};
use crate::layout::ObjectKey;
use crate::store::faulty::{FaultyStore, Operation};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, PutMode};

const SEGMENT: &str = "0000000100000000000000A1";

struct Fixture {
    dir: tempfile::TempDir,
    store: FaultyStore<MemoryStore>,
}

impl Fixture {
    fn new() -> Self {
        let store = FaultyStore::new(MemoryStore::with_page_size(2));
        Fixture { dir: tempfile::tempdir().unwrap(), store }
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

    async fn fetch(&self, name: &str) -> Result<Vec<u8>> {
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        let destination = self.dir.path().join("restored");
        let result = fetch(store, &name.parse().unwrap(), &destination).await;
        let content = fs::read(&destination);
        let _ = fs::remove_file(&destination);
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 0, "nothing else is left");
        let bytes = result?;
        let content = content.unwrap();
        assert_eq!(bytes, content.len() as u64);
        Ok(content)
    }
}

fn compress(content: &[u8], encoding: Encoding) -> Vec<u8> {
    let compression = Compression::new(encoding, None).unwrap();
    let mut writer = Compressor::new(Vec::new(), compression).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn segment(seed: u32) -> Vec<u8> {
    (0..1_u32 << 20).map(|n| (n.wrapping_mul(seed) >> 11) as u8).collect()
}

#[tokio::test]
async fn files_of_every_encoding_are_found_in_one_archive() {
    let fixture = Fixture::new();
    let names =
        ["0000000100000000000000A1", "0000000100000000000000A2", "0000000100000000000000A3"];
    for (name, encoding) in names.into_iter().zip(Encoding::WRITABLE) {
        fixture.archive(name, encoding, &segment(encoding as u32 + 3)).await;
    }
    for (name, encoding) in names.into_iter().zip(Encoding::WRITABLE) {
        let content = fixture.fetch(name).await.unwrap();
        assert!(content == segment(encoding as u32 + 3), "{encoding}");
    }
    assert!(fixture.store.calls(Operation::List) > 0);
}

#[tokio::test]
async fn a_file_as_lz4_takes_one_request() {
    let fixture = Fixture::new();
    fixture.archive(SEGMENT, Encoding::Lz4, &segment(7)).await;
    fixture.fetch(SEGMENT).await.unwrap();
    let calls =
        [Operation::Get, Operation::List, Operation::Head].map(|op| fixture.store.calls(op));
    assert_eq!(calls, [1, 0, 0]);
}

#[tokio::test]
async fn files_whose_names_begin_alike_are_not_confused() {
    let fixture = Fixture::new();
    for other in [format!("{SEGMENT}.partial"), format!("{SEGMENT}.00000028.backup")] {
        for encoding in Encoding::WRITABLE {
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
    let key = ObjectKey::from_listing(&format!("wal_005/{SEGMENT}.br")).unwrap();
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
    for encoding in Encoding::WRITABLE {
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
