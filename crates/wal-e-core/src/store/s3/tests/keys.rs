//! Keys that expire, are refused, or change while the store is open.

use super::*;
use crate::store::retry::{Patience, RetryingStore};

impl Script {
    async fn store_of(&self, directory: &tempfile::TempDir) -> (S3Store, NoticeQueue) {
        let keys = Credentials::EnvDir(directory.path().to_owned());
        store_with(&format!("http://{}", self.address), "path", keys).await
    }

    /// The access keys that requests were signed with.
    fn access_keys(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|head| access_key(head).to_owned()).collect()
    }
}

#[tokio::test]
async fn after_an_expired_token_the_keys_are_read_again() {
    let script = Script::play(vec![EXPIRED, OK, MISSING]).await;
    let directory = env_dir("OLD", Some("token"));
    let (store, _queue) = script.store_of(&directory).await;
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.is_transient(), "there may be new keys soon");
    assert!(error.message().ends_with("the server answered 400 ExpiredToken"), "{error}");
    assert!(error.hint().unwrap().contains("renew the credentials in env_dir"), "{error:?}");

    write_keys(directory.path(), "NEW", Some("token2"));
    assert_eq!(put(&store, 1, PutMode::Replace).await.unwrap(), PutOutcome::Stored);
    assert_eq!(store.head(&key("x")).await.unwrap(), None);
    assert_eq!(script.access_keys(), ["OLD", "NEW", "NEW"]);
    let requests = script.requests.lock().unwrap();
    assert!(requests[0].contains("x-amz-security-token: token\r\n"), "{}", requests[0]);
    assert!(requests[1].contains("x-amz-security-token: token2\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn an_expired_token_is_tried_again_until_there_is_another() {
    let script = Script::play(vec![Reply::ExpiredUntil("NEW"), MISSING]).await;
    let directory = env_dir("OLD", Some("token"));
    let (store, _queue) = script.store_of(&directory).await;
    let (notices, queue) = notice::channel();
    let patience = Patience {
        give_up_after: Duration::from_secs(60),
        without_answer: Duration::from_secs(60),
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(20),
    };
    let store = RetryingStore::new(store, patience, notices);
    let rotation = async {
        while script.requests.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        write_keys(directory.path(), "NEW", Some("token2"));
    };
    let content = Bytes::from_static(b"content");
    let attributes = Attributes::default();
    let key = key("x");
    let put = store.put(&key, content, PutMode::Replace, &attributes);
    let (outcome, ()) = tokio::join!(put, rotation);
    assert_eq!(outcome.unwrap(), PutOutcome::Stored);
    let keys = script.access_keys();
    assert!(keys.len() >= 4, "{keys:?}");
    assert!(keys[..keys.len() - 1].iter().all(|key| key == "OLD"), "{keys:?}");
    assert_eq!(keys.last().unwrap(), "NEW");
    assert!(queue.drain()[0].message.contains("400 ExpiredToken; trying again for up to 20 s"));
}

#[tokio::test]
async fn an_expired_token_that_was_given_is_final() {
    let script = Script::play(vec![EXPIRED]).await;
    let (store, _queue) = script.store().await;
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!error.is_transient());
    assert!(error.hint().unwrap().contains("renew the credentials in a test"), "{error:?}");
}

/// An answer to HEAD has no code.
#[tokio::test]
async fn a_head_that_is_refused_without_a_reason_reads_the_keys_again_too() {
    let refused = Reply::Send("400 Bad Request", "", "");
    for (token, may_pass) in [(Some("token"), true), (None, false)] {
        let script = Script::play(vec![refused]).await;
        let directory = env_dir("OLD", token);
        let (store, _queue) = script.store_of(&directory).await;
        let error = store.head(&key("x")).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Denied, may_pass));
    }
}

#[tokio::test]
async fn a_refusal_is_final_while_the_directory_has_the_same_keys() {
    let denied = Reply::Send("403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>");
    let script = Script::play(vec![denied, denied, OK]).await;
    let directory = env_dir("OLD", None);
    let (store, _queue) = script.store_of(&directory).await;
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    write_keys(directory.path(), "NEW", None);
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert!(error.is_transient(), "there are other keys by now: {error:?}");
    assert_eq!(put(&store, 1, PutMode::Replace).await.unwrap(), PutOutcome::Stored);
    assert_eq!(script.access_keys(), ["OLD", "OLD", "NEW"]);
}

#[tokio::test]
async fn keys_that_were_good_and_are_not_known_any_more_may_have_been_replaced() {
    let unknown =
        Reply::Send("403 Forbidden", "", "<Error><Code>InvalidAccessKeyId</Code></Error>");
    let script = Script::play(vec![unknown, OK, unknown]).await;
    let directory = env_dir("OLD", None);
    let (store, _queue) = script.store_of(&directory).await;
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert!(!error.needs_new_keys(), "they were never good: {error:?}");
    assert_eq!(put(&store, 1, PutMode::Replace).await.unwrap(), PutOutcome::Stored);
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.needs_new_keys() && !error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_head_that_is_refused_since_keys_were_replaced_says_so() {
    let refused = Reply::Send("403 Forbidden", "", "");
    for (code, replaced) in [("SignatureDoesNotMatch", true), ("AccessDenied", false)] {
        let body = format!("<Error><Code>{code}</Code></Error>").leak();
        let script = Script::play(vec![OK, refused, Reply::Send("403 Forbidden", "", body)]).await;
        let directory = env_dir("OLD", None);
        let (store, _queue) = script.store_of(&directory).await;
        assert_eq!(put(&store, 1, PutMode::Replace).await.unwrap(), PutOutcome::Stored);
        let error = store.head(&key("x")).await.unwrap_err();
        assert_eq!((error.kind(), error.needs_new_keys()), (ErrorKind::Denied, replaced), "{code}");
        assert!(error.message().contains(code), "{error}");
    }
}

#[tokio::test]
async fn a_directory_without_keys_is_named_until_it_has_some() {
    let script = Script::play(vec![OK]).await;
    let directory = tempfile::tempdir().unwrap();
    let (store, _queue) = script.store_of(&directory).await;
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, true), "{error:?}");
    assert!(error.detail().unwrap().contains(directory.path().to_str().unwrap()), "{error:?}");
    write_keys(directory.path(), "AKID", None);
    assert_eq!(put(&store, 1, PutMode::Replace).await.unwrap(), PutOutcome::Stored);
}
