//! What a failure means for the caller, and what to do about it.

use super::cause::{Cause, cause, has};
use super::{Action, Answer, Failure, Listing, Place, named_region};
use crate::config::{Setting, Word};
use crate::error::ErrorKind;
use crate::store::s3::client::is_host_label;

mod certificates;

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

const OF_NO_SERVER: &str =
    "Check that the endpoint is an S3 server and that no proxy answers in its place.";

pub(super) fn verdict(failure: &Failure, place: &Place, action: Action) -> Verdict {
    match failure {
        Failure::Answered(answer) => match cause(answer) {
            Some(Cause::Elsewhere) => elsewhere(failure, answer, place),
            Some(cause) => of_cause(cause, place),
            None => of_status(answer, place, action),
        },
        Failure::NotUnderstood(_) => Verdict::hinted(ErrorKind::Unavailable, no_server(place)),
        Failure::NoConnection(text) => {
            Verdict::hinted(ErrorKind::Unavailable, without_connection(text, place))
        }
        Failure::TooSlow(_) => Verdict::hinted(
            ErrorKind::Unavailable,
            format!(
                "Check that the server is not overloaded, and that no firewall drops the \
                 connection; {} says how long to wait.",
                Setting::S3Timeout
            ),
        ),
        Failure::Proxy(failure) => of_proxy(failure.status),
        Failure::Certificate(text) => {
            Verdict::hinted(ErrorKind::Config, certificates::hint(text, place))
        }
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
        // Whatever is wrong with the directory is said by the error itself.
        Failure::EnvDir(error) => {
            Verdict { kind: ErrorKind::Config, hint: error.hint().map(str::to_owned) }
        }
        Failure::NotSent(_) => Verdict::hinted(
            ErrorKind::Config,
            "Check the settings for S3: bucket, endpoint, region, and the characters in the keys.",
        ),
    }
}

/// A proxy that is not there may be soon; one that wants another password, or does not let
/// requests through to this server, goes on to refuse.
fn of_proxy(status: Option<u16>) -> Verdict {
    match status {
        None => Verdict::hinted(
            ErrorKind::Unavailable,
            "Check that the proxy runs and that its address is right; NO_PROXY names hosts that \
             are reached without it.",
        ),
        Some(407) => Verdict::hinted(
            ErrorKind::Config,
            format!(
                "The proxy wants another user and password: put \
                 \"http://USER:PASSWORD@HOST:PORT\" into the file HTTPS_PROXY (or HTTP_PROXY, for \
                 an endpoint that begins with \"http://\") in the directory of {}.",
                Setting::EnvDir
            ),
        ),
        Some(500..) => Verdict::hinted(
            ErrorKind::Unavailable,
            "The proxy does not reach the server: check the endpoint, and the proxy's own log.",
        ),
        Some(_) => Verdict::hinted(
            ErrorKind::Config,
            "Allow the connection in the configuration of the proxy, or name the server in \
             NO_PROXY if it can be reached without a proxy.",
        ),
    }
}

fn of_cause(cause: Cause, place: &Place) -> Verdict {
    use ErrorKind::{Config, Conflict, Denied, NotFound, Unavailable};
    let source = place.credentials.get().unwrap_or_else(|| "the AWS configuration".to_owned());
    let bucket = &place.bucket;
    match cause {
        Cause::Missing => Verdict::plain(NotFound),
        Cause::NoBucket => Verdict::hinted(Config, no_bucket(place)),
        Cause::BucketName if is_host_label(bucket) => Verdict::hinted(
            Config,
            format!(
                "The name \"{bucket}\" is allowed: correct the endpoint, if it has a path that \
                 the server takes for the bucket, or set {} to {}.",
                Setting::S3ForcePathStyle,
                if place.path_style { "off" } else { "on" }
            ),
        ),
        Cause::BucketName => Verdict::hinted(
            Config,
            format!("\"{bucket}\" cannot be the name of a bucket: correct the prefix."),
        ),
        Cause::TokenExpired => Verdict::hinted(
            Denied,
            format!("The session token has expired: renew the credentials in {source}."),
        ),
        Cause::TokenInvalid => Verdict::hinted(
            Denied,
            format!("The session token is not valid: renew the credentials in {source}."),
        ),
        Cause::UnknownKey => Verdict::hinted(
            Denied,
            format!("The server does not know the access key: correct it in {source}."),
        ),
        Cause::WrongSecret => Verdict::hinted(
            Denied,
            format!(
                "The secret key does not belong to the access key: correct it in {source}. A proxy \
                 that changes the Host header, or takes a header away, has the same effect."
            ),
        ),
        Cause::Clock => Verdict::hinted(
            Denied,
            "The clocks of this machine and of the server differ too much: set them right.",
        ),
        Cause::Account => Verdict::hinted(
            Denied,
            "The account of these credentials is suspended, unpaid or not set up: its owner or \
             the provider can change that.",
        ),
        Cause::Archived => Verdict::hinted(
            Config,
            "The object is in a storage class that cannot be read at once: restore it first.",
        ),
        Cause::Condition => Verdict::plain(Conflict),
        Cause::Busy => busy(),
        // Where it goes to is said with the answer.
        Cause::Passing | Cause::Elsewhere => Verdict::plain(Unavailable),
        Cause::Quota => Verdict::hinted(
            Unavailable,
            format!(
                "Raise the quota of the bucket \"{bucket}\" or of its owner, or remove objects \
                 that are not needed."
            ),
        ),
        Cause::NoSpace => Verdict::hinted(
            Unavailable,
            "Give the server more space, or remove objects that are not needed.",
        ),
        Cause::Addressing => Verdict::hinted(Config, addressing(place)),
        Cause::WantsTls => {
            Verdict::hinted(Config, "The server speaks TLS: begin the endpoint with \"https://\".")
        }
        Cause::Proxy => of_proxy(Some(407)),
        Cause::StorageClass => Verdict::hinted(
            Config,
            format!("Set {} to a storage class of this server.", Setting::S3StorageClass),
        ),
        Cause::Encryption => Verdict::hinted(
            Config,
            format!(
                "Set {} to a method of encryption that this server has keys for.",
                Setting::S3Sse
            ),
        ),
        Cause::Request => Verdict::plain(Config),
    }
}

