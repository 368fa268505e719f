//! The S3 server of the tests, seen by a client that was not written here: a
//! server that is too kind would make every test above it worthless.

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use wal_e_e2e::fault_proxy::{Fault, FaultProxy};
use wal_e_e2e::plain_http;
use wal_e_e2e::s3_server::{Refusal, S3Server};

const BUCKET: &str = "bucket";

fn client_of(endpoint: &str, access_key: &str, secret_key: &str, attempts: u32) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .http_client(plain_http::client())
        .retry_config(
            aws_sdk_s3::config::retry::RetryConfig::standard()
                .with_max_attempts(attempts)
                .with_initial_backoff(Duration::from_millis(10)),
        )
        .build();
    Client::from_conf(config)
}

fn server_and_client() -> (S3Server, Client) {
    let server = S3Server::start();
    server.create_bucket(BUCKET);
    let client = client_of(&server.endpoint(), server.access_key(), server.secret_key(), 1);
    (server, client)
}

/// Status and code of a refusal.
fn refusal<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E>>,
) -> (u16, String) {
    let error = result.expect_err("the server should have refused");
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    (status, error.code().unwrap_or("").to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn objects_come_back_whole_and_in_ranges_with_their_metadata() {
    let (server, client) = server_and_client();
    let body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let put = client.put_object().bucket(BUCKET).key("a/b +ü").body(body.clone().into());
    put.metadata("content-xxh128", "0123").send().await.unwrap();

    let get = client.get_object().bucket(BUCKET).key("a/b +ü").send().await.unwrap();
    let etag = get.e_tag().unwrap().to_owned();
    assert_eq!(get.metadata().unwrap()["content-xxh128"], "0123");
    assert_eq!(get.body.collect().await.unwrap().to_vec(), body);
    assert_eq!(
        server.metadata(BUCKET, "a/b +ü").unwrap(),
        [("content-xxh128".into(), "0123".into())]
    );

    let head = client.head_object().bucket(BUCKET).key("a/b +ü").send().await.unwrap();
    assert_eq!(head.content_length(), Some(200_000));
    assert_eq!(head.metadata().unwrap()["content-xxh128"], "0123");

    let range = client.get_object().bucket(BUCKET).key("a/b +ü").range("bytes=199990-");
    let part = range.if_match(etag).send().await.unwrap();
    assert_eq!(part.content_range(), Some("bytes 199990-199999/200000"));
    assert_eq!(part.body.collect().await.unwrap().to_vec(), &body[199_990..]);

    let get = || client.get_object().bucket(BUCKET).key("a/b +ü");
    assert_eq!(refusal(get().range("bytes=200000-").send().await), refused(416, "InvalidRange"));
    assert_eq!(
        refusal(get().if_match("\"other\"").send().await),
        refused(412, "PreconditionFailed")
    );
    assert_eq!(
        refusal(client.get_object().bucket(BUCKET).key("none").send().await),
        refused(404, "NoSuchKey")
    );
    assert_eq!(refusal(client.head_object().bucket(BUCKET).key("none").send().await).0, 404);
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_refused() {
    let (server, client) = server_and_client();
    let endpoint = server.endpoint();
    let get = async |access_key: &str, secret_key: &str| {
        let client = client_of(&endpoint, access_key, secret_key, 1);
        refusal(client.get_object().bucket(BUCKET).key("k").send().await)
    };
    assert_eq!(get(server.access_key(), "wrong").await, refused(403, "SignatureDoesNotMatch"));
    assert_eq!(get("UNKNOWN", server.secret_key()).await, refused(403, "InvalidAccessKeyId"));

    for (why, status, code) in [
        (Refusal::ExpiredToken, 400, "ExpiredToken"),
        (Refusal::ClockSkew, 403, "RequestTimeTooSkewed"),
        (Refusal::AccessDenied, 403, "AccessDenied"),
    ] {
        server.refuse(Some(why));
        // Large enough to be under way still when the server has made up its mind.
        let put = client.put_object().bucket(BUCKET).key("k").body(vec![0; 8 << 20].into());
        assert_eq!(refusal(put.send().await), refused(status, code));
    }
    server.refuse(None);
    server.change_secret_key("another");
    assert_eq!(get(server.access_key(), server.secret_key()).await.1, "SignatureDoesNotMatch");
    assert_eq!(get(server.access_key(), "another").await, refused(404, "NoSuchKey"));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named_as_the_cause() {
    let (_server, client) = server_and_client();
    let expected = refused(404, "NoSuchBucket");
    let put = client.put_object().bucket("absent").key("k").body(ByteStream::from_static(b"x"));
    assert_eq!(refusal(put.send().await), expected);
    assert_eq!(refusal(client.get_object().bucket("absent").key("k").send().await), expected);
    assert_eq!(refusal(client.list_objects_v2().bucket("absent").send().await), expected);
    assert_eq!(
        refusal(client.create_multipart_upload().bucket("absent").key("k").send().await),
        expected
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_creators_exactly_one_wins() {
    let (server, client) = server_and_client();
    let racers = (0..16).map(|n| {
        let put = client.put_object().bucket(BUCKET).key("k").if_none_match("*");
        tokio::spawn(async move { (n, put.body(vec![n; 50_000].into()).send().await) })
    });
    let mut winners = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            (n, Ok(_)) => winners.push(n),
            (_, lost) => assert_eq!(refusal(lost), refused(412, "PreconditionFailed")),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(server.object(BUCKET, "k").unwrap(), vec![winners[0]; 50_000]);

    server.ignore_create_only(true);
    let put = client.put_object().bucket(BUCKET).key("k").if_none_match("*");
    put.body(ByteStream::from_static(b"over")).send().await.unwrap();
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"over");
}

#[tokio::test]
async fn a_body_that_does_not_fit_its_checksum_is_not_stored() {
    let (server, client) = server_and_client();
    let put = || {
        let body = ByteStream::from_static(b"hello");
        client.put_object().bucket(BUCKET).key("k").body(body)
    };
    let wrong_32 = "AAAAAA==";
    let wrong_64 = "AAAAAAAAAAA=";
    let wrong_256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let expected = refused(400, "BadDigest");
    assert_eq!(refusal(put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await), expected);
    assert_eq!(refusal(put().checksum_crc32(wrong_32).send().await), expected);
    assert_eq!(refusal(put().checksum_crc32_c(wrong_32).send().await), expected);
    assert_eq!(refusal(put().checksum_crc64_nvme(wrong_64).send().await), expected);
    assert_eq!(refusal(put().checksum_sha256(wrong_256).send().await), expected);
    assert!(server.objects(BUCKET).is_empty());

    put().content_md5("XUFAKrxLKna5cZ2REBfFkg==").send().await.unwrap();
    put().checksum_crc32("NhCmhg==").send().await.unwrap();
    put().checksum_crc32_c("mnG7TA==").send().await.unwrap();
    put().checksum_sha256("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=").send().await.unwrap();
    assert_eq!(server.objects(BUCKET), [("k".to_owned(), 5)]);
}

#[tokio::test]
async fn listings_come_in_pages() {
    let (server, client) = server_and_client();
    for n in 0..250 {
        server.put_object(BUCKET, &format!("wal_005/{n:03}.lz4"), vec![0; n]);
    }
    server.put_object(BUCKET, "basebackups_005/base_1/x", "x");
    server.put_object(BUCKET, "basebackups_005/base_1_backup_stop_sentinel.json", "{}");
    server.put_object(BUCKET, "basebackups_005/base_2/x", "x");

    let mut pages = Vec::new();
    let mut token = None;
    loop {
        let request = client
            .list_objects_v2()
            .bucket(BUCKET)
            .prefix("wal_005/")
            .start_after("wal_005/009.lz4");
        let page = request.set_continuation_token(token).send().await.unwrap();
        pages.push(
            page.contents()
                .iter()
                .map(|o| (o.key().unwrap().to_owned(), o.size().unwrap()))
                .collect::<Vec<_>>(),
        );
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 40]);
    let expected: Vec<_> = (10..250).map(|n| (format!("wal_005/{n:03}.lz4"), n)).collect();
    assert_eq!(pages.concat(), expected);

    server.set_page_size(1);
    let shallow = client.list_objects_v2().bucket(BUCKET).prefix("basebackups_005/").delimiter("/");
    let mut shallow = shallow.into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = shallow.next().await {
        let page = page.unwrap();
        names.extend(page.contents().iter().map(|o| o.key().unwrap().to_owned()));
        names.extend(page.common_prefixes().iter().map(|p| p.prefix().unwrap().to_owned()));
    }
    assert_eq!(
        names,
        ["base_1/", "base_1_backup_stop_sentinel.json", "base_2/"]
            .map(|name| format!("basebackups_005/{name}"))
    );
    let wrong_token = client.list_objects_v2().bucket(BUCKET).continuation_token("wal_005/1");
    assert_eq!(refusal(wrong_token.send().await), refused(400, "InvalidArgument"));
    let limited = client.list_objects_v2().bucket(BUCKET).max_keys(0).send().await.unwrap();
    assert_eq!((limited.key_count(), limited.is_truncated()), (Some(0), Some(false)));
}

/// Begins an upload of `k` and sends these parts; returns its id and the parts to list.
async fn upload_parts(client: &Client, parts: &[&[u8]]) -> (String, Vec<CompletedPart>) {
    let begun = client.create_multipart_upload().bucket(BUCKET).key("k").metadata("id", "7");
    let id = begun.send().await.unwrap().upload_id().unwrap().to_owned();
    let mut completed = Vec::new();
    for (number, body) in (1..).zip(parts) {
        let part = client.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(number);
        let sent = part.body(body.to_vec().into()).send().await.unwrap();
        completed.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag().map(str::to_owned))
                .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
                .build(),
        );
    }
    (id, completed)
}

#[tokio::test]
async fn parts_become_an_object_only_when_all_is_right() {
    let (server, client) = server_and_client();
    server.set_min_part_size(4);
    let complete = |id: &str, parts: Vec<CompletedPart>| {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(id);
        complete.multipart_upload(parts).if_none_match("*").send()
    };
    let (id, parts) = upload_parts(&client, &[b"aaaa", b"bbbb", b"c"]).await;
    assert_eq!(server.open_multipart_uploads(BUCKET), ["k"]);
    assert!(server.objects(BUCKET).is_empty());

    let backwards: Vec<_> = parts.iter().rev().cloned().collect();
    assert_eq!(refusal(complete(&id, backwards).await), refused(400, "InvalidPartOrder"));
    let mut other_etag = parts.clone();
    other_etag[1].e_tag = other_etag[0].e_tag.clone();
    assert_eq!(refusal(complete(&id, other_etag).await), refused(400, "InvalidPart"));
    assert_eq!(refusal(complete(&id, vec![]).await), refused(400, "MalformedXML"));
    assert_eq!(refusal(complete("other", parts.clone()).await), refused(404, "NoSuchUpload"));
    server.set_min_part_size(5);
    assert_eq!(refusal(complete(&id, parts.clone()).await), refused(400, "EntityTooSmall"));
    server.set_min_part_size(4);
    assert!(server.objects(BUCKET).is_empty());

    complete(&id, parts.clone()).await.unwrap();
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"aaaabbbbc");
    assert_eq!(server.metadata(BUCKET, "k").unwrap(), [("id".into(), "7".into())]);
    assert!(server.open_multipart_uploads(BUCKET).is_empty());
    assert_eq!(refusal(complete(&id, parts).await), refused(404, "NoSuchUpload"));

    let (second, parts) = upload_parts(&client, &[b"dddd"]).await;
    assert_eq!(refusal(complete(&second, parts).await), refused(412, "PreconditionFailed"));
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"aaaabbbbc");
    let open = client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert_eq!(open.uploads()[0].upload_id(), Some(second.as_str()));
    let abort = || client.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(&second);
    abort().send().await.unwrap();
    assert!(server.open_multipart_uploads(BUCKET).is_empty());
    assert_eq!(refusal(abort().send().await), refused(404, "NoSuchUpload"));
}

