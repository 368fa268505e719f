//! Downloads.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::causes::chain;
use super::errors::{Action, Failure};
use super::{Bucket, attributes, moment, size};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::{ObjectBody, ObjectInfo, ObjectReader};

const ACTION: Action = Action::Get;

/// Opens `length` bytes of an object from `offset`, or all to its end.
pub(super) async fn open(
    bucket: Arc<Bucket>,
    key: &ObjectKey,
    offset: u64,
    length: Option<u64>,
    if_match: Option<&str>,
) -> Result<ObjectReader> {
    // Servers read the ends of ranges into signed numbers.
    let length = length.filter(|length| offset.saturating_add(*length) <= i64::MAX as u64);
    let range = match length {
        // No range says "nothing".
        Some(0) => return no_bytes(bucket, key, offset, if_match).await,
        Some(length) => Some(format!("bytes={offset}-{}", offset.saturating_add(length - 1))),
        None => (offset > 0).then(|| format!("bytes={offset}-")),
    };
    let get = bucket.ask(bucket.limits.answer, |client| {
        let request = client.get_object().bucket(&bucket.name).key(bucket.full_key(key));
        request.set_range(range.clone()).send()
    });
    let answer = match get.await {
        Ok(answer) => answer,
        Err(failure) if failure.is_invalid_range() => {
            let rest = no_bytes(Arc::clone(&bucket), key, offset, if_match).await?;
            if rest.info.size_bytes == offset {
                return Ok(rest);
            }
            return Err(bucket.error(failure, ACTION, key));
        }
        Err(failure) => {
            return Err(match bucket.without_absence(failure.clone(), key).await {
                Some(failure) => bucket.error(failure, ACTION, key),
                None if failure.is_surely_missing_object() => bucket.error(failure, ACTION, key),
                None => missing(&bucket.url(key.as_str())),
            });
        }
    };
    let left = size(answer.content_length);
    let size_bytes = match (range, answer.content_range.as_deref()) {
        (None, _) => left,
        (Some(asked), Some(sent)) => {
            let end = |total: u64| {
                length.map_or(total, |length| total.min(offset.saturating_add(length)))
            };
            match total(sent, offset) {
                Some(total) if offset.checked_add(left) == Some(end(total)) => total,
                _ => {
                    let text = format!("asked for \"{asked}\", it sent \"{sent}\"");
                    return Err(bucket.error(Failure::NotUnderstood(text), ACTION, key));
                }
            }
        }
        // All of a small object may come without saying so.
        (Some(_), None) if offset == 0 && length.is_some_and(|length| left <= length) => left,
        (Some(asked), None) => {
            let text = format!("asked for \"{asked}\", it sent the whole object");
            return Err(bucket.error(Failure::NotUnderstood(text), ACTION, key));
        }
    };
    let info = info(key, size_bytes, &answer);
    check_etag(&bucket, &info, if_match)?;
    let body = S3Body { bucket, key: key.clone(), stream: answer.body, left };
    Ok(ObjectReader { info, body: Box::new(body) })
}

/// What the answer to a request for an object, or for a part of it, says of the whole object.
pub(super) fn info(key: &ObjectKey, size_bytes: u64, answer: &GetObjectOutput) -> ObjectInfo {
    ObjectInfo {
        key: key.clone(),
        size_bytes,
        last_modified: moment(answer.last_modified.as_ref()),
        etag: answer.e_tag.clone(),
        storage_class: answer.storage_class.as_ref().map(|class| class.as_str().to_owned()),
        attributes: attributes(answer.metadata.as_ref()),
    }
}

/// The tag is compared here rather than sent as `If-Match`, which Ceph 18
/// refuses even when it is right.
fn check_etag(bucket: &Bucket, info: &ObjectInfo, if_match: Option<&str>) -> Result<()> {
    if if_match.is_none() || if_match == info.etag.as_deref() {
        return Ok(());
    }
    let url = bucket.url(info.key.as_str());
    Err(Error::new(ErrorKind::Conflict, format!("object \"{url}\" has changed")))
}

/// A range that begins at the end cannot be had; it is the empty rest. Nor can
/// one of no bytes.
async fn no_bytes(
    bucket: Arc<Bucket>,
    key: &ObjectKey,
    offset: u64,
    if_match: Option<&str>,
) -> Result<ObjectReader> {
    let url = bucket.url(key.as_str());
    let info = bucket.head(key).await?.ok_or_else(|| missing(&url))?;
    check_etag(&bucket, &info, if_match)?;
    if info.size_bytes < offset {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("object \"{url}\" is shorter than {offset} bytes"),
        ));
    }
    let body = S3Body { bucket, key: key.clone(), stream: ByteStream::default(), left: 0 };
    Ok(ObjectReader { info, body: Box::new(body) })
}

fn missing(url: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("object \"{url}\" does not exist"))
}

/// The whole size in `bytes OFFSET-LAST/TOTAL`.
fn total(content_range: &str, offset: u64) -> Option<u64> {
    let (range, total) = content_range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    (first.parse() == Ok(offset)).then_some(())?;
    total.parse().ok()
}

pub(super) struct S3Body {
    bucket: Arc<Bucket>,
    key: ObjectKey,
    stream: ByteStream,
    /// Bytes that must still come.
    left: u64,
}

impl S3Body {
    fn broken(&self, failure: Failure) -> Error {
        self.bucket.error(failure, ACTION, &self.key)
    }
}

#[async_trait]
impl ObjectBody for S3Body {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        let limit = self.bucket.limits.stall;
        loop {
            let next = tokio::time::timeout(limit, self.stream.next()).await;
            let chunk = match next {
                Err(_) => return Err(self.broken(Failure::TooSlow(limit))),
                Ok(Some(Err(error))) => {
                    return Err(self.broken(Failure::NoConnection(chain(&error))));
                }
                Ok(None) if self.left > 0 => {
                    let text = format!("the content ended {} bytes early", self.left);
                    return Err(self.broken(Failure::NoConnection(text)));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Ok(chunk))) => chunk,
            };
            if chunk.is_empty() {
                continue;
            }
            let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
                let text = "it sent more than it had announced".to_owned();
                return Err(self.broken(Failure::NotUnderstood(text)));
            };
            self.left = left;
            return Ok(Some(chunk));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(total("bytes 10-99/100", 10), Some(100));
        assert_eq!(total("bytes 0-99/100", 10), None);
        assert_eq!(total("bytes 10-99/*", 10), None);
        for wrong in ["", "bytes", "bytes 10", "bytes 10/100", "10-99/100"] {
            assert_eq!(total(wrong, 10), None, "{wrong}");
        }
    }
}
