use std::fs;

use super::*;
use crate::notice::{self, NoticeQueue};
use crate::postgres::BLOCK_SIZE;
use crate::sentinel::CorruptBlocks;

fn source(verify_before: Option<Lsn>) -> (Source, NoticeQueue) {
    let (notices, queue) = notice::channel();
    let source = Source {
        rate_limit: None,
        verify_before,
        delta: None,
        progress: Arc::default(),
        notices,
        cancel: CancellationToken::new(),
    };
    (source, queue)
}

fn entry(path: &str) -> Entry {
    Entry { path: path.to_owned(), size_bytes: 0, mode: 0o600 }
}

fn members(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    tar::Archive::new(tar)
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        })
        .collect()
}

#[test]
fn names_of_any_length_keep_their_leading_slash() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("base/{}/file", "d".repeat(150));
    fs::create_dir_all(dir.path().join(&long).parent().unwrap()).unwrap();
    fs::write(dir.path().join(&long), b"long").unwrap();
    fs::write(dir.path().join("short"), b"short").unwrap();
    let (source, _queue) = source(None);
    let mut stream = TarStream::new(Vec::new());
    for path in ["short", &long] {
        assert!(stream.file(dir.path(), &entry(path), &source).unwrap().is_some());
    }
    assert_eq!(
        members(&stream.finish().unwrap()),
        [("/short".to_owned(), b"short".to_vec()), (format!("/{long}"), b"long".to_vec())]
    );
}

#[test]
fn what_an_incremental_backup_has_to_send_is_counted_before_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("grown"), [7; 900]).unwrap();
    let (mut source, _queue) = source(None);
    source.delta = Some(Arc::new(Delta::of_test(dir.path())));
    // As it was listed.
    source.progress.bytes_to_send.store(1000, Ordering::Relaxed);
    let listed = Entry { size_bytes: 600, ..entry("grown") };
    TarStream::new(Vec::new()).file(dir.path(), &listed, &source).unwrap().unwrap();
    assert_eq!(source.progress.bytes_to_send.load(Ordering::Relaxed), 1300);
    let listed = Entry { size_bytes: 1000, ..entry("grown") };
    TarStream::new(Vec::new()).file(dir.path(), &listed, &source).unwrap().unwrap();
    assert_eq!(source.progress.bytes_to_send.load(Ordering::Relaxed), 1200);
}

#[test]
fn a_vanished_file_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (source, _queue) = source(None);
    let mut stream = TarStream::new(Vec::new());
    assert_eq!(stream.file(dir.path(), &entry("gone"), &source).unwrap(), None);
    assert!(members(&stream.finish().unwrap()).is_empty());
}

/// A file of `size` bytes of `1`, for which `ClusterFile` has another size.
fn read_as(actual: usize, claimed: u64) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![1; actual]).unwrap();
    let (source, _queue) = source(None);
    let file = File::open(&path).unwrap();
    let mut reader = ClusterFile::new(&file, &path, claimed, "file", &source);
    let mut content = Vec::new();
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(reader.crc32c, crc32c::crc32c(&content));
    content
}

#[test]
fn a_file_that_grew_is_cut_and_one_that_shrank_is_padded() {
    assert_eq!(read_as(700_000, 500_000), vec![1; 500_000]);
    let mut padded = vec![1; 300_000];
    padded.resize(700_000, 0);
    assert_eq!(read_as(300_000, 700_000), padded);
    assert_eq!(read_as(0, 0), Vec::<u8>::new());
}

#[test]
fn a_corrupt_page_is_named_and_recorded_and_the_file_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("base/5")).unwrap();
    // Three pages with an LSN of 0/0 and a wrong checksum, the second unused.
    let mut content = vec![7_u8; 3 * BLOCK_SIZE];
    content[BLOCK_SIZE..2 * BLOCK_SIZE].fill(0);
    for page in [0, 2] {
        content[page * BLOCK_SIZE..page * BLOCK_SIZE + 8].fill(0);
    }
    for path in ["base/5/16384.1", "base/5/PG_VERSION"] {
        fs::write(dir.path().join(path), &content).unwrap();
    }
    let (source, queue) = source(Some(Lsn(100)));
    let mut stream = TarStream::new(Vec::new());
    let file = stream.file(dir.path(), &entry("base/5/16384.1"), &source).unwrap().unwrap();
    assert_eq!(
        file.metadata.corrupt_blocks,
        Some(CorruptBlocks { corrupt_blocks_count: 2, some_corrupt_blocks: vec![0, 2] })
    );
    let other = stream.file(dir.path(), &entry("base/5/PG_VERSION"), &source).unwrap().unwrap();
    assert_eq!(other.metadata.corrupt_blocks, None);
    assert_eq!(other.manifest.size_bytes, content.len() as u64);
    assert_eq!(other.manifest.crc32c, Some(crc32c::crc32c(&content)));
    let warnings = queue.drain();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[1].message.contains("base/5/16384.1\", block 2"), "{}", warnings[1].message);
    assert_eq!(members(&stream.finish().unwrap())[0].1, content);
}
