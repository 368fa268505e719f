//! Buckets, objects and uploads in memory, and the rules of S3 about them.
//!
//! Every method is one step under the server's lock: this is what makes
//! create-only writes atomic.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use s3s::dto::{
    Checksum, CompletedPart, ETag, ETagCondition, Metadata, ServerSideEncryption, StorageClass,
};
use s3s::{S3Result, s3_error};

use super::checksum::{self, copy_checksums};

/// What came with an object beside its bytes.
#[derive(Clone, Default)]
pub(super) struct Attributes {
    pub(super) metadata: Metadata,
    pub(super) content_type: Option<String>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) server_side_encryption: Option<ServerSideEncryption>,
}

#[derive(Clone)]
pub(super) struct Object {
    pub(super) body: Bytes,
    pub(super) etag: String,
    pub(super) modified: SystemTime,
    pub(super) attributes: Attributes,
    /// Checksums of the whole body, as far as the writer declared them.
    pub(super) checksum: Checksum,
    /// There is a copy that can be read, whatever the storage class.
    pub(super) is_restored: bool,
}

impl Object {
    pub(super) fn new(body: Bytes, attributes: Attributes, checksum: Checksum) -> Self {
        let etag = checksum::etag_of(&body);
        let modified = SystemTime::now();
        Object { body, etag, modified, attributes, checksum, is_restored: false }
    }

    /// Whether it has to be restored from its storage class before it can be read.
    pub(super) fn is_archived(&self) -> bool {
        let class = self.attributes.storage_class.as_ref().map(StorageClass::as_str);
        let is_cold = matches!(class, Some(StorageClass::GLACIER | StorageClass::DEEP_ARCHIVE));
        is_cold && !self.is_restored
    }
}

pub(super) struct Part {
    pub(super) body: Bytes,
    pub(super) etag: String,
    pub(super) checksum: Checksum,
}

/// An upload in parts that has begun and neither ended nor been aborted.
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) initiated: SystemTime,
    attributes: Attributes,
    parts: BTreeMap<i32, Part>,
}

/// The conditions of a write.
#[derive(Default)]
pub(super) struct WriteConditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl WriteConditions {
    fn check(&self, existing: Option<&Object>) -> S3Result<()> {
        match (&self.if_none_match, existing) {
            (None, _) | (Some(ETagCondition::Any), None) => {}
            (Some(ETagCondition::Any), Some(_)) => return Err(precondition_failed()),
            (Some(ETagCondition::ETag(_)), _) => {
                return Err(s3_error!(NotImplemented, "If-None-Match takes only * for a write"));
            }
        }
        match (&self.if_match, existing) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(s3_error!(NoSuchKey)),
            (Some(condition), Some(object)) if matches(condition, &object.etag) => Ok(()),
            (Some(_), Some(_)) => Err(precondition_failed()),
        }
    }
}

/// Whether an object of this etag fulfils the condition.
pub(super) fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(ETag::Strong(wanted)) => wanted == etag,
        ETagCondition::ETag(ETag::Weak(_)) => false,
    }
}

pub(super) fn precondition_failed() -> s3s::S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

/// A name in a listing.
pub(super) enum Entry<'a> {
    Object(&'a str, &'a Object),
    CommonPrefix(String),
}

impl Entry<'_> {
    pub(super) fn name(&self) -> &str {
        match self {
            Entry::Object(key, _) => key,
            Entry::CommonPrefix(prefix) => prefix,
        }
    }
}

/// What a listing asks for.
pub(super) struct Listing<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    /// Only keys after this one.
    pub(super) start_after: &'a str,
    /// The last name of the page before.
    pub(super) last_name: Option<&'a str>,
    pub(super) limit: usize,
}

#[derive(Default)]
pub(super) struct State {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    uploads: BTreeMap<String, Upload>,
    uploads_begun: u64,
}

impl State {
    /// Makes a bucket; `false` when it was there.
    pub(super) fn create_bucket(&mut self, bucket: &str) -> bool {
        let is_new = !self.buckets.contains_key(bucket);
        self.buckets.entry(bucket.to_owned()).or_default();
        is_new
    }

    pub(super) fn bucket(&self, bucket: &str) -> S3Result<&BTreeMap<String, Object>> {
        self.buckets.get(bucket).ok_or_else(no_such_bucket)
    }