#[tokio::test]
async fn objects_are_deleted_alone_and_in_bulk_and_damaged_on_purpose() {
    let (server, client) = server_and_client();
    for key in ["a", "b", "c"] {
        server.put_object(BUCKET, key, "hello");
    }
    client.delete_object().bucket(BUCKET).key("a").send().await.unwrap();
    client.delete_object().bucket(BUCKET).key("a").send().await.unwrap();
    let listed = ["b", "absent"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(listed.to_vec())).build().unwrap();
    let answer = client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    assert_eq!(answer.deleted().len(), 2);
    assert_eq!(server.objects(BUCKET), [("c".to_owned(), 5)]);

    server.corrupt_object(BUCKET, "c", 1);
    assert_eq!(server.object(BUCKET, "c").unwrap(), b"h\x9allo");
    server.truncate_object(BUCKET, "c", 2);
    let get = client.get_object().bucket(BUCKET).key("c").send().await.unwrap();
    assert_eq!(get.body.collect().await.unwrap().to_vec(), b"h\x9a");
    assert_eq!(server.count_requests("DELETE", "a"), 2);
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));
}

fn through_proxy(attempts: u32) -> (S3Server, FaultProxy, Client) {
    let server = S3Server::start();
    server.create_bucket(BUCKET);
    let proxy = FaultProxy::start(&server.endpoint());
    let client = client_of(&proxy.endpoint(), server.access_key(), server.secret_key(), attempts);
    (server, proxy, client)
}

