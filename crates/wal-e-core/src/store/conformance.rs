//! The contract that every store keeps, as functions to call from tests.
//!
//! Each function uses object names of its own, so that all of them can run on
//! one fresh prefix of a real server, and panics when the contract is broken.
//! Sizes respect S3: all parts of an upload but the last have 5 MiB.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Attributes, ListRequest, ObjectInfo, ObjectReader, ObjectStore, PutMode, PutOutcome, list_all,
};
use crate::error::{ErrorKind, Result};
use crate::layout::ObjectKey;

/// S3's smallest part that is not the last.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// Runs the whole contract.
///
/// # Panics
/// When the store breaks it.
pub async fn run_all(store: Arc<dyn ObjectStore>) {
    run_all_but_racing(Arc::clone(&store)).await;
    create_only_has_one_winner(store.as_ref()).await;
}

/// The contract of a server that does not know create-only uploads, where a
/// look before the upload has to do: it holds for one writer after the other.
///
/// # Panics
/// When the store breaks it.
pub async fn run_all_but_racing(store: Arc<dyn ObjectStore>) {
    let store = store.as_ref();
    objects_come_back_as_they_were_put(store).await;
    create_only_leaves_what_is_there(store).await;
    replace_replaces(store).await;
    head_tells_size_time_and_attributes(store).await;
    get_begins_at_an_offset(store).await;
    get_range_ends_where_it_is_told_to(store).await;
    get_refuses_an_object_that_changed(store).await;
    what_is_missing_is_not_found(store).await;
    parts_become_one_object(store).await;
    parts_arrive_in_any_order(store).await;
    one_part_is_enough(store).await;
    multipart_create_only_leaves_what_is_there(store).await;
    multipart_replace_replaces(store).await;
    an_upload_is_invisible_until_it_is_complete(store).await;
    an_aborted_upload_leaves_nothing(store).await;
    uploads_of_a_killed_process_can_be_ended(store).await;
    one_upload_can_be_ended_by_its_number(store).await;
    listings_are_ordered_by_bytes(store).await;
    listings_honour_prefix_start_and_depth(store).await;
    listings_go_on_past_a_page(store).await;
    delete_removes(store).await;
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(&format!("conformance/{name}")).expect("a sound key")
}

/// `length` bytes that no compressor and no shifted copy would match.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into()
}

async fn put(store: &dyn ObjectStore, key: &ObjectKey, body: Bytes, mode: PutMode) -> PutOutcome {
    store
        .put(key, body, mode, &Attributes::default())
        .await
        .unwrap_or_else(|error| panic!("put of {key}: {error:?}"))
}

async fn read_rest(mut reader: ObjectReader) -> Result<Bytes> {
    let mut content = BytesMut::new();
    while let Some(chunk) = reader.body.next_chunk().await? {
        assert!(!chunk.is_empty(), "an empty chunk before the end");
        content.extend_from_slice(&chunk);
    }
    Ok(content.freeze())
}

/// The object's content from `offset`; checks that its size is reported correctly.
async fn read(store: &dyn ObjectStore, key: &ObjectKey, offset: u64) -> Bytes {
    let reader = store
        .get(key, offset, None)
        .await
        .unwrap_or_else(|error| panic!("get of {key}: {error:?}"));
    assert_eq!(&reader.info.key, key);
    let size = reader.info.size_bytes;
    let content = read_rest(reader).await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
    assert_eq!(size, offset + content.len() as u64, "size of {key}");
    content
}

async fn head(store: &dyn ObjectStore, key: &ObjectKey) -> Option<ObjectInfo> {
    store.head(key).await.unwrap_or_else(|error| panic!("head of {key}: {error:?}"))
}

async fn names(store: &dyn ObjectStore, request: &ListRequest) -> Vec<String> {
    list_all(store, request)
        .await
        .unwrap_or_else(|error| panic!("list of {request:?}: {error:?}"))
        .into_iter()
        .map(|info| info.key.to_string())
        .collect()
}

