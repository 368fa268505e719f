//! Listings.

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{key, names, put};
use crate::store::{ListRequest, ObjectStore, PutMode, PutOutcome, list_all};

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
