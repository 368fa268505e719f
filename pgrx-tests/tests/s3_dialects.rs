//! Servers that demand or refuse what others do not: what wal_e uses instead, and what it
//! says where nothing can be used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wal_e_core::config::{Credentials, Face, S3Config, Secret, StaticCredentials, StorePlace};
use wal_e_core::layout::{self, ObjectKey};
use wal_e_core::notice::{self, NoticeQueue};
use wal_e_core::store::retry::Patience;
use wal_e_core::store::{
    Attributes, ListRequest, ObjectStore, PutMode, PutOutcome, conformance, list_all,
};
use wal_e_core::{Error, ErrorKind};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::process::run;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::s3_server::S3Server;
use wal_e_e2e::s3_server::dialect::{Dialect, ListingOrder, Of, Rule, When, refuse};
use wal_e_e2e::tls_front::{Certificate, TlsFront};
use wal_e_e2e::wal_e::{archive_command, backup_push, run_wal_e, wal_e};

const BUCKET: &str = "archive";
const PATH: &str = "clusters/one";

const CHECKSUM: When = When::Has("x-amz-checksum-");

/// As Backblaze B2, before it learned additional checksums.
const fn no_checksum(of: Of) -> Rule {
    let message = "Unsupported header 'x-amz-checksum' received for this API call.";
    refuse(of, CHECKSUM, 400, "InvalidArgument", message)
}

/// As Amazon's servers for credentials that may not list the whole bucket.
const HIDES_MISSING: Rule = refuse(Of::Read, When::Missing, 403, "AccessDenied", "Access Denied");

const NO_CREATE_ONLY: &str = "A header you provided implies functionality that is not implemented";

