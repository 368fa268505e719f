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

use super::{
    Ability, Attributes, ListPage, ListRequest, MultipartUpload, ObjectInfo, ObjectReader,
    ObjectStore, PutMode, PutOutcome,
};
use crate::config::{Encryption, S3Config};
use crate::error::{Error, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::Notices;
use crate::rate_limit::RateLimit;

mod abilities;
mod address;
mod body;
mod causes;
mod checksum;
mod client;
mod credentials;
mod delete;
mod errors;
mod head;
mod http;
mod limits;
mod listing;
mod missing;
mod multipart;
mod payload;
mod probe;
mod put;
mod way;

use abilities::{Abilities, Order};
use address::{Address, Signing};
use checksum::Checksum;
use credentials::{Keys, Refusal};
use errors::{Action, Answer, Failure, Place, named_region};
use limits::Limits;
use multipart::S3Upload;
use payload::Payload;
use way::Way;

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
    address: Address,
    abilities: Abilities,
    keys: Keys,
    name: String,
    /// What all keys begin with: empty, or a path that ends with a slash.
    base: String,
    /// For error messages, with the region that requests were signed for at first.
    first_place: Place,
    storage_class: Option<StorageClass>,
    encryption: Option<ServerSideEncryption>,
    kms_key_id: Option<String>,
    way: Way,
    limits: Limits,
    /// Counts the pieces of all uploads.
    activity: Arc<AtomicU64>,
    /// For the content of all uploads.
    upload_rate_limit: Option<Arc<RateLimit>>,
    /// What [`ObjectStore::encryption`] says.
    archived_as: Encryption,
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
        let (name, path) = (&config.bucket, config.path.trim_matches('/'));
        let base = if path.is_empty() { String::new() } else { format!("{path}/") };
        let (client, region) = (connection.client, connection.region);
        let endpoint = connection.endpoint;
        let bucket = Bucket {
            address: Address::new(client, region.clone(), name, notices.clone()),
            abilities: Abilities::new(format!("s3://{name}/{base}"), notices.clone()),
            name: name.clone(),
            base,
            first_place: Place {
                bucket: name.clone(),
                endpoint,
                region,
                path_style: connection.path_style,
                proxy: connection.way.proxy.clone(),
                encrypts: config.sse.is_some(),
                credentials: connection.keys.source(),
            },
            keys: connection.keys,
            way: connection.way,
            storage_class: config.storage_class.as_deref().map(StorageClass::from),
            encryption: config.sse.as_deref().map(ServerSideEncryption::from),
            kms_key_id: config.sse_kms_key_id.clone(),
            limits,
            activity: Arc::default(),
            upload_rate_limit: None,
            archived_as: Encryption::default(),
            notices,
        };
        Ok(S3Store { bucket: Arc::new(bucket) })
    }

    /// A store that uploads no faster than that. Only one that is not used yet.
    pub(super) fn limited_to(mut self, upload_rate_limit: Option<Arc<RateLimit>>) -> S3Store {
        if let Some(bucket) = Arc::get_mut(&mut self.bucket) {
            bucket.upload_rate_limit = upload_rate_limit;
        }
        self
    }

    /// A store of objects that are encrypted like that. Only one that is not used yet.
    pub(super) fn encrypted(mut self, encryption: Encryption) -> S3Store {
        if let Some(bucket) = Arc::get_mut(&mut self.bucket) {
            bucket.archived_as = encryption;
        }
        self
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

    fn payload(&self, content: Bytes, checksum: Checksum) -> Payload {
        Payload::new(content, checksum, &self.activity).limited_to(self.upload_rate_limit.clone())
    }

    /// What error messages say of the store.
    fn place(&self) -> Place {
        Place { region: self.address.region(), ..self.first_place.clone() }
    }

    /// The key inside the bucket.
    fn full_key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.base)
    }

    fn error(&self, failure: Failure, action: Action, key: &ObjectKey) -> Error {
        failure.into_error(action, &self.url(key.as_str()), &self.place())
    }

    /// One request that is answered within `limit` or fails.
    async fn ask<T, E, Asking>(
        &self,
        limit: Duration,
        request: impl Fn(Client) -> Asking,
    ) -> Result<T, Failure>
    where
        Asking: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.attempt(|client| within(limit, request(client))).await
    }

    /// One request that has its limit. It is made once more when the server names another
    /// region to sign it for. When the server refuses the keys that it was signed with,
    /// others are looked for.
    async fn attempt<T, Asking>(&self, request: impl Fn(Client) -> Asking) -> Result<T, Failure>
    where
        Asking: Future<Output = Result<T, Failure>>,
    {
        let generation = self.keys.generation();
        let signing = self.address.signing();
        let outcome = match request(signing.client).await {
            Err(failure) => match self.address.elsewhere(&signing.region, &failure) {
                Some(elsewhere) => self.attempt_elsewhere(elsewhere, failure, request).await,
                None => Err(failure),
            },
            answer => answer,
        };
        let failure = match outcome {
            Ok(answer) => {
                self.keys.accepted();
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        let refusal = failure.refusal(&self.place());
        Err(match (failure, refusal) {
            (Failure::Answered(answer), Some(refusal)) => {
                let may_pass = self.keys.refused(generation, refusal).await;
                let needs_new_keys = refusal == Refusal::NotKnown && self.keys.may_be_replaced();
                Failure::Answered(Answer { may_pass, needs_new_keys, ..answer })
            }
            (failure, _) => failure,
        })
    }

    /// Makes a request once more that the server `refused` for the region it was signed for.
    async fn attempt_elsewhere<T, Asking>(
        &self,
        elsewhere: Signing,
        refused: Failure,
        request: impl Fn(Client) -> Asking,
    ) -> Result<T, Failure>
    where
        Asking: Future<Output = Result<T, Failure>>,
    {
        let outcome = request(elsewhere.client.clone()).await;
        match &outcome {
            // Neither of the regions will do.
            Err(failure) if named_region(failure).is_some() => return Err(refused),
            Err(failure) if !failure.is_answer() || failure.is_without_reason() => {}
            _ => self.address.move_to(elsewhere),
        }
        outcome
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn url(&self, key: &str) -> String {
        self.bucket.url(key)
    }

    fn encryption(&self) -> Encryption {
        self.bucket.archived_as.clone()
    }

    fn server(&self) -> Option<&str> {
        self.bucket.first_place.endpoint.as_deref()
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

    fn pages_at_once(&self) -> usize {
        match self.bucket.abilities.order() {
            Order::Ordered => listing::PAGES_AT_ONCE,
            // Each page would be all of the listing.
            Order::NotKnown | Order::Unordered => 1,
        }
    }

    async fn list(&self, request: &ListRequest, page: Option<String>) -> Result<ListPage> {
        listing::list(&self.bucket, request, page).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.bucket.delete(key).await
    }

    async fn delete_all(&self, keys: &[ObjectKey]) -> Result<()> {
        self.bucket.delete_all(keys).await
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
        honoured.map_err(|failure| self.bucket.error(failure, Action::Put, &probe))
    }

    async fn abilities(&self) -> Result<Vec<Ability>> {
        Ok(self.find_abilities().await)
    }

    fn way(&self) -> Vec<Ability> {
        self.bucket.way.describe()
    }

    fn credentials_source(&self) -> Option<String> {
        self.bucket.first_place.credentials.get()
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