/// An object of 0 bytes, 1 byte and several MB has the same bytes afterwards.
pub async fn objects_come_back_as_they_were_put(store: &dyn ObjectStore) {
    for length in [0, 1, 3 * 1024 * 1024 + 17] {
        let key = key(&format!("round_trip/{length}"));
        let content = noise(length, length as u64);
        assert_eq!(
            put(store, &key, content.clone(), PutMode::CreateOnly).await,
            PutOutcome::Stored
        );
        assert!(read(store, &key, 0).await == content, "{key} came back different");
    }
}

/// A second create-only upload changes nothing and says so.
pub async fn create_only_leaves_what_is_there(store: &dyn ObjectStore) {
    let key = key("create_only/object");
    let first = Bytes::from_static(b"first");
    assert_eq!(put(store, &key, first.clone(), PutMode::CreateOnly).await, PutOutcome::Stored);
    for second in [b"other".as_slice(), b"first", b""] {
        let outcome = put(store, &key, Bytes::from_static(second), PutMode::CreateOnly).await;
        assert_eq!(outcome, PutOutcome::AlreadyExists);
        assert_eq!(read(store, &key, 0).await, first);
    }
}

/// Of 16 writers at the same moment exactly one creates the object, and its
/// bytes are the ones that stay.
pub async fn create_only_has_one_winner(store: &dyn ObjectStore) {
    for round in 0..4 {
        let key = key(&format!("race/{round}"));
        let racers = (0..16_u64).map(|racer| {
            let key = key.clone();
            async move {
                let content = noise(20_000, racer);
                (put(store, &key, content.clone(), PutMode::CreateOnly).await, content)
            }
        });
        let outcomes = futures_util::future::join_all(racers).await;
        let winners: Vec<_> =
            outcomes.iter().filter(|(outcome, _)| *outcome == PutOutcome::Stored).collect();
        assert_eq!(winners.len(), 1, "winners of {key}");
        assert!(read(store, &key, 0).await == winners[0].1, "{key} is not the winner's");
    }
}

/// [`PutMode::Replace`] creates, and replaces by longer and shorter content.
pub async fn replace_replaces(store: &dyn ObjectStore) {
    let key = key("replace/object");
    for content in [b"one".as_slice(), b"a longer second", b"3"] {
        let content = Bytes::from_static(content);
        assert_eq!(put(store, &key, content.clone(), PutMode::Replace).await, PutOutcome::Stored);
        assert_eq!(read(store, &key, 0).await, content);
    }
}

/// Attributes come back all or not at all, from `head` and from `get`.
pub async fn head_tells_size_time_and_attributes(store: &dyn ObjectStore) {
    let sent = Attributes {
        content_xxh128: Some("00112233445566778899aabbccddeeff".to_owned()),
        upload_id: Some("0123456789abcdef".to_owned()),
    };
    let single = key("head/single");
    let outcome = store.put(&single, noise(1234, 1), PutMode::CreateOnly, &sent).await;
    assert_eq!(outcome.expect("put"), PutOutcome::Stored);
    let multipart = key("head/multipart");
    let upload =
        store.begin_multipart(&multipart, PutMode::CreateOnly, &sent).await.expect("begin");
    upload.put_part(1, 0, noise(1234, 2)).await.expect("part");
    assert_eq!(upload.complete().await.expect("complete"), PutOutcome::Stored);

    for key in [single, multipart] {
        let info = head(store, &key).await.expect("an object");
        assert_eq!(info.key, key);
        assert_eq!(info.size_bytes, 1234);
        let age = time::OffsetDateTime::now_utc() - info.last_modified;
        assert!(age.abs() < time::Duration::HOUR, "{key} was stored {age} ago");
        let kept = &info.attributes;
        assert_eq!(kept.content_xxh128.is_some(), kept.upload_id.is_some(), "{kept:?}");
        // A retrying store puts an upload number of its own there.
        assert!(kept.content_xxh128.is_none() || kept.content_xxh128 == sent.content_xxh128);
        let reader = store.get(&key, 0, None).await.expect("get");
        assert_eq!(reader.info.attributes, info.attributes);
        assert_eq!(reader.info.etag, info.etag);
    }
}

