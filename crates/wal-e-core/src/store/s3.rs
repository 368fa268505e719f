//! Objects in a bucket of Amazon S3 or of a server that speaks its protocol.
//!
//! Every call is one attempt; [`RetryingStore`](super::retry::RetryingStore)
//! around this store decides whether there is another. No call waits for ever:
//! each request has a limit, an upload and a download one for standing still.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use super::{
    Attributes, ListPage, ListRequest, MultipartUpload, ObjectInfo, ObjectReader, ObjectStore,
    PutMode, PutOutcome,
};
use crate::config::S3Config;
use crate::error::{Error, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::{Level, Notices};

mod body;
mod client;
mod credentials;
mod errors;
mod limits;
mod multipart;
mod payload;

use credentials::{Keys, Refusal};
use errors::{Answer, Failure, Place};
use limits::Limits;
use multipart::S3Upload;
use payload::Payload;

/// The names of the attributes among an object's user metadata.
const CONTENT_XXH128: &str = "wal-e-xxh128";
const UPLOAD_ID: &str = "wal-e-upload-id";

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

/// A bucket and how it is reached, shared with uploads.
struct Bucket {
    client: Client,
    keys: Keys,
    name: String,
    /// What all keys begin with: empty, or a path that ends with a slash.
    base: String,
    /// For error messages.
    place: Place,
    storage_class: Option<StorageClass>,
    encryption: Option<ServerSideEncryption>,
    kms_key_id: Option<String>,
    /// Whether payloads are signed: only where no TLS protects them on the way.
    signs_payloads: bool,
    /// Whether the server honours `If-None-Match: *`, once known.
    honours_create_only: OnceCell<bool>,
    limits: Limits,
    /// Counts the pieces of all uploads.
    activity: Arc<AtomicU64>,
    notices: Notices,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("url", &self.url("")).finish_non_exhaustive()
    }
}

impl S3Store {
    /// The store of `s3://bucket/path`. Nothing is asked of the server yet,
    /// unless the region has to be looked for.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when the settings cannot work: no region, a
    /// malformed endpoint, an unreadable CA file.
    pub async fn new(config: &S3Config, notices: Notices) -> Result<S3Store> {
        let limits = Limits::from_timeout(config.timeout);
        S3Store::with_limits(config, limits, notices).await
    }

    async fn with_limits(config: &S3Config, limits: Limits, notices: Notices) -> Result<S3Store> {
        let connection = client::connect(config, limits).await?;
        let (bucket, path) = (&config.bucket, config.path.trim_matches('/'));
        let bucket = Bucket {
            client: connection.client,
            name: bucket.clone(),
            base: if path.is_empty() { String::new() } else { format!("{path}/") },
            place: Place {
                bucket: bucket.clone(),
                endpoint: config.endpoint.clone(),
                region: connection.region,
                credentials: connection.keys.source(),
            },
            keys: connection.keys,
            storage_class: config.storage_class.as_deref().map(StorageClass::from),
            encryption: config.sse.as_deref().map(ServerSideEncryption::from),
            kms_key_id: config.sse_kms_key_id.clone(),
            signs_payloads: config.endpoint.as_deref().is_some_and(|e| e.starts_with("http://")),
            honours_create_only: OnceCell::new(),
            limits,
            activity: Arc::default(),
            notices,
        };
        Ok(S3Store { bucket: Arc::new(bucket) })
    }
}

/// Waits for an answer, but not for ever.
async fn within<T, E>(
    limit: Duration,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(|error| Failure::from_sdk(&error)),
        Err(_) => Err(Failure::TooSlow(limit)),
    }
}

