//! Nothing waits for ever.

use super::*;

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let script = Script::play([vec![BEGUN, OK], vec![Reply::Silence; 10]].concat()).await;
    let (store, _queue) = script.store().await;
    let (name, attributes) = (key("x"), Attributes::default());
    let begin = || store.begin_multipart(&name, PutMode::Replace, &attributes);
    let upload = begin().await.unwrap();
    upload.put_part(1, 0, Bytes::from_static(b"first")).await.unwrap();
    for error in [
        put(&store, 1000, PutMode::Replace).await.unwrap_err(),
        // The probe that comes before it hangs.
        put(&store, 1000, PutMode::CreateOnly).await.unwrap_err(),
        store.get(&key("x"), 0, None).await.unwrap_err(),
        store.head(&key("x")).await.unwrap_err(),
        store.list(&ListRequest::default(), None).await.unwrap_err(),
        store.delete(&key("x")).await.unwrap_err(),
        store.abort_uploads("path/").await.unwrap_err(),
        begin().await.unwrap_err(),
        upload.put_part(2, 5, Bytes::from_static(b"second")).await.unwrap_err(),
        upload.complete().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains("did not answer within"), "{error}");
    }
}

#[tokio::test]
async fn the_end_of_an_upload_has_its_limits() {
    let page = Reply::Send(
        "200 OK",
        "",
        "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>\
         <Upload><Key>path/x</Key><UploadId>U2</UploadId></Upload></ListMultipartUploadsResult>",
    );
    let script = Script::play(vec![BEGUN, Reply::Silence, page, Reply::Silence]).await;
    let (store, _queue) = script.store().await;
    let begun = store.begin_multipart(&key("x"), PutMode::Replace, &Attributes::default()).await;
    for error in [
        begun.unwrap().abort().await.unwrap_err(),
        // The listing comes, and then the end of what was listed hangs.
        store.abort_uploads("").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains("did not answer within"), "{error}");
    }
    assert_eq!(script.requests().last().unwrap(), "DELETE x");
}

#[tokio::test]
async fn many_who_wait_for_a_probe_that_hangs_wait_only_once() {
    let script = Script::play(vec![Reply::Silence; 8]).await;
    let (store, _queue) = script.store().await;
    let puts = (0..8).map(|_| put(&store, 1, PutMode::CreateOnly));
    let puts = futures_util::future::join_all(puts);
    let all = tokio::time::timeout(store.bucket.limits.answer * 4, puts);
    for outcome in all.await.expect("they wait for one another") {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_server_that_does_not_even_shake_hands_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let directory = env_dir("AKID", None);
    let keys = Credentials::EnvDir(directory.path().to_owned());
    let (store, _queue) = store_with(&endpoint, "path", keys).await;
    for error in [
        put(&store, 1000, PutMode::Replace).await.unwrap_err(),
        store.head(&key("x")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}

#[tokio::test]
async fn a_listing_that_goes_on_where_it_was_is_an_error() {
    let page = Reply::Send(
        "200 OK",
        "",
        "<ListBucketResult><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>again</NextContinuationToken></ListBucketResult>",
    );
    let script = Script::play(vec![page; 2]).await;
    let (store, _queue) = script.store().await;
    let error = crate::store::list_all(&store, &ListRequest::default()).await.unwrap_err();
    assert!(error.detail().unwrap().contains("does not say where"), "{error:?}");

    let page = Reply::Send(
        "200 OK",
        "",
        "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>\
         <NextKeyMarker>again</NextKeyMarker></ListMultipartUploadsResult>",
    );
    let script = Script::play(vec![page; 2]).await;
    let (store, _queue) = script.store().await;
    let error = store.abort_uploads("").await.unwrap_err();
    assert!(error.detail().unwrap().contains("does not say where"), "{error:?}");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let script = Script::play(vec![Reply::Deaf, BEGUN, Reply::Deaf]).await;
    let (store, _queue) = script.store().await;
    // More than the kernel buffers on both sides.
    let content = Bytes::from(vec![7; 64 * 1024 * 1024]);
    let put = store.put(&key("x"), content.clone(), PutMode::Replace, &Attributes::default()).await;
    let begun = store.begin_multipart(&key("x"), PutMode::Replace, &Attributes::default()).await;
    for error in [put.unwrap_err(), begun.unwrap().put_part(1, 0, content).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains("did not answer within"), "{error}");
    }
}

#[tokio::test]
async fn an_upload_that_only_the_rate_limit_holds_back_is_not_given_up() {
    let script = Script::play(vec![OK, BEGUN, OK]).await;
    let (store, _queue) = script.store().await;
    // Each piece comes later than a store may stand still.
    let store = store.limited_to(Some(Arc::new(RateLimit::fixed(1))));
    let content = || Bytes::from_static(b"ab");
    let (name, attributes) = (key("x"), Attributes::default());
    let put = store.put(&name, content(), PutMode::Replace, &attributes).await;
    assert_eq!(put.unwrap(), PutOutcome::Stored);
    let upload = store.begin_multipart(&name, PutMode::Replace, &attributes).await.unwrap();
    upload.put_part(1, 0, content()).await.unwrap();
}

#[tokio::test]
async fn a_download_that_breaks_or_stands_still_is_an_error() {
    let script = Script::play(vec![Reply::HangUp("12345"), Reply::Stall("12345")]).await;
    let (store, _queue) = script.store().await;
    for _ in 0..2 {
        let mut reader = store.get(&key("x"), 0, None).await.unwrap();
        assert_eq!(reader.info.size_bytes, 10);
        assert_eq!(reader.body.next_chunk().await.unwrap().unwrap(), "12345");
        let error = reader.body.next_chunk().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().starts_with("could not get object \"s3://bucket/path/x\""));
    }
}
