//! Uploads in parts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::errors::Failure;
use super::{Bucket, metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::{Attributes, MultipartUpload, PutMode, PutOutcome};

/// Aborts every upload that was begun for a key below `directory`.
pub(super) async fn abort_all(bucket: &Bucket, directory: &str) -> Result<()> {
    let failed = |failure: Failure| {
        let url = bucket.url(directory);
        failure.into_error("abort the unfinished uploads below", &url, &bucket.place)
    };
    let mut key_marker = None;
    let mut upload_id_marker = None;
    loop {
        let request = bucket
            .client
            .list_multipart_uploads()
            .bucket(&bucket.name)
            .prefix(format!("{}{directory}", bucket.base))
            .set_key_marker(key_marker.clone())
            .set_upload_id_marker(upload_id_marker.clone());
        let page = bucket.ask(bucket.limits.answer, request.send()).await.map_err(failed)?;
        for upload in page.uploads.unwrap_or_default() {
            let (Some(key), Some(id)) = (upload.key, upload.upload_id) else { continue };
            let request =
                bucket.client.abort_multipart_upload().bucket(&bucket.name).key(key).upload_id(id);
            match bucket.ask(bucket.limits.answer, request.send()).await {
                Ok(_) => {}
                Err(failure) if failure.is_missing_upload() => {}
                Err(failure) => return Err(failed(failure)),
            }
        }
        if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
            return Ok(());
        }
        let next = (page.next_key_marker, page.next_upload_id_marker);
        if next == (key_marker, upload_id_marker) {
            // A listing that goes on where it was would never end.
            return Err(failed(Failure::NotUnderstood(
                "the listing goes on, but the server does not say where".to_owned(),
            )));
        }
        (key_marker, upload_id_marker) = next;
    }
}

/// Aborts one upload. One that has ended is no error.
pub(super) async fn abort(bucket: &Bucket, key: &ObjectKey, id: &str) -> Result<()> {
    let request = bucket
        .client
        .abort_multipart_upload()
        .bucket(&bucket.name)
        .key(bucket.full_key(key))
        .upload_id(id);
    match bucket.ask(bucket.limits.answer, request.send()).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_missing_upload() => Ok(()),
        Err(failure) => Err(bucket.error(failure, "abort the upload of object", key)),
    }
}

#[derive(Debug)]
pub(super) struct S3Upload {
    bucket: Arc<Bucket>,
    key: ObjectKey,
    mode: PutMode,
    /// The server's number of the upload.
    id: String,
    /// By number.
    parts: Mutex<BTreeMap<u32, CompletedPart>>,
    aborted: AtomicBool,
}

impl S3Upload {
    pub(super) async fn begin(
        bucket: Arc<Bucket>,
        key: &ObjectKey,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<S3Upload> {
        let failed = |failure| bucket.error(failure, "begin the upload of object", key);
        if mode == PutMode::CreateOnly {
            // Known before hours of uploading rather than after.
            bucket.honours_create_only().await.map_err(failed)?;
        }
        let request = bucket
            .client
            .create_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.full_key(key))
            .content_type("application/octet-stream")
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .set_metadata(metadata(attributes))
            .set_storage_class(bucket.storage_class.clone())
            .set_server_side_encryption(bucket.encryption.clone())
            .set_ssekms_key_id(bucket.kms_key_id.clone());
        let answer = bucket.ask(bucket.limits.answer, request.send()).await.map_err(failed)?;
        let id = answer.upload_id.ok_or_else(|| {
            failed(Failure::NotUnderstood("it did not name the upload".to_owned()))
        })?;
        Ok(S3Upload {
            bucket,
            key: key.clone(),
            mode,
            id,
            parts: Mutex::default(),
            aborted: AtomicBool::new(false),
        })
    }

    fn error(&self, failure: Failure, action: &str) -> Error {
        self.bucket.error(failure, action, &self.key)
    }

    /// The parts in order.
    fn parts(&self) -> Result<Vec<CompletedPart>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((missing, _)) = (1..).zip(parts.keys()).find(|(n, number)| n != *number) {
            let url = self.bucket.url(self.key.as_str());
            return Err(Error::new(ErrorKind::Bug, format!("the parts of \"{url}\" leave a gap"))
                .with_detail(format!("Part {missing} was not sent.")));
        }
        Ok(parts.values().cloned().collect())
    }

    /// Ends an upload that came too late.
    async fn give_way(&self) -> Result<PutOutcome> {
        self.abort().await?;
        Ok(PutOutcome::AlreadyExists)
    }
}

#[async_trait]
impl MultipartUpload for S3Upload {
    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    async fn put_part(&self, number: u32, _offset: u64, body: Bytes) -> Result<()> {
        let action = format!("put part {number} of object");
        let part_number = i32::try_from(number).map_err(|_| {
            Error::new(ErrorKind::Bug, format!("part number {number} is too large"))
        })?;
        let payload = self.bucket.payload(body);
        let request = self
            .bucket
            .client
            .upload_part()
            .bucket(&self.bucket.name)
            .key(self.bucket.full_key(&self.key))
            .upload_id(&self.id)
            .part_number(part_number)
            .content_length(payload.length())
            .checksum_crc32_c(payload.crc32c())
            .body(payload.stream())
            .customize()
            .interceptor(payload.signing());
        let answer = self
            .bucket
            .attempt(payload.watch(self.bucket.limits, request.send()))
            .await
            .map_err(|failure| self.error(failure, &action))?;
        // A checksum that the server does not know of is not named again.
        let part = CompletedPart::builder()
            .part_number(part_number)
            .set_e_tag(answer.e_tag)
            .set_checksum_crc32_c(answer.checksum_crc32_c)
            .build();
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, part);
        Ok(())
    }

    async fn complete(&self) -> Result<PutOutcome> {
        if self.aborted.load(Ordering::Relaxed) {
            // Servers answer this in too many ways, a crash included.
            let url = self.bucket.url(self.key.as_str());
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the upload of \"{url}\" has ended"),
            ));
        }
        let parts = self.parts()?;
        let create_only = self.mode == PutMode::CreateOnly;
        // Also where uploads in one request honour create-only: Ceph 18 does
        // there and not here.
        if create_only && self.bucket.head(&self.key).await?.is_some() {
            return self.give_way().await;
        }
        let failed = |failure| self.error(failure, "complete the upload of object");
        let ask_server = create_only && self.bucket.honours_create_only().await.map_err(failed)?;
        let request = self
            .bucket
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket.name)
            .key(self.bucket.full_key(&self.key))
            .upload_id(&self.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_if_none_match(ask_server.then(|| "*".to_owned()));
        match self.bucket.ask(self.bucket.limits.complete, request.send()).await {
            Ok(_) => Ok(PutOutcome::Stored),
            Err(failure) if ask_server && failure.is_precondition() => self.give_way().await,
            Err(failure) => Err(failed(failure)),
        }
    }

    async fn abort(&self) -> Result<()> {
        abort(&self.bucket, &self.key, &self.id).await?;
        self.aborted.store(true, Ordering::Relaxed);
        Ok(())
    }
}
