//! From the SDK's errors to ours; nowhere else are they told apart.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::credentials::{CredentialSource, Refusal};
use crate::error::{Error, ErrorKind};

mod hints;

use hints::verdict;

/// No more of a server's text than this goes into a message.
const LONGEST_TEXT: usize = 300;

/// What error messages say of the store.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
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
    /// It refuses keys in whose place there are others by now, or may be soon.
    pub(super) may_pass: bool,
    /// It refuses keys that it took before.
    pub(super) needs_new_keys: bool,
}

impl Failure {
    pub(super) fn from_sdk<E>(error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let headers = service.raw().headers();
                Failure::Answered(Answer {
                    status: service.raw().status().as_u16(),
                    code: meta.code().map(one_line),
                    message: meta.message().map(one_line).filter(|text| !text.is_empty()),
                    request_id: error.request_id().map(one_line),
                    bucket_region: headers.get("x-amz-bucket-region").map(one_line),
                    may_pass: false,
                    needs_new_keys: false,
                })
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                if (200..300).contains(&status) {
                    Failure::NotUnderstood(error_text(error))
                } else {
                    Failure::Answered(Answer { status, ..Answer::default() })
                }
            }
            SdkError::ConstructionFailure(_) => match credentials_failure(error) {
                Some(failure) => failure,
                None => Failure::NotSent(error_text(error)),
            },
            _ => match credentials_failure(error) {
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

    /// The request was refused, and there was no room to say why.
    pub(super) fn is_refused_without_reason(&self) -> bool {
        self.status() == Some(403) && self.code().is_none()
    }

    /// There is no object of that name (and it is not the bucket that lacks).
    pub(super) fn is_missing_object(&self) -> bool {
        self.status() == Some(404) && matches!(self.code(), None | Some("NoSuchKey" | "NotFound"))
    }

    /// The multipart upload has ended or never was.
    pub(super) fn is_missing_upload(&self) -> bool {
        self.code() == Some("NoSuchUpload")
            || (self.status() == Some(404) && self.code() != Some("NoSuchBucket"))
    }

    /// A condition of the request did not hold.
    pub(super) fn is_precondition(&self) -> bool {
        self.status() == Some(412) || self.code() == Some("PreconditionFailed")
    }

    /// The server knows of no such header or request.
    pub(super) fn is_not_implemented(&self) -> bool {
        self.status() == Some(501) || self.code() == Some("NotImplemented")
    }

    /// The range asked for begins at the end or after it.
    pub(super) fn is_invalid_range(&self) -> bool {
        self.status() == Some(416) || self.code() == Some("InvalidRange")
    }

    /// How the server refused the keys of the request, if that is what it did.
    pub(super) fn refusal(&self, place: &Place) -> Option<Refusal> {
        let Failure::Answered(answer) = self else { return None };
        if verdict(self, place).kind != ErrorKind::Denied {
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
            Some("InvalidAccessKeyId" | "SignatureDoesNotMatch") => Refusal::NotKnown,
            None if answer.status == 400 => Refusal::PerhapsExpired,
            _ => Refusal::Other,
        })
    }

    /// The error for `could not ACTION "URL"`.
    pub(super) fn into_error(self, action: &str, url: &str, place: &Place) -> Error {
        let verdict = verdict(&self, place);
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
            Failure::Answered(Answer { status, code: Some(code), .. }) => {
                format!("the server answered {status} {code}")
            }
            Failure::Answered(Answer { status, .. }) => format!("the server answered {status}"),
            Failure::NotUnderstood(_) => "the server's answer was not understood".to_owned(),
            Failure::NoConnection(_) => format!("the connection to {server} failed"),
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

/// Whether keys were lacking, anywhere down the chain of causes.
fn credentials_failure(error: &(dyn StdError + 'static)) -> Option<Failure> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    if let Some(error) = causes(found).find_map(|cause| cause.downcast_ref::<Error>()) {
        return Some(Failure::EnvDir(error.clone()));
    }
    Some(match found {
        CredentialsError::CredentialsNotLoaded(_) => Failure::NoCredentials(chain(found)),
        CredentialsError::InvalidConfiguration(_) => Failure::NoCredentials(chain(found)),
        _ => match chain(found) {
            // Instance metadata is the last that is asked. That it refuses to
            // talk does not pass; the SDK has no other mark of it.
            text if text.contains("IMDS is disabled") => Failure::NoCredentials(text),
            text => Failure::CredentialsFailed(text),
        },
    })
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// An error with its causes, without repeating what a cause says again.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let words = cause.to_string();
        if text.contains(&words) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&words);
    }
    one_line(&text)
}

/// The causes of an error of the SDK, whose own words ("dispatch failure") say
/// nothing.
fn error_text(error: &(dyn StdError + 'static)) -> String {
    match error.source() {
        Some(cause) => chain(cause),
        None => chain(error),
    }
}

/// Text from outside as it may stand in a message: one line, not too long.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_TEXT).collect()
}

/// Makes a whole sentence of an error's words.
fn sentence(text: &str) -> String {
    format!("The cause was: {}.", text.trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
