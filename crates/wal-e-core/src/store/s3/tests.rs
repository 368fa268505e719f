use super::*;
use crate::notice;

/// A store at an address where nobody listens.
async fn unreachable_store(path: &str) -> S3Store {
    // The port was free a moment ago; a listener that is dropped refuses.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = S3Config {
        endpoint: Some(format!("http://{address}")),
        credentials: Some(crate::config::StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: crate::config::Secret::new("hunter2"),
            session_token: None,
            source: "a test".into(),
        }),
        ..S3Config::default()
    };
    let (notices, _queue) = notice::channel();
    S3Store::new("bucket", path, &config, notices).await.unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(name).unwrap()
}

#[tokio::test]
async fn urls_are_whole() {
    for (path, url) in [
        ("", "s3://bucket/wal_005/x"),
        ("a/b", "s3://bucket/a/b/wal_005/x"),
        ("/a/b/", "s3://bucket/a/b/wal_005/x"),
    ] {
        assert_eq!(unreachable_store(path).await.url("wal_005/x"), url);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let store = unreachable_store("path").await;
    let put = store
        .put(&key("x"), Bytes::from_static(b"x"), PutMode::Replace, &Attributes::default())
        .await
        .unwrap_err();
    assert!(
        put.message().starts_with("could not put object \"s3://bucket/path/x\": the connection")
    );
    let errors = [
        put,
        store.get(&key("x"), 0, None).await.unwrap_err(),
        store.head(&key("x")).await.unwrap_err(),
        store.list(&ListRequest::default(), None).await.unwrap_err(),
        store.delete(&key("x")).await.unwrap_err(),
        store
            .begin_multipart(&key("x"), PutMode::CreateOnly, &Attributes::default())
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.detail().unwrap().contains("refused"), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn attributes_travel_as_metadata() {
    let sent = Attributes { content_xxh128: Some("00ff".into()), upload_id: Some("id".into()) };
    assert_eq!(attributes(metadata(&sent).as_ref()), sent);
    assert_eq!(metadata(&Attributes::default()), None);
    assert_eq!(attributes(None), Attributes::default());
    let shouted = HashMap::from([("Wal-E-Xxh128".to_owned(), "00ff".to_owned())]);
    assert_eq!(attributes(Some(&shouted)).content_xxh128.as_deref(), Some("00ff"));
}
