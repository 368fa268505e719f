//! Uploads in parts.

use std::sync::atomic::Ordering;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Result};

use super::super::Shared;
use super::super::checksum::{self, Declared, copy_checksums};
use super::super::state::{Attributes, Part};
use super::receive;

pub(super) fn begin(
    shared: &Shared,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<CreateMultipartUploadOutput> {
    let input = request.input;
    let attributes = Attributes {
        metadata: input.metadata.unwrap_or_default(),
        content_type: input.content_type,
        storage_class: input.storage_class,
        server_side_encryption: input.server_side_encryption,
    };
    let upload_id = shared.state().begin_upload(&input.bucket, &input.key, attributes)?;
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload_id),
        ..CreateMultipartUploadOutput::default()
    })
}

pub(super) async fn put_part(
    shared: &Shared,
    request: S3Request<UploadPartInput>,
) -> S3Result<UploadPartOutput> {
    let input = request.input;
    let mut declared = Declared { md5: input.content_md5, ..Declared::default() };
    if !shared.dialect.knows_no_checksum() {
        copy_checksums!(input => declared.checksum);
    }
    let trailers = request.trailing_headers.as_ref();
    let (body, checksum) = receive(input.body, declared, trailers).await?;
    let part = Part { etag: checksum::etag_of(&body), body, checksum: checksum.clone() };
    let e_tag = Some(ETag::Strong(part.etag.clone()));
    let upload = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
    shared.state().put_part(upload, input.part_number, part)?;
    let mut output = UploadPartOutput { e_tag, ..UploadPartOutput::default() };
    copy_checksums!(checksum => output);
    Ok(output)
}

pub(super) fn complete(
    shared: &Shared,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<CompleteMultipartUploadOutput> {
    let input = request.input;
    let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let conditions = shared.conditions(input.if_match, input.if_none_match);
    let upload = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
    let min_part_size = shared.min_part_size.load(Ordering::Relaxed);
    let etag = shared.state().complete_upload(upload, &listed, min_part_size, &conditions)?;
    Ok(CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(etag)),
        ..CompleteMultipartUploadOutput::default()
    })
}

pub(super) fn abort(
    shared: &Shared,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<AbortMultipartUploadOutput> {
    let input = request.input;
    shared.state().abort_upload(&input.bucket, &input.key, &input.upload_id)?;
    Ok(AbortMultipartUploadOutput::default())
}
