//! A strict S3 server in this process, for tests.
//!
//! It speaks S3 over a real socket and keeps objects in memory. It is strict
//! where real servers are: signatures (Signature Version 4), checksums that
//! were sent, the order, etags and sizes of parts, and create-only writes of
//! which exactly one wins. What other servers do differently is behind
//! switches, and what goes wrong on the way is the business of
//! [`crate::fault_proxy`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::StorageClass;
use s3s::service::S3ServiceBuilder;
use s3s::validation::NameValidation;
use s3s::{S3Result, s3_error};

use crate::server_thread::ServerThread;
pub use connection::RequestSeen;
use dialect::{Dialect, Spoken};
use state::{Attributes, Object, State, WriteConditions};

mod api;
mod checksum;
mod connection;
pub mod dialect;
mod state;

const ACCESS_KEY: &str = "AKIAWALETESTS";
const SECRET_KEY: &str = "secret/of+the/tests";

/// Why the server refuses every request, see [`S3Server::refuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400 `ExpiredToken`, as for a session whose time is over.
    ExpiredToken,
    /// 403 `RequestTimeTooSkewed`, as for a client whose clock is wrong.
    ClockSkew,
    /// 403 `AccessDenied`, as for a key without the permission.
    AccessDenied,
}

/// An S3 server on a port of 127.0.0.1; dropping it stops it and forgets its objects.
pub struct S3Server {
    shared: Arc<Shared>,
    thread: ServerThread,
}

/// What the fixture and the connections share.
struct Shared {
    state: Mutex<State>,
    requests: Mutex<Vec<RequestSeen>>,
    secret_key: Mutex<String>,
    refusal: Mutex<Option<Refusal>>,
    ignores_create_only: AtomicBool,
    refuses_to_list_uploads: AtomicBool,
    dialect: Spoken,
    min_part_size: AtomicUsize,
    page_size: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the objects are locked")
    }

    fn requests(&self) -> MutexGuard<'_, Vec<RequestSeen>> {
        self.requests.lock().expect("no panic while the request log is locked")
    }
}

/// Knows one pair of keys, and refuses all on demand.
struct Auth(Arc<Shared>);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match *self.0.refusal.lock().expect("no panic while the refusal is locked") {
            Some(Refusal::ExpiredToken) => {
                return Err(s3_error!(ExpiredToken, "The provided token has expired."));
            }
            Some(Refusal::ClockSkew) => {
                return Err(s3_error!(
                    RequestTimeTooSkewed,
                    "The difference between the request time and the server's time is too large."
                ));
            }
            Some(Refusal::AccessDenied) => return Err(s3_error!(AccessDenied, "Access Denied")),
            None => {}
        }
        if access_key != ACCESS_KEY {
            return Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            ));
        }
        let secret = self.0.secret_key.lock().expect("no panic while the key is locked").clone();
        Ok(SecretKey::from(secret))
    }
}

/// Lets buckets have any name: those of Ceph's tenants, and from before there were rules.
struct AnyName;

impl NameValidation for AnyName {
    fn validate_bucket_name(&self, name: &str) -> bool {
        !name.is_empty()
    }
}