impl Bucket {
    fn url(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.name, self.base)
    }

    fn payload(&self, content: Bytes) -> Payload {
        Payload::new(content, self.signs_payloads, &self.activity)
    }

    /// The key inside the bucket.
    fn full_key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.base)
    }

    fn error(&self, failure: Failure, action: &str, key: &ObjectKey) -> Error {
        failure.into_error(action, &self.url(key.as_str()), &self.place)
    }

    /// One request that is answered within `limit` or fails.
    async fn ask<T, E>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.attempt(within(limit, request)).await
    }

    /// One request that has its limit. When the server refuses the keys that it
    /// was signed with, others are looked for.
    async fn attempt<T>(
        &self,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let generation = self.keys.generation();
        let failure = match request.await {
            Ok(answer) => {
                self.keys.accepted();
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        let refusal = failure.refusal(&self.place);
        Err(match (failure, refusal) {
            (Failure::Answered(answer), Some(refusal)) => {
                let may_pass = self.keys.refused(generation, refusal).await;
                let needs_new_keys = refusal == Refusal::NotKnown && self.keys.may_be_replaced();
                Failure::Answered(Answer { may_pass, needs_new_keys, ..answer })
            }
            (failure, _) => failure,
        })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        let request = self.client.head_object().bucket(&self.name).key(self.full_key(key));
        match self.ask(self.limits.answer, request.send()).await {
            Ok(answer) => Ok(Some(ObjectInfo {
                key: key.clone(),
                size_bytes: size(answer.content_length),
                last_modified: moment(answer.last_modified.as_ref()),
                etag: answer.e_tag.clone(),
                storage_class: answer.storage_class.map(|class| class.as_str().to_owned()),
                attributes: attributes(answer.metadata.as_ref()),
            })),
            Err(failure) if failure.is_missing_object() => Ok(None),
            Err(failure) => {
                let failure = self.with_reason(failure, key).await;
                Err(self.error(failure, "look for object", key))
            }
        }
    }

    /// An answer to HEAD has no room for a reason. Where the keys were good before, another
    /// request tells whether they have been replaced since.
    async fn with_reason(&self, failure: Failure, key: &ObjectKey) -> Failure {
        if !failure.is_refused_without_reason() || !self.keys.may_be_replaced() {
            return failure;
        }
        let request =
            self.client.list_objects_v2().bucket(&self.name).prefix(self.full_key(key)).max_keys(1);
        match self.ask(self.limits.answer, request.send()).await {
            Err(told) => told,
            Ok(_) => failure,
        }
    }

    /// One PutObject. With `create_only` the server is asked to refuse it when
    /// there is an object already.
    async fn put_object(
        &self,
        key: &ObjectKey,
        content: Bytes,
        create_only: bool,
        attributes: &Attributes,
    ) -> Result<PutOutcome, Failure> {
        let payload = self.payload(content);
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.full_key(key))
            .content_type("application/octet-stream")
            .content_length(payload.length())
            .checksum_crc32_c(payload.crc32c())
            .set_metadata(metadata(attributes))
            .set_storage_class(self.storage_class.clone())
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_if_none_match(create_only.then(|| "*".to_owned()))
            .body(payload.stream())
            .customize()
            .interceptor(payload.signing());
        match self.attempt(payload.watch(self.limits, request.send())).await {
            Ok(_) => Ok(PutOutcome::Stored),
            Err(failure) if create_only && failure.is_precondition() => {
                Ok(PutOutcome::AlreadyExists)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn put(
        &self,
        key: &ObjectKey,
        content: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome> {
        let failed = |failure| self.error(failure, "put object", key);
        let create_only = mode == PutMode::CreateOnly;
        let honoured = !create_only || self.honours_create_only().await.map_err(failed)?;
        if !honoured && self.head(key).await?.is_some() {
            return Ok(PutOutcome::AlreadyExists);
        }
        self.put_object(key, content, create_only && honoured, attributes).await.map_err(failed)
    }

    async fn honours_create_only(&self) -> Result<bool, Failure> {
        let known = self.honours_create_only.get_or_try_init(|| self.probe_create_only());
        // Whoever waits for another's probe waits no longer than for one of its own.
        let limit = self.limits.answer;
        match tokio::time::timeout(limit, known).await {
            Ok(known) => known.copied(),
            Err(_) => Err(Failure::TooSlow(limit)),
        }
    }

    /// Servers are known that overwrite in spite of `If-None-Match: *` (Garage),
    /// and some refuse the header.
    async fn probe_create_only(&self) -> Result<bool, Failure> {
        let key = layout::create_only_probe();
        let content = Bytes::from_static(
            b"The create-only upload of this object shows whether the store honours If-None-Match.\n",
        );
        for _ in 0..2 {
            match self.put_object(&key, content.clone(), true, &Attributes::default()).await {
                Ok(PutOutcome::AlreadyExists) => return Ok(true),
                Ok(PutOutcome::Stored) => {}
                Err(failure) if failure.is_not_implemented() => break,
                Err(failure) => return Err(failure),
            }
        }
        self.notices.send(
            Level::Warning,
            format!("the store of \"{}\" does not honour create-only uploads", self.url("")),
            Some(
                "wal_e looks for an object before it uploads one, but two writers at the same \
                 moment could overwrite one another: let only one server write to this prefix."
                    .to_owned(),
            ),
        );
        Ok(false)
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn url(&self, key: &str) -> String {
        self.bucket.url(key)
    }

    fn server(&self) -> Option<&str> {
        self.bucket.place.endpoint.as_deref()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutOutcome> {
        self.bucket.put(key, body, mode, attributes).await
    }

    async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = S3Upload::begin(Arc::clone(&self.bucket), key, mode, attributes).await?;
        Ok(Box::new(upload))
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: Option<u64>,
        if_match: Option<&str>,
    ) -> Result<ObjectReader> {
        body::open(Arc::clone(&self.bucket), key, offset, length, if_match).await
    }

    fn gains_by_ranges(&self) -> bool {
        true
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        self.bucket.head(key).await
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        let bucket = &self.bucket;
        let start_after = request.start_after.as_ref().map(|key| format!("{}{key}", bucket.base));
        let prefix = format!("{}{}", bucket.base, request.prefix);
        let answer = bucket
            .client
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(&prefix)
            .set_start_after(start_after)
            .set_delimiter(request.shallow.then(|| "/".to_owned()))
            .set_continuation_token(page.clone());
        let broken_off = |failure: Failure| {
            // A listing can be empty, but there is none that is not there: whoever looks for
            // an object must not take this for the answer that it is missing.
            let failure = match failure {
                Failure::Answered(Answer { status, code: Some(code), .. })
                    if matches!(code.as_str(), "NoSuchKey" | "NoSuchUpload" | "NotFound") =>
                {
                    Failure::NotUnderstood(format!(
                        "the request to list objects was answered {status} {code}, as if it were for one object"
                    ))
                }
                failure => failure,
            };
            failure.into_error("list objects below", &bucket.url(&request.prefix), &bucket.place)
        };
        let answer = bucket.ask(bucket.limits.answer, answer.send()).await.map_err(broken_off)?;
        let next = answer.next_continuation_token;
        // A listing that goes on where it was would never end.
        if answer.is_truncated == Some(true) && (next.is_none() || next == page) {
            return Err(broken_off(Failure::NotUnderstood(
                "the listing goes on, but the server does not say where".to_owned(),
            )));
        }
        let objects = answer.contents.unwrap_or_default().into_iter().filter_map(|object| {
            // What has no key's form ("directory" objects, for one) is not ours.
            let key = ObjectKey::from_listing(object.key?.strip_prefix(&bucket.base)?)?;
            Some(ObjectInfo {
                key,
                size_bytes: size(object.size),
                last_modified: moment(object.last_modified.as_ref()),
                etag: object.e_tag,
                storage_class: object.storage_class.map(|class| class.as_str().to_owned()),
                attributes: Attributes::default(),
            })
        });
        Ok(ListPage {
            objects: objects.collect(),
            next: next.filter(|_| answer.is_truncated == Some(true)),
        })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let bucket = &self.bucket;
        let request = bucket.client.delete_object().bucket(&bucket.name).key(bucket.full_key(key));
        match bucket.ask(bucket.limits.answer, request.send()).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_missing_object() => Ok(()),
            Err(failure) => Err(bucket.error(failure, "delete object", key)),
        }
    }

    fn activity(&self) -> u64 {
        self.bucket.activity.load(Ordering::Relaxed)
    }

    async fn abort_uploads(&self, directory: &str) -> Result<()> {
        multipart::abort_all(&self.bucket, directory).await
    }

    async fn abort_upload(&self, key: &ObjectKey, id: &str) -> Result<()> {
        multipart::abort(&self.bucket, key, id).await
    }

    async fn create_only_is_atomic(&self) -> Result<bool> {
        let probe = layout::create_only_probe();
        let honoured = self.bucket.honours_create_only().await;
        honoured.map_err(|failure| self.bucket.error(failure, "put object", &probe))
    }

    fn credentials_source(&self) -> Option<String> {
        self.bucket.place.credentials.get()
    }
}

/// A size as S3 tells it.
fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0)
}

fn moment(time: Option<&DateTime>) -> OffsetDateTime {
    time.and_then(|time| OffsetDateTime::from_unix_timestamp_nanos(time.as_nanos()).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn metadata(attributes: &Attributes) -> Option<HashMap<String, String>> {
    let metadata: HashMap<String, String> =
        [(CONTENT_XXH128, &attributes.content_xxh128), (UPLOAD_ID, &attributes.upload_id)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
            .collect();
    (!metadata.is_empty()).then_some(metadata)
}

fn attributes(metadata: Option<&HashMap<String, String>>) -> Attributes {
    // Header names have no case, and not every server keeps ours.
    let find = |wanted: &str| {
        let (_, value) = metadata?.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(value.clone())
    };
    Attributes { content_xxh128: find(CONTENT_XXH128), upload_id: find(UPLOAD_ID) }
}

#[cfg(test)]
mod tests;
