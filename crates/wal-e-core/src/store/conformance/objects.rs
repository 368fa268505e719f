//! Whole objects: stored, read, removed.

use bytes::Bytes;

use super::{head, key, noise, put, read, read_rest};
use crate::error::ErrorKind;
use crate::layout::ObjectKey;
use crate::store::{Attributes, ObjectStore, PutMode, PutOutcome};

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

/// Of many keys, more than fit into a request, those that are there are removed, and no others.
pub async fn many_objects_are_removed_at_once(store: &dyn ObjectStore) {
    let own = |name: &str| key(&format!("many/{name}"));
    for name in ["a", "b c+d&<é>", "stays", "z"] {
        let outcome = put(store, &own(name), Bytes::from_static(b"x"), PutMode::CreateOnly).await;
        assert_eq!(outcome, PutOutcome::Stored);
    }
    let mut keys: Vec<ObjectKey> = (0..1001).map(|number| own(&format!("no/{number}"))).collect();
    keys.insert(0, own("b c+d&<é>"));
    keys.insert(500, own("a"));
    keys.push(own("z"));
    for _ in 0..2 {
        store.delete_all(&keys).await.expect("delete many");
        for name in ["a", "b c+d&<é>", "z"] {
            assert_eq!(head(store, &own(name)).await, None, "{name}");
        }
    }
    assert_eq!(read(store, &own("stays"), 0).await, Bytes::from_static(b"x"));
    store.delete_all(&[]).await.expect("delete nothing");
}