/// Servers that all works with, and what is said of each, beginning with "the server of".
const USABLE: &[(Dialect, &[&str])] = &[
    (
        Dialect { name: "400 for a checksum", rules: &[no_checksum(Of::Write)], ..Dialect::PLAIN },
        &["refuses x-amz-checksum-crc32c with an object: Content-MD5 is sent instead"],
    ),
    (
        Dialect {
            name: "501 for a checksum",
            rules: &[refuse(
                Of::Write,
                CHECKSUM,
                501,
                "NotImplemented",
                "Header 'x-amz-checksum-crc32c' not implemented",
            )],
            ..Dialect::PLAIN
        },
        &["refuses x-amz-checksum-crc32c with an object: Content-MD5 is sent instead"],
    ),
    (
        Dialect {
            name: "MD5 demanded",
            rules: &[refuse(
                Of::Content,
                When::Lacks("content-md5"),
                400,
                "InvalidRequest",
                "Missing required header for this request: Content-MD5",
            )],
            ..Dialect::PLAIN
        },
        &["refuses x-amz-checksum-crc32c with an object: Content-MD5 is sent instead"],
    ),
    (
        Dialect {
            name: "CRC-32 demanded",
            rules: &[refuse(
                Of::Content,
                When::Lacks("x-amz-checksum-crc32"),
                400,
                "InvalidRequest",
                "This bucket wants another checksum.",
            )],
            ..Dialect::PLAIN
        },
        &["refuses x-amz-checksum-crc32c with an object: x-amz-checksum-crc32 is sent instead"],
    ),
    (
        Dialect {
            name: "no checksum at all",
            rules: &[
                no_checksum(Of::Write),
                refuse(Of::Write, When::Has("content-md5"), 501, "XNotImplemented", "No."),
            ],
            ..Dialect::PLAIN
        },
        &["refuses x-amz-checksum-crc32c with an object: only the SHA-256 that is signed \
           protects the content"],
    ),
    (
        Dialect {
            name: "checksum refused of parts alone",
            rules: &[no_checksum(Of::Part)],
            ..Dialect::PLAIN
        },
        &["refuses x-amz-checksum-crc32c with a part of an object: Content-MD5 is sent instead"],
    ),
    (
        Dialect {
            name: "checksum refused of the beginning of an upload",
            rules: &[no_checksum(Of::Begin)],
            ..Dialect::PLAIN
        },
        &["refuses x-amz-checksum-crc32c with the beginning of an upload in parts: Content-MD5 \
           is sent instead"],
    ),
    (
        Dialect {
            name: "create-only refused at completion",
            rules: &[refuse(
                Of::Complete,
                When::Has("if-none-match"),
                501,
                "NotImplemented",
                NO_CREATE_ONLY,
            )],
            ..Dialect::PLAIN
        },
        &["does not take If-None-Match at the end of an upload in parts: wal_e looks for the \
           object before"],
    ),
    (
        // As Ceph before version 20.
        Dialect { name: "checksums are not known", knows_no_checksum: true, ..Dialect::PLAIN },
        &[],
    ),
    (
        Dialect {
            name: "behind a gateway that takes the checksum away",
            rules: &[refuse(
                Of::Content,
                CHECKSUM,
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match.",
            )],
            ..Dialect::PLAIN
        },
        &["refuses x-amz-checksum-crc32c with an object: Content-MD5 is sent instead"],
    ),
    (
        Dialect {
            name: "a policy that wants the hash of the content signed",
            rules: &[refuse(Of::Content, When::ContentIsUnsigned, 403, "AccessDenied", "No.")],
            ..Dialect::PLAIN
        },
        &["refuses content whose SHA-256 is not signed: wal_e signs it"],
    ),
    (
        Dialect {
            name: "the hash of the content demanded",
            rules: &[refuse(
                Of::Content,
                When::ContentIsUnsigned,
                400,
                "InvalidRequest",
                "Missing required header for this request: x-amz-content-sha256",
            )],
            ..Dialect::PLAIN
        },
        &["refuses content whose SHA-256 is not signed: wal_e signs it"],
    ),
    (
        Dialect {
            name: "no HEAD",
            rules: &[refuse(Of::Head, When::Always, 405, "", "")],
            ..Dialect::PLAIN
        },
        &[],
    ),
    (
        Dialect {
            name: "404 in words of its own",
            rules: &[refuse(Of::Read, When::Missing, 404, "", "<html>Not here.</html>")],
            ..Dialect::PLAIN
        },
        &[],
    ),
    (
        Dialect {
            name: "no deletion of many",
            rules: &[refuse(
                Of::DeleteMany,
                When::Always,
                501,
                "NotImplemented",
                "A header or query you provided implies functionality that is not implemented.",
            )],
            ..Dialect::PLAIN
        },
        &["does not delete several objects with one request: wal_e deletes them one by one"],
    ),
    (
        Dialect {
            name: "MD5 demanded with a deletion of many",
            rules: &[refuse(
                Of::DeleteMany,
                When::Lacks("content-md5"),
                400,
                "InvalidRequest",
                "Missing required header for this request: Content-MD5",
            )],
            ..Dialect::PLAIN
        },
        &[],
    ),
    (Dialect { name: "403 for what is missing", rules: &[HIDES_MISSING], ..Dialect::PLAIN }, &[]),
    (
        Dialect {
            name: "a policy with a condition on s3:prefix",
            rules: &[
                HIDES_MISSING,
                refuse(Of::List, When::PrefixLacks("clusters/one/"), 403, "AccessDenied", "No."),
            ],
            ..Dialect::PLAIN
        },
        &[],
    ),
    (
        Dialect { name: "no order", listing: ListingOrder::None, ..Dialect::PLAIN },
        &["lists objects in no order: wal_e reads each listing to its end and sorts it"],
    ),
    (
        Dialect { name: "two shards", listing: ListingOrder::TwoShards, ..Dialect::PLAIN },
        &["lists objects in no order: wal_e reads each listing to its end and sorts it"],
    ),
    (Dialect { name: "names repeated", listing: ListingOrder::Repeating, ..Dialect::PLAIN }, &[]),
    (
        Dialect {
            name: "a checksum and create-only at once are not understood, nor is 403 explained",
            rules: &[
                refuse(Of::Write, CHECKSUM, 400, "", "Bad Request"),
                refuse(Of::Read, When::Missing, 403, "", "Forbidden"),
            ],
            listing: ListingOrder::TwoShards,
            ..Dialect::PLAIN
        },
        &[
            "refuses x-amz-checksum-crc32c with an object: Content-MD5 is sent instead",
            "lists objects in no order: wal_e reads each listing to its end and sorts it",
        ],
    ),
];