/// An answer without a code that says more than its status.
fn of_status(answer: &Answer, place: &Place, action: Action) -> Verdict {
    use ErrorKind::{Config, Conflict, Denied, Unavailable};
    match answer.status {
        // A server of S3 says in XML why it refuses.
        403 if answer.code.is_none() && answer.from_proxy && place.proxy.is_some() => {
            of_proxy(Some(403))
        }
        401 | 403 if answer.is_page && answer.code.is_none() => Verdict::hinted(
            Denied,
            "The answer is a web page, which an S3 server does not send: check the endpoint, and \
             whether a proxy or a firewall on the way refuses the request.",
        ),
        401 => {
            let source =
                place.credentials.get().unwrap_or_else(|| "the AWS configuration".to_owned());
            Verdict::hinted(
                Denied,
                format!(
                    "The server does not accept the credentials: correct them in {source}, and \
                     check that the endpoint is an S3 server."
                ),
            )
        }
        405 => Verdict::hinted(
            Config,
            "The endpoint does not take such requests: check that it is the address of the S3 \
             server, and not of a web site or of the server's console.",
        ),
        403 => Verdict::hinted(Denied, denied(answer, place, action)),
        // An answer to HEAD has no body, and so no reason.
        400 if answer.code.is_none() && answer.message.is_none() => {
            let source =
                place.credentials.get().unwrap_or_else(|| "the AWS configuration".to_owned());
            Verdict::hinted(
                Denied,
                format!(
                    "This usually means that the session token has expired: check the credentials \
                     in {source}."
                ),
            )
        }
        400 | 501 if action == Action::List && answer.code.is_some() => Verdict::hinted(
            Config,
            "The server may not know ListObjectsV2, with which wal_e lists objects: check its \
             version.",
        ),
        // Only S3 itself can say that an object is not there: a proxy's page
        // must not end a recovery.
        404 if answer.code.is_none() => Verdict::hinted(Unavailable, no_server(place)),
        404 => Verdict::plain(Unavailable),
        413 => Verdict::hinted(
            Config,
            "A proxy or a gateway in front of the server limits the size of a request: raise or \
             remove that limit (in nginx, client_max_body_size).",
        ),
        // Two writers at once: ConditionalRequestConflict on Amazon's
        // servers, ConcurrentModification on Ceph.
        409 => Verdict::plain(Unavailable),
        412 | 416 => Verdict::plain(Conflict),
        408 | 425 => Verdict::plain(Unavailable),
        501 => Verdict::plain(Config),
        502 | 504 if answer.code.is_none() => Verdict::hinted(
            Unavailable,
            "A proxy or a gateway in front of the server answered in its place: check that the \
             server runs, and the log of the proxy or gateway.",
        ),
        // An error inside of a 200 comes without its own status.
        200..=299 | 500.. => Verdict::plain(Unavailable),
        _ => Verdict::plain(Config),
    }
}

