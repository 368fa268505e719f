use crate::config::Face;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;

use super::*;

fn place() -> Place {
    Place {
        proxy: None,
        bucket: "bucket".into(),
        endpoint: None,
        region: "us-east-1".into(),
        path_style: false,
        encrypts: false,
        credentials: CredentialSource::known("env_dir \"/etc/wal-e.d/env\""),
    }
}

fn answered(status: u16, code: &str, message: &str) -> Failure {
    Failure::Answered(Answer {
        status,
        code: (!code.is_empty()).then(|| code.to_owned()),
        message: (!message.is_empty()).then(|| message.to_owned()),
        ..Answer::default()
    })
}

fn error(failure: Failure) -> Error {
    failure.into_error(Action::Put, "s3://bucket/path/wal_005/x.lz4", &place())
}

#[test]
fn answers_have_the_kind_that_says_what_to_do() {
    use ErrorKind::{Config, Conflict, Denied, NotFound, Throttled, Unavailable};
    for (status, code, kind) in [
        (404, "NoSuchKey", NotFound),
        (404, "NoSuchUpload", NotFound),
        (404, "NotFound", NotFound),
        // A proxy's page, not S3's answer.
        (404, "", Unavailable),
        (404, "NoSuchBucket", Config),
        (403, "AccessDenied", Denied),
        (400, "", Denied),
        (403, "", Denied),
        (401, "Unauthorized", Denied),
        (403, "InvalidAccessKeyId", Denied),
        (403, "SignatureDoesNotMatch", Denied),
        (400, "ExpiredToken", Denied),
        (403, "RequestTimeTooSkewed", Denied),
        (412, "PreconditionFailed", Conflict),
        (412, "", Conflict),
        (416, "InvalidRange", Conflict),
        (409, "ConditionalRequestConflict", Unavailable),
        (409, "ConcurrentModification", Unavailable),
        (400, "RequestTimeout", Unavailable),
        (400, "BadDigest", Unavailable),
        (429, "", Throttled),
        (429, "TooManyRequests", Throttled),
        (400, "Throttling", Throttled),
        (400, "ThrottlingException", Throttled),
        (503, "RequestLimitExceeded", Throttled),
        (503, "ServiceUnavailable", Throttled),
        (503, "", Throttled),
        (500, "InternalError", Unavailable),
        (200, "InternalError", Unavailable),
        (503, "SlowDown", Throttled),
        (504, "", Unavailable),
        (502, "", Unavailable),
        (301, "PermanentRedirect", Config),
        (301, "", Config),
        (400, "AuthorizationHeaderMalformed", Config),
        (501, "NotImplemented", Config),
        (400, "InvalidArgument", Config),
    ] {
        assert_eq!(error(answered(status, code, "")).kind(), kind, "{status} {code}");
    }
}

#[test]
fn what_does_not_pass_is_final_and_says_why_and_how_to_mend_it() {
    for (status, code, hint) in [
        (403, "AccessDenied", "s3:PutObject"),
        (403, "", "s3:PutObject"),
        (404, "NoSuchBucket", "Create the bucket \"bucket\""),
        (400, "InvalidBucketName", "The name \"bucket\" is allowed"),
        (401, "Unauthorized", "correct them in env_dir"),
        (405, "MethodNotAllowed", "the address of the S3 server"),
        (413, "", "client_max_body_size"),
        (301, "PermanentRedirect", "wal_e.s3_region"),
        (301, "", "wal_e.s3_region"),
        (400, "IllegalLocationConstraintException", "wal_e.s3_region"),
        (400, "AuthorizationHeaderMalformed", "wal_e.s3_region"),
        (403, "RequestTimeTooSkewed", "clocks"),
        (403, "InvalidAccessKeyId", "correct it in env_dir"),
        (403, "SignatureDoesNotMatch", "correct it in env_dir"),
        // Unless their source may have others: see below.
        (400, "ExpiredToken", "renew the credentials in env_dir"),
        (400, "TokenRefreshRequired", "renew the credentials in env_dir"),
        (400, "InvalidToken", "renew the credentials in env_dir"),
    ] {
        let error = error(answered(status, code, "No."));
        assert!(!error.is_transient(), "{status} {code}");
        let reason = format!("the server answered {status} {code}");
        assert!(error.message().ends_with(reason.trim_end()), "{error}");
        assert!(error.detail().unwrap().contains("The server said: \"No.\"."), "{error:?}");
        assert!(Face::Server.speak(error.hint().unwrap()).contains(hint), "{error:?}");
    }
}

