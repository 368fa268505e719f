//! What a failure means for the caller, and how to fix it.

use super::{Answer, Failure, Place};
use crate::config::{Setting, Word};
use crate::error::ErrorKind;

/// What a failure means.
pub(super) struct Verdict {
    pub(super) kind: ErrorKind,
    pub(super) hint: Option<String>,
}

impl Verdict {
    fn plain(kind: ErrorKind) -> Verdict {
        Verdict { kind, hint: None }
    }

    fn hinted(kind: ErrorKind, hint: impl Into<String>) -> Verdict {
        Verdict { kind, hint: Some(hint.into()) }
    }
}

pub(super) fn verdict(failure: &Failure, place: &Place) -> Verdict {
    match failure {
        Failure::Answered(answer) => of_answer(answer, place),
        Failure::NotUnderstood(_) => Verdict::hinted(
            ErrorKind::Unavailable,
            "Check that the endpoint is an S3 server and that no proxy answers in its place.",
        ),
        Failure::NoConnection(_) => Verdict::hinted(
            ErrorKind::Unavailable,
            match &place.endpoint {
                Some(_) => "Check the endpoint, the name resolution and the firewall.",
                None => "Check the region, the name resolution and the firewall.",
            },
        ),
        Failure::TooSlow(_) => Verdict::hinted(
            ErrorKind::Unavailable,
            format!(
                "Check that the server is not overloaded, and that no firewall drops the \
                 connection; {} says how long to wait.",
                Setting::S3Timeout
            ),
        ),
        Failure::Certificate(_) => Verdict::hinted(
            ErrorKind::Config,
            format!(
                "Set {} to the PEM file of the authority that signed it, and check that the \
                 endpoint's host name is in the certificate.",
                Setting::S3CaFile
            ),
        ),
        Failure::NoCredentials(_) => Verdict::hinted(
            ErrorKind::Denied,
            format!(
                "Put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into the directory of {}, or give \
                 this machine a role.",
                Setting::EnvDir
            ),
        ),
        Failure::CredentialsFailed(_) => Verdict::hinted(
            ErrorKind::Unavailable,
            format!(
                "Keys were looked for in the AWS default chain, because none are in the directory \
                 of {}: fix the source that failed, or put them there.",
                Setting::EnvDir
            ),
        ),
        // Whatever is wrong with the directory is told by the error itself.
        Failure::EnvDir(error) => {
            Verdict { kind: ErrorKind::Config, hint: error.hint().map(str::to_owned) }
        }
        Failure::NotSent(_) => Verdict::hinted(
            ErrorKind::Config,
            "Check the settings for S3: bucket, endpoint, region, and the characters in the keys.",
        ),
    }
}

fn of_answer(answer: &Answer, place: &Place) -> Verdict {
    use ErrorKind::{Config, Conflict, Denied, NotFound, Unavailable};
    let source = place.credentials.get().unwrap_or_else(|| "the AWS configuration".to_owned());
    let bucket = &place.bucket;
    match answer.code.as_deref().unwrap_or_default() {
        "NoSuchKey" | "NoSuchUpload" | "NotFound" => Verdict::plain(NotFound),
        "NoSuchBucket" => Verdict::hinted(
            Config,
            format!("Create the bucket \"{bucket}\", or correct the prefix or the endpoint."),
        ),
        "InvalidBucketName" => Verdict::hinted(
            Config,
            format!("\"{bucket}\" cannot be the name of a bucket: correct the prefix."),
        ),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Verdict::hinted(
            Denied,
            format!("The session token has expired: renew the credentials in {source}."),
        ),
        "InvalidToken" | "InvalidTokenId" => Verdict::hinted(
            Denied,
            format!("The session token is not valid: renew the credentials in {source}."),
        ),
        "InvalidAccessKeyId" => Verdict::hinted(
            Denied,
            format!("The server does not know the access key: correct it in {source}."),
        ),
        "SignatureDoesNotMatch" => Verdict::hinted(
            Denied,
            format!(
                "The secret key does not belong to the access key: correct it in {source}. A proxy \
                 that changes the Host header has the same effect."
            ),
        ),
        "RequestTimeTooSkewed" | "RequestExpired" => Verdict::hinted(
            Denied,
            "The clocks of this machine and of the server differ too much: set them right.",
        ),
        "InvalidObjectState" => Verdict::hinted(
            Config,
            "The object is in a storage class that cannot be read at once: restore it first.",
        ),
        "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "IncorrectEndpoint"
        | "PermanentRedirect"
        | "TemporaryRedirect" => elsewhere(answer, place),
        "PreconditionFailed" | "InvalidRange" => Verdict::plain(Conflict),
        "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests" => busy(),
        // A body that arrived damaged arrives whole the next time.
        "BadDigest"
        | "IncompleteBody"
        | "InternalError"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => Verdict::plain(Unavailable),
        _ => match answer.status {
            301 | 302 | 307 | 308 => elsewhere(answer, place),
            401 | 403 => Verdict::hinted(
                Denied,
                format!(
                    "Allow these credentials to list the bucket \"{bucket}\" and to get, put and \
                     delete its objects (s3:ListBucket, s3:GetObject, s3:PutObject, \
                     s3:DeleteObject, s3:AbortMultipartUpload)."
                ),
            ),
            // An answer to HEAD has no body, and so no reason.
            400 if answer.code.is_none() && answer.bucket_region.is_some() => {
                elsewhere(answer, place)
            }
            400 if answer.code.is_none() => Verdict::hinted(
                Denied,
                format!(
                    "This usually means that the session token has expired: check the credentials \
                     in {source}."
                ),
            ),
            // Only S3 itself can say that an object is not there: a proxy's page
            // must not end a recovery.
            404 => Verdict::plain(Unavailable),
            // Two writers at once: ConditionalRequestConflict on Amazon's
            // servers, ConcurrentModification on Ceph.
            409 => Verdict::plain(Unavailable),
            412 | 416 => Verdict::plain(Conflict),
            429 | 503 => busy(),
            408 | 425 => Verdict::plain(Unavailable),
            501 => Verdict::plain(Config),
            // An error inside of a 200 comes without its own status.
            200..=299 | 500.. => Verdict::plain(Unavailable),
            _ => Verdict::plain(Config),
        },
    }
}

/// The server does not keep up, or does not want to.
fn busy() -> Verdict {
    Verdict::hinted(
        ErrorKind::Throttled,
        format!(
            "The server is overloaded or limits its clients: if this goes on, lower {}.",
            Word::Concurrency
        ),
    )
}

/// The bucket is in another region than the one asked.
fn elsewhere(answer: &Answer, place: &Place) -> Verdict {
    let named = answer.bucket_region.as_deref().or_else(|| expected_region(answer));
    let hint = match named {
        Some(region) => format!("Set {} to \"{region}\".", Setting::S3Region),
        None => format!(
            "The bucket \"{}\" is not in region \"{}\": set {} to its region.",
            place.bucket,
            place.region,
            Setting::S3Region
        ),
    };
    Verdict::hinted(ErrorKind::Config, hint)
}

/// The region in "the region 'A' is wrong; expecting 'B'".
fn expected_region(answer: &Answer) -> Option<&str> {
    let (_, rest) = answer.message.as_deref()?.split_once("expecting '")?;
    let (region, _) = rest.split_once('\'')?;
    (!region.is_empty()).then_some(region)
}