/// What to allow. A reader of an object that is not there is refused like one of an object
/// that is there, unless it may list the bucket.
fn denied(answer: &Answer, place: &Place, action: Action) -> String {
    let bucket = &place.bucket;
    match answer.listing {
        Listing::Shows => format!(
            "The object is there, and these credentials may list it: allow them to get objects of \
             the bucket \"{bucket}\" too (s3:GetObject)."
        ),
        Listing::Refused => format!(
            "The object may be there or not: allow these credentials to list the bucket \
             \"{bucket}\" (s3:ListBucket) and to get its objects (s3:GetObject)."
        ),
        Listing::NotAsked if action.writes() && !place.encrypts => format!(
            "Allow these credentials {}. If the bucket's policy demands encryption, set {}.",
            action.permission(bucket),
            Setting::S3Sse
        ),
        Listing::NotAsked => format!("Allow these credentials {}.", action.permission(bucket)),
    }
}

/// Where something else than the server seems to answer.
fn no_server(place: &Place) -> String {
    names_bucket(place).unwrap_or_else(|| OF_NO_SERVER.to_owned())
}

/// What to do about an endpoint in which the bucket stands, as consoles and other programs show
/// it: then it is in each request twice.
fn names_bucket(place: &Place) -> Option<String> {
    let endpoint = place.endpoint.as_deref()?;
    let (_, rest) = endpoint.split_once("://")?;
    let bucket = place.bucket.as_str();
    let in_host = rest.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('.'));
    let in_path = rest.rsplit_once('/').is_some_and(|(_, last)| last == bucket);
    (in_host || in_path).then(|| {
        format!(
            "The endpoint \"{endpoint}\" names the bucket, which belongs into the prefix alone: \
             take \"{bucket}\" out of {}.",
            Setting::S3Endpoint
        )
    })
}

fn no_bucket(place: &Place) -> String {
    if let Some(hint) = names_bucket(place) {
        return hint;
    }
    let bucket = &place.bucket;
    match (&place.endpoint, place.path_style) {
        (Some(_), false) => format!(
            "Create the bucket \"{bucket}\", correct the prefix or the endpoint, or set {} to on \
             if the server knows no buckets in host names.",
            Setting::S3ForcePathStyle
        ),
        _ => format!("Create the bucket \"{bucket}\", or correct the prefix or the endpoint."),
    }
}

/// The server wants the bucket where it is not.
fn addressing(place: &Place) -> String {
    match place.path_style {
        true => format!(
            "The server wants the bucket in the host name: set {} to off.",
            Setting::S3ForcePathStyle
        ),
        false => format!(
            "The server wants the bucket in the path: set {} to on.",
            Setting::S3ForcePathStyle
        ),
    }
}

fn without_connection(text: &str, place: &Place) -> String {
    if let Some(proxy) = &place.proxy {
        return format!(
            "The connection goes through the proxy {proxy}: check that it reaches the server, and \
             check the endpoint; NO_PROXY names hosts that are reached without it."
        );
    }
    let Some(endpoint) = &place.endpoint else {
        return "Check the region, the name resolution and the firewall.".to_owned();
    };
    // rustls names it so when the first bytes of the other side are no TLS.
    let speaks_tls = !has(text, &["corrupt message", "invalidcontenttype", "wrong version"]);
    if endpoint.starts_with("https://") && !speaks_tls {
        return "The server does not speak TLS at this port: begin the endpoint with \"http://\", \
                or correct its port."
            .to_owned();
    }
    let lookup = has(text, &["dns error", "lookup address"]);
    if lookup && !place.path_style {
        return format!(
            "The bucket is in the host name: check that \"{}.\" before the endpoint's host is a \
             name that resolves, or set {} to on.",
            place.bucket,
            Setting::S3ForcePathStyle
        );
    }
    "Check the endpoint, the name resolution and the firewall.".to_owned()
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

/// The bucket is in another region than the one asked, or on another server.
fn elsewhere(failure: &Failure, answer: &Answer, place: &Place) -> Verdict {
    let hint = match (named_region(failure), &answer.redirect_host) {
        (Some(region), _) if region == place.region => {
            "Requests are signed for that region already: check the endpoint.".to_owned()
        }
        // It has been tried there with that region.
        (Some(region), host) if place.endpoint.is_some() => {
            let named = host.as_deref().map(|host| format!(" (\"{host}\")")).unwrap_or_default();
            format!(
                "Set {} to \"{region}\", and {} to the server of that region{named}.",
                Setting::S3Region,
                Setting::S3Endpoint
            )
        }
        (Some(region), _) => format!("Set {} to \"{region}\".", Setting::S3Region),
        (None, Some(host)) if place.endpoint.is_some() => format!(
            "The server sends its clients to \"{host}\": if you know that server, set {} to it.",
            Setting::S3Endpoint
        ),
        (None, _) => format!(
            "The bucket \"{}\" is not in region \"{}\": set {} to its region.",
            place.bucket,
            place.region,
            Setting::S3Region
        ),
    };
    Verdict::hinted(ErrorKind::Config, hint)
}