    pub(super) fn bucket_mut(&mut self, bucket: &str) -> S3Result<&mut BTreeMap<String, Object>> {
        self.buckets.get_mut(bucket).ok_or_else(no_such_bucket)
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> S3Result<&Object> {
        let object = self.bucket(bucket)?.get(key);
        object.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }

    pub(super) fn put(
        &mut self,
        bucket: &str,
        key: &str,
        object: Object,
        conditions: &WriteConditions,
    ) -> S3Result<()> {
        let objects = self.bucket_mut(bucket)?;
        conditions.check(objects.get(key))?;
        objects.insert(key.to_owned(), object);
        Ok(())
    }

    /// A page of names, and whether more follow.
    pub(super) fn list(
        &self,
        bucket: &str,
        listing: &Listing<'_>,
    ) -> S3Result<(Vec<Entry<'_>>, bool)> {
        let mut page: Vec<Entry<'_>> = Vec::new();
        let first = listing.prefix.max(listing.start_after).max(listing.last_name.unwrap_or(""));
        let from = (Bound::Included(first), Bound::Unbounded);
        for (key, object) in self.bucket(bucket)?.range::<str, _>(from) {
            let Some(rest) = key.strip_prefix(listing.prefix) else { break };
            if key.as_str() <= listing.start_after {
                continue;
            }
            let folded = listing.delimiter.and_then(|delimiter| {
                let end = rest.find(delimiter)? + delimiter.len();
                Some(format!("{}{}", listing.prefix, &rest[..end]))
            });
            let entry = folded.map_or(Entry::Object(key, object), Entry::CommonPrefix);
            let is_on_a_page_already = listing.last_name.is_some_and(|last| entry.name() <= last)
                || page.last().is_some_and(|last| last.name() == entry.name());
            if is_on_a_page_already {
                continue;
            }
            if page.len() == listing.limit {
                return Ok((page, true));
            }
            page.push(entry);
        }
        Ok((page, false))
    }

    /// Begins an upload and returns its id.
    pub(super) fn begin_upload(
        &mut self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> S3Result<String> {
        self.bucket(bucket)?;
        self.uploads_begun += 1;
        let id = format!("upload-{}-{:016x}", self.uploads_begun, fastrand::u64(..));
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            initiated: SystemTime::now(),
            attributes,
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    pub(super) fn put_part(
        &mut self,
        (bucket, key, id): (&str, &str, &str),
        number: i32,
        part: Part,
    ) -> S3Result<()> {
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            ));
        }
        self.bucket(bucket)?;
        let upload = self.uploads.get_mut(id).filter(|u| u.bucket == bucket && u.key == key);
        upload.ok_or_else(no_such_upload)?.parts.insert(number, part);
        Ok(())
    }

    /// Makes an upload an object. A refused completion leaves the upload open,
    /// as AWS does: its client must abort it.
    pub(super) fn complete_upload(
        &mut self,
        (bucket, key, id): (&str, &str, &str),
        listed: &[CompletedPart],
        min_part_size: usize,
        conditions: &WriteConditions,
    ) -> S3Result<String> {
        self.bucket(bucket)?;
        let upload = self.uploads.get(id).filter(|u| u.bucket == bucket && u.key == key);
        let upload = upload.ok_or_else(no_such_upload)?;
        let parts = upload.listed(listed)?;
        if let Some((_, all_but_last)) = parts.split_last()
            && all_but_last.iter().any(|part| part.body.len() < min_part_size)
        {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed object size."
            ));
        }
        let etag = checksum::etag_of_parts(parts.iter().map(|part| part.etag.as_str()))?;
        let mut body = BytesMut::with_capacity(parts.iter().map(|part| part.body.len()).sum());
        parts.iter().for_each(|part| body.extend_from_slice(&part.body));
        let object = Object {
            body: body.freeze(),
            etag: etag.clone(),
            modified: SystemTime::now(),
            attributes: upload.attributes.clone(),
            checksum: Checksum::default(),
            is_restored: false,
        };
        self.put(bucket, key, object, conditions)?;
        self.uploads.remove(id);
        Ok(etag)
    }

    pub(super) fn abort_upload(&mut self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        self.bucket(bucket)?;
        let is_known = self.uploads.get(id).is_some_and(|u| u.bucket == bucket && u.key == key);
        if !is_known {
            return Err(no_such_upload());
        }
        self.uploads.remove(id);
        Ok(())
    }

    /// Open uploads of a bucket with their ids, in the order of keys.
    pub(super) fn open_uploads(&self, bucket: &str) -> Vec<(&str, &Upload)> {
        let mut open: Vec<(&str, &Upload)> = self
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == bucket)
            .map(|(id, upload)| (id.as_str(), upload))
            .collect();
        open.sort_by(|left, right| (&left.1.key, left.0).cmp(&(&right.1.key, right.0)));
        open
    }
}

impl Upload {
    /// The parts that a completion lists, checked against what was uploaded.
    fn listed(&self, listed: &[CompletedPart]) -> S3Result<Vec<&Part>> {
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        let numbers = || listed.iter().map(|part| part.part_number.unwrap_or(0));
        if !numbers().zip(numbers().skip(1)).all(|(number, next)| number < next) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order."
            ));
        }
        listed
            .iter()
            .map(|wanted| {
                let mut claimed = Checksum::default();
                copy_checksums!(wanted => claimed);
                wanted
                    .part_number
                    .and_then(|number| self.parts.get(&number))
                    .filter(|part| wanted.e_tag.as_ref().is_some_and(|e| e.value() == part.etag))
                    .filter(|part| !checksum::differ(&claimed, &part.checksum))
                    .ok_or_else(|| s3_error!(InvalidPart, "One or more of the specified parts could not be found or has another entity tag."))
            })
            .collect()
    }
}

fn no_such_bucket() -> s3s::S3Error {
    s3_error!(NoSuchBucket, "The specified bucket does not exist")
}

fn no_such_upload() -> s3s::S3Error {
    s3_error!(NoSuchUpload, "The specified multipart upload does not exist.")
}
