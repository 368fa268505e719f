//! Errors of the server and of the connection, as errors of ours.

use std::error::Error as _;

use tokio_postgres::error::SqlState;
use wal_e_core::{Error, ErrorKind};

use super::libpq::Server;

/// How to say which server is meant.
pub const WAY_TO_SERVER: &str =
    "Set PGHOST and PGPORT, or PGSERVICE, as for psql; the server must run on this host.";

/// `doing: message of the server`, with its detail and hint.
pub fn query_error(doing: &str, error: &tokio_postgres::Error) -> Error {
    let with = |message: &str| match doing {
        "" => message.to_owned(),
        _ => format!("{doing}: {message}"),
    };
    let Some(answer) = error.as_db_error() else {
        return Error::new(kind_without_answer(error), with(&innermost(error)));
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

/// An error of the attempt to begin a session.
pub fn connection_error(server: &Server, error: &tokio_postgres::Error) -> Error {
    let doing = format!("could not connect to the server at {}", server.describe());
    let mut converted = query_error(&doing, error);
    let file = server.password.as_ref().and_then(|password| password.file.as_ref());
    if error.code() == Some(&SqlState::INVALID_PASSWORD)
        && let Some(file) = file
    {
        converted =
            converted.with_detail(format!("The password is that of \"{}\".", file.display()));
    }
    match (converted.hint(), hint(error)) {
        (None, Some(hint)) => converted.with_hint(hint),
        _ => converted,
    }
}

/// What to do about it, where that is known.
fn hint(error: &tokio_postgres::Error) -> Option<&'static str> {
    let Some(answer) = error.as_db_error() else {
        let said = innermost(error);
        if said.contains("none was given") {
            return Some(
                "Put it into ~/.pgpass or the file of PGPASSFILE, which only its user may read, or set PGPASSWORD.",
            );
        }
        if said.contains("which wal-e does not do") {
            return Some(
                "Have pg_hba.conf take this role by peer, scram-sha-256 or cert, through a Unix-domain socket for one.",
            );
        }
        return (kind_without_answer(error) == ErrorKind::Unavailable).then_some(WAY_TO_SERVER);
    };
    match answer.code() {
        code if *code == SqlState::INVALID_PASSWORD => {
            Some("Passwords come from PGPASSWORD, or from the file of PGPASSFILE or ~/.pgpass.")
        }
        _ if answer.message().contains("client certificate") => {
            Some("Name a certificate for this role with PGSSLCERT, and its key with PGSSLKEY.")
        }
        code if code.code().starts_with("28") => {
            Some("Set PGUSER to a role that pg_hba.conf lets in from here.")
        }
        code if *code == SqlState::INVALID_CATALOG_NAME => {
            Some("Set PGDATABASE to a database of this server.")
        }
        // What poolers say to options at the start of a session.
        _ if answer.message().contains("unsupported startup parameter") => Some(
            "This is a connection pooler. Connect to the server itself: set PGHOST to its socket directory and PGPORT to its port.",
        ),
        _ => None,
    }
}

/// What the client itself has refused is no matter of patience.
fn kind_without_answer(error: &tokio_postgres::Error) -> ErrorKind {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
            return match cause.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            };
        }
        source = cause.source();
    }
    // Such as a channel binding that the server does not do.
    match error.is_closed() {
        true => ErrorKind::Unavailable,
        false => ErrorKind::Denied,
    }
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
