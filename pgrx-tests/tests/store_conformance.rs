//! The stores of the core against real protocols: the contract on each kind of
//! server, what happens when a server or the way to it fails, and what the
//! user is told then. Servers that were not written here are in `real_s3_server.rs`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use wal_e_core::config::{
    Credentials, FileConfig, S3Config, Secret, StaticCredentials, StoreConfig, StorePlace,
};
use wal_e_core::layout::{self, ObjectKey};
use wal_e_core::notice::{self, NoticeQueue};
use wal_e_core::store::retry::Patience;
use wal_e_core::store::{
    Attributes, ListRequest, ObjectStore, PutMode, PutOutcome, conformance, list_all,
    refusal_to_read,
};
use wal_e_core::{Error, ErrorKind};
use wal_e_e2e::fault_proxy::{Fault, FaultProxy};
use wal_e_e2e::moto::Moto;
use wal_e_e2e::s3_server::{Refusal, S3Server};

const BUCKET: &str = "archive";
const PATH: &str = "clusters/one";
const CREDENTIAL_SOURCE: &str = "env_dir \"/etc/wal-e.d/env\"";

/// No test waits longer than this for an answer or an error.
const DEADLINE: Duration = Duration::from_secs(120);

/// Enough for a few failures in a row, and soon at its end.
fn short_patience() -> Patience {
    Patience {
        give_up_after: Duration::from_secs(3),
        without_answer: Duration::from_secs(3),
        first_delay: Duration::from_millis(10),
        longest_delay: Duration::from_millis(100),
    }
}

fn s3_config(endpoint: &str, access_key: &str, secret_key: &str) -> S3Config {
    S3Config {
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(Credentials::Given(StaticCredentials {
            access_key_id: access_key.to_owned(),
            secret_access_key: Secret::new(secret_key),
            session_token: None,
            source: CREDENTIAL_SOURCE.to_owned(),
        })),
        ..S3Config::new(BUCKET, PATH)
    }
}

async fn open(config: &S3Config, patience: Patience) -> (Arc<dyn ObjectStore>, NoticeQueue) {
    open_store(&StorePlace::S3(config.clone()).into(), patience).await
}

async fn open_store(
    config: &StoreConfig,
    patience: Patience,
) -> (Arc<dyn ObjectStore>, NoticeQueue) {
    let (notices, queue) = notice::channel();
    let store = wal_e_core::store::open(config, patience, notices).await;
    (store.unwrap_or_else(|error| panic!("{error:?}")), queue)
}

/// A server with the bucket, and the settings for it.
fn server() -> (S3Server, S3Config) {
    let server = S3Server::start();
    server.create_bucket(BUCKET);
    let config = s3_config(&server.endpoint(), server.access_key(), server.secret_key());
    (server, config)
}

/// A server with the bucket, a proxy in front of it, and a store that reaches the server through it.
async fn through_proxy() -> (S3Server, FaultProxy, Arc<dyn ObjectStore>) {
    let (server, config) = server();
    let (proxy, store) = proxied(&server, config).await;
    (server, proxy, store)
}

async fn proxied(server: &S3Server, mut config: S3Config) -> (FaultProxy, Arc<dyn ObjectStore>) {
    let proxy = FaultProxy::start(&server.endpoint());
    config.endpoint = Some(proxy.endpoint());
    let (store, _) = open(&config, short_patience()).await;
    // The first write to a prefix may try out the server; what follows here is
    // about the writes after it.
    assert_eq!(create(store.as_ref(), "first", Bytes::new()).await, Ok(PutOutcome::Stored));
    (proxy, store)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(name).expect("a sound key")
}

/// The key as the server has it.
fn full(name: &str) -> String {
    format!("{PATH}/{name}")
}

fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
    bytes.into()
}

async fn create(
    store: &dyn ObjectStore,
    name: &str,
    body: Bytes,
) -> wal_e_core::Result<PutOutcome> {
    let put = async {
        let attributes = Attributes::default();
        store.put(&key(name), body, PutMode::CreateOnly, &attributes).await
    };
    within_deadline(put).await
}

