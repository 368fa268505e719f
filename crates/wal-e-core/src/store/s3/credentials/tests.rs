use std::sync::atomic::AtomicUsize;

use aws_config::meta::credentials::CredentialsProviderChain;

use super::*;
use crate::config::Secret;

const LIMIT: Duration = Duration::from_secs(20);

fn write(directory: &Path, access_key: &str, token: Option<&str>) {
    std::fs::write(directory.join("AWS_ACCESS_KEY_ID"), access_key).unwrap();
    std::fs::write(directory.join("AWS_SECRET_ACCESS_KEY"), "hunter2").unwrap();
    std::fs::write(directory.join("AWS_SESSION_TOKEN"), token.unwrap_or_default()).unwrap();
}

async fn access_key(keys: &Keys) -> String {
    keys.provide_credentials().await.unwrap().access_key_id().to_owned()
}

#[tokio::test]
async fn given_keys_are_used_and_their_source_is_known() {
    let keys = Keys::given(&StaticCredentials {
        access_key_id: "AKID".into(),
        secret_access_key: Secret::new("hunter2"),
        session_token: Some(Secret::new("token")),
        source: "the environment".into(),
    });
    let provided = keys.provide_credentials().await.unwrap();
    assert_eq!(provided.access_key_id(), "AKID");
    assert_eq!(provided.secret_access_key(), "hunter2");
    assert_eq!(provided.session_token(), Some("token"));
    assert_eq!(keys.source().get().unwrap(), "the environment");
    for refusal in [Refusal::Expired, Refusal::PerhapsExpired, Refusal::Other] {
        assert!(!keys.refused(keys.generation(), refusal).await, "they stay as they are");
    }
    assert!(!format!("{keys:?}").contains("hunter2"));
}

#[tokio::test]
async fn keys_of_a_directory_are_read_again_when_they_have_expired() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "OLD", Some("token"));
    let keys = Keys::env_dir(directory.path(), LIMIT);
    let used = keys.generation();
    assert_eq!(access_key(&keys).await, "OLD");
    assert!(!keys.refused(used, Refusal::Other).await, "they are still the same");
    assert!(keys.refused(used, Refusal::Expired).await);
    assert!(keys.refused(used, Refusal::PerhapsExpired).await);

    write(directory.path(), "NEW", Some("token"));
    assert_eq!(access_key(&keys).await, "NEW");
    assert_ne!(keys.generation(), used);
    assert!(keys.refused(used, Refusal::Other).await, "there are others by now");
    assert!(!keys.refused(keys.generation(), Refusal::Other).await);
    let source = format!("env_dir \"{}\"", directory.path().display());
    assert_eq!(keys.source().get().unwrap(), source);
}

#[tokio::test]
async fn a_refusal_for_any_reason_looks_for_other_keys_in_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "WRONG", None);
    let keys = Keys::env_dir(directory.path(), LIMIT);
    let used = keys.generation();
    assert_eq!(access_key(&keys).await, "WRONG");
    assert!(!keys.refused(used, Refusal::PerhapsExpired).await, "there is no token to expire");
    write(directory.path(), "RIGHT", None);
    assert_eq!(access_key(&keys).await, "WRONG", "it is not read for each request");
    assert!(keys.refused(used, Refusal::Other).await);
    assert_eq!(access_key(&keys).await, "RIGHT");
}

#[tokio::test]
async fn a_directory_that_lacks_keys_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys::env_dir(directory.path(), LIMIT);
    let error = keys.provide_credentials().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    let error = source.downcast_ref::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains(directory.path().to_str().unwrap()), "{error}");
    assert!(error.hint().unwrap().contains("AWS_ACCESS_KEY_ID"));
    write(directory.path(), "AKID", None);
    assert_eq!(access_key(&keys).await, "AKID");
}

/// Keys of a chain that finds `CHAIN1`, `CHAIN2`, ..., and how often it was asked.
fn counting_chain(source: &'static str, expiry: Option<SystemTime>) -> (Keys, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, noted) = (Arc::clone(&asked), CredentialSource::default());
    let found_in = noted.clone();
    let make = move || {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let found = Credentials::new(
            format!("CHAIN{number}"),
            "hunter2",
            Some("token".to_owned()),
            expiry,
            "test",
        );
        SharedCredentialsProvider::new(found_in.noted(source, found))
    };
    (Keys::chain(make, noted, LIMIT), asked)
}

