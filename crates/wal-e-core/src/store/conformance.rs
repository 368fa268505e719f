//! The contract that every store keeps, as functions to call from tests.
//!
//! Each function uses object names of its own, so that all of them can run on
//! one fresh prefix of a real server, and panics when the contract is broken.
//! Sizes respect S3: all parts of an upload but the last have 5 MiB.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    Attributes, ListRequest, ObjectInfo, ObjectReader, ObjectStore, PutMode, PutOutcome, list_all,
};
use crate::error::Result;
use crate::layout::ObjectKey;

mod listings;
mod objects;
mod uploads;

pub use listings::*;
pub use objects::*;
pub use uploads::*;

/// The checks by name: one at a time, so that a report can say which fails.
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// The names of all checks, in the order in which [`run_all`] makes them.
        pub const CHECKS: &[&str] = &[$(stringify!($name)),*];

        /// Makes the check `name` of [`CHECKS`].
        ///
        /// # Panics
        /// When the store does not pass it, or there is no such check.
        pub async fn run(store: &dyn ObjectStore, name: &str) {
            match name {
                $(stringify!($name) => $name(store).await,)*
                _ => panic!("there is no check \"{name}\""),
            }
        }
    };
}

checks![
    objects_come_back_as_they_were_put,
    create_only_leaves_what_is_there,
    replace_replaces,
    head_tells_size_time_and_attributes,
    get_begins_at_an_offset,
    get_range_ends_where_it_is_told_to,
    get_refuses_an_object_that_changed,
    what_is_missing_is_not_found,
    parts_become_one_object,
    parts_arrive_in_any_order,
    one_part_is_enough,
    one_empty_part_is_enough,
    multipart_create_only_leaves_what_is_there,
    multipart_replace_replaces,
    an_upload_is_invisible_until_it_is_complete,
    an_aborted_upload_leaves_nothing,
    uploads_of_a_killed_process_can_be_ended,
    one_upload_can_be_ended_by_its_number,
    listings_are_ordered_by_bytes,
    listings_honour_prefix_start_and_depth,
    listings_go_on_past_a_page,
    delete_removes,
    many_objects_are_removed_at_once,
    create_only_has_one_winner,
];

/// The check that a server which does not know create-only uploads cannot pass: a look before
/// the upload holds for one writer after the other, not for several at once.
pub const RACING: &str = stringify!(create_only_has_one_winner);

/// The check that a server which refuses empty parts cannot pass.
pub const EMPTY_PART: &str = stringify!(one_empty_part_is_enough);

/// Runs the whole contract.
///
/// # Panics
/// When the store breaks it.
pub async fn run_all(store: Arc<dyn ObjectStore>) {
    for name in CHECKS {
        run(store.as_ref(), name).await;
    }
}

/// The contract of a server that does not know create-only uploads: all but [`RACING`].
///
/// # Panics
/// When the store breaks it.
pub async fn run_all_but_racing(store: Arc<dyn ObjectStore>) {
    for name in CHECKS.iter().filter(|name| **name != RACING) {
        run(store.as_ref(), name).await;
    }
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