/// A read may begin anywhere, the end included.
pub async fn get_begins_at_an_offset(store: &dyn ObjectStore) {
    let key = key("offset/object");
    let content = noise(700_001, 3);
    assert_eq!(put(store, &key, content.clone(), PutMode::CreateOnly).await, PutOutcome::Stored);
    for offset in [0, 1, 262_144, 700_000, 700_001] {
        let rest = read(store, &key, offset as u64).await;
        assert!(rest == content.slice(offset..), "{key} from {offset}");
    }
    let past = store.get(&key, 700_002, None).await.expect_err("past the end");
    assert_eq!(past.kind(), ErrorKind::Conflict, "{past:?}");
}

/// A range has as many bytes as were asked for, or as there are.
pub async fn get_range_ends_where_it_is_told_to(store: &dyn ObjectStore) {
    let key = key("range/object");
    let content = noise(700_001, 10);
    assert_eq!(put(store, &key, content.clone(), PutMode::CreateOnly).await, PutOutcome::Stored);
    for (offset, length) in [
        (0_usize, 1_usize),
        (0, 700_000),
        (0, 700_001),
        (0, 700_002),
        (0, usize::MAX),
        (1, 300_000),
        (262_144, 262_144),
        (700_000, 1),
        (700_000, 5),
        (700_001, 1),
        (5, 0),
    ] {
        let range = store.get_range(&key, offset as u64, Some(length as u64), None).await;
        let range = range.unwrap_or_else(|error| panic!("range of {key}: {error:?}"));
        assert_eq!(range.info.size_bytes, content.len() as u64, "the size is that of the object");
        let read = read_rest(range).await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
        let end = content.len().min(offset.saturating_add(length));
        assert!(read == content.slice(offset..end), "{length} bytes of {key} from {offset}");
    }
    let past = store.get_range(&key, 700_002, Some(1), None).await.expect_err("past the end");
    assert_eq!(past.kind(), ErrorKind::Conflict, "{past:?}");
    let empty = self::key("range/empty");
    assert_eq!(put(store, &empty, Bytes::new(), PutMode::CreateOnly).await, PutOutcome::Stored);
    let range = store.get_range(&empty, 0, Some(10), None).await.expect("an empty object");
    assert!(read_rest(range).await.expect("content").is_empty());
}

/// With the etag of an object that was replaced, a read is refused.
pub async fn get_refuses_an_object_that_changed(store: &dyn ObjectStore) {
    let key = key("if_match/object");
    let outcome = put(store, &key, Bytes::from_static(b"before"), PutMode::CreateOnly).await;
    assert_eq!(outcome, PutOutcome::Stored);
    let Some(etag) = head(store, &key).await.expect("an object").etag else { return };
    let reader = store.get(&key, 2, Some(&etag)).await.expect("the same object");
    assert_eq!(read_rest(reader).await.expect("content"), Bytes::from_static(b"fore"));
    let outcome = put(store, &key, Bytes::from_static(b"after!"), PutMode::Replace).await;
    assert_eq!(outcome, PutOutcome::Stored);
    let error = store.get(&key, 2, Some(&etag)).await.expect_err("another object");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
}

/// No object: `get` is an error that names it, `head` is not.
pub async fn what_is_missing_is_not_found(store: &dyn ObjectStore) {
    for name in ["missing/object", "missing/a/deeper/object"] {
        let key = key(name);
        let error = store.get(&key, 0, None).await.expect_err("nothing there");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.message().contains(&store.url(key.as_str())), "{error:?}");
        assert_eq!(head(store, &key).await, None);
    }
    // The "directory" of an object is not an object.
    let outcome = put(store, &key("missing/dir/object"), Bytes::new(), PutMode::Replace).await;
    assert_eq!(outcome, PutOutcome::Stored);
    let directory = key("missing/dir");
    assert_eq!(head(store, &directory).await, None);
    let error = store.get(&directory, 0, None).await.expect_err("nothing there");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