/// A dialect of one test.
fn with(rules: &[Rule]) -> Dialect {
    Dialect { name: "of one test", rules: rules.to_vec().leak(), ..Dialect::PLAIN }
}

fn config(server: &S3Server) -> S3Config {
    S3Config {
        endpoint: Some(server.endpoint()),
        credentials: Some(Credentials::Given(StaticCredentials {
            access_key_id: server.access_key().to_owned(),
            secret_access_key: Secret::new(server.secret_key()),
            session_token: None,
            source: "env_dir \"/etc/wal-e.d/env\"".to_owned(),
        })),
        ..S3Config::new(BUCKET, PATH)
    }
}

async fn open(config: S3Config, patience: Patience) -> (Arc<dyn ObjectStore>, NoticeQueue) {
    let (notices, queue) = notice::channel();
    let store = wal_e_core::store::open(&StorePlace::S3(config).into(), patience, notices).await;
    (store.unwrap_or_else(|error| panic!("{error:?}")), queue)
}

/// A server that speaks a dialect, and a store on it.
async fn speaking(dialect: Dialect) -> (S3Server, Arc<dyn ObjectStore>, NoticeQueue) {
    let server = S3Server::start();
    server.create_bucket(BUCKET);
    server.speak(dialect);
    let (store, queue) = open(config(&server), Patience::none()).await;
    (server, store, queue)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listing(name).expect("a sound key")
}

async fn put(store: &dyn ObjectStore, name: &str, mode: PutMode) -> Result<PutOutcome, Error> {
    store.put(&key(name), Bytes::from_static(b"content"), mode, &Attributes::default()).await
}

/// What was said, without the beginning that names the store.
fn said(queue: &NoticeQueue) -> Vec<String> {
    let beginning = format!("the server of \"s3://{BUCKET}/{PATH}/\" ");
    let notices = queue.drain().into_iter().filter(|notice| notice.level != notice::Level::Debug);
    notices.map(|notice| notice.message.replacen(&beginning, "", 1)).collect()
}