async fn read(store: &dyn ObjectStore, name: &str) -> wal_e_core::Result<Bytes> {
    let read = async {
        let mut reader = store.get(&key(name), 0, None).await?;
        let mut content = BytesMut::new();
        while let Some(chunk) = reader.body.next_chunk().await? {
            content.extend_from_slice(&chunk);
        }
        Ok(content.freeze())
    };
    within_deadline(read).await
}

async fn within_deadline<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it should have ended by itself")
}

/// All that a user is shown of an error.
fn shown(error: &Error) -> String {
    format!(
        "{}\nDETAIL: {}\nHINT: {}",
        error.message(),
        error.detail().unwrap_or(""),
        error.hint().unwrap_or("")
    )
}

/// Asserts that an error is of a kind, contains what helps, and ends with a hint.
#[track_caller]
fn assert_tells(error: &Error, kind: ErrorKind, needles: &[&str]) {
    let shown = shown(error);
    assert_eq!(error.kind(), kind, "{shown}");
    for needle in needles {
        assert!(shown.contains(needle), "\"{needle}\" is not in:\n{shown}");
    }
    let hint = error.hint().unwrap_or("");
    assert!(hint.len() > 20 && hint.ends_with('.'), "no hint in:\n{shown}");
    for secret in [S3Server::start().secret_key(), WRONG_SECRET] {
        assert!(!format!("{error:?}{shown}").contains(secret), "a secret is in:\n{shown}");
    }
}