/// Uploads `content` in parts, in the order of `numbers`; does not complete.
async fn upload_parts(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    mode: PutMode,
    content: &Bytes,
    numbers: &[usize],
) -> Box<dyn super::MultipartUpload> {
    let upload =
        store.begin_multipart(key, mode, &Attributes::default()).await.expect("begin_multipart");
    stream::iter(numbers.to_vec())
        .map(|number| {
            let offset = (number - 1) * PART_BYTES;
            let part = content.slice(offset..content.len().min(offset + PART_BYTES));
            upload.put_part(number as u32, offset as u64, part)
        })
        .buffered(2)
        .try_collect::<()>()
        .await
        .unwrap_or_else(|error| panic!("part of {key}: {error:?}"));
    upload
}

/// Several parts, the last one shorter.
pub async fn parts_become_one_object(store: &dyn ObjectStore) {
    let key = key("multipart/three");
    let content = noise(2 * PART_BYTES + 12_345, 4);
    let upload = upload_parts(store, &key, PutMode::CreateOnly, &content, &[1, 2, 3]).await;
    assert_eq!(upload.complete().await.expect("complete"), PutOutcome::Stored);
    assert!(read(store, &key, 0).await == content, "{key} came back different");
    let offset = PART_BYTES as u64 - 1;
    assert!(read(store, &key, offset).await == content.slice(PART_BYTES - 1..));
}

/// The numbers decide, not the order of arrival; a part sent again counts once.
pub async fn parts_arrive_in_any_order(store: &dyn ObjectStore) {
    let key = key("multipart/reversed");
    let content = noise(2 * PART_BYTES + 1, 5);
    let upload = upload_parts(store, &key, PutMode::CreateOnly, &content, &[3, 1, 2, 1]).await;
    assert_eq!(upload.complete().await.expect("complete"), PutOutcome::Stored);
    assert!(read(store, &key, 0).await == content, "{key} came back different");
}

/// A single part may have any size, none included.
pub async fn one_part_is_enough(store: &dyn ObjectStore) {
    for length in [0, 1, 1000] {
        let key = key(&format!("multipart/one_of_{length}"));
        let content = noise(length, 6);
        let upload = upload_parts(store, &key, PutMode::CreateOnly, &content, &[1]).await;
        assert_eq!(upload.complete().await.expect("complete"), PutOutcome::Stored);
        assert_eq!(read(store, &key, 0).await, content);
    }
}

/// Create-only holds at the completion, whenever the other object came.
pub async fn multipart_create_only_leaves_what_is_there(store: &dyn ObjectStore) {
    let key = key("multipart/create_only");
    let content = noise(100, 7);
    let upload = upload_parts(store, &key, PutMode::CreateOnly, &content, &[1]).await;
    let first = Bytes::from_static(b"was quicker");
    assert_eq!(put(store, &key, first.clone(), PutMode::CreateOnly).await, PutOutcome::Stored);
    assert_eq!(upload.complete().await.expect("complete"), PutOutcome::AlreadyExists);
    assert_eq!(read(store, &key, 0).await, first);
    upload.abort().await.expect("an abort after the end succeeds");
    assert_eq!(read(store, &key, 0).await, first);
}

/// Without create-only the completion replaces.
pub async fn multipart_replace_replaces(store: &dyn ObjectStore) {
    let key = key("multipart/replace");
    let outcome = put(store, &key, Bytes::from_static(b"before"), PutMode::CreateOnly).await;
    assert_eq!(outcome, PutOutcome::Stored);
    let content = noise(100, 8);
    let upload = upload_parts(store, &key, PutMode::Replace, &content, &[1]).await;
    assert_eq!(upload.complete().await.expect("complete"), PutOutcome::Stored);
    assert_eq!(read(store, &key, 0).await, content);
}

