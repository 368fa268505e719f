//! Whether there is an object, asked in the ways that servers let through.

use super::errors::{Action, Failure};
use super::{Bucket, attributes, body, moment, size};
use crate::error::Result;
use crate::layout::ObjectKey;
use crate::store::ObjectInfo;

impl Bucket {
    pub(super) async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        let region = self.address.region();
        match self.head_once(key).await {
            // The listing that was made for the reason may have found another region.
            Err(failure) if failure.is_without_reason() && self.address.region() != region => {
                self.head_once(key).await
            }
            answer => answer,
        }
        .map_err(|failure| self.error(failure, Action::Head, key))
    }

    async fn head_once(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, Failure> {
        let refused = match self.head_object(key).await {
            Ok(info) => return Ok(Some(info)),
            Err(failure) if failure.is_missing_object() => return Ok(None),
            // Not every server, nor every proxy, lets HEAD through.
            Err(failure) if failure.is_unknown_method() => {
                match Box::pin(self.head_by_get(key)).await {
                    Ok(info) => return Ok(Some(info)),
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        match self.without_absence(refused, key).await {
            None => Ok(None),
            Some(failure) if failure.shows_object() => {
                match Box::pin(self.head_by_get(key)).await {
                    Ok(info) => Ok(Some(info)),
                    Err(_) => Err(failure),
                }
            }
            Some(failure) => Err(failure),
        }
    }

    /// What HEAD says, from the answer to a request for the object. Its content is not read.
    async fn head_by_get(&self, key: &ObjectKey) -> Result<ObjectInfo, Failure> {
        let answer = self
            .ask(self.limits.answer, |client| {
                client.get_object().bucket(&self.name).key(self.full_key(key)).send()
            })
            .await?;
        Ok(body::info(key, size(answer.content_length), &answer))
    }

    /// Whether an upload without the tag of an object in its answer stored one. All servers
    /// send the tag; what answers without it may be something on the way to the server.
    pub(super) async fn confirm(
        &self,
        key: &ObjectKey,
        size_bytes: Option<u64>,
    ) -> Result<(), Failure> {
        match self.head_once(key).await? {
            Some(info) if size_bytes.is_none_or(|size| size == info.size_bytes) => Ok(()),
            _ => Err(Failure::NotUnderstood(
                "it answered as if the object were stored, and the object is not there".to_owned(),
            )),
        }
    }

    async fn head_object(&self, key: &ObjectKey) -> Result<ObjectInfo, Failure> {
        let answer = self
            .ask(self.limits.answer, |client| {
                client.head_object().bucket(&self.name).key(self.full_key(key)).send()
            })
            .await?;
        Ok(ObjectInfo {
            key: key.clone(),
            size_bytes: size(answer.content_length),
            last_modified: moment(answer.last_modified.as_ref()),
            etag: answer.e_tag.clone(),
            storage_class: answer.storage_class.map(|class| class.as_str().to_owned()),
            attributes: attributes(answer.metadata.as_ref()),
        })
    }
}