const WRONG_SECRET: &str = "not/the+secret/of+the/server";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_server_keeps_the_contract() {
    let (server, config) = server();
    let (store, queue) = open(&config, Patience::command()).await;
    conformance::run_all(store).await;
    assert_eq!(server.open_multipart_uploads(BUCKET), Vec::<String>::new());
    let strangers: Vec<_> = server
        .objects(BUCKET)
        .into_iter()
        .map(|(key, _)| key)
        .filter(|key| !key.starts_with(&full("conformance/")))
        .collect();
    assert_eq!(strangers, [full(layout::create_only_probe().as_str())]);
    assert_eq!(queue.drain(), [], "nothing is wrong with this server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_overwrites_is_found_out_and_handled() {
    let (server, config) = server();
    server.ignore_create_only(true);
    let (store, queue) = open(&config, Patience::command()).await;
    conformance::run_all_but_racing(store).await;
    assert_eq!(server.open_multipart_uploads(BUCKET), Vec::<String>::new());
    let said = queue.drain();
    let warnings = said.iter().filter(|notice| notice.message.contains("create-only"));
    assert_eq!(warnings.count(), 1, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_the_contract() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let config =
        StoreConfig::from(StorePlace::File(FileConfig { directory: directory.path().to_owned() }));
    let (store, _) = open_store(&config, Patience::none()).await;
    conformance::run_all(store).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_tells_the_storage_class_and_a_byte_whether_it_can_be_read() -> Result<()> {
    let moto = Moto::start()?;
    moto.create_bucket(BUCKET)?;
    for (class, told, is_cold) in [
        (None, &[None, Some("STANDARD")][..], false),
        (Some("STANDARD_IA"), &[Some("STANDARD_IA")], false),
        (Some("GLACIER"), &[Some("GLACIER")], true),
        (Some("DEEP_ARCHIVE"), &[Some("DEEP_ARCHIVE")], true),
    ] {
        let mut config = s3_config(&moto.endpoint(), "any", "secret");
        config.storage_class = class.map(str::to_owned);
        let (store, _) = open(&config, Patience::none()).await;
        let name = class.unwrap_or("usual");
        assert_eq!(create(store.as_ref(), name, noise(10)).await, Ok(PutOutcome::Stored));
        let listed = list_all(store.as_ref(), &ListRequest::default()).await?;
        let listed = listed.iter().find(|object| object.key == key(name)).unwrap();
        assert!(told.contains(&listed.storage_class.as_deref()), "{listed:?}");
        assert_eq!(listed.is_in_cold_storage(), is_cold, "{listed:?}");
        let refusal = refusal_to_read(store.as_ref(), &key(name)).await?;
        assert_eq!(refusal.is_some(), is_cold, "{refusal:?}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_of_the_server_side_arrive() {
    let (server, mut config) = server();
    config.storage_class = Some("STANDARD_IA".to_owned());
    config.sse = Some("aws:kms".to_owned());
    config.sse_kms_key_id = Some("key-7".to_owned());
    let (store, _) = open(&config, Patience::none()).await;
    assert_eq!(create(store.as_ref(), "single", noise(10)).await, Ok(PutOutcome::Stored));
    let begun =
        store.begin_multipart(&key("parts"), PutMode::Replace, &Attributes::default()).await;
    begun.unwrap().abort().await.unwrap();
    for (method, name) in [("PUT", "single"), ("POST", "parts")] {
        let requests = server.requests();
        let request = requests.iter().find(|r| r.method == method && r.key == full(name)).unwrap();
        let header = |name: &str| request.header(name);
        assert_eq!(header("x-amz-storage-class"), Some("STANDARD_IA"));
        assert_eq!(header("x-amz-server-side-encryption"), Some("aws:kms"));
        assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), Some("key-7"));
    }
}

#[tokio::test]
async fn refused_credentials_are_named_with_their_source() {
    let (server, right) = server();
    let endpoint = server.endpoint();
    let wrong_secret = s3_config(&endpoint, server.access_key(), WRONG_SECRET);
    let unknown_key = s3_config(&endpoint, "AKIAUNKNOWN", server.secret_key());
    let url = format!("s3://{BUCKET}/{PATH}/key");
    for (config, refusal, status, code) in [
        (&wrong_secret, None, "403", "SignatureDoesNotMatch"),
        (&unknown_key, None, "403", "InvalidAccessKeyId"),
        (&right, Some(Refusal::ExpiredToken), "400", "ExpiredToken"),
        (&right, Some(Refusal::AccessDenied), "403", "AccessDenied"),
        (&right, Some(Refusal::ClockSkew), "403", "RequestTimeTooSkewed"),
    ] {
        server.refuse(refusal);
        let (store, queue) = open(config, short_patience()).await;
        let put = create(store.as_ref(), "key", noise(100)).await.unwrap_err();
        assert_tells(&put, ErrorKind::Denied, &[&url, status, code, CREDENTIAL_SOURCE]);
        let get = read(store.as_ref(), "key").await.unwrap_err();
        assert_tells(&get, ErrorKind::Denied, &[&url, status, code, CREDENTIAL_SOURCE]);
        let list = list_all(store.as_ref(), &ListRequest::default()).await.unwrap_err();
        assert_tells(&list, ErrorKind::Denied, &[status, code, CREDENTIAL_SOURCE]);
        // The answer to HEAD has no body, so the code is not known.
        let head = store.head(&key("key")).await.unwrap_err();
        assert_tells(&head, ErrorKind::Denied, &[&url, status, CREDENTIAL_SOURCE]);
        assert!(!format!("{:?}{store:?}", queue.drain()).contains(WRONG_SECRET));
    }
    assert_eq!(server.objects(BUCKET), []);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_called_so() {
    let (server, config) = server();
    server.refuse(Some(Refusal::ClockSkew));
    let (store, _) = open(&config, short_patience()).await;
    let error = read(store.as_ref(), "key").await.unwrap_err();
    assert!(error.hint().unwrap_or("").contains("clock"), "{}", shown(&error));
}

#[tokio::test]
async fn a_missing_bucket_is_a_setting_and_no_missing_object() {
    let (server, config) = server();
    let config = S3Config { bucket: "absent".to_owned(), ..config };
    let (store, _) = open(&config, short_patience()).await;
    // Were it a missing object, a standby would take it for the end of the archive.
    let needles = ["absent", "404", "NoSuchBucket"];
    let get = read(store.as_ref(), "key").await.unwrap_err();
    assert_tells(&get, ErrorKind::Config, &needles);
    let put = create(store.as_ref(), "key", noise(100)).await.unwrap_err();
    assert_tells(&put, ErrorKind::Config, &needles);
    let list = list_all(store.as_ref(), &ListRequest::default()).await.unwrap_err();
    assert_tells(&list, ErrorKind::Config, &needles);
    drop(server);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = s3_config(&format!("http://{address}"), "any", WRONG_SECRET);
    let (store, _) = open(&config, short_patience()).await;
    let url = format!("s3://{BUCKET}/{PATH}/key");
    let error = create(store.as_ref(), "key", noise(100)).await.unwrap_err();
    assert_tells(&error, ErrorKind::Unavailable, &[&url, &address]);
    let error = read(store.as_ref(), "key").await.unwrap_err();
    assert_tells(&error, ErrorKind::Unavailable, &[&url, &address]);
}

#[tokio::test]
async fn a_server_that_resets_connections_is_unavailable_until_it_stops() {
    let (server, proxy, store) = through_proxy().await;
    proxy.set(Fault::Refuse);
    let error = create(store.as_ref(), "key", noise(100)).await.unwrap_err();
    assert_tells(&error, ErrorKind::Unavailable, &[&format!("s3://{BUCKET}/{PATH}/key")]);
    proxy.set(Fault::None);
    assert_eq!(create(store.as_ref(), "key", noise(100)).await, Ok(PutOutcome::Stored));
    assert_eq!(server.object(BUCKET, &full("key")).unwrap(), noise(100));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_then_told_of() {
    let (server, proxy, store) = through_proxy().await;
    proxy.next(4, "PUT ", Fault::Answer503);
    assert_eq!(create(store.as_ref(), "key", noise(1_000_000)).await, Ok(PutOutcome::Stored));
    assert_eq!(server.count_requests("PUT", &full("key")), 1);

    proxy.next(4, "GET ", Fault::Answer503);
    assert_eq!(read(store.as_ref(), "key").await, Ok(noise(1_000_000)));

    proxy.set(Fault::Answer503);
    let url = format!("s3://{BUCKET}/{PATH}/key");
    let error = read(store.as_ref(), "key").await.unwrap_err();
    assert_tells(&error, ErrorKind::Throttled, &[&url, "503", "SlowDown"]);
}

#[tokio::test]
async fn a_lost_answer_to_an_upload_is_found_out() {
    let (server, proxy, store) = through_proxy().await;
    proxy.next(1, &format!("PUT /{BUCKET}/{}", full("key")), Fault::HangUpAfterCommit);
    assert_eq!(create(store.as_ref(), "key", noise(1_000_000)).await, Ok(PutOutcome::Stored));
    assert_eq!(server.object(BUCKET, &full("key")).unwrap(), noise(1_000_000));

    // An object of another writer stays its own, lost answers or not.
    server.put_object(BUCKET, &full("taken"), "by another writer");
    proxy.next(1, &format!("PUT /{BUCKET}/{}", full("taken")), Fault::HangUpAfterCommit);
    assert_eq!(create(store.as_ref(), "taken", noise(100)).await, Ok(PutOutcome::AlreadyExists));
    assert_eq!(server.object(BUCKET, &full("taken")).unwrap(), b"by another writer");
}

#[tokio::test]
async fn a_lost_answer_to_a_completion_is_found_out() {
    let (server, proxy, store) = through_proxy().await;
    let content = noise(6 << 20);
    for mode in [PutMode::CreateOnly, PutMode::Replace] {
        let name = format!("{mode:?}");
        let begun = store.begin_multipart(&key(&name), mode, &Attributes::default()).await;
        let upload = begun.unwrap();
        proxy.next(1, "PUT ", Fault::HangUpAfterCommit);
        proxy.next(1, "PUT ", Fault::ResetAfterUpload(100_000));
        upload.put_part(2, 5 << 20, content.slice(5 << 20..)).await.unwrap();
        upload.put_part(1, 0, content.slice(..5 << 20)).await.unwrap();
        let completion = format!("POST /{BUCKET}/{}?", full(&name));
        let before = proxy.requests().len();
        proxy.next(1, &completion, Fault::HangUpAfterCommit);
        assert_eq!(within_deadline(upload.complete()).await, Ok(PutOutcome::Stored));
        let asked = proxy.requests();
        assert!(asked[before..].iter().any(|line| line.contains(&completion)), "{asked:?}");
        assert_eq!(server.object(BUCKET, &full(&name)).unwrap(), content);
        assert_eq!(server.open_multipart_uploads(BUCKET), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_upload_that_was_aborted_is_not_tried_again() {
    let (server, config) = server();
    let (store, _) = open(&config, Patience::command()).await;
    let begun =
        store.begin_multipart(&key("key"), PutMode::CreateOnly, &Attributes::default()).await;
    let upload = begun.unwrap();
    upload.put_part(1, 0, noise(100)).await.unwrap();
    upload.abort().await.unwrap();
    let error = within_deadline(upload.complete()).await.unwrap_err();
    assert!(!error.is_transient(), "{}", shown(&error));
    assert_eq!(server.object(BUCKET, &full("key")), None);
    assert_eq!(server.open_multipart_uploads(BUCKET), Vec::<String>::new());
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let (server, proxy, store) = through_proxy().await;
    server.put_object(BUCKET, &full("key"), noise(3_000_000));
    proxy.next(3, "GET ", Fault::CutAnswerAfter(700_000));
    assert_eq!(read(store.as_ref(), "key").await, Ok(noise(3_000_000)));
    let gets = proxy.requests().iter().filter(|line| line.starts_with("GET ")).count();
    assert_eq!(gets, 4);

    // What was replaced meanwhile must not be glued to what was read before.
    proxy.next(1, "GET ", Fault::CutAnswerAfter(700_000));
    let mut reader = store.get(&key("key"), 0, None).await.unwrap();
    reader.body.next_chunk().await.unwrap().expect("some bytes");
    server.put_object(BUCKET, &full("key"), noise(2_900_000));
    let end = loop {
        match within_deadline(reader.body.next_chunk()).await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_sent_again() {
    let (server, proxy, store) = through_proxy().await;
    proxy.next(3, "PUT ", Fault::ResetAfterUpload(200_000));
    assert_eq!(create(store.as_ref(), "key", noise(1_000_000)).await, Ok(PutOutcome::Stored));
    assert_eq!(server.object(BUCKET, &full("key")).unwrap(), noise(1_000_000));
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let (server, mut config) = server();
    config.timeout = Some(Duration::from_secs(2));
    let (proxy, store) = proxied(&server, config).await;
    server.put_object(BUCKET, &full("key"), noise(30_000_000));
    let mut reader = store.get(&key("key"), 0, None).await.unwrap();
    proxy.set(Fault::Hang);
    let rest_of_body = async {
        loop {
            match reader.body.next_chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a body came through a proxy that hangs"),
                Err(error) => break error,
            }
        }
    };
    // Each takes as long as the store waits for an answer: all at once.
    let (put, head, body) = tokio::join!(
        create(store.as_ref(), "another", noise(30_000_000)),
        within_deadline(async { store.head(&key("key")).await }),
        within_deadline(rest_of_body),
    );
    let url = |name: &str| format!("s3://{BUCKET}/{PATH}/{name}");
    assert_tells(&put.unwrap_err(), ErrorKind::Unavailable, &[&url("another")]);
    assert_tells(&head.unwrap_err(), ErrorKind::Unavailable, &[&url("key")]);
    assert_tells(&body, ErrorKind::Unavailable, &[&url("key")]);
    proxy.set(Fault::None);
    assert_eq!(create(store.as_ref(), "after", noise(100)).await, Ok(PutOutcome::Stored));
}
