//! Listings of objects and of uploads, in pages.

use std::sync::atomic::Ordering;

use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectsV2Input, ListObjectsV2Output, MultipartUpload, ObjectStorageClass,
};
use s3s::{S3Request, S3Result, s3_error};

use super::super::Shared;
use super::super::checksum;
use super::super::dialect::ListingOrder;
use super::super::state::{Entry, Listing};
use super::size;

/// What a listing names at most when the request does not say, as S3 has it.
const MAX_KEYS: i32 = 1000;

pub(super) fn objects(
    shared: &Shared,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<ListObjectsV2Output> {
    let input = request.input;
    let max_keys = input.max_keys.unwrap_or(MAX_KEYS);
    let asked = usize::try_from(max_keys)
        .map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))?;
    let token = input.continuation_token.as_deref();
    let last_name = token.map(|token| name_in(token).ok_or_else(incorrect_token)).transpose()?;
    let listing = Listing {
        prefix: input.prefix.as_deref().unwrap_or(""),
        delimiter: input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()),
        start_after: input.start_after.as_deref().unwrap_or(""),
        last_name: last_name.as_deref(),
        limit: asked.min(shared.page_size.load(Ordering::Relaxed)),
    };
    let shown = |name: &str| match input.encoding_type.as_ref().map(EncodingType::as_str) {
        Some(EncodingType::URL) => url_encoded(name),
        _ => name.to_owned(),
    };
    let state = shared.state();
    let order = shared.dialect.listing();
    let (page, is_truncated) = match order {
        ListingOrder::ByName => state.list(&input.bucket, &listing)?,
        order => {
            let all = Listing { last_name: None, limit: usize::MAX, ..listing };
            let (names, _) = state.list(&input.bucket, &all)?;
            page_of(names, order, listing.last_name, listing.limit)
        }
    };
    let is_truncated = is_truncated && asked > 0;
    let next = page.last().filter(|_| is_truncated).map(|last| token_of(last.name()));
    let mut contents = Vec::new();
    let mut common_prefixes = Vec::new();
    for entry in &page {
        match entry {
            Entry::Object(key, object) => contents.push(s3s::dto::Object {
                key: Some(shown(key)),
                size: size(&object.body),
                e_tag: Some(ETag::Strong(object.etag.clone())),
                last_modified: Some(object.modified.into()),
                storage_class: object
                    .attributes
                    .storage_class
                    .as_ref()
                    .map(|class| ObjectStorageClass::from(class.as_str().to_owned())),
                ..s3s::dto::Object::default()
            }),
            Entry::CommonPrefix(prefix) => {
                common_prefixes.push(CommonPrefix { prefix: Some(shown(prefix)) });
            }
        }
    }
    Ok(ListObjectsV2Output {
        prefix: input.prefix.as_deref().map(shown),
        delimiter: input.delimiter.as_deref().map(shown),
        start_after: input.start_after.as_deref().map(shown),
        name: Some(input.bucket),
        max_keys: Some(max_keys),
        key_count: i32::try_from(page.len()).ok(),
        is_truncated: Some(is_truncated),
        next_continuation_token: next,
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        ..ListObjectsV2Output::default()
    })
}

pub(super) fn uploads(
    shared: &Shared,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<ListMultipartUploadsOutput> {
    let input = request.input;
    if input.delimiter.is_some() || input.encoding_type.is_some() {
        return Err(s3_error!(NotImplemented, "uploads are listed without delimiter and encoding"));
    }
    let state = shared.state();
    state.bucket(&input.bucket)?;
    let prefix = input.prefix.as_deref().unwrap_or("");
    let marker = (input.key_marker.as_deref().unwrap_or(""), input.upload_id_marker.as_deref());
    let is_after_marker = |id: &str, key: &str| match marker {
        (after, None) => key > after,
        (after, Some(after_id)) => (key, id) > (after, after_id),
    };
    let asked = usize::try_from(input.max_uploads.unwrap_or(MAX_KEYS)).unwrap_or(0);
    let limit = asked.min(shared.page_size.load(Ordering::Relaxed)).max(1);
    let mut uploads: Vec<MultipartUpload> = state
        .open_uploads(&input.bucket)
        .into_iter()
        .filter(|(id, upload)| upload.key.starts_with(prefix) && is_after_marker(id, &upload.key))
        .map(|(id, upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some(id.to_owned()),
            initiated: Some(upload.initiated.into()),
            ..MultipartUpload::default()
        })
        .collect();
    let is_truncated = uploads.len() > limit;
    uploads.truncate(limit);
    let last = uploads.last().filter(|_| is_truncated);
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix,
        is_truncated: Some(is_truncated),
        next_key_marker: last.and_then(|last| last.key.clone()),
        next_upload_id_marker: last.and_then(|last| last.upload_id.clone()),
        uploads: Some(uploads),
        ..ListMultipartUploadsOutput::default()
    })
}

/// A page of names in another order than theirs, and whether more follow.
fn page_of<'a>(
    mut names: Vec<Entry<'a>>,
    order: ListingOrder,
    last_name: Option<&str>,
    limit: usize,
) -> (Vec<Entry<'a>>, bool) {
    let hash = |entry: &Entry<'_>| checksum::etag_of(entry.name().as_bytes());
    match order {
        ListingOrder::ByName | ListingOrder::Repeating => {}
        ListingOrder::None => names.sort_by_key(hash),
        ListingOrder::TwoShards => names.sort_by_key(|entry| hash(entry).as_str() < "8"),
    }
    let at_last = last_name.and_then(|last| names.iter().position(|name| name.name() == last));
    let begin = match (order, at_last) {
        (_, None) => 0,
        (ListingOrder::Repeating, Some(at)) => at,
        (_, Some(at)) => at + 1,
    };
    // Or a page that repeats a name would have no other.
    let limit = limit.max(2);
    let is_truncated = names.len() - begin > limit;
    (names.drain(begin..).take(limit).collect(), is_truncated)
}

/// `encoding-type=url`: names as they stand in a URL, slashes kept.
fn url_encoded(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A continuation token: opaque to clients, so that none takes it for a key.
fn token_of(name: &str) -> String {
    format!("after-{}", checksum::hex(name.as_bytes()))
}

fn name_in(token: &str) -> Option<String> {
    String::from_utf8(checksum::unhex(token.strip_prefix("after-")?)?).ok()
}

fn incorrect_token() -> s3s::S3Error {
    s3_error!(InvalidArgument, "The continuation token provided is incorrect")
}
