//! From the SDK's errors to ours; nowhere else are they told apart.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::causes::{causes, error_text, joined, one_line};
use super::credentials::{CredentialSource, Refusal};
use super::http::ProxyFailure;
use crate::error::{Error, ErrorKind};

mod action;
mod cause;
mod hints;
mod meaning;
mod region;
mod response;

pub(super) use action::Action;
use cause::Cause;
use hints::verdict;
pub(super) use region::named_region;

/// No more of what was said by all sources of keys goes into a message.
const LONGEST_LIST: usize = 1500;

/// What error messages say of the store.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    /// Whether the bucket is named in the path of a request.
    pub(super) path_style: bool,
    /// The proxy on the way there.
    pub(super) proxy: Option<String>,
    /// Whether requests ask for encryption.
    pub(super) encrypts: bool,
    pub(super) credentials: CredentialSource,
}

/// How one request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server answered that it will not.
    Answered(Answer),
    /// The server's answer makes no sense.
    NotUnderstood(String),
    /// No connection, or one that broke.
    NoConnection(String),
    /// A proxy on the way is not there, or will not pass it on.
    Proxy(ProxyFailure),
    /// The server is not who it should be.
    Certificate(String),
    /// Nothing came for so long.
    TooSlow(Duration),
    /// There are no keys anywhere.
    NoCredentials(String),
    /// Keys could not be fetched from where they are.
    CredentialsFailed(String),
    /// The envdir directory that they are in cannot be read, or has none now.
    EnvDir(Error),
    /// The request could not be made.
    NotSent(String),
}

/// An error that a server answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// S3's word for it.
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
    /// Where the bucket is, when the server says so.
    pub(super) bucket_region: Option<String>,
    /// The host that it sends the client to.
    pub(super) redirect_host: Option<String>,
    /// It has marks of a proxy that answered by itself.
    pub(super) from_proxy: bool,
    /// It is a web page, which S3 does not send.
    pub(super) is_page: bool,
    /// How long it asks to wait.
    pub(super) retry_after: Option<Duration>,
    /// What a listing showed of the object that the request was refused for.
    pub(super) listing: Listing,
    /// It refuses keys in whose place there are others by now, or may be soon.
    pub(super) may_pass: bool,
    /// It refuses keys that it took before.
    pub(super) needs_new_keys: bool,
}

/// What is known of an object that may not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Listing {
    /// It was not listed.
    #[default]
    NotAsked,
    /// It is there.
    Shows,
    /// It may not be listed either.
    Refused,
}

