//! The requests of S3 that the server answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Checksum, ChecksumMode, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateBucketInput,
    CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    ETagCondition, EncodingType, GetObjectInput, GetObjectOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectsV2Input, ListObjectsV2Output, MultipartUpload,
    PutObjectInput, PutObjectOutput, StreamingBlob, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::Shared;
use super::checksum::{self, Declared};
use super::state::{self, Attributes, Entry, Listing, Object, Part, WriteConditions};

/// What a listing names at most when the request does not say, as S3 has it.
const MAX_KEYS: i32 = 1000;

pub(super) struct Api(pub(super) Arc<Shared>);

impl Api {
    /// The conditions of a write, as far as this server honours them.
    fn conditions(
        &self,
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> WriteConditions {
        match self.0.ignores_create_only.load(Ordering::Relaxed) {
            true => WriteConditions { if_match, if_none_match: None },
            false => WriteConditions { if_match, if_none_match },
        }
    }
}

/// Reads a body to its end; it is in memory already.
async fn read(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let mut whole = BytesMut::new();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(checksum::body_error)?;
            whole.extend_from_slice(&chunk);
        }
    }
    Ok(whole.freeze())
}

fn size(bytes: &[u8]) -> Option<i64> {
    i64::try_from(bytes.len()).ok()
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

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        match self.0.state().create_bucket(&request.input.bucket) {
            true => Ok(S3Response::new(CreateBucketOutput::default())),
            false => Err(s3_error!(BucketAlreadyOwnedByYou)),
        }
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.state().bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let body = read(input.body).await?;
        let mut declared = Declared {
            md5: input.content_md5,
            checksum: Checksum {
                checksum_crc32: input.checksum_crc32,
                checksum_crc32c: input.checksum_crc32c,
                checksum_crc64nvme: input.checksum_crc64nvme,
                checksum_sha1: input.checksum_sha1,
                checksum_sha256: input.checksum_sha256,
                checksum_type: None,
            },
        };
        declared.add_trailers(request.trailing_headers.as_ref());
        let checksum = declared.verify(&body)?;
        let attributes = Attributes {
            metadata: input.metadata.unwrap_or_default(),
            content_type: input.content_type,
            storage_class: input.storage_class,
            server_side_encryption: input.server_side_encryption,
        };
        let object = Object::new(body, attributes, checksum.clone());
        let e_tag = Some(ETag::Strong(object.etag.clone()));
        let conditions = self.conditions(input.if_match, input.if_none_match);
        self.0.state().put(&input.bucket, &input.key, object, &conditions)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag,
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.0.state().object(&input.bucket, &input.key)?.clone();
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
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
        Ok(S3Response::new(GetObjectOutput {
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
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let object = self.0.state().object(&input.bucket, &input.key)?.clone();
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: size(&object.body),
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.attributes.metadata),
            content_type: object.attributes.content_type,
            storage_class: object.attributes.storage_class,
            server_side_encryption: object.attributes.server_side_encryption,
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.0.state().bucket_mut(&input.bucket)?.remove(&input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
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
        let mut state = self.0.state();
        let objects = state.bucket_mut(&input.bucket)?;
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            objects.remove(&object.key);
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        if input.delete.quiet == Some(true) {
            deleted.clear();
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let max_keys = input.max_keys.unwrap_or(MAX_KEYS);
        let asked = usize::try_from(max_keys)
            .map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))?;
        let token = input.continuation_token.as_deref();
        let last_name =
            token.map(|token| name_in(token).ok_or_else(incorrect_token)).transpose()?;
        let listing = Listing {
            prefix: input.prefix.as_deref().unwrap_or(""),
            delimiter: input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()),
            start_after: input.start_after.as_deref().unwrap_or(""),
            last_name: last_name.as_deref(),
            limit: asked.min(self.0.page_size.load(Ordering::Relaxed)),
        };
        let shown = |name: &str| match input.encoding_type.as_ref().map(EncodingType::as_str) {
            Some(EncodingType::URL) => url_encoded(name),
            _ => name.to_owned(),
        };
        let state = self.0.state();
        let (page, is_truncated) = state.list(&input.bucket, &listing)?;
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
                    ..s3s::dto::Object::default()
                }),
                Entry::CommonPrefix(prefix) => {
                    common_prefixes.push(CommonPrefix { prefix: Some(shown(prefix)) });
                }
            }
        }
        Ok(S3Response::new(ListObjectsV2Output {
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
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let attributes = Attributes {
            metadata: input.metadata.unwrap_or_default(),
            content_type: input.content_type,
            storage_class: input.storage_class,
            server_side_encryption: input.server_side_encryption,
        };
        let upload_id = self.0.state().begin_upload(&input.bucket, &input.key, attributes)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let body = read(input.body).await?;
        let mut declared = Declared {
            md5: input.content_md5,
            checksum: Checksum {
                checksum_crc32: input.checksum_crc32,
                checksum_crc32c: input.checksum_crc32c,
                checksum_crc64nvme: input.checksum_crc64nvme,
                checksum_sha1: input.checksum_sha1,
                checksum_sha256: input.checksum_sha256,
                checksum_type: None,
            },
        };
        declared.add_trailers(request.trailing_headers.as_ref());
        let checksum = declared.verify(&body)?;
        let part = Part { etag: checksum::etag_of(&body), body, checksum: checksum.clone() };
        let e_tag = Some(ETag::Strong(part.etag.clone()));
        let upload = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
        self.0.state().put_part(upload, input.part_number, part)?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..UploadPartOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let conditions = self.conditions(input.if_match, input.if_none_match);
        let upload = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
        let min_part_size = self.0.min_part_size.load(Ordering::Relaxed);
        let etag = self.0.state().complete_upload(upload, &listed, min_part_size, &conditions)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.0.state().abort_upload(&input.bucket, &input.key, &input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        if input.delimiter.is_some() || input.encoding_type.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "uploads are listed without delimiter and encoding"
            ));
        }
        let state = self.0.state();
        state.bucket(&input.bucket)?;
        let prefix = input.prefix.as_deref().unwrap_or("");
        let marker = (input.key_marker.as_deref().unwrap_or(""), input.upload_id_marker.as_deref());
        let is_after_marker = |id: &str, key: &str| match marker {
            (after, None) => key > after,
            (after, Some(after_id)) => (key, id) > (after, after_id),
        };
        let asked = usize::try_from(input.max_uploads.unwrap_or(MAX_KEYS)).unwrap_or(0);
        let limit = asked.min(self.0.page_size.load(Ordering::Relaxed)).max(1);
        let mut uploads: Vec<MultipartUpload> = state
            .open_uploads(&input.bucket)
            .into_iter()
            .filter(|(id, upload)| {
                upload.key.starts_with(prefix) && is_after_marker(id, &upload.key)
            })
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
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            is_truncated: Some(is_truncated),
            next_key_marker: last.and_then(|last| last.key.clone()),
            next_upload_id_marker: last.and_then(|last| last.upload_id.clone()),
            uploads: Some(uploads),
            ..ListMultipartUploadsOutput::default()
        }))
    }
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
