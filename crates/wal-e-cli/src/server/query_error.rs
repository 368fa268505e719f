//! Errors of the server and of the connection, as errors of ours.

use std::error::Error as _;

use tokio_postgres::config::{Config, Host};
use tokio_postgres::error::SqlState;
use wal_e_core::{Error, ErrorKind};

/// `doing: message of the server`, with its detail and hint.
pub fn query_error(doing: &str, error: &tokio_postgres::Error) -> Error {
    let with = |message: &str| match doing {
        "" => message.to_owned(),
        _ => format!("{doing}: {message}"),
    };
    let Some(answer) = error.as_db_error() else {
        return Error::new(ErrorKind::Unavailable, with(&innermost(error)));
    };
    let kind = match answer.code() {
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => ErrorKind::Denied,
        code if code.code().starts_with("28") => ErrorKind::Denied,
        code if *code == SqlState::QUERY_CANCELED => ErrorKind::Cancelled,
        // Connection lost, server going down, out of resources.
        code if ["08", "53", "57"].contains(&&code.code()[..2]) => ErrorKind::Unavailable,
        _ => ErrorKind::Config,
    };
    let mut converted = Error::new(kind, with(answer.message()));
    if let Some(detail) = answer.detail() {
        converted = converted.with_detail(detail);
    }
    if let Some(hint) = answer.hint() {
        converted = converted.with_hint(hint);
    }
    converted
}

/// An error of the attempt to connect.
pub fn connection_error(config: &Config, error: &tokio_postgres::Error) -> Error {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => format!("host \"{name}\""),
        Some(Host::Unix(directory)) => format!("socket directory \"{}\"", directory.display()),
        None => "the default host".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(super::libpq_environment::PORT);
    let doing = format!("could not connect to the server at {host}, port {port}");
    let converted = query_error(&doing, error);
    if converted.hint().is_some() {
        return converted;
    }
    converted.with_hint(
        "Set PGHOST, PGPORT, PGUSER and PGDATABASE as for psql; the server must run on this host.",
    )
}

/// The words of the last cause, without Rust's "(os error N)".
fn innermost(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
