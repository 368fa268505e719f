//! Uploads of whole objects, in one request each.

use bytes::Bytes;

use super::abilities::Carrier;
use super::checksum::Checksum;
use super::errors::{Action, Failure};
use super::{Bucket, metadata, size};
use crate::error::Result;
use crate::layout::ObjectKey;
use crate::store::{Attributes, PutMode, PutOutcome};

impl Bucket {
    /// One PutObject. With `create_only` the server is asked to refuse it when
    /// there is an object already.
    pub(super) async fn put_object(
        &self,
        key: &ObjectKey,
        content: Bytes,
        create_only: bool,
        attributes: &Attributes,
        checksum: Checksum,
    ) -> Result<PutOutcome, Failure> {
        let payload = &self.payload(content, checksum);
        let headers = &payload.headers();
        let put = |hashed| {
            self.attempt(move |client| {
                let request = client
                    .put_object()
                    .bucket(&self.name)
                    .key(self.full_key(key))
                    .content_type("application/octet-stream")
                    .content_length(payload.length())
                    .set_checksum_algorithm(checksum.algorithm())
                    .set_checksum_crc32_c(headers.crc32c.clone())
                    .set_content_md5(headers.md5.clone())
                    .set_checksum_crc32(headers.crc32.clone())
                    .set_checksum_sha256(headers.sha256.clone())
                    .set_metadata(metadata(attributes))
                    .set_storage_class(self.storage_class.clone())
                    .set_server_side_encryption(self.encryption.clone())
                    .set_ssekms_key_id(self.kms_key_id.clone())
                    .set_if_none_match(create_only.then(|| "*".to_owned()))
                    .body(payload.stream())
                    .customize()
                    .interceptor(payload.signing(hashed));
                payload.watch(self.limits, request.send())
            })
        };
        match self.abilities.with_signature(checksum, put).await {
            Ok(answer) => {
                self.abilities.note_answer(
                    checksum,
                    [answer.checksum_crc32_c(), answer.checksum_crc32(), answer.checksum_sha256()],
                );
                if answer.e_tag.is_none() {
                    Box::pin(self.confirm(key, Some(size(Some(payload.length()))))).await?;
                }
                Ok(PutOutcome::Stored)
            }
            Err(failure) if create_only && failure.is_precondition() => {
                Ok(PutOutcome::AlreadyExists)
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn put(
        &self,
        key: &ObjectKey,
        content: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome> {
        let failed = |failure| self.error(failure, Action::Put, key);
        let create_only = mode == PutMode::CreateOnly;
        let honoured = !create_only || self.honours_create_only().await.map_err(failed)?;
        if !honoured && self.head(key).await?.is_some() {
            return Ok(PutOutcome::AlreadyExists);
        }
        let put = |ask_server| {
            let content = &content;
            self.abilities.with_checksum(Carrier::Object, move |checksum| {
                self.put_object(key, content.clone(), ask_server, attributes, checksum)
            })
        };
        let outcome = put(create_only && honoured).await.map_err(failed)?;
        // A server may refuse every If-None-Match in the words for an object that is there.
        if outcome == PutOutcome::AlreadyExists && self.head(key).await?.is_none() {
            let again = put(true).await.map_err(failed)?;
            if again == PutOutcome::Stored || self.head(key).await?.is_some() {
                return Ok(again);
            }
            self.note_refuses_new();
            return put(false).await.map_err(failed);
        }
        Ok(outcome)
    }
}