impl Failure {
    pub(super) fn from_sdk<E>(error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let message = meta.message().map(one_line).filter(|text| !text.is_empty());
                let answer = response::answer(service.raw());
                let code = meta.code().map(one_line).or_else(|| answer.code.clone());
                // The page of a proxy, or a document that is not S3's.
                if code.is_none() && (200..300).contains(&answer.status) {
                    return Failure::NotUnderstood(unreadable(&answer, &error_text(service.err())));
                }
                Failure::Answered(Answer {
                    code,
                    message: message.or(answer.message),
                    request_id: error.request_id().map(one_line),
                    ..answer
                })
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                if (200..300).contains(&status) {
                    Failure::NotUnderstood(error_text(error))
                } else {
                    Failure::Answered(response::answer(response.raw()))
                }
            }
            SdkError::ConstructionFailure(_) => match credentials_failure(error) {
                Some(failure) => failure,
                None => Failure::NotSent(error_text(error)),
            },
            _ => match credentials_failure(error).or_else(|| proxy_failure(error)) {
                Some(failure) => failure,
                None => {
                    let text = error_text(error);
                    if text.contains("invalid peer certificate") {
                        Failure::Certificate(text)
                    } else {
                        Failure::NoConnection(text)
                    }
                }
            },
        }
    }

    /// An answer that says that all is well, and has content that cannot be read.
    pub(super) fn unreadable(response: &HttpResponse, error: &str) -> Failure {
        Failure::NotUnderstood(unreadable(&response::answer(response), &one_line(error)))
    }

    fn status(&self) -> Option<u16> {
        match self {
            Failure::Answered(answer) => Some(answer.status),
            _ => None,
        }
    }

    fn code(&self) -> Option<&str> {
        match self {
            Failure::Answered(answer) => answer.code.as_deref(),
            _ => None,
        }
    }

    /// How the server refused the keys of the request, if that is what it did.
    pub(super) fn refusal(&self, place: &Place) -> Option<Refusal> {
        let Failure::Answered(answer) = self else { return None };
        if verdict(self, place, Action::Get).kind != ErrorKind::Denied {
            return None;
        }
        Some(match answer.code.as_deref() {
            Some(
                "ExpiredToken"
                | "ExpiredTokenException"
                | "TokenRefreshRequired"
                | "InvalidToken"
                | "InvalidTokenId",
            ) => Refusal::Expired,
            Some(
                "InvalidAccessKey"
                | "InvalidAccessKeyId"
                | "InvalidClientTokenId"
                | "InvalidSecurity"
                | "SignatureDoesNotMatch",
            ) => Refusal::NotKnown,
            None if answer.status == 400 => Refusal::PerhapsExpired,
            _ => Refusal::Other,
        })
    }

    /// The error for `could not ACTION "URL"`.
    pub(super) fn into_error(self, action: Action, url: &str, place: &Place) -> Error {
        let verdict = verdict(&self, place, action);
        let error = Error::new(
            verdict.kind,
            format!("could not {action} \"{url}\": {}", self.reason(place)),
        );
        let mut detail = Vec::new();
        match &self {
            Failure::Answered(answer) => {
                if let Some(message) = &answer.message {
                    detail.push(format!("The server said: \"{message}\"."));
                }
                if let Some(id) = &answer.request_id {
                    detail.push(format!("The request's id is {id}."));
                }
                if verdict.kind == ErrorKind::Denied
                    && let Some(source) = place.credentials.get()
                {
                    detail.push(format!("The credentials came from {source}."));
                }
            }
            Failure::NoCredentials(text)
            | Failure::CredentialsFailed(text)
            | Failure::NoConnection(text)
            | Failure::Certificate(text)
            | Failure::NotUnderstood(text)
            | Failure::NotSent(text) => detail.push(sentence(text)),
            Failure::EnvDir(error) => detail.push(sentence(error.message())),
            Failure::Proxy(failure) => detail.push(sentence(&failure.to_string())),
            Failure::TooSlow(_) => {}
        }
        // Somebody may be about to write other keys.
        let may_pass = match &self {
            Failure::Answered(answer) => answer.may_pass,
            Failure::EnvDir(_) => true,
            _ => false,
        };
        let error = if may_pass { error.that_may_pass() } else { error };
        let error = match &self {
            Failure::Answered(answer) if answer.needs_new_keys => error.that_needs_new_keys(),
            _ => error,
        };
        let error = match &self {
            Failure::Answered(Answer { retry_after: Some(wait), .. }) => {
                error.that_asks_to_wait(*wait)
            }
            _ => error,
        };
        let error = match detail.is_empty() {
            true => error,
            false => error.with_detail(detail.join(" ")),
        };
        match verdict.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// The end of the message, after the colon.
    fn reason(&self, place: &Place) -> String {
        let server = match &place.endpoint {
            Some(endpoint) => format!("\"{endpoint}\""),
            None => format!("S3 in region \"{}\"", place.region),
        };
        match self {
            Failure::Answered(answer) => {
                let status = answer.status;
                let status = match &answer.code {
                    Some(code) => format!("{status} {code}"),
                    None => status.to_string(),
                };
                match (cause::cause(answer), &place.proxy) {
                    (Some(Cause::Proxy), Some(proxy)) => {
                        format!("the proxy {proxy} refused the request with {status}")
                    }
                    (None, Some(proxy)) if answer.from_proxy && answer.code.is_none() => {
                        format!("the proxy {proxy} answered {status}")
                    }
                    (Some(Cause::Quota), _) => {
                        format!("the quota of the bucket is used up (the server answered {status})")
                    }
                    (Some(Cause::NoSpace), _) => {
                        format!("the server has no space left (it answered {status})")
                    }
                    _ => format!("the server answered {status}"),
                }
            }
            Failure::NotUnderstood(_) => "the server's answer was not understood".to_owned(),
            Failure::NoConnection(_) => format!("the connection to {server} failed"),
            Failure::Proxy(failure) => match failure.status {
                Some(status) => {
                    format!("the proxy {} refused the connection with {status}", failure.proxy)
                }
                None => format!("the proxy {} cannot be used", failure.proxy),
            },
            Failure::Certificate(_) => format!("the certificate of {server} is not trusted"),
            Failure::TooSlow(limit) => {
                format!("{server} did not answer within {} s", limit.as_secs())
            }
            Failure::NoCredentials(_) => "no credentials were found".to_owned(),
            Failure::CredentialsFailed(_) => "the credentials could not be fetched".to_owned(),
            Failure::EnvDir(_) => "the credentials could not be read".to_owned(),
            Failure::NotSent(_) => "the request could not be made".to_owned(),
        }
    }
}

/// What is wrong with an answer that should hold content of S3.
fn unreadable(answer: &Answer, error: &str) -> String {
    let status = answer.status;
    if answer.is_page {
        return format!("it answered {status} with a web page");
    }
    // The SDK suspects itself.
    let text = error.replace(". This is likely a bug in the SDK", "");
    format!("it answered {status} with content that is not S3's: {text}")
}

/// Whether keys were lacking, anywhere down the chain of causes.
fn credentials_failure(error: &(dyn StdError + 'static)) -> Option<Failure> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    if let Some(error) = causes(found).find_map(|cause| cause.downcast_ref::<Error>()) {
        return Some(Failure::EnvDir(error.clone()));
    }
    Some(match found {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            Failure::NoCredentials(sources(found))
        }
        _ => match sources(found) {
            // Instance metadata is the last that is asked. That it refuses to
            // talk does not pass; the SDK has no other mark of it.
            text if text.contains("IMDS is disabled") => Failure::NoCredentials(text),
            text => Failure::CredentialsFailed(text),
        },
    })
}

/// What the sources of keys said, which is a list.
fn sources(error: &CredentialsError) -> String {
    let cause: &dyn StdError = error.source().unwrap_or(error);
    joined(cause).chars().take(LONGEST_LIST).collect()
}

/// Whether a proxy stood in the way.
fn proxy_failure(error: &(dyn StdError + 'static)) -> Option<Failure> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<ProxyFailure>())?;
    Some(Failure::Proxy(found.clone()))
}

/// Makes a whole sentence of an error's words.
fn sentence(text: &str) -> String {
    format!("The cause was: {}.", text.trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
