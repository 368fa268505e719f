use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::ErrorKind;
use crate::config::{Credentials, Secret, StaticCredentials};
use crate::notice::{self, Level, NoticeQueue};

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(name).unwrap()
}

/// A store at `address`, with limits that a test can wait for.
async fn store_at(address: SocketAddr, path: &str) -> (S3Store, NoticeQueue) {
    let given = Credentials::Given(StaticCredentials {
        access_key_id: "AKID".into(),
        secret_access_key: Secret::new("hunter2"),
        session_token: None,
        source: "a test".into(),
    });
    store_with(&format!("http://{address}"), path, given).await
}

async fn store_with(endpoint: &str, path: &str, keys: Credentials) -> (S3Store, NoticeQueue) {
    let config = S3Config {
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(keys),
        ..S3Config::new("bucket", path)
    };
    let limits = Limits {
        connect: Duration::from_millis(300),
        lookup: Duration::from_millis(300),
        stall: Duration::from_millis(300),
        answer: Duration::from_millis(400),
        complete: Duration::from_millis(500),
    };
    let (notices, queue) = notice::channel();
    let store = S3Store::with_limits(&config, limits, notices).await.unwrap();
    (store, queue)
}

/// What the scripted server does after it has read a request.
#[derive(Clone, Copy)]
enum Reply {
    /// Status line, further header lines, content.
    Send(&'static str, &'static str, &'static str),
    /// As if more content than there is were to come; then it hangs up.
    HangUp(&'static str),
    /// As if more content than there is were to come; then it does nothing.
    Stall(&'static str),
    Silence,
    /// It does not even read the content.
    Deaf,
    /// It says that the token has expired, to this and all further requests,
    /// until one is signed with this access key, which is told OK.
    ExpiredUntil(&'static str),
}

const OK: Reply = Reply::Send("200 OK", "ETag: \"tag\"\r\n", "");
const EXPIRED: Reply = Reply::Send(
    "400 Bad Request",
    "",
    "<Error><Code>ExpiredToken</Code><Message>It has expired.</Message></Error>",
);
const BEGUN: Reply = Reply::Send(
    "200 OK",
    "",
    "<InitiateMultipartUploadResult><UploadId>U1</UploadId></InitiateMultipartUploadResult>",
);
const MISSING: Reply = Reply::Send("404 Not Found", "", "");
const REFUSED: Reply = Reply::Send(
    "412 Precondition Failed",
    "",
    "<Error><Code>PreconditionFailed</Code><Message>It is there.</Message></Error>",
);

/// A server that gives its replies in order, one a connection.
struct Script {
    address: SocketAddr,
    /// The heads of the requests so far.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn play(replies: Vec<Reply>) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut open = Vec::new();
            let mut replies = replies.into_iter();
            let mut next = replies.next();
            while let Some(reply) = next {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = read_request(&mut stream, reply).await;
                let has_key = |key| access_key(&head) == key;
                let said = match reply {
                    Reply::ExpiredUntil(key) if has_key(key) => OK,
                    Reply::ExpiredUntil(_) => EXPIRED,
                    reply => reply,
                };
                let stays = matches!(reply, Reply::ExpiredUntil(key) if !has_key(key));
                seen.lock().unwrap().push(head);
                if !stays {
                    next = replies.next();
                }
                match said {
                    Reply::ExpiredUntil(_) => unreachable!(),
                    Reply::Send(status, headers, content) => {
                        let length = content.len();
                        send(&mut stream, status, headers, length, content).await;
                    }
                    Reply::HangUp(content) => {
                        send(&mut stream, "200 OK", "ETag: \"tag\"\r\n", 10, content).await;
                    }
                    Reply::Stall(content) => {
                        send(&mut stream, "200 OK", "ETag: \"tag\"\r\n", 10, content).await;
                        open.push(stream);
                    }
                    Reply::Silence | Reply::Deaf => open.push(stream),
                }
            }
            // The silent connections stay open as long as the test runs.
            std::future::pending::<()>().await;
            drop(open);
        });
        Script { address, requests }
    }

    async fn store(&self) -> (S3Store, NoticeQueue) {
        store_at(self.address, "path").await
    }

    /// Method and path of each request, and whether it was create-only.
    fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let brief = |head: &String| {
            let line = head.lines().next().unwrap_or_default();
            let target = line.split('?').next().unwrap_or_default();
            let create_only = head.to_ascii_lowercase().contains("if-none-match: *");
            let target = target.trim_end_matches(" HTTP/1.1").replace("/bucket/path/", "");
            format!("{target}{}", if create_only { " create-only" } else { "" })
        };
        requests.iter().map(brief).collect()
    }
}