/// Nothing is seen of an upload that goes on.
pub async fn an_upload_is_invisible_until_it_is_complete(store: &dyn ObjectStore) {
    let key = key("multipart_unfinished/object");
    let content = noise(100, 9);
    let upload = upload_parts(store, &key, PutMode::CreateOnly, &content, &[1]).await;
    let request =
        ListRequest { prefix: "conformance/multipart_unfinished/".into(), ..Default::default() };
    assert_eq!(head(store, &key).await, None);
    assert_eq!(names(store, &request).await, Vec::<String>::new());
    assert_eq!(upload.complete().await.expect("complete"), PutOutcome::Stored);
    assert_eq!(names(store, &request).await, [key.to_string()]);
}

/// After an abort there is no object, and aborting again succeeds.
pub async fn an_aborted_upload_leaves_nothing(store: &dyn ObjectStore) {
    let key = key("multipart_aborted/object");
    let upload = upload_parts(store, &key, PutMode::CreateOnly, &noise(100, 10), &[1]).await;
    upload.abort().await.expect("abort");
    upload.abort().await.expect("a second abort");
    assert_eq!(head(store, &key).await, None);
    // Which error is left to the server: moto has an error of its own here (500).
    upload.complete().await.expect_err("the upload has ended");
    assert_eq!(head(store, &key).await, None);
}

/// Of one directory only, and by a caller that knows that they are not in use.
pub async fn uploads_of_a_killed_process_can_be_ended(store: &dyn ObjectStore) {
    let (dead, alive) = (key("killed/a/object"), key("killed/ab/object"));
    let body = noise(100, 11);
    let abandoned = upload_parts(store, &dead, PutMode::CreateOnly, &body, &[1]).await;
    let other = upload_parts(store, &alive, PutMode::CreateOnly, &body, &[1]).await;
    for _ in 0..2 {
        store.abort_uploads("conformance/killed/a/").await.expect("abort_uploads");
    }
    abandoned.complete().await.expect_err("the upload has ended");
    assert_eq!(head(store, &dead).await, None);
    assert_eq!(other.complete().await.expect("complete"), PutOutcome::Stored);
    store.abort_uploads("conformance/nothing/").await.expect("nothing to abort");
}

/// Of several for one key, too. A store whose uploads have no number has nothing to end.
pub async fn one_upload_can_be_ended_by_its_number(store: &dyn ObjectStore) {
    let key = key("numbered/object");
    let body = noise(100, 12);
    let abandoned = upload_parts(store, &key, PutMode::CreateOnly, &body, &[1]).await;
    let other = upload_parts(store, &key, PutMode::CreateOnly, &body, &[1]).await;
    if let Some(id) = abandoned.id() {
        for _ in 0..2 {
            store.abort_upload(&key, id).await.expect("abort_upload");
        }
        abandoned.complete().await.expect_err("the upload has ended");
    }
    assert_eq!(other.complete().await.expect("complete"), PutOutcome::Stored);
}

async fn put_all(store: &dyn ObjectStore, names: Vec<String>) {
    stream::iter(names)
        .for_each_concurrent(16, |name| async move {
            let body = Bytes::from(name.clone());
            assert_eq!(put(store, &key(&name), body, PutMode::Replace).await, PutOutcome::Stored);
        })
        .await;
}

/// `/` sorts as the byte it is: after `-` and `.`, before digits.
pub async fn listings_are_ordered_by_bytes(store: &dyn ObjectStore) {
    let sorted = ["a-b", "a.b", "a/b", "a/b-c", "a/c/d", "a0", "aB", "a_b/c", "ab", "b"];
    put_all(store, sorted.into_iter().rev().map(|name| format!("order/{name}")).collect()).await;
    let request = ListRequest { prefix: "conformance/order/".into(), ..Default::default() };
    let expected: Vec<String> =
        sorted.iter().map(|name| format!("conformance/order/{name}")).collect();
    assert_eq!(names(store, &request).await, expected);
    let objects = list_all(store, &request).await.expect("list");
    assert!(objects.iter().all(|o| o.size_bytes == o.key.as_str().len() as u64 - 12));
}

