//! The one error type, in the shape of PostgreSQL's reports.
//!
//! Rules for a new error:
//!
//! * The message follows PostgreSQL's error style guide: lower case, no final
//!   stop, "could not ...", names in double quotes. It names the object.
//! * The detail and the hint are whole sentences. The hint says how to fix it.
//! * Context is attached where it is known and never wrapped in a second,
//!   generic error.
//! * The kind says what the caller can *do*, not where the error came from.
//! * A secret never enters any of them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for does not exist.
    NotFound,
    /// Something different is there already; it was left as it was.
    Conflict,
    /// The store refused the credentials, or they could not be had.
    Denied,
    /// The store did not answer, or said that it cannot do so now. Trying again may help.
    Unavailable,
    /// The store asks for fewer requests: wait, and send less.
    Throttled,
    /// Stored or local bytes are not what they should be.
    Corrupt,
    /// A setting is wrong. Trying again does not help until it changes.
    Config,
    /// It would harm what belongs to another cluster, so it was not done. It must not
    /// look like something that is not there.
    Unsafe,
    /// The caller asked to stop.
    Cancelled,
    /// The operating system refused a file operation.
    Io,
    /// No space was left on a local device.
    DiskFull,
    /// A mistake in this program.
    Bug,
}

/// What went wrong: message, detail and hint as PostgreSQL would print them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    may_pass: bool,
    needs_new_keys: bool,
    lacks_key: bool,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            detail: None,
            hint: None,
            may_pass: false,
            needs_new_keys: false,
            lacks_key: false,
            retry_after: None,
        }
    }

    /// An error of the operating system: `message` says what was tried.
    pub fn io(message: impl Into<String>, source: &std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::DiskFull
            }
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("{}: {}", message.into(), describe_io(source)))
    }

    /// [`Error::io`] for `could not VERB "PATH"`.
    pub fn file(verb: &str, path: &Path, source: &std::io::Error) -> Self {
        Error::io(format!("could not {verb} \"{}\"", path.display()), source)
    }

    /// The caller asked to stop.
    pub fn cancelled() -> Self {
        Error::new(ErrorKind::Cancelled, "canceled on request")
    }

    /// Adds a detail: one or more whole sentences.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint: whole sentences that say how to fix it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Marks an error that may pass by itself although others of its kind do
    /// not: keys that have expired, where their source will have new ones.
    #[must_use]
    pub fn that_may_pass(mut self) -> Self {
        self.may_pass = true;
        self
    }

    /// Marks the refusal of keys that were good before: they have been replaced, and the new
    /// ones may be about to come.
    #[must_use]
    pub fn that_needs_new_keys(mut self) -> Self {
        self.needs_new_keys = true;
        self
    }

    /// Marks an encrypted object that no key opens.
    #[must_use]
    pub fn that_lacks_a_key(mut self) -> Self {
        self.lacks_key = true;
        self
    }

    /// The same error in these words; detail and hint stay.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Says how long the store asks to wait before the next attempt.
    #[must_use]
    pub fn that_asks_to_wait(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The primary message, without detail and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The facts that led to the message.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// How to fix it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Message and detail in one line, for a list of findings.
    pub fn message_and_detail(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.message),
            None => self.message.clone(),
        }
    }

    /// Whether the same call may succeed later with nothing changed.
    pub fn is_transient(&self) -> bool {
        self.may_pass || matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Throttled)
    }

    /// After reading an object: whether its bytes are wrong, or were replaced meanwhile.
    /// Another read may succeed, and so may another object of the same file.
    pub fn is_damage(&self) -> bool {
        matches!(self.kind, ErrorKind::Corrupt | ErrorKind::Conflict)
    }

    /// After reading an object: whether it exists but is of no use, while work that does not
    /// need it can go on. It is damaged, encrypted, in a storage class that cannot be read
    /// from, or its own permissions keep it from being read.
    pub fn is_unusable_object(&self) -> bool {
        let is_kept = matches!(self.kind, ErrorKind::Config | ErrorKind::Denied);
        self.is_damage() || is_kept && !self.is_transient()
    }

    /// As [`is_unusable_object`](Self::is_unusable_object), or it does not exist.
    pub fn is_of_one_object(&self) -> bool {
        self.is_unusable_object() || self.kind == ErrorKind::NotFound
    }

    /// How long the store asks to wait before the next attempt, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether an encrypted object cannot be read for want of a key.
    pub fn lacks_key(&self) -> bool {
        self.lacks_key
    }

    /// Whether keys that were good before were refused.
    pub fn needs_new_keys(&self) -> bool {
        self.needs_new_keys
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Lets a core error pass through code that can only return `io::Error`
/// (readers and writers); [`Error::from_io`] takes it out again.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}

impl Error {
    /// The core error inside `source`, or else an I/O error that says `message`.
    pub fn from_io(message: impl Into<String>, source: std::io::Error) -> Self {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(inner) => inner.clone(),
            None => Error::io(message, &source),
        }
    }
}

/// The words of the operating system, without Rust's "(os error N)".
fn describe_io(source: &std::io::Error) -> String {
    let text = source.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_error_survives_the_way_through_io() {
        let error = Error::new(ErrorKind::Corrupt, "bad frame").with_hint("Fetch it again.");
        let io: std::io::Error = error.clone().into();
        assert_eq!(Error::from_io("could not read", io), error);
    }

    #[test]
    fn what_may_pass_is_transient_and_keeps_its_kind() {
        for (kind, transient) in [
            (ErrorKind::Unavailable, true),
            (ErrorKind::Throttled, true),
            (ErrorKind::Denied, false),
            (ErrorKind::Config, false),
            (ErrorKind::Conflict, false),
        ] {
            assert_eq!(Error::new(kind, "x").is_transient(), transient, "{kind:?}");
        }
        let expired = Error::new(ErrorKind::Denied, "expired").that_may_pass();
        assert!(expired.is_transient());
        assert_eq!(expired.kind(), ErrorKind::Denied);
    }

    #[test]
    fn an_error_says_whether_it_is_of_one_object() {
        // Damage, an object of no use, an object.
        for (kind, expected) in [
            (ErrorKind::Corrupt, [true, true, true]),
            (ErrorKind::Conflict, [true, true, true]),
            (ErrorKind::Config, [false, true, true]),
            (ErrorKind::Denied, [false, true, true]),
            (ErrorKind::NotFound, [false, false, true]),
            (ErrorKind::Unavailable, [false, false, false]),
            (ErrorKind::Throttled, [false, false, false]),
            (ErrorKind::Unsafe, [false, false, false]),
            (ErrorKind::Cancelled, [false, false, false]),
            (ErrorKind::Io, [false, false, false]),
            (ErrorKind::DiskFull, [false, false, false]),
            (ErrorKind::Bug, [false, false, false]),
        ] {
            let error = Error::new(kind, "x");
            let says = [error.is_damage(), error.is_unusable_object(), error.is_of_one_object()];
            assert_eq!(says, expected, "{kind:?}");
        }
        // Keys that have expired say nothing about the object.
        let expired = Error::new(ErrorKind::Denied, "expired").that_may_pass();
        assert!(!expired.is_of_one_object());
    }

    #[test]
    fn io_errors_read_like_postgresql() {
        let source = std::io::Error::from_raw_os_error(2);
        let error = Error::file("open file", Path::new("/nowhere"), &source);
        assert_eq!(error.message(), "could not open file \"/nowhere\": No such file or directory");
        assert_eq!(
            Error::io("x", &std::io::Error::from_raw_os_error(28)).kind(),
            ErrorKind::DiskFull
        );
    }
}