#[test]
fn refusals_of_keys_are_told_apart() {
    for (status, code, refusal) in [
        (400, "ExpiredToken", Some(Refusal::Expired)),
        (400, "TokenRefreshRequired", Some(Refusal::Expired)),
        (400, "InvalidToken", Some(Refusal::Expired)),
        (403, "InvalidTokenId", Some(Refusal::Expired)),
        (400, "", Some(Refusal::PerhapsExpired)),
        (403, "", Some(Refusal::Other)),
        (403, "AccessDenied", Some(Refusal::Other)),
        (403, "InvalidAccessKeyId", Some(Refusal::NotKnown)),
        (403, "SignatureDoesNotMatch", Some(Refusal::NotKnown)),
        (404, "NoSuchBucket", None),
        (404, "", None),
        (503, "SlowDown", None),
    ] {
        assert_eq!(answered(status, code, "").refusal(&place()), refusal, "{status} {code}");
    }
    assert_eq!(Failure::NoCredentials("none".into()).refusal(&place()), None);
    // At AWS, an answer to HEAD of another region; it has nothing to do with keys.
    let elsewhere =
        Answer { status: 400, bucket_region: Some("eu-central-1".into()), ..Answer::default() };
    assert_eq!(Failure::Answered(elsewhere).refusal(&place()), None);
}

#[test]
fn an_expired_token_that_may_be_renewed_is_tried_again_and_told_the_same() {
    let Failure::Answered(answer) = answered(400, "ExpiredToken", "It has expired.") else {
        unreachable!()
    };
    let fixed = error(Failure::Answered(answer.clone()));
    let renewable = error(Failure::Answered(Answer { may_pass: true, ..answer }));
    assert!(!fixed.is_transient() && renewable.is_transient());
    assert_eq!(renewable.kind(), ErrorKind::Denied);
    assert_eq!(renewable.message(), fixed.message());
    assert_eq!((renewable.detail(), renewable.hint()), (fixed.detail(), fixed.hint()));
}

#[test]
fn a_directory_that_cannot_be_read_for_a_moment_is_tried_again() {
    type Sdk = SdkError<GetObjectError, HttpResponse>;
    let unreadable = Error::new(ErrorKind::Config, "could not read environment directory \"/x\"")
        .with_hint("Make it readable.");
    let failed = CredentialsError::provider_error(unreadable);
    let sdk = Sdk::dispatch_failure(ConnectorError::other(Box::new(failed), None));
    let error = error(Failure::from_sdk(&sdk));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.is_transient());
    assert!(error.message().ends_with("x.lz4\": the credentials could not be read"), "{error}");
    let detail = "The cause was: could not read environment directory \"/x\".";
    assert_eq!((error.detail(), error.hint()), (Some(detail), Some("Make it readable.")));

    let timed_out = CredentialsError::provider_timed_out(Duration::from_secs(20));
    let sdk = Sdk::dispatch_failure(ConnectorError::other(Box::new(timed_out), None));
    assert!(matches!(Failure::from_sdk(&sdk), Failure::CredentialsFailed(_)));
}

#[test]
fn a_wrong_secret_is_told_whole() {
    let Failure::Answered(answer) =
        answered(403, "SignatureDoesNotMatch", "The signature does not match.")
    else {
        unreachable!()
    };
    let error = error(Failure::Answered(Answer { request_id: Some("R1".into()), ..answer }));
    assert_eq!(
        error.message(),
        "could not put object \"s3://bucket/path/wal_005/x.lz4\": \
         the server answered 403 SignatureDoesNotMatch"
    );
    assert_eq!(
        error.detail().unwrap(),
        "The server said: \"The signature does not match.\". The request's id is R1. \
         The credentials came from env_dir \"/etc/wal-e.d/env\"."
    );
    assert!(error.hint().unwrap().contains("correct it in env_dir \"/etc/wal-e.d/env\""));
}

#[test]
fn hints_name_what_to_change() {
    for (failure, part) in [
        (answered(404, "NoSuchBucket", ""), "Create the bucket \"bucket\""),
        (answered(403, "RequestTimeTooSkewed", ""), "clocks"),
        (answered(400, "ExpiredToken", ""), "renew the credentials in env_dir"),
        (answered(403, "InvalidAccessKeyId", ""), "correct it in env_dir"),
        (answered(403, "AccessDenied", ""), "s3:PutObject"),
        (answered(400, "", ""), "check the credentials in env_dir"),
        (
            answered(
                400,
                "AuthorizationHeaderMalformed",
                "'us-east-1' is wrong; expecting 'eu-west-1'",
            ),
            "\"wal_e.s3_region\" to \"eu-west-1\"",
        ),
        (answered(301, "", ""), "not in region \"us-east-1\""),
        (
            Failure::Answered(Answer {
                status: 301,
                bucket_region: Some("eu-central-1".into()),
                ..Answer::default()
            }),
            "\"wal_e.s3_region\" to \"eu-central-1\"",
        ),
        (Failure::NoCredentials("none".into()), "AWS_ACCESS_KEY_ID"),
        (Failure::Certificate("unknown issuer".into()), "wal_e.s3_ca_file"),
    ] {
        let error = error(failure);
        assert!(Face::Server.speak(error.hint().unwrap()).contains(part), "{error:?}");
    }
}

