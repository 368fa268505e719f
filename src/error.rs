//! What went wrong, as PostgreSQL reports it.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::CaughtError;
use wal_e_core::config::Face;
use wal_e_core::{Error, ErrorKind};

/// A failure with its SQLSTATE. Becomes an [`pgrx::pg_sys::panic::ErrorReport`] where it leaves for
/// a client, because pgrx keeps the SQLSTATE of no other type.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The SQLSTATE.
    pub code: PgSqlErrorCode,
    /// Primary message.
    pub message: String,
    /// Facts about it: whole sentences.
    pub detail: Option<String>,
    /// What to do: whole sentences.
    pub hint: Option<String>,
    /// Whether the same may succeed later with nothing changed.
    pub passes: bool,
}

/// A result whose error is [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure without detail and hint.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), detail: None, hint: None, passes: false }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Message and detail as sentences, where there is one text for both.
    pub fn summary(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}. {detail}", self.message),
            None => self.message.clone(),
        }
    }

    /// Whether the work was stopped on request.
    pub fn is_canceled(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
    }
}

/// The SQLSTATE of each kind of core error.
fn sqlstate(kind: ErrorKind) -> PgSqlErrorCode {
    match kind {
        ErrorKind::NotFound => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        ErrorKind::Conflict => PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        ErrorKind::Denied => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Io => {
            PgSqlErrorCode::ERRCODE_IO_ERROR
        }
        ErrorKind::Corrupt => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        ErrorKind::Config => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        ErrorKind::Unsafe => PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        ErrorKind::Cancelled => PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
        ErrorKind::DiskFull => PgSqlErrorCode::ERRCODE_DISK_FULL,
        _ => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
    }
}

/// What the core says, in the words of a server: each text of the core that leaves for a
/// client or the log comes through here.
pub fn in_words(text: &str) -> String {
    Face::Server.speak(text)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            code: sqlstate(error.kind()),
            message: in_words(error.message()),
            detail: error.detail().map(in_words),
            hint: error.hint().map(in_words),
            passes: error.is_transient(),
        }
    }
}

/// An ERROR of PostgreSQL, or a panic, that was caught.
impl From<CaughtError> for Failure {
    fn from(caught: CaughtError) -> Self {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. }) = caught;
        Failure {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            hint: report.hint().map(str::to_owned),
            passes: false,
        }
    }
}