/// All that a user of the program sees of an error.
fn shown(error: &Error) -> String {
    let part = |label: &str, text: Option<&str>| text.map(|text| format!("\n{label}: {text}"));
    let detail = part("DETAIL", error.detail()).unwrap_or_default();
    let hint = part("HINT", error.hint()).unwrap_or_default();
    Face::Program.speak(&format!("{}{detail}{hint}", error.message()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_is_kept_on_servers_with_manners_of_their_own() {
    for (dialect, expected) in USABLE {
        let name = dialect.name;
        println!("{name}");
        let (server, store, queue) = speaking(*dialect).await;
        conformance::run_all(store).await;
        let said = said(&queue);
        println!("{}", said.join("\n"));
        assert_eq!(said, *expected, "{name}");
        assert_eq!(server.open_multipart_uploads(BUCKET), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_and_a_create_only_upload_that_are_refused_are_told_apart() {
    const NO_CONDITION: Rule =
        refuse(Of::Object, When::Has("if-none-match"), 501, "NotImplemented", NO_CREATE_ONLY);
    for (rules, atomic, checksum) in [
        (&[NO_CONDITION][..], false, "x-amz-checksum-crc32c"),
        (&[no_checksum(Of::Write)][..], true, "content-md5"),
        (&[no_checksum(Of::Write), NO_CONDITION][..], false, "content-md5"),
    ] {
        let (server, store, queue) = speaking(with(rules)).await;
        assert_eq!(put(&*store, "x", PutMode::CreateOnly).await, Ok(PutOutcome::Stored));
        assert_eq!(put(&*store, "x", PutMode::CreateOnly).await, Ok(PutOutcome::AlreadyExists));
        assert_eq!(store.create_only_is_atomic().await, Ok(atomic));
        let requests = server.requests();
        let stored = requests.iter().find(|r| r.key.ends_with("/x") && r.status == 200);
        let stored = stored.expect("it was stored");
        assert!(stored.header(checksum).is_some(), "{stored:?}");
        let said = said(&queue);
        let warned = said.iter().any(|text| text.contains("does not honour create-only uploads"));
        assert_eq!(warned, !atomic, "{said:?}");
        // Found out once.
        let before = server.requests().len();
        assert_eq!(put(&*store, "y", PutMode::Replace).await, Ok(PutOutcome::Stored));
        assert_eq!(server.requests().len(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_signed_unless_the_server_confirms_its_checksum() {
    let certificate = Certificate::self_made("/CN=127.0.0.1", &[]);
    for (knows_no_checksum, tls) in [(false, false), (false, true), (true, false), (true, true)] {
        let server = S3Server::start();
        server.create_bucket(BUCKET);
        server.speak(Dialect { knows_no_checksum, ..Dialect::PLAIN });
        let front = TlsFront::start(&server.endpoint(), &certificate);
        let endpoint = Some(if tls { front.endpoint() } else { server.endpoint() });
        let ca_file = tls.then(|| certificate.path());
        let config = S3Config { endpoint, ca_file, ..config(&server) };
        let (store, _queue) = open(config, Patience::none()).await;
        for name in ["first", "second"] {
            assert_eq!(put(&*store, name, PutMode::Replace).await, Ok(PutOutcome::Stored));
        }
        let begun =
            store.begin_multipart(&key("parts"), PutMode::Replace, &Attributes::default()).await;
        let upload = begun.expect("an upload begins");
        upload.put_part(1, 0, Bytes::from_static(b"part")).await.expect("a part is stored");
        assert_eq!(upload.complete().await, Ok(PutOutcome::Stored));
        for (name, is_signed) in
            [("first", true), ("second", knows_no_checksum), ("parts", knows_no_checksum)]
        {
            let requests = server.requests();
            let sent = requests.iter().find(|r| r.method == "PUT" && r.key.ends_with(name));
            let sent = sent.expect("it was sent");
            let hash = sent.header("x-amz-content-sha256").expect("each request has one");
            assert_eq!(hash != "UNSIGNED-PAYLOAD", is_signed, "{sent:?}");
            assert_eq!(sent.header("x-amz-sdk-checksum-algorithm"), Some("CRC32C"), "{sent:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_for_another_reason_is_told_as_it_was() {
    let rule = refuse(Of::Write, When::Always, 400, "InvalidArgument", "Not today.");
    let (_server, store, queue) = speaking(with(&[rule])).await;
    let error = put(&*store, "x", PutMode::CreateOnly).await.expect_err("it is refused");
    let shown = shown(&error);
    println!("{shown}");
    assert_eq!(error.kind(), ErrorKind::Config, "{shown}");
    assert!(shown.contains("400 InvalidArgument") && shown.contains("Not today."), "{shown}");
    assert_eq!(said(&queue), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_may_not_be_read_is_told_from_one_that_is_not_there() {
    const NO_READ: Rule = refuse(Of::Read, When::Always, 403, "AccessDenied", "Access Denied");
    const NO_LIST: Rule = refuse(Of::List, When::Always, 403, "AccessDenied", "Access Denied");
    let (server, store, _queue) = speaking(Dialect::PLAIN).await;
    assert_eq!(put(&*store, "there", PutMode::Replace).await, Ok(PutOutcome::Stored));
    assert_eq!(put(&*store, "there.too", PutMode::Replace).await, Ok(PutOutcome::Stored));

    server.speak(with(&[NO_READ]));
    let before = server.requests().len();
    let error = store.get(&key("not-there"), 0, None).await.expect_err("it is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(server.requests().len(), before + 2, "one listing is enough");
    assert_eq!(store.head(&key("not-there")).await.map(|found| found.is_some()), Ok(false));
    // It is the beginning of a name that is there.
    let error = store.get(&key("ther"), 0, None).await.expect_err("it is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");

    let mut errors = Vec::new();
    errors.push(store.get(&key("there"), 0, None).await.expect_err("it may not be read"));
    errors.push(store.head(&key("there")).await.expect_err("it may not be read"));
    for error in &errors {
        let shown = shown(error);
        println!("{shown}");
        assert_eq!(error.kind(), ErrorKind::Denied, "{shown}");
        assert!(shown.contains("The object is there"), "{shown}");
        assert!(shown.contains("(s3:GetObject)") && !shown.contains("PutObject"), "{shown}");
    }

    server.speak(with(&[NO_READ, NO_LIST]));
    for name in ["there", "not-there"] {
        let error = store.get(&key(name), 0, None).await.expect_err("it may not be read");
        let shown = shown(&error);
        println!("{shown}");
        assert_eq!(error.kind(), ErrorKind::Denied, "{shown}");
        assert!(shown.contains("s3:ListBucket") && shown.contains("s3:GetObject"), "{shown}");
    }

    // Whether it is there is asked again where the answer may pass.
    const BUSY: Rule = refuse(Of::List, When::Always, 503, "SlowDown", "Slow down.");
    server.speak(with(&[HIDES_MISSING, BUSY]));
    let error = store.get(&key("not-there"), 0, None).await.expect_err("nothing is known");
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error:?}");
}

/// A refusal that is final, and what its message says.
struct Refused {
    rule: Rule,
    kind: ErrorKind,
    words: &'static [&'static str],
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_it_is_and_what_to_do() {
    const fn refused(status: u16, code: &'static str, message: &'static str) -> Rule {
        refuse(Of::All, When::Always, status, code, message)
    }
    use ErrorKind::{Config, Denied, Unavailable};
    let moved = Rule {
        headers: &[("location", "https://other.example.com:9000/archive/x")],
        ..refused(307, "TemporaryRedirect", "Please re-send this request.")
    };
    for Refused { rule, kind, words } in [
        Refused {
            rule: refused(403, "QuotaExceeded", "Bucket quota exceeded"),
            kind: Unavailable,
            words: &["the quota of the bucket is used up", "403 QuotaExceeded", "Raise the quota"],
        },
        Refused {
            rule: refused(400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"),
            kind: Unavailable,
            words: &["the quota of the bucket is used up", "Raise the quota"],
        },
        Refused {
            rule: refused(403, "AccessDenied", "Cannot upload files, storage cap exceeded."),
            kind: Unavailable,
            words: &["the quota of the bucket is used up", "Raise the quota"],
        },
        Refused {
            rule: refused(507, "InsufficientStorage", ""),
            kind: Unavailable,
            words: &["the server has no space left", "507", "Give the server more space"],
        },
        Refused {
            rule: refused(
                403,
                "SecondLevelDomainForbidden",
                "Please use virtual hosted style to access.",
            ),
            kind: Config,
            words: &["the bucket in the host name", "set --s3-force-path-style to off"],
        },
        Refused {
            rule: refused(403, "PathStyleDomainForbidden", "The path style is forbidden."),
            kind: Config,
            words: &["the bucket in the host name", "set --s3-force-path-style to off"],
        },
        Refused {
            rule: refused(403, "AccessForbidden", "Only virtual-hosted requests are served."),
            kind: Config,
            words: &["the bucket in the host name", "set --s3-force-path-style to off"],
        },
        Refused {
            rule: refused(403, "RequestTimeTooSkewed", "The difference is too large."),
            kind: Denied,
            words: &["The clocks of this machine and of the server differ"],
        },
        Refused {
            rule: refused(400, "InvalidRequest", "Bad request: Date is too old"),
            kind: Denied,
            words: &["The clocks of this machine and of the server differ"],
        },
        Refused {
            rule: refused(403, "UserSuspended", ""),
            kind: Denied,
            words: &["The account of these credentials is suspended"],
        },
        Refused {
            rule: refused(403, "InvalidAccessKeyId", ""),
            kind: Denied,
            words: &["The server does not know the access key", "env_dir"],
        },
        Refused {
            rule: refused(403, "AccessDenied", "Access Denied"),
            kind: Denied,
            words: &["(s3:PutObject)", "If the bucket's policy demands encryption"],
        },
        Refused {
            rule: refused(400, "", "Client sent an HTTP request to an HTTPS server."),
            kind: Config,
            words: &["begin the endpoint with \"https://\""],
        },
        Refused {
            rule: refused(501, "NotImplemented", "x-amz-server-side-encryption is not supported"),
            kind: Config,
            words: &["Set --s3-sse to a method of encryption"],
        },
        Refused {
            rule: moved,
            kind: Config,
            words: &["307 TemporaryRedirect", "\"other.example.com:9000\"", "set --s3-endpoint"],
        },
    ] {
        let (server, store, _queue) = speaking(with(&[rule])).await;
        let error = put(&*store, "x", PutMode::CreateOnly).await.expect_err("it is refused");
        let shown = shown(&error);
        println!("{shown}\n");
        assert_eq!(error.kind(), kind, "{shown}");
        for words in words {
            assert!(shown.contains(words), "\"{words}\" is not said in:\n{shown}");
        }
        assert_eq!(server.requests().len(), 1, "it is final: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_in_another_region_is_found_where_the_server_says() {
    const ELSEWHERE: When = When::SignedForOtherThan("eu-west-1");
    let named = "The authorization header is malformed; the region 'us-east-1' is wrong; \
                 expecting 'eu-west-1'";
    let malformed = refuse(Of::All, ELSEWHERE, 400, "AuthorizationHeaderMalformed", named);
    let in_header = |status, code| Rule {
        headers: &[("x-amz-bucket-region", "eu-west-1")],
        ..refuse(Of::All, ELSEWHERE, status, code, "The bucket is elsewhere.")
    };
    for rule in
        [malformed, in_header(301, "PermanentRedirect"), in_header(307, ""), in_header(400, "")]
    {
        let (server, store, queue) = speaking(with(&[rule])).await;
        // First by a request whose answer has no room for a reason.
        assert_eq!(store.head(&key("x")).await.map(|found| found.is_some()), Ok(false));
        assert_eq!(put(&*store, "x", PutMode::CreateOnly).await, Ok(PutOutcome::Stored));
        let said = said(&queue);
        println!("{}", said.join("\n"));
        assert_eq!(
            said,
            ["bucket \"archive\" is in region \"eu-west-1\" and not in \"us-east-1\": requests \
              are signed for \"eu-west-1\" from now on"]
        );
        let refused = server.requests().iter().filter(|seen| seen.status == rule.status).count();
        assert!(refused <= 2, "once it is known, nothing is refused: {refused}");
    }

    // A server that names no region, and one that sends its clients around.
    let silent = refuse(Of::All, When::Always, 301, "PermanentRedirect", "Elsewhere.");
    let around =
        refuse(Of::All, When::Always, 400, "AuthorizationHeaderMalformed", "expecting 'a'");
    let to_and_fro = Rule {
        headers: &[("x-amz-bucket-region", "b")],
        ..refuse(Of::All, When::SignedForOtherThan("b"), 301, "PermanentRedirect", "Elsewhere.")
    };
    let back = refuse(
        Of::All,
        When::Always,
        400,
        "AuthorizationHeaderMalformed",
        "the region 'b' is wrong; expecting 'us-east-1'",
    );
    for (rule, words) in [
        (silent, "is not in region \"us-east-1\": set --s3-region to its region."),
        (around, "Set --s3-region to \"a\", and --s3-endpoint to the server of that region."),
        (to_and_fro, "Set --s3-region to \"b\", and --s3-endpoint to the server of that region."),
    ] {
        let (_server, store, queue) = speaking(with(&[rule, back])).await;
        let error = put(&*store, "x", PutMode::Replace).await.expect_err("it is elsewhere");
        let shown = shown(&error);
        println!("{shown}");
        assert_eq!(error.kind(), ErrorKind::Config, "{shown}");
        assert!(shown.contains(words), "{shown}");
        assert_eq!(said(&queue), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_a_scheme_is_taken_for_https_and_says_so() {
    let server = S3Server::start();
    server.create_bucket(BUCKET);
    let address = server.endpoint().replacen("http://", "", 1);
    let config = S3Config { endpoint: Some(address.clone()), ..config(&server) };
    let (store, _queue) = open(config, Patience::none()).await;
    let error = put(&*store, "x", PutMode::Replace).await.expect_err("it speaks no TLS");
    let shown = shown(&error);
    println!("{shown}");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{shown}");
    assert!(shown.contains(&format!("\"https://{address}\"")), "{shown}");
    assert!(shown.contains("does not speak TLS") && shown.contains("\"http://\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_the_server_asks_for_is_kept() {
    for status in [429, 503] {
        let rule = Rule {
            times: Some(1),
            headers: &[("retry-after", "2")],
            ..refuse(Of::Object, When::Always, status, "SlowDown", "Slow down.")
        };
        let server = S3Server::start();
        server.create_bucket(BUCKET);
        server.speak(with(&[rule]));
        let (store, _queue) = open(config(&server), Patience::archiver()).await;
        let began = Instant::now();
        assert_eq!(put(&*store, "x", PutMode::Replace).await, Ok(PutOutcome::Stored));
        let waited = began.elapsed();
        assert!(waited >= Duration::from_secs(2), "{waited:?}");
        assert!(waited < Duration::from_secs(15), "{waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_may_have_names_from_before_there_were_rules() {
    for (bucket, on_server) in [
        ("db.example.com", "db.example.com"),
        ("Old_Bucket", "Old_Bucket"),
        ("tenant:bucket", "tenant:bucket"),
    ] {
        let server = S3Server::start();
        server.create_bucket(on_server);
        let config = S3Config { bucket: bucket.to_owned(), ..config(&server) };
        let (store, _queue) = open(config, Patience::none()).await;
        assert_eq!(put(&*store, "x", PutMode::CreateOnly).await, Ok(PutOutcome::Stored));
        let listed = list_all(&*store, &ListRequest::default()).await.expect("it can be listed");
        let names: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(names, [layout::create_only_probe().as_str(), "x"], "{bucket}");
        assert!(store.get(&key("x"), 0, None).await.is_ok(), "{bucket}");
        assert_eq!(server.objects(on_server).len(), 2);
    }
}

/// A segment is archived, fetched and found missing by the program, on each server.
#[test]
fn wal_goes_to_such_servers_and_comes_back() {
    let cluster = Cluster::build(PgVersion::oldest())
        .wal_segment_size_mb(1)
        .configuration("archive_mode = on")
        .start();
    cluster.write_wal_segments(2);
    let segment = cluster.ready_files().into_iter().next().expect("a segment waits");
    let path = cluster.data_directory().join("pg_wal").join(&segment);
    for (dialect, expected) in USABLE {
        let name = dialect.name;
        let archive = Archive::s3();
        archive.server().set_page_size(2);
        archive.server().speak(*dialect);
        // Another server may get the port of an earlier one, whose archive is gone.
        let _ = std::fs::remove_file(cluster.data_directory().join("wal_e.known_prefixes"));
        let pushed = run(wal_e(&archive).arg("wal-push").arg(&path));
        println!("{name}: {}", pushed.stderr);
        assert_eq!(pushed.code(), Some(0), "{name}: {pushed}");
        let of_object = expected.iter().filter(|text| text.contains("with an object"));
        for text in of_object {
            assert!(pushed.stderr.contains(text), "{name}: {pushed}");
        }
        assert!(!pushed.stderr.contains("create-only"), "{name}: {pushed}");
        run(wal_e(&archive).arg("wal-push").arg(&path)).success();
        let fetched = archive.scratch().create("data").join("RECOVERYXLOG");
        run(wal_e(&archive).arg("wal-fetch").arg(&segment).arg(&fetched)).success();
        assert!(std::fs::read(&fetched).ok() == std::fs::read(&path).ok(), "{name}");
        let missing = archive.scratch().path().join("data/missing");
        let absent = run(wal_e(&archive).arg("wal-fetch").arg("00000009.history").arg(&missing));
        assert_eq!(absent.code(), Some(74), "{name}: {absent}");
        run_wal_e(&archive, ["backup-list"]).success();
    }
}

/// Everything by the program: backups are uploads in parts.
#[test]
fn base_backups_go_to_such_servers_and_come_back() {
    let archive = Archive::s3();
    archive.server().set_page_size(3);
    let dialect = with(&[no_checksum(Of::Write), HIDES_MISSING]);
    archive.server().speak(Dialect { listing: ListingOrder::None, ..dialect });
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration("archive_mode = on")
        .configuration(format!("archive_command = '{}'", archive_command(&archive, "")))
        .start();
    cluster.pgbench_init(1);
    let pushed = run(&mut backup_push(&cluster, &archive));
    println!("{}", pushed.stderr);
    pushed.success();
    cluster.execute("CREATE TABLE after_backup AS SELECT generate_series(1, 1000) i");
    let expected = cluster.fingerprint();
    cluster.archive_current_wal();
    run_wal_e(&archive, ["backup-verify", "LATEST"]).success();
    let restored = Restore::latest(PgVersion::oldest()).recover_beside(&archive);
    assert_eq!(restored.fingerprint(), expected);
}

/// The rows of `wale_check()` that say what the server can do.
fn abilities(cluster: &Cluster) -> Vec<(String, Option<bool>, String)> {
    let rows = cluster
        .try_query(
            "postgres",
            "SELECT check_name, ok, detail FROM wale_check() WHERE check_name IN
             ('create_only', 'upload_checksum', 'multipart', 'missing_objects', 'listing_order',
              'server_address')",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    rows.into_iter()
        .map(|row| {
            let [name, ok, detail] = row.try_into().expect("three columns");
            let ok: Option<String> = ok;
            (name.unwrap_or_default(), ok.map(|ok| ok == "t"), detail.unwrap_or_default())
        })
        .collect()
}

#[test]
fn wale_check_says_what_the_server_can_do_and_what_is_used_instead() {
    let archive = Archive::s3();
    let cluster =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(&archive);
    cluster.write_wal_segments(8);
    cluster.archive_current_wal();
    let plain = abilities(&cluster);
    println!("{plain:#?}");
    assert_eq!(plain.len(), 6, "{plain:#?}");
    assert!(plain.iter().all(|(_, ok, _)| *ok == Some(true)), "{plain:#?}");

    archive.server().set_page_size(5);
    let dialect = with(&[
        no_checksum(Of::Write),
        HIDES_MISSING,
        refuse(Of::Complete, When::Has("if-none-match"), 501, "NotImplemented", NO_CREATE_ONLY),
        refuse(
            Of::All,
            When::SignedForOtherThan("eu-west-1"),
            400,
            "AuthorizationHeaderMalformed",
            "the region 'us-east-1' is wrong; expecting 'eu-west-1'",
        ),
    ]);
    archive.server().speak(Dialect { listing: ListingOrder::None, ..dialect });
    let rows = abilities(&cluster);
    println!("{rows:#?}");
    for (name, ok, words) in [
        ("create_only", Some(true), "refuses to replace"),
        (
            "upload_checksum",
            Some(true),
            "the server refuses x-amz-checksum-crc32c; Content-MD5 is sent instead",
        ),
        ("multipart", None, "at their end the server does not honour If-None-Match"),
        ("missing_objects", Some(true), "the server answers 403 for an object that is not there"),
        ("listing_order", Some(true), "listings come in no order"),
        ("server_address", None, "signed for region \"eu-west-1\""),
    ] {
        let row = rows.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(row.1, ok, "{row:?}");
        assert!(row.2.contains(words), "{row:?}");
    }
    // The archiver goes on with what it finds out by itself.
    cluster.archive_current_wal();
    assert_eq!(cluster.archiver_count("failed_count"), 0);
}
