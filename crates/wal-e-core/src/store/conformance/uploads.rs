//! Multipart uploads.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{head, key, names, noise, put, read};
use crate::layout::ObjectKey;
use crate::store::{Attributes, ListRequest, MultipartUpload, ObjectStore, PutMode, PutOutcome};

/// S3's smallest part that is not the last.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// Uploads `content` in parts, in the order of `numbers`; does not complete.
async fn upload_parts(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    mode: PutMode,
    content: &Bytes,
    numbers: &[usize],
) -> Box<dyn MultipartUpload> {
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
    each_alone_is_an_object(store, &[1, 1000]).await;
}

/// The only part may be empty. wal_e sends no such part: what is empty it stores as a whole.
pub async fn one_empty_part_is_enough(store: &dyn ObjectStore) {
    each_alone_is_an_object(store, &[0]).await;
}

async fn each_alone_is_an_object(store: &dyn ObjectStore, lengths: &[usize]) {
    for &length in lengths {
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