/// The access key that a request is signed with.
fn access_key(head: &str) -> &str {
    let credential = head.split("Credential=").nth(1).unwrap_or_default();
    credential.split('/').next().unwrap_or_default()
}

async fn send(stream: &mut TcpStream, status: &str, headers: &str, length: usize, content: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{content}"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Reads a request with its content and returns its head.
async fn read_request(stream: &mut TcpStream, reply: Reply) -> String {
    let mut read = Vec::new();
    let end = loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        read.extend_from_slice(&piece[..length]);
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        assert!(length > 0, "the request broke off");
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut left = usize::saturating_sub(length, read.len() - end);
    while left > 0 && !matches!(reply, Reply::Deaf) {
        let mut piece = vec![0; 64 * 1024];
        left -= stream.read(&mut piece).await.unwrap();
    }
    head
}

async fn put(store: &S3Store, length: usize, mode: PutMode) -> Result<PutOutcome> {
    store.put(&key("x"), vec![7; length].into(), mode, &Attributes::default()).await
}

#[tokio::test]
async fn urls_are_whole() {
    let address = "127.0.0.1:9".parse().unwrap();
    for (path, url) in [
        ("", "s3://bucket/wal_005/x"),
        ("a/b", "s3://bucket/a/b/wal_005/x"),
        ("/a/b/", "s3://bucket/a/b/wal_005/x"),
    ] {
        assert_eq!(store_at(address, path).await.0.url("wal_005/x"), url);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    // The port was free a moment ago; a listener that is dropped refuses.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (store, _queue) = store_at(address, "path").await;
    let begun = store.begin_multipart(&key("x"), PutMode::CreateOnly, &Attributes::default()).await;
    for error in [
        put(&store, 1, PutMode::Replace).await.unwrap_err(),
        store.get(&key("x"), 0, None).await.unwrap_err(),
        store.head(&key("x")).await.unwrap_err(),
        store.list(&ListRequest::default(), None).await.unwrap_err(),
        store.delete(&key("x")).await.unwrap_err(),
        begun.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains("\": the connection to \"http://127.0.0.1:"), "{error}");
        assert!(error.detail().unwrap().contains("refused"), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_listing_is_never_not_there() {
    for (answer, kind) in [
        ("<Error><Code>NoSuchKey</Code></Error>", ErrorKind::Unavailable),
        ("<Error><Code>NotFound</Code></Error>", ErrorKind::Unavailable),
        ("<Error><Code>NoSuchUpload</Code></Error>", ErrorKind::Unavailable),
        ("", ErrorKind::Unavailable),
        ("<Error><Code>NoSuchBucket</Code></Error>", ErrorKind::Config),
    ] {
        let script = Script::play(vec![Reply::Send("404 Not Found", "", answer)]).await;
        let (store, _queue) = script.store().await;
        let error = store.list(&ListRequest::default(), None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{answer}: {error:?}");
        assert!(error.message().contains("could not list objects below"), "{error}");
        assert!(error.message().contains("404") || error.detail().unwrap().contains("404"));
    }
}

#[tokio::test]
async fn a_store_that_honours_create_only_is_found_out_once() {
    let script = Script::play(vec![OK, REFUSED, OK, REFUSED, OK]).await;
    let (store, queue) = script.store().await;
    assert_eq!(put(&store, 3, PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(put(&store, 3, PutMode::CreateOnly).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(
        script.requests(),
        [
            "PUT wal_e/create_only_probe create-only",
            "PUT wal_e/create_only_probe create-only",
            "PUT x create-only",
            "PUT x create-only",
            "HEAD x",
        ]
    );
    assert!(queue.drain().is_empty());
}

#[tokio::test]
async fn a_probe_that_is_there_already_needs_one_request() {
    let script = Script::play(vec![REFUSED, OK]).await;
    let (store, _queue) = script.store().await;
    assert_eq!(put(&store, 3, PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(script.requests(), ["PUT wal_e/create_only_probe create-only", "PUT x create-only"]);
}

#[tokio::test]
async fn a_store_that_ignores_create_only_is_looked_into_first() {
    let unknown = Reply::Send(
        "501 Not Implemented",
        "",
        "<Error><Code>NotImplemented</Code><Message>What header?</Message></Error>",
    );
    for probe in [vec![OK, OK], vec![unknown, OK]] {
        let probes = probe.len();
        let script = Script::play([probe, vec![MISSING, OK, OK]].concat()).await;
        let (store, queue) = script.store().await;
        assert_eq!(put(&store, 3, PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
        assert_eq!(put(&store, 3, PutMode::CreateOnly).await.unwrap(), PutOutcome::AlreadyExists);
        assert_eq!(script.requests()[probes..], ["HEAD x", "PUT x", "HEAD x"]);
        let said = queue.drain();
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].level, Level::Warning);
        assert!(said[0].message.contains("\"s3://bucket/path/\""), "{}", said[0].message);
        assert!(said[0].hint.is_some());
    }
}

#[tokio::test]
async fn a_server_that_takes_create_only_amiss_is_asked_without_it() {
    let replies = [vec![OK, REFUSED], vec![REFUSED, MISSING, REFUSED, MISSING, OK], vec![OK]];
    let script = Script::play(replies.concat()).await;
    let (store, queue) = script.store().await;
    assert_eq!(put(&store, 3, PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(put(&store, 3, PutMode::CreateOnly).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(
        script.requests()[2..],
        ["PUT x create-only", "HEAD x", "PUT x create-only", "HEAD x", "PUT x", "HEAD x"]
    );
    assert_eq!(queue.drain().len(), 1);
}

#[tokio::test]
async fn an_answer_without_a_tag_counts_when_the_object_is_there() {
    let page = Reply::Send("200 OK", "Content-Type: text/html\r\n", "<html>Log in.</html>");
    let there = Reply::Send("200 OK", "", "abc");
    for (head, is_stored) in [(MISSING, false), (OK, false), (there, true)] {
        let script = Script::play(vec![page, head]).await;
        let (store, _queue) = script.store().await;
        match put(&store, 3, PutMode::Replace).await {
            Ok(outcome) => assert!(is_stored && outcome == PutOutcome::Stored, "{outcome:?}"),
            Err(error) => {
                assert!(!is_stored && error.kind() == ErrorKind::Unavailable, "{error:?}");
                assert!(error.detail().unwrap().contains("is not there"), "{error:?}");
            }
        }
        assert_eq!(script.requests(), ["PUT x", "HEAD x"]);
    }
}

#[tokio::test]
async fn an_object_is_looked_for_by_get_where_there_is_no_head() {
    let unknown = Reply::Send("405 Method Not Allowed", "", "");
    let script =
        Script::play(vec![unknown, Reply::Send("200 OK", "ETag: \"tag\"\r\n", "abc")]).await;
    let (store, _queue) = script.store().await;
    assert_eq!(store.head(&key("x")).await.unwrap().unwrap().size_bytes, 3);
    assert_eq!(script.requests(), ["HEAD x", "GET x"]);
}

#[tokio::test]
async fn a_page_instead_of_a_listing_is_not_understood() {
    let page = Reply::Send("200 OK", "Content-Type: text/html\r\n", "<html>Log in.</html>");
    let script = Script::play(vec![page]).await;
    let (store, _queue) = script.store().await;
    let error = store.list(&ListRequest::default(), None).await.unwrap_err();
    assert!(error.message().ends_with("the server's answer was not understood"), "{error:?}");
    assert!(error.detail().unwrap().contains("with a web page"), "{error:?}");
    assert!(error.hint().unwrap().contains("no proxy answers in its place"), "{error:?}");
}

#[tokio::test]
async fn a_replacing_upload_asks_for_nothing_first() {
    let script = Script::play(vec![OK]).await;
    let (store, _queue) = script.store().await;
    assert_eq!(put(&store, 0, PutMode::Replace).await.unwrap(), PutOutcome::Stored);
    assert_eq!(script.requests(), ["PUT x"]);
}

#[tokio::test]
async fn an_upload_tells_length_checksum_and_hash_before_the_content() {
    let script = Script::play(vec![OK]).await;
    let (store, _queue) = script.store().await;
    let content = Bytes::from_static(b"123456789");
    let put = store.put(&key("x"), content, PutMode::Replace, &Attributes::default()).await;
    assert_eq!(put.unwrap(), PutOutcome::Stored);
    let head = script.requests.lock().unwrap()[0].to_ascii_lowercase();
    for line in [
        "content-length: 9\r\n",
        "x-amz-checksum-crc32c: 4wasgw==\r\n",
        "x-amz-content-sha256: \
         15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225\r\n",
    ] {
        assert!(head.contains(line), "no {line} in {head}");
    }
    assert!(!head.contains("aws-chunked") && !head.contains("x-amz-trailer"), "{head}");
}

#[tokio::test]
async fn a_failed_probe_is_told_of_the_object_that_was_to_be_stored() {
    let busy = Reply::Send("503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>");
    let script = Script::play(vec![busy, busy]).await;
    let (store, _queue) = script.store().await;
    let error = put(&store, 1, PutMode::CreateOnly).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(
        error.message(),
        "could not put object \"s3://bucket/path/x\": the server answered 503 SlowDown"
    );
    let begun = store.begin_multipart(&key("x"), PutMode::CreateOnly, &Attributes::default()).await;
    assert!(begun.unwrap_err().message().contains("\"s3://bucket/path/x\""));
}

#[tokio::test]
async fn a_refusal_says_where_the_credentials_came_from() {
    let script = Script::play(vec![Reply::Send(
        "403 Forbidden",
        "x-amz-request-id: R42\r\n",
        "<Error><Code>InvalidAccessKeyId</Code><Message>Who is that?</Message></Error>",
    )])
    .await;
    let (store, _queue) = script.store().await;
    let error = put(&store, 1, PutMode::Replace).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(
        error.message(),
        "could not put object \"s3://bucket/path/x\": the server answered 403 InvalidAccessKeyId"
    );
    assert_eq!(
        error.detail().unwrap(),
        "The server said: \"Who is that?\". The request's id is R42. \
         The credentials came from a test."
    );
}

/// A directory with keys.
fn env_dir(access_key: &str, token: Option<&str>) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_keys(directory.path(), access_key, token);
    directory
}

fn write_keys(directory: &std::path::Path, access_key: &str, token: Option<&str>) {
    std::fs::write(directory.join("AWS_ACCESS_KEY_ID"), access_key).unwrap();
    std::fs::write(directory.join("AWS_SECRET_ACCESS_KEY"), "hunter2").unwrap();
    std::fs::write(directory.join("AWS_SESSION_TOKEN"), token.unwrap_or_default()).unwrap();
}

#[tokio::test]
async fn a_server_that_ignores_the_range_is_not_believed() {
    let script = Script::play(vec![Reply::Send("200 OK", "ETag: \"tag\"\r\n", "0123456789")]).await;
    let (store, _queue) = script.store().await;
    let error = store.get(&key("x"), 5, None).await.unwrap_err();
    assert!(error.detail().unwrap().contains("it sent the whole object"), "{error:?}");
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

mod keys;
mod limits;
