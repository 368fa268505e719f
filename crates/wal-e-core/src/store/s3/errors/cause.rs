//! Why a server refused a request: servers say the same in many ways.

use super::Answer;

/// Why a server refused a request, as far as its code and words say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Missing,
    NoBucket,
    BucketName,
    TokenExpired,
    TokenInvalid,
    UnknownKey,
    WrongSecret,
    Clock,
    Account,
    Archived,
    Elsewhere,
    Condition,
    Busy,
    /// Of this one attempt: a body that arrived damaged arrives whole the next time.
    Passing,
    Quota,
    NoSpace,
    /// The bucket has to be named otherwise: in the host name or in the path.
    Addressing,
    WantsTls,
    /// Not of the server at all.
    Proxy,
    StorageClass,
    Encryption,
    /// Of the request's size or name; another header changes nothing.
    Request,
}

/// In the codes of one server or another.
const QUOTA_CODES: &[&str] = &[
    "capexceeded",
    "limitreached",
    "maxobjects",
    "maxsize",
    "quota",
    "storagelimit",
    "toomanyobjects",
];

/// `None` for what only the status says something of, and for plain denials.
pub(super) fn cause(answer: &Answer) -> Option<Cause> {
    let code = answer.code.as_deref().unwrap_or_default();
    if answer.status == 429 {
        return Some(Cause::Busy);
    }
    of_code(code).or_else(|| match answer.status {
        402 => Some(Cause::Account),
        407 => Some(Cause::Proxy),
        503 => Some(Cause::Busy),
        507 => Some(Cause::NoSpace),
        301 | 302 | 307 | 308 => Some(Cause::Elsewhere),
        400 if code.is_empty() && answer.bucket_region.is_some() => Some(Cause::Elsewhere),
        200.. if answer.status != 404 => of_words(code, answer.message.as_deref()?),
        _ => None,
    })
}

fn of_code(code: &str) -> Option<Cause> {
    Some(match code {
        "NoSuchKey" | "NoSuchUpload" | "NotFound" => Cause::Missing,
        "NoSuchBucket" => Cause::NoBucket,
        "InvalidBucketName" => Cause::BucketName,
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Cause::TokenExpired,
        "InvalidToken" | "InvalidTokenId" => Cause::TokenInvalid,
        "InvalidAccessKey" | "InvalidAccessKeyId" | "InvalidClientTokenId" | "InvalidSecurity" => {
            Cause::UnknownKey
        }
        "SignatureDoesNotMatch" => Cause::WrongSecret,
        "RequestTimeTooSkewed" | "RequestExpired" => Cause::Clock,
        "AccountProblem" | "AllAccessDisabled" | "NotSignedUp" | "UserDisable"
        | "UserSuspended" => Cause::Account,
        "InvalidObjectState" => Cause::Archived,
        "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "IncorrectEndpoint"
        | "InvalidRegion"
        | "PermanentRedirect"
        | "Redirect"
        | "TemporaryRedirect" => Cause::Elsewhere,
        "PreconditionFailed" | "InvalidRange" => Cause::Condition,
        "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests" => Cause::Busy,
        "BadDigest"
        | "IncompleteBody"
        | "InternalError"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => Cause::Passing,
        "InsufficientStorage" | "InsufficientCapacity" | "NotEnoughSpace" | "XMinioStorageFull" => {
            Cause::NoSpace
        }
        "InvalidStorageClass" => Cause::StorageClass,
        "InvalidEncryptionAlgorithmError" | "ServerSideEncryptionConfigurationNotFoundError" => {
            Cause::Encryption
        }
        "EntityTooLarge"
        | "EntityTooSmall"
        | "InvalidPart"
        | "InvalidPartOrder"
        | "KeyTooLongError"
        | "MetadataTooLarge"
        | "MissingSecurityHeader"
        | "RequestHeaderSectionTooLarge" => Cause::Request,
        _ if code.starts_with("KMS.") => Cause::Encryption,
        _ if has(code, QUOTA_CODES) => Cause::Quota,
        _ if has(code, &["secondleveldomain", "pathstyle", "virtualhost", "subdomain"]) => {
            Cause::Addressing
        }
        _ => return None,
    })
}

/// The cause in the words of a refusal whose code says too little.
fn of_words(code: &str, message: &str) -> Option<Cause> {
    let says = |words: &[&str]| has(message, words);
    if says(&["quota", "cap exceeded", "storage limit"]) {
        return Some(Cause::Quota);
    }
    if says(&["no space left", "insufficient storage", "storage full", "disk full"]) {
        return Some(Cause::NoSpace);
    }
    if says(&["path style", "path-style", "virtual host", "virtual-host"]) {
        return Some(Cause::Addressing);
    }
    if says(&["http request to an https server", "plain http request was sent to https"]) {
        return Some(Cause::WantsTls);
    }
    if says(&["request time and", "date is too old", "time skew", "clock skew"]) {
        return Some(Cause::Clock);
    }
    let refused = matches!(code, "InvalidArgument" | "InvalidRequest" | "NotImplemented" | "");
    if refused
        && says(&[
            "server-side-encryption",
            "server side encryption",
            "encryption method",
            "sse-",
            "kms",
        ])
    {
        return Some(Cause::Encryption);
    }
    if refused && says(&["storage class", "storage-class"]) {
        return Some(Cause::StorageClass);
    }
    None
}

/// Whether one of the words is in the text, whatever its case.
pub(super) fn has(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_the_same_in_many_ways() {
        for (status, code, message, expected) in [
            (403, "QuotaExceeded", "", Some(Cause::Quota)),
            (400, "BucketMaxSizeExceeded", "", Some(Cause::Quota)),
            (403, "TooManyObjects", "", Some(Cause::Quota)),
            (503, "RequestLimitExceeded", "", Some(Cause::Busy)),
            (403, "AccessDenied", "The bucket's quota has been exceeded.", Some(Cause::Quota)),
            (507, "", "", Some(Cause::NoSpace)),
            (500, "InternalError", "No space left on device", Some(Cause::Passing)),
            (403, "SecondLevelDomainForbidden", "", Some(Cause::Addressing)),
            (
                400,
                "InvalidRequest",
                "Path-style requests are not supported.",
                Some(Cause::Addressing),
            ),
            (403, "UserDisable", "", Some(Cause::Account)),
            (400, "", "Client sent an HTTP request to an HTTPS server.", Some(Cause::WantsTls)),
            (429, "QuotaExceeded", "", Some(Cause::Busy)),
            (429, "", "quota of requests", Some(Cause::Busy)),
            (400, "InvalidArgument", "KMS is not configured", Some(Cause::Encryption)),
            (403, "AccessDenied", "Access Denied", None),
            (403, "AccessDenied", "Access to this bucket is blocked.", None),
            (400, "InvalidArgument", "Unsupported header 'x-amz-checksum'", None),
            (400, "InvalidRequest", "Missing required header: Content-MD5", None),
            (408, "", "Request timeout", None),
            (404, "", "No quota page", None),
        ] {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (code, message) = (text(code), text(message));
            let answer = Answer { status, code, message, ..Answer::default() };
            assert_eq!(cause(&answer), expected, "{answer:?}");
        }
    }
}