#[test]
fn the_server_is_named_when_it_does_not_answer() {
    let slow = error(Failure::TooSlow(Duration::from_secs(60)));
    assert_eq!(slow.kind(), ErrorKind::Unavailable);
    assert!(slow.message().ends_with("S3 in region \"us-east-1\" did not answer within 60 s"));
    let place = Place { endpoint: Some("http://minio:9000".into()), ..place() };
    let refused = Failure::NoConnection("tcp connect error: Connection refused".into());
    let refused = refused.into_error(Action::Get, "s3://b/k", &place);
    assert_eq!(
        refused.message(),
        "could not get object \"s3://b/k\": the connection to \"http://minio:9000\" failed"
    );
    assert_eq!(refused.detail(), Some("The cause was: tcp connect error: Connection refused."));
}

fn response(status: u16) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::empty())
}

#[test]
fn errors_of_the_sdk_are_told_apart() {
    let meta = ErrorMetadata::builder().code("SlowDown").message("Please\n  slow down.").build();
    let mut busy = response(503);
    busy.headers_mut().insert("x-amz-bucket-region", "eu-central-1");
    let service = SdkError::service_error(GetObjectError::generic(meta), busy);
    let Failure::Answered(answer) = Failure::from_sdk(&service) else { panic!() };
    assert_eq!((answer.status, answer.code.as_deref()), (503, Some("SlowDown")));
    assert_eq!(answer.message.as_deref(), Some("Please slow down."));
    assert_eq!(answer.bucket_region.as_deref(), Some("eu-central-1"));

    type Sdk = SdkError<GetObjectError, HttpResponse>;
    let none = CredentialsError::not_loaded("no providers in chain provided credentials");
    let sdk = Sdk::dispatch_failure(ConnectorError::other(Box::new(none), None));
    let failure = Failure::from_sdk(&sdk);
    assert!(matches!(failure, Failure::NoCredentials(_)), "{failure:?}");

    let failed = CredentialsError::provider_error("STS said 503");
    let sdk = Sdk::dispatch_failure(ConnectorError::other(Box::new(failed), None));
    let failure = Failure::from_sdk(&sdk);
    assert!(
        matches!(&failure, Failure::CredentialsFailed(text) if text.contains("STS said 503")),
        "{failure:?}"
    );

    let disabled = CredentialsError::provider_error("request forbidden: IMDS is disabled");
    let sdk = Sdk::dispatch_failure(ConnectorError::other(Box::new(disabled), None));
    assert_eq!(error(Failure::from_sdk(&sdk)).kind(), ErrorKind::Denied);

    let reset = std::io::Error::from_raw_os_error(104);
    let sdk = Sdk::dispatch_failure(ConnectorError::io(Box::new(reset)));
    let failure = Failure::from_sdk(&sdk);
    assert!(
        matches!(&failure, Failure::NoConnection(text) if text.contains("Connection reset")),
        "{failure:?}"
    );

    let tls = std::io::Error::other("invalid peer certificate: UnknownIssuer");
    let sdk = Sdk::dispatch_failure(ConnectorError::io(Box::new(tls)));
    assert!(matches!(Failure::from_sdk(&sdk), Failure::Certificate(_)));

    let sdk = Sdk::response_error("not XML", response(200));
    assert_eq!(Failure::from_sdk(&sdk), Failure::NotUnderstood("not XML".into()));
    let sdk = Sdk::response_error("not XML", response(502));
    assert_eq!(error(Failure::from_sdk(&sdk)).kind(), ErrorKind::Unavailable);

    let sdk = Sdk::construction_failure("no bucket");
    assert_eq!(error(Failure::from_sdk(&sdk)).kind(), ErrorKind::Config);
}

#[test]
fn an_endpoint_that_names_the_bucket_is_told_so() {
    for (endpoint, is_told) in [
        ("https://bucket.s3.eu-west-1.amazonaws.com", true),
        ("http://minio:9000/bucket", true),
        ("http://minio:9000/buckets", false),
        ("https://buckets.example.com", false),
    ] {
        let place = Place { endpoint: Some(endpoint.into()), path_style: true, ..place() };
        for failure in [
            Failure::NotUnderstood("x".into()),
            answered(404, "NoSuchBucket", ""),
            answered(404, "", ""),
        ] {
            let error = failure.into_error(Action::List, "s3://bucket/path/", &place);
            let is_hinted = error.hint().unwrap().contains("names the bucket");
            assert_eq!(is_hinted, is_told, "{endpoint}: {error:?}");
        }
    }
}

#[test]
fn a_web_page_is_not_taken_for_a_lack_of_permissions() {
    let page = Answer { status: 403, is_page: true, ..Answer::default() };
    let refused = error(Failure::Answered(page));
    assert!(refused.hint().unwrap().contains("a web page"), "{refused:?}");
}

#[test]
fn a_missing_bucket_is_no_missing_object() {
    assert!(answered(404, "NoSuchKey", "").is_missing_object());
    assert!(answered(404, "", "").is_missing_object());
    assert!(answered(404, "NotFound", "").is_missing_object());
    assert!(!answered(404, "NoSuchBucket", "").is_missing_object());
    assert!(!answered(404, "NoSuchBucket", "").is_missing_upload());
    assert!(answered(404, "NoSuchUpload", "").is_missing_upload());
}