#[tokio::test]
async fn the_chain_is_asked_again_after_an_expiry_but_not_all_the_time() {
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let (keys, asked) = counting_chain("instance metadata", Some(in_an_hour));
    let used = keys.generation();
    assert_eq!(access_key(&keys).await, "CHAIN1");
    assert!(!keys.refused(used, Refusal::Other).await);
    assert!(keys.refused(used, Refusal::Expired).await);
    assert_eq!(access_key(&keys).await, "CHAIN1", "asked a moment ago");
    // As if that had been a while ago.
    let mut held = keys.shared.held.lock().await;
    let past = Instant::now().checked_sub(ASK_CHAIN_EVERY).unwrap();
    held.as_mut().unwrap().fetched = past;
    drop(held);
    assert!(keys.refused(used, Refusal::Expired).await);
    assert_eq!(access_key(&keys).await, "CHAIN2");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_ne!(keys.generation(), used);
}

#[tokio::test]
async fn keys_are_fetched_anew_before_they_expire() {
    for (left, kept) in [(3600, 3590), (60, 50), (12, 5), (0, 5)] {
        let expiry = SystemTime::now() + Duration::from_secs(left);
        let (keys, _) = counting_chain("instance metadata", Some(expiry));
        access_key(&keys).await;
        let held = keys.shared.held.lock().await;
        let held = held.as_ref().unwrap();
        let keep = held.until - held.fetched;
        let off = keep.abs_diff(Duration::from_secs(kept));
        assert!(off < Duration::from_secs(5), "{keep:?} instead of {kept} s");
    }
    let (keys, _) = counting_chain("a profile of the AWS configuration files", None);
    access_key(&keys).await;
    let held = keys.shared.held.lock().await;
    let held = held.as_ref().unwrap();
    assert_eq!(held.until - held.fetched, KEEP_FROM_CHAIN);
}

#[tokio::test]
async fn keys_of_the_environment_do_not_change() {
    let (keys, _) = counting_chain(chain::ENVIRONMENT, None);
    access_key(&keys).await;
    assert!(!keys.refused(keys.generation(), Refusal::Expired).await);
}

#[tokio::test]
async fn a_fetch_that_hangs_ends_for_everybody_who_waits_for_it() {
    let limit = Duration::from_millis(200);
    let hanging = || SharedCredentialsProvider::new(Hanging);
    let keys = Keys::chain(hanging, CredentialSource::default(), limit);
    let began = Instant::now();
    let (one, other) = tokio::join!(keys.provide_credentials(), keys.provide_credentials());
    for result in [one, other] {
        let error = result.unwrap_err();
        assert!(matches!(error, CredentialsError::ProviderTimedOut(_)), "{error:?}");
    }
    assert!(began.elapsed() < limit * 2, "one waited after the other");
}

#[derive(Debug)]
struct Hanging;

impl ProvideCredentials for Hanging {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(std::future::pending())
    }
}

#[tokio::test]
async fn a_provider_is_noted_once_it_provides() {
    let source = CredentialSource::default();
    let empty = CredentialsProviderChain::first_try("nothing", Unwilling);
    assert!(source.noted("nowhere", empty).provide_credentials().await.is_err());
    assert_eq!(source.get(), None);
    let keys = Credentials::new("AKID", "secret", None, None, "test");
    assert!(source.noted("somewhere", keys).provide_credentials().await.is_ok());
    assert_eq!(source.get().unwrap(), "somewhere");
}

#[derive(Debug)]
struct Unwilling;

impl ProvideCredentials for Unwilling {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded_no_source()))
    }
}

#[test]
fn keys_are_sent_as_a_request_can_carry_them() {
    let keys = Credentials::new("AKID\n", " secret\r\n", Some("token\n".into()), None, "test");
    let sent = sendable(keys).unwrap();
    assert_eq!((sent.access_key_id(), sent.secret_access_key()), ("AKID", "secret"));
    assert_eq!(sent.session_token(), Some("token"));
    for (id, token) in [("AK\nID", None), ("AKID", Some("to\u{7}ken".to_owned()))] {
        let error = sendable(Credentials::new(id, "hunter2", token, None, "test")).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