#[tokio::test]
async fn the_proxy_passes_and_says_503_as_often_as_asked() {
    let (server, proxy, client) = through_proxy(1);
    let put = || client.put_object().bucket(BUCKET).key("k").body(vec![7; 3_000_000].into()).send();
    put().await.unwrap();
    assert_eq!(server.object(BUCKET, "k").unwrap().len(), 3_000_000);

    proxy.next(2, "PUT ", Fault::Answer503);
    let get = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(get.body.collect().await.unwrap().to_vec().len(), 3_000_000);
    for _ in 0..2 {
        assert_eq!(refusal(put().await), refused(503, "SlowDown"));
    }
    put().await.unwrap();
    assert_eq!(server.count_requests("PUT", "k"), 2);

    proxy.set(Fault::Answer503);
    assert_eq!(refusal(client.head_object().bucket(BUCKET).key("k").send().await).0, 503);
    proxy.set(Fault::None);
    client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
}

#[tokio::test]
async fn the_proxy_loses_answers_but_not_what_they_confirm() {
    let (server, proxy, client) = through_proxy(2);
    proxy.next(1, "PUT ", Fault::HangUpAfterCommit);
    let put = client.put_object().bucket(BUCKET).key("k").if_none_match("*");
    let put = put.body(vec![7; 3_000_000].into()).send().await;
    // The client's own second attempt meets what its first has stored.
    assert_eq!(refusal(put), refused(412, "PreconditionFailed"));
    assert_eq!(server.object(BUCKET, "k").unwrap().len(), 3_000_000);
}

