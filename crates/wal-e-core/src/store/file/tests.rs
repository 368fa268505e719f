use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::store::{conformance, list_all};

fn store() -> (tempfile::TempDir, FileStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::new(directory.path()).unwrap();
    (directory, store)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(name).unwrap()
}

/// Every file below `directory`, temporary ones included.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = walkdir::WalkDir::new(directory)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(directory).unwrap().to_owned())
        .collect();
    files.sort();
    files
}

async fn put(store: &FileStore, name: &str, mode: PutMode) -> Result<PutOutcome> {
    store.put(&key(name), Bytes::from_static(b"content"), mode, &Attributes::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let (directory, store) = store();
    conformance::run_all(Arc::new(store)).await;
    let left: Vec<_> = files(directory.path())
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(temporary::NAME_PREFIX))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_when_uploads_are_limited() {
    let (directory, store) = store();
    let limit = Arc::new(RateLimit::fixed(200_000_000));
    conformance::run_all(Arc::new(store.limited_to(Some(limit)))).await;
    let left = files(directory.path());
    let is_temporary = |path: &&PathBuf| path.to_string_lossy().contains(temporary::NAME_PREFIX);
    assert_eq!(left.iter().find(is_temporary), None);
}

#[tokio::test]
async fn a_file_is_written_no_faster_than_the_limit_and_none_is_left_when_it_is_given_up() {
    let (directory, store) = store();
    let store = store.limited_to(Some(Arc::new(RateLimit::fixed(100_000))));
    let content = Bytes::from(vec![7; 50_000]);
    let begin = std::time::Instant::now();
    let put = |name| {
        let (key, content, store) = (key(name), content.clone(), &store);
        async move { store.put(&key, content, PutMode::CreateOnly, &Attributes::default()).await }
    };
    assert_eq!(put("a").await.unwrap(), PutOutcome::Stored);
    assert!(begin.elapsed() > Duration::from_millis(350), "{:?}", begin.elapsed());
    assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), content);
    tokio::time::timeout(Duration::from_millis(100), put("b")).await.expect_err("it takes longer");
    assert_eq!(store.head(&key("b")).await.unwrap(), None);
    // What is there is not written again.
    assert_eq!(put("a").await.unwrap(), PutOutcome::AlreadyExists);
}

#[tokio::test]
async fn keeps_the_contract_in_small_pages() {
    let (_directory, store) = store();
    conformance::run_all(Arc::new(FileStore { page_size: 2, ..store })).await;
}

#[tokio::test]
async fn a_name_that_a_repeated_request_gave_already_is_that_of_our_own_object() {
    let (directory, store) = store();
    for (mode, repeated) in [(PutMode::CreateOnly, link as Naming), (PutMode::Replace, rename)] {
        let key = key(&format!("repeated/{mode:?}"));
        let temporary = store.root.create_temporary(&key).unwrap();
        store.root.write(&temporary, &key, 0, b"content").unwrap();
        let written = directory.path().join(files(directory.path()).remove(0));
        repeated(&written, &store.root.file(&key)).unwrap();
        let outcome = store.root.publish(&temporary, &key, mode).unwrap();
        assert_eq!(outcome, PutOutcome::Stored, "{mode:?}");
        drop(temporary);
        assert_eq!(files(directory.path()), [Path::new(key.as_str())]);
        std::fs::remove_file(store.root.file(&key)).unwrap();
    }
}

type Naming = fn(&Path, &Path) -> io::Result<()>;

fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[tokio::test]
async fn the_root_is_never_created() {
    let (directory, store) = store();
    let missing = directory.path().join("missing");
    let error = FileStore::new(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("missing\" does not exist"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("Create the directory")));
    assert!(!missing.exists());

    // Nor when it goes away later.
    let root = directory.path().to_owned();
    drop(directory);
    for mode in [PutMode::CreateOnly, PutMode::Replace] {
        assert_eq!(put(&store, "a/b", mode).await.unwrap_err().kind(), ErrorKind::Config);
    }
    let begun = store.begin_multipart(&key("a"), PutMode::Replace, &Attributes::default()).await;
    assert_eq!(begun.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(store.head(&key("a")).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(store.get(&key("a"), 0, None).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(store.delete(&key("a")).await.unwrap_err().kind(), ErrorKind::Config);
    let listed = store.list(&ListRequest::default(), None).await;
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Config);
    assert!(!root.exists());
}

#[tokio::test]
async fn a_file_is_no_root() {
    let (directory, store) = store();
    assert_eq!(put(&store, "a", PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    let error = FileStore::new(&directory.path().join("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn only_the_owner_can_read() {
    let (directory, store) = store();
    assert_eq!(put(&store, "a/b/c", PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    for (name, mode) in [("a", 0o700), ("a/b", 0o700), ("a/b/c", 0o600)] {
        let metadata = std::fs::metadata(directory.path().join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn refusals_name_the_object_and_the_path() {
    let (directory, store) = store();
    let denied = io::Error::from_raw_os_error(13);
    let path = directory.path().join("a");
    let error = store.root.refused("put", &key("a/b"), &path, &denied);
    assert_eq!(error.kind(), ErrorKind::Denied);
    let url = format!("file://{}/a/b", directory.path().display());
    assert_eq!(error.message(), format!("could not put object \"{url}\": Permission denied"));
    assert!(error.detail().unwrap().contains(path.to_str().unwrap()));
    assert!(error.hint().unwrap().contains(directory.path().to_str().unwrap()));

    let full = io::Error::from_raw_os_error(28);
    let error = store.root.refused("put", &key("a/b"), &path, &full);
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_dropped_upload_leaves_no_file() {
    let (directory, store) = store();
    let attributes = Attributes::default();
    let upload = store.begin_multipart(&key("x"), PutMode::CreateOnly, &attributes).await.unwrap();
    upload.put_part(1, 0, Bytes::from_static(b"part")).await.unwrap();
    assert_eq!(files(directory.path()).len(), 1);
    drop(upload);
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_failed_upload_leaves_no_file() {
    let (directory, store) = store();
    // A directory stands where the object should be.
    assert_eq!(put(&store, "a/b", PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(put(&store, "a", PutMode::Replace).await.unwrap_err().kind(), ErrorKind::Io);
    // And a file where a directory should be.
    assert_eq!(put(&store, "a/b/c", PutMode::Replace).await.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(files(directory.path()), [PathBuf::from("a/b")]);
}

#[tokio::test]
async fn parts_with_a_gap_are_refused() {
    let (directory, store) = store();
    let attributes = Attributes::default();
    let upload = store.begin_multipart(&key("x"), PutMode::CreateOnly, &attributes).await.unwrap();
    upload.put_part(1, 0, Bytes::from_static(b"abc")).await.unwrap();
    upload.put_part(3, 4, Bytes::from_static(b"def")).await.unwrap();
    assert_eq!(upload.complete().await.unwrap_err().kind(), ErrorKind::Bug);
    upload.abort().await.unwrap();
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_a_killed_upload_left_is_removed_in_time() {
    let (directory, store) = store();
    let leave = |name: &str, age: std::time::Duration| {
        let path = directory.path().join(name);
        let file = File::create(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
    };
    let (hour, two_days) = (3600, 2 * 24 * 3600);
    leave(".wal-e-tmp-1-old", std::time::Duration::from_secs(two_days));
    leave(".wal-e-tmp-2-new", std::time::Duration::from_secs(hour));
    leave("object", std::time::Duration::from_secs(two_days));
    assert_eq!(put(&store, "a", PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(files(directory.path()), [".wal-e-tmp-2-new", "a", "object"].map(PathBuf::from));
    let listed = list_all(&store, &ListRequest::default()).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|info| info.key.as_str()).collect();
    assert_eq!(listed, ["a", "object"]);
}

#[tokio::test]
async fn a_listing_follows_links_and_stays_inside() {
    let (directory, store) = store();
    let (_other_directory, other) = self::store();
    assert_eq!(put(&other, "1/x", PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    std::os::unix::fs::symlink(&other.root.path, directory.path().join("linked")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("dangling")).unwrap();
    std::fs::create_dir(directory.path().join("lost+found")).unwrap();
    std::fs::write(directory.path().join("lost+found/inode"), b"x").unwrap();
    let names = async |prefix: &str| -> Vec<String> {
        let request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        let listed = list_all(&store, &request).await.unwrap();
        listed.iter().map(|info| info.key.to_string()).collect()
    };
    assert_eq!(names("").await, ["linked/1/x"]);
    for outside in ["../", "/", "/etc/", "linked/../", "linked//"] {
        assert_eq!(names(outside).await, Vec::<String>::new(), "{outside}");
    }
}

#[tokio::test]
async fn an_object_that_shrinks_under_the_reader_is_an_error() {
    let (directory, store) = store();
    assert_eq!(put(&store, "a", PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    let mut reader = store.get(&key("a"), 0, None).await.unwrap();
    File::options().write(true).open(directory.path().join("a")).unwrap().set_len(3).unwrap();
    assert_eq!(reader.body.next_chunk().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_store_says_how_objects_get_their_names() {
    let (directory, store) = store();
    assert!(store.create_only_is_atomic().await.unwrap());
    let [ability] = store.abilities().await.unwrap().try_into().unwrap();
    assert_eq!((ability.ok, ability.hint), (Some(true), None));
    assert!(ability.detail.ends_with("hard links"), "{}", ability.detail);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");

    store.root.naming.set(naming::Naming::LookFirst);
    assert!(!store.create_only_is_atomic().await.unwrap());
    for (expected, content) in [(PutOutcome::Stored, "a"), (PutOutcome::AlreadyExists, "b")] {
        let attributes = Attributes::default();
        let object = key("a/b");
        let put = store.put(&object, content.into(), PutMode::CreateOnly, &attributes);
        assert_eq!(put.await.unwrap(), expected);
    }
    assert_eq!(std::fs::read(directory.path().join("a/b")).unwrap(), b"a");
    let [ability] = store.abilities().await.unwrap().try_into().unwrap();
    assert_eq!(ability.ok, Some(false));
    assert!(ability.hint.is_some());
}
