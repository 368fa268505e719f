//! Deletion of objects: up to a thousand in a request, where the server can.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Bucket;
use super::checksum::{Checksum, Headers};
use super::errors::{Action, Failure};
use crate::error::Result;
use crate::layout::ObjectKey;

/// No server takes more in one request.
const MOST_KEYS: usize = 1000;
/// Objects that are deleted at the same time, where each takes a request.
const AT_ONCE: usize = 8;

impl Bucket {
    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let delete = self.ask(self.limits.answer, |client| {
            client.delete_object().bucket(&self.name).key(self.full_key(key)).send()
        });
        match delete.await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_missing_object() => Ok(()),
            Err(failure) => Err(self.error(failure, Action::Delete, key)),
        }
    }

    pub(super) async fn delete_all(&self, keys: &[ObjectKey]) -> Result<()> {
        for keys in keys.chunks(MOST_KEYS) {
            let left = match (self.abilities.deletes_many(), keys) {
                (true, [first, _, ..]) => match self.delete_many(keys).await {
                    Ok(left) => left,
                    Err(failure) if failure.may_be_for_a_request() => {
                        self.abilities.note_deletes_one_by_one();
                        keys.to_vec()
                    }
                    Err(failure) => return Err(self.error(failure, Action::Delete, first)),
                },
                _ => keys.to_vec(),
            };
            // Asked for by itself, each says what is wrong with it.
            stream::iter(left)
                .map(|key| async move { self.delete(&key).await })
                .buffer_unordered(AT_ONCE)
                .try_collect::<Vec<()>>()
                .await?;
        }
        Ok(())
    }

    /// Deletes with one request; the keys that the server did not delete are left.
    async fn delete_many(
        &self,
        keys: &[ObjectKey],
    ) -> std::result::Result<Vec<ObjectKey>, Failure> {
        let name = |key| ObjectIdentifier::builder().key(self.full_key(key)).build();
        let objects: std::result::Result<Vec<_>, _> = keys.iter().map(name).collect();
        let delete =
            objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).build());
        let delete = delete.map_err(|error| Failure::NotUnderstood(error.to_string()))?;
        let answer = self
            .ask(self.limits.answer, |client| {
                let request = client.delete_objects().bucket(&self.name).delete(delete.clone());
                request.customize().interceptor(WithMd5).send()
            })
            .await?;
        if answer.deleted().iter().any(|deleted| deleted.delete_marker() == Some(true)) {
            self.abilities.note_keeps_versions();
        }
        let failed = answer.errors();
        let is_left = |key: &&ObjectKey| {
            let full_key = self.full_key(key);
            failed.iter().any(|error| error.key() == Some(&full_key))
        };
        Ok(keys.iter().filter(is_left).cloned().collect())
    }
}

/// All servers demand a checksum of the list of names; the older ones know this one alone.
#[derive(Debug)]
struct WithMd5;

impl Intercept for WithMd5 {
    fn name(&self) -> &'static str {
        "WithMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let body = context.request().body().bytes().ok_or("the list of names is not in memory")?;
        let md5 = Headers::of(Checksum::Md5, body).md5.unwrap_or_default();
        context.request_mut().headers_mut().insert("content-md5", md5);
        Ok(())
    }
}
