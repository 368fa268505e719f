//! The requests of S3 that the server answers.

mod listing;
mod objects;
mod uploads;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Checksum, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, ETagCondition, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input, ListObjectsV2Output,
    PutObjectInput, PutObjectOutput, StreamingBlob, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::Shared;
use super::checksum::{self, Declared};
use super::state::WriteConditions;

pub(super) struct Api(pub(super) Arc<Shared>);

impl Shared {
    /// The conditions of a write, as far as this server honours them.
    fn conditions(
        &self,
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> WriteConditions {
        match self.ignores_create_only.load(Ordering::Relaxed) {
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

/// Reads a body and checks it against what the request declares of it. Returns the
/// checksums to keep, too.
async fn receive(
    body: Option<StreamingBlob>,
    mut declared: Declared,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<(Bytes, Checksum)> {
    let body = read(body).await?;
    declared.add_trailers(trailers);
    let checksum = declared.verify(&body)?;
    Ok((body, checksum))
}

fn size(bytes: &[u8]) -> Option<i64> {
    i64::try_from(bytes.len()).ok()
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
        objects::put(&self.0, request).await.map(S3Response::new)
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        objects::get(&self.0, request).map(S3Response::new)
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        objects::head(&self.0, request).map(S3Response::new)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        objects::delete(&self.0, request).map(S3Response::new)
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        objects::delete_several(&self.0, request).map(S3Response::new)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        listing::objects(&self.0, request).map(S3Response::new)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        uploads::begin(&self.0, request).map(S3Response::new)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        uploads::put_part(&self.0, request).await.map(S3Response::new)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        uploads::complete(&self.0, request).map(S3Response::new)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        uploads::abort(&self.0, request).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        if self.0.refuses_to_list_uploads.load(Ordering::Relaxed) {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        listing::uploads(&self.0, request).map(S3Response::new)
    }
}