#[tokio::test]
async fn the_proxy_resets_uploads_and_cuts_answers() {
    let (server, proxy, client) = through_proxy(1);
    proxy.next(1, "PUT ", Fault::ResetAfterUpload(100_000));
    let put = || client.put_object().bucket(BUCKET).key("k").body(vec![7; 3_000_000].into()).send();
    assert_eq!(refusal(put().await).0, 0);
    assert!(server.objects(BUCKET).is_empty());
    put().await.unwrap();

    proxy.next(1, "GET ", Fault::CutAnswerAfter(100_000));
    let mut get = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    let mut received = 0;
    let end = loop {
        match get.body.try_next().await {
            Ok(Some(chunk)) => received += chunk.len(),
            end => break end,
        }
    };
    assert!(end.is_err());
    assert!((90_000..100_000).contains(&received), "{received}");
}

#[tokio::test]
async fn the_proxy_hangs_refuses_and_recovers() {
    let (_server, proxy, client) = through_proxy(1);
    let head = || client.head_bucket().bucket(BUCKET).send();
    head().await.unwrap();
    proxy.set(Fault::Hang);
    let hanging = tokio::time::timeout(Duration::from_millis(300), head()).await;
    assert!(hanging.is_err());
    proxy.set(Fault::Refuse);
    assert_eq!(refusal(head().await).0, 0);
    proxy.set(Fault::None);
    head().await.unwrap();

    proxy.next(1, "HEAD ", Fault::Delay(Duration::from_millis(300)));
    let before = Instant::now();
    head().await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(300));

    proxy.next(1, "PUT ", Fault::Throttle(500_000));
    let before = Instant::now();
    client.put_object().bucket(BUCKET).key("k").body(vec![7; 250_000].into()).send().await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(450));
    assert!(before.elapsed() < Duration::from_secs(5));
}