impl S3Server {
    /// Starts a server without buckets.
    ///
    /// # Panics
    /// When no socket or thread can be had.
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            requests: Mutex::default(),
            secret_key: Mutex::new(SECRET_KEY.to_owned()),
            refusal: Mutex::default(),
            ignores_create_only: AtomicBool::new(false),
            refuses_to_list_uploads: AtomicBool::new(false),
            dialect: Spoken::default(),
            min_part_size: AtomicUsize::new(5 * 1024 * 1024),
            page_size: AtomicUsize::new(100),
        });
        let mut service = S3ServiceBuilder::new(api::Api(Arc::clone(&shared)));
        service.set_auth(Auth(Arc::clone(&shared)));
        service.set_validation(AnyName);
        let service = service.build();
        let of_connections = Arc::clone(&shared);
        let thread = ServerThread::start("s3-server", move |listener| {
            connection::accept(listener, service, of_connections)
        })
        .expect("could not start the S3 server of the tests");
        S3Server { shared, thread }
    }

    /// `http://127.0.0.1:PORT`; buckets stand in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.thread.address())
    }

    /// The access key it knows.
    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    /// The secret key it knows at first.
    pub fn secret_key(&self) -> &str {
        SECRET_KEY
    }

    /// From now on only this secret key is right.
    pub fn change_secret_key(&self, secret_key: &str) {
        *self.shared.secret_key.lock().expect("no panic while the key is locked") =
            secret_key.to_owned();
    }

    /// From now on every request is refused for this reason, or none.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        *self.shared.refusal.lock().expect("no panic while the refusal is locked") = refusal;
    }

    /// Whether `If-None-Match: *` is overlooked and the object overwritten, as
    /// Garage does.
    pub fn ignore_create_only(&self, ignore: bool) {
        self.shared.ignores_create_only.store(ignore, Ordering::Relaxed);
    }

    /// From now on the server has the manners of another one.
    pub fn speak(&self, dialect: Dialect) {
        self.shared.dialect.set(dialect);
    }

    /// Whether uploads in parts may not be listed, as for a key without the permission
    /// `s3:ListBucketMultipartUploads`.
    pub fn refuse_to_list_uploads(&self, refuse: bool) {
        self.shared.refuses_to_list_uploads.store(refuse, Ordering::Relaxed);
    }

    /// What every part but the last must have at least, in bytes; S3's 5 MiB at first.
    pub fn set_min_part_size(&self, bytes: usize) {
        self.shared.min_part_size.store(bytes, Ordering::Relaxed);
    }

    /// How many names a page of a listing has at most, however many were asked for;
    /// 100 at first.
    pub fn set_page_size(&self, names: usize) {
        self.shared.page_size.store(names, Ordering::Relaxed);
    }

    /// Makes a bucket; one that is there stays as it is.
    pub fn create_bucket(&self, bucket: &str) {
        self.shared.state().create_bucket(bucket);
    }

    /// Keys and sizes in bytes of a bucket's objects, in the order of keys.
    ///
    /// # Panics
    /// When there is no such bucket, as all the methods below.
    pub fn objects(&self, bucket: &str) -> Vec<(String, u64)> {
        let state = self.shared.state();
        let objects = existing(state.bucket(bucket));
        objects.iter().map(|(key, object)| (key.clone(), object.body.len() as u64)).collect()
    }

    /// The bytes of an object, if there is one.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let state = self.shared.state();
        existing(state.bucket(bucket)).get(key).map(|object| object.body.to_vec())
    }

    /// The user metadata of an object (names without `x-amz-meta-`), if there is one.
    pub fn metadata(&self, bucket: &str, key: &str) -> Option<Vec<(String, String)>> {
        let state = self.shared.state();
        let object = existing(state.bucket(bucket)).get(key)?;
        let mut metadata: Vec<(String, String)> = object
            .attributes
            .metadata
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        metadata.sort();
        Some(metadata)
    }

    /// Puts an object in place, replacing what is there.
    pub fn put_object(&self, bucket: &str, key: &str, body: impl Into<Bytes>) {
        let object = Object::new(body.into(), Attributes::default(), Default::default());
        let mut state = self.shared.state();
        existing(state.put(bucket, key, object, &WriteConditions::default()));
    }

    /// Removes an object; `false` when there was none.
    pub fn delete_object(&self, bucket: &str, key: &str) -> bool {
        existing(self.shared.state().bucket_mut(bucket)).remove(key).is_some()
    }

    /// Flips the bits of the byte at `offset`. Etag and metadata stay, and the
    /// server vouches with no checksum of its own: the damage is for the reader to find.
    ///
    /// # Panics
    /// When there is no such object or byte.
    pub fn corrupt_object(&self, bucket: &str, key: &str, offset: usize) {
        self.damage(bucket, key, |body| body[offset] ^= 0xff);
    }

    /// Cuts an object down to `length` bytes, otherwise like [`S3Server::corrupt_object`].
    ///
    /// # Panics
    /// When there is no such object, or it is not longer than that.
    pub fn truncate_object(&self, bucket: &str, key: &str, length: usize) {
        self.damage(bucket, key, |body| {
            assert!(length < body.len(), "object \"{key}\" has only {} bytes", body.len());
            body.truncate(length);
        });
    }

    fn damage(&self, bucket: &str, key: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        self.change(bucket, key, |object| {
            let mut body = object.body.to_vec();
            damage(&mut body);
            object.body = body.into();
            object.checksum = Default::default();
        });
    }

    /// Moves an object to another storage class, as a lifecycle rule does. Out of `GLACIER`
    /// and `DEEP_ARCHIVE` it cannot be read.
    ///
    /// # Panics
    /// When there is no such object, as [`S3Server::restore_object`].
    pub fn set_storage_class(&self, bucket: &str, key: &str, class: &'static str) {
        self.change(bucket, key, |object| {
            object.attributes.storage_class = Some(StorageClass::from_static(class));
            object.is_restored = false;
        });
    }

    /// Makes a copy of an object that can be read for a while. Listings do not tell.
    pub fn restore_object(&self, bucket: &str, key: &str) {
        self.change(bucket, key, |object| object.is_restored = true);
    }

    fn change(&self, bucket: &str, key: &str, change: impl FnOnce(&mut Object)) {
        let mut state = self.shared.state();
        let object = existing(state.bucket_mut(bucket)).get_mut(key);
        change(object.unwrap_or_else(|| panic!("no object \"{key}\" to change")));
    }

    /// The keys of uploads in parts that were begun and neither completed nor aborted.
    pub fn open_multipart_uploads(&self, bucket: &str) -> Vec<String> {
        let state = self.shared.state();
        state.open_uploads(bucket).into_iter().map(|(_, upload)| upload.key.clone()).collect()
    }

    /// Every request that was answered so far, in the order of the answers.
    pub fn requests(&self) -> Vec<RequestSeen> {
        self.shared.requests().clone()
    }

    /// How many requests of a method were answered whose key begins with `key_prefix`.
    pub fn count_requests(&self, method: &str, key_prefix: &str) -> usize {
        let is_counted = |request: &&RequestSeen| {
            request.method == method && request.key.starts_with(key_prefix)
        };
        self.shared.requests().iter().filter(is_counted).count()
    }
}

/// What a test took for granted.
fn existing<T>(result: S3Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{}", error.message().unwrap_or("no such thing")))
}
