//! Uploads in parts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::abilities::{Carrier, Completion};
use super::checksum::Checksum;
use super::errors::{Action, Failure};
use super::{Bucket, metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::{Attributes, MultipartUpload, PutMode, PutOutcome};

/// Aborts every upload that was begun for a key below `directory`.
pub(super) async fn abort_all(bucket: &Bucket, directory: &str) -> Result<()> {
    let failed = |failure: Failure| {
        let url = bucket.url(directory);
        failure.into_error(Action::AbortUploads, &url, &bucket.place())
    };
    let mut key_marker = None;
    let mut upload_id_marker = None;
    loop {
        let page = bucket.ask(bucket.limits.answer, |client| {
            client
                .list_multipart_uploads()
                .bucket(&bucket.name)
                .prefix(format!("{}{directory}", bucket.base))
                .set_key_marker(key_marker.clone())
                .set_upload_id_marker(upload_id_marker.clone())
                .send()
        });
        let page = page.await.map_err(failed)?;
        for upload in page.uploads.unwrap_or_default() {
            let (Some(key), Some(id)) = (upload.key, upload.upload_id) else { continue };
            match abort_once(bucket, &key, &id).await {
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
    match abort_once(bucket, &bucket.full_key(key), id).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.is_missing_upload() => Ok(()),
        Err(failure) => Err(bucket.error(failure, Action::AbortUpload, key)),
    }
}

/// `full_key` is the key in the bucket.
async fn abort_once(bucket: &Bucket, full_key: &str, id: &str) -> Result<(), Failure> {
    let abort = bucket.ask(bucket.limits.answer, |client| {
        client.abort_multipart_upload().bucket(&bucket.name).key(full_key).upload_id(id).send()
    });
    abort.await.map(|_| ())
}

/// One CreateMultipartUpload; the server's number of the upload.
async fn begin_once(
    bucket: &Bucket,
    key: &ObjectKey,
    attributes: &Attributes,
    checksum: Checksum,
) -> Result<String, Failure> {
    let begin = bucket.ask(bucket.limits.answer, |client| {
        client
            .create_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.full_key(key))
            .content_type("application/octet-stream")
            .set_checksum_algorithm(checksum.algorithm())
            .set_metadata(metadata(attributes))
            .set_storage_class(bucket.storage_class.clone())
            .set_server_side_encryption(bucket.encryption.clone())
            .set_ssekms_key_id(bucket.kms_key_id.clone())
            .send()
    });
    let unnamed = || Failure::NotUnderstood("it did not name the upload".to_owned());
    begin.await?.upload_id.ok_or_else(unnamed)
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
        let failed = |failure| bucket.error(failure, Action::BeginUpload, key);
        if mode == PutMode::CreateOnly {
            // Known before hours of uploading rather than after.
            bucket.honours_create_only().await.map_err(failed)?;
        }
        let begin = bucket.abilities.with_checksum(Carrier::Announcement, |checksum| {
            begin_once(&bucket, key, attributes, checksum)
        });
        let id = begin.await.map_err(failed)?;
        Ok(S3Upload {
            bucket,
            key: key.clone(),
            mode,
            id,
            parts: Mutex::default(),
            aborted: AtomicBool::new(false),
        })
    }

    fn error(&self, failure: Failure, action: Action) -> Error {
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

    async fn put_part_once(
        &self,
        number: i32,
        content: Bytes,
        checksum: Checksum,
    ) -> Result<UploadPartOutput, Failure> {
        let bucket = &self.bucket;
        let payload = &bucket.payload(content, checksum);
        let headers = &payload.headers();
        let put = |hashed| {
            bucket.attempt(move |client| {
                let request = client
                    .upload_part()
                    .bucket(&bucket.name)
                    .key(bucket.full_key(&self.key))
                    .upload_id(&self.id)
                    .part_number(number)
                    .content_length(payload.length())
                    .set_checksum_algorithm(checksum.algorithm())
                    .set_checksum_crc32_c(headers.crc32c.clone())
                    .set_content_md5(headers.md5.clone())
                    .set_checksum_crc32(headers.crc32.clone())
                    .set_checksum_sha256(headers.sha256.clone())
                    .body(payload.stream())
                    .customize()
                    .interceptor(payload.signing(hashed));
                payload.watch(bucket.limits, request.send())
            })
        };
        let answer = bucket.abilities.with_signature(checksum, put).await?;
        // Without it the upload cannot be completed.
        if answer.e_tag.is_none() {
            let text = "it did not say the tag (ETag) of the part".to_owned();
            return Err(Failure::NotUnderstood(text));
        }
        bucket.abilities.note_answer(
            checksum,
            [answer.checksum_crc32_c(), answer.checksum_crc32(), answer.checksum_sha256()],
        );
        Ok(answer)
    }

    /// One CompleteMultipartUpload. With `create_only` the server is asked to refuse it when
    /// there is an object already.
    pub(super) async fn complete_once(
        &self,
        create_only: bool,
    ) -> Result<Result<PutOutcome, Failure>> {
        let bucket = &self.bucket;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts()?)).build();
        let complete = bucket.ask(bucket.limits.complete, |client| {
            client
                .complete_multipart_upload()
                .bucket(&bucket.name)
                .key(bucket.full_key(&self.key))
                .upload_id(&self.id)
                .multipart_upload(parts.clone())
                .set_if_none_match(create_only.then(|| "*".to_owned()))
                .send()
        });
        Ok(match complete.await {
            Ok(answer) if answer.e_tag.is_none() => {
                Box::pin(bucket.confirm(&self.key, None)).await.map(|()| PutOutcome::Stored)
            }
            Ok(_) => Ok(PutOutcome::Stored),
            Err(failure) if create_only && failure.is_precondition() => {
                Ok(PutOutcome::AlreadyExists)
            }
            Err(failure) => Err(failure),
        })
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
        let part_number = i32::try_from(number).map_err(|_| {
            Error::new(ErrorKind::Bug, format!("part number {number} is too large"))
        })?;
        let put = self.bucket.abilities.with_checksum(Carrier::Part, |checksum| {
            self.put_part_once(part_number, body.clone(), checksum)
        });
        let answer = put.await.map_err(|failure| self.error(failure, Action::PutPart(number)))?;
        // A checksum that the server does not know of is not named again.
        let part = CompletedPart::builder()
            .part_number(part_number)
            .set_e_tag(answer.e_tag)
            .set_checksum_crc32_c(answer.checksum_crc32_c)
            .set_checksum_crc32(answer.checksum_crc32)
            .set_checksum_sha256(answer.checksum_sha256)
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
        self.parts()?;
        let create_only = self.mode == PutMode::CreateOnly;
        // Also where uploads in one request honour create-only: Ceph 18 does
        // there and not here.
        if create_only && self.bucket.head(&self.key).await?.is_some() {
            return self.give_way().await;
        }
        let failed = |failure| self.error(failure, Action::CompleteUpload);
        let ask_server = create_only
            && self.bucket.honours_create_only().await.map_err(failed)?
            && self.bucket.abilities.asks_at_completion();
        let outcome = match self.complete_once(ask_server).await? {
            Err(failure) if ask_server && failure.may_be_for_a_header() => {
                let outcome = self.complete_once(false).await?;
                if outcome.is_ok() {
                    self.bucket.abilities.note_completion(Completion::Refused);
                }
                outcome.map_err(|_| failure)
            }
            outcome => outcome,
        };
        match outcome.map_err(failed)? {
            PutOutcome::AlreadyExists => self.give_way().await,
            PutOutcome::Stored => Ok(PutOutcome::Stored),
        }
    }

    async fn abort(&self) -> Result<()> {
        abort(&self.bucket, &self.key, &self.id).await?;
        self.aborted.store(true, Ordering::Relaxed);
        Ok(())
    }
}