/// The prefix is a plain string; the start is left out; shallow stops at `/`.
pub async fn listings_honour_prefix_start_and_depth(store: &dyn ObjectStore) {
    let all = ["dir/a1", "dir/a2", "dir/sub/b1", "dir/sub/c/d", "dir.txt", "dirt/e", "other"];
    put_all(store, all.into_iter().map(|name| format!("list/{name}")).collect()).await;
    let list = async |prefix: &str, start_after: Option<&str>, shallow: bool| -> Vec<String> {
        let request = ListRequest {
            prefix: format!("conformance/list/{prefix}"),
            start_after: start_after.map(|name| format!("conformance/list/{name}")),
            shallow,
        };
        let found = names(store, &request).await;
        found.iter().map(|name| name.replacen("conformance/list/", "", 1)).collect()
    };
    assert_eq!(
        list("", None, false).await,
        ["dir.txt", "dir/a1", "dir/a2", "dir/sub/b1", "dir/sub/c/d", "dirt/e", "other"]
    );
    assert_eq!(list("", None, true).await, ["dir.txt", "other"]);
    assert_eq!(list("dir/", None, true).await, ["dir/a1", "dir/a2"]);
    assert_eq!(list("dir/a", None, true).await, ["dir/a1", "dir/a2"]);
    assert_eq!(list("dir", None, true).await, ["dir.txt"]);
    assert_eq!(list("dir/sub", None, false).await, ["dir/sub/b1", "dir/sub/c/d"]);
    assert_eq!(list("dir/s", None, true).await, Vec::<String>::new());
    assert_eq!(list("nothing", None, false).await, Vec::<String>::new());
    assert_eq!(list("nothing/at/all/", None, true).await, Vec::<String>::new());
    assert_eq!(list("dir/a1", None, false).await, ["dir/a1"]);
    let after = list("", Some("dir/a1"), false).await;
    assert_eq!(after, ["dir/a2", "dir/sub/b1", "dir/sub/c/d", "dirt/e", "other"]);
    assert_eq!(list("", Some("dir/a1x"), false).await, after);
    assert_eq!(list("", Some("dir/sub/b1"), false).await, ["dir/sub/c/d", "dirt/e", "other"]);
    assert_eq!(list("dir/", Some("dir/a1"), true).await, ["dir/a2"]);
    assert_eq!(list("dir/", Some("dir/zzz"), false).await, Vec::<String>::new());
    assert_eq!(list("dir/", Some("aaa"), true).await, ["dir/a1", "dir/a2"]);
}

/// More objects than fit in a page of S3.
pub async fn listings_go_on_past_a_page(store: &dyn ObjectStore) {
    let count = 1050;
    put_all(store, (0..count).map(|n| format!("pages/{n:05}")).collect()).await;
    let request = ListRequest { prefix: "conformance/pages/".into(), ..Default::default() };
    let expected: Vec<String> = (0..count).map(|n| format!("conformance/pages/{n:05}")).collect();
    assert_eq!(names(store, &request).await, expected);
    let request = ListRequest { start_after: Some(expected[10].clone()), shallow: true, ..request };
    assert_eq!(names(store, &request).await, expected[11..]);
}

/// A removed object is gone; removing what is not there succeeds.
pub async fn delete_removes(store: &dyn ObjectStore) {
    let (gone, stays) = (key("delete/gone"), key("delete/stays"));
    for key in [&gone, &stays] {
        let outcome = put(store, key, Bytes::from_static(b"x"), PutMode::CreateOnly).await;
        assert_eq!(outcome, PutOutcome::Stored);
    }
    for _ in 0..2 {
        store.delete(&gone).await.expect("delete");
        assert_eq!(head(store, &gone).await, None);
    }
    store.delete(&key("delete/never/there")).await.expect("delete of what never was");
    assert_eq!(read(store, &stays, 0).await, Bytes::from_static(b"x"));
    let outcome = put(store, &gone, Bytes::from_static(b"y"), PutMode::CreateOnly).await;
    assert_eq!(outcome, PutOutcome::Stored);
    assert_eq!(read(store, &gone, 0).await, Bytes::from_static(b"y"));
}
