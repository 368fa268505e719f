//! Objects, each by its key.

use s3s::dto::{
    Checksum, ChecksumMode, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, PutObjectInput, PutObjectOutput, StreamingBlob,
};
use s3s::{S3Request, S3Result, s3_error};

use super::super::Shared;
use super::super::checksum::{Declared, copy_checksums};
use super::super::state::{self, Attributes, Object};
use super::{receive, size};

pub(super) async fn put(
    shared: &Shared,
    request: S3Request<PutObjectInput>,
) -> S3Result<PutObjectOutput> {
    let input = request.input;
    let mut declared = Declared { md5: input.content_md5, ..Declared::default() };
    if !shared.dialect.knows_no_checksum() {
        copy_checksums!(input => declared.checksum);
    }
    let trailers = request.trailing_headers.as_ref();
    let (body, checksum) = receive(input.body, declared, trailers).await?;
    let attributes = Attributes {
        metadata: input.metadata.unwrap_or_default(),
        content_type: input.content_type,
        storage_class: input.storage_class,
        server_side_encryption: input.server_side_encryption,
    };
    let object = Object::new(body, attributes, checksum.clone());
    let e_tag = Some(ETag::Strong(object.etag.clone()));
    let conditions = shared.conditions(input.if_match, input.if_none_match);
    shared.state().put(&input.bucket, &input.key, object, &conditions)?;
    let mut output = PutObjectOutput { e_tag, ..PutObjectOutput::default() };
    copy_checksums!(checksum => output);
    Ok(output)
}

pub(super) fn get(
    shared: &Shared,
    request: S3Request<GetObjectInput>,
) -> S3Result<GetObjectOutput> {
    let input = request.input;
    let object = shared.state().object(&input.bucket, &input.key)?.clone();
    check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
    if object.is_archived() {
        return Err(s3_error!(
            InvalidObjectState,
            "The operation is not valid for the object's storage class"
        ));
    }
    let whole = object.body.len() as u64;
    let (body, content_range) = match input.range {
        None => (object.body.clone(), None),
        Some(range) => {
            let bytes = range.check(whole)?;
            let shown = format!("bytes {}-{}/{whole}", bytes.start, bytes.end - 1);
            let slice = object.body.slice(bytes.start as usize..bytes.end as usize);
            (slice, Some(shown))
        }
    };
    // A checksum of the whole object says nothing about a part of it.
    let wants_checksum = content_range.is_none()
        && input.checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    let checksum = if wants_checksum { object.checksum } else { Checksum::default() };
    let mut output = GetObjectOutput {
        content_length: size(&body),
        body: Some(StreamingBlob::from(s3s::Body::from(body))),
        content_range,
        accept_ranges: Some("bytes".to_owned()),
        e_tag: Some(ETag::Strong(object.etag)),
        last_modified: Some(object.modified.into()),
        metadata: Some(object.attributes.metadata),
        content_type: object.attributes.content_type,
        storage_class: object.attributes.storage_class,
        server_side_encryption: object.attributes.server_side_encryption,
        ..GetObjectOutput::default()
    };
    copy_checksums!(checksum => output);
    Ok(output)
}

pub(super) fn head(
    shared: &Shared,
    request: S3Request<HeadObjectInput>,
) -> S3Result<HeadObjectOutput> {
    let input = request.input;
    let object = shared.state().object(&input.bucket, &input.key)?.clone();
    check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
    Ok(HeadObjectOutput {
        content_length: size(&object.body),
        accept_ranges: Some("bytes".to_owned()),
        e_tag: Some(ETag::Strong(object.etag)),
        last_modified: Some(object.modified.into()),
        metadata: Some(object.attributes.metadata),
        content_type: object.attributes.content_type,
        storage_class: object.attributes.storage_class,
        server_side_encryption: object.attributes.server_side_encryption,
        ..HeadObjectOutput::default()
    })
}

pub(super) fn delete(
    shared: &Shared,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<DeleteObjectOutput> {
    let input = request.input;
    shared.state().bucket_mut(&input.bucket)?.remove(&input.key);
    Ok(DeleteObjectOutput::default())
}

pub(super) fn delete_several(
    shared: &Shared,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<DeleteObjectsOutput> {
    let declares_checksum = request
        .headers
        .keys()
        .any(|name| name == "content-md5" || name.as_str().starts_with("x-amz-checksum-"))
        || request.trailing_headers.is_some();
    if !declares_checksum {
        return Err(s3_error!(
            InvalidRequest,
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
        ));
    }
    let input = request.input;
    if input.delete.objects.len() > 1000 {
        return Err(s3_error!(MalformedXML, "More than 1000 keys in one request"));
    }
    let mut state = shared.state();
    let objects = state.bucket_mut(&input.bucket)?;
    let mut deleted = Vec::new();
    for object in input.delete.objects {
        objects.remove(&object.key);
        deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
    }
    if input.delete.quiet == Some(true) {
        deleted.clear();
    }
    Ok(DeleteObjectsOutput { deleted: Some(deleted), ..DeleteObjectsOutput::default() })
}

/// The conditions of a read against an object's etag.
fn check_read(
    object: &Object,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    if if_match.is_some_and(|condition| !state::matches(condition, &object.etag)) {
        return Err(state::precondition_failed());
    }
    if if_none_match.is_some_and(|condition| state::matches(condition, &object.etag)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}
