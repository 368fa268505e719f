//! Errors of decoders, for stored bytes that are not what they should be.

use std::io;

use crate::error::{Error, ErrorKind};

/// A decoder's own complaints carry no core error; those of the stream below
/// carry one, or come from the operating system. `what` is what was decoded.
pub(super) fn as_corrupt(what: &str, error: io::Error) -> io::Error {
    let foreign = match error.get_ref() {
        Some(inner) => inner.downcast_ref::<Error>().is_none(),
        None => false,
    };
    if foreign { damaged(what, error) } else { error }
}

/// The error for stored bytes that are not what they should be.
pub(super) fn damaged(what: &str, why: impl std::fmt::Display) -> io::Error {
    Error::new(ErrorKind::Corrupt, format!("invalid {what}: {why}")).into()
}

/// The error for stored bytes that end too early.
pub(super) fn truncated(what: &str, bytes: u64) -> io::Error {
    Error::new(ErrorKind::Corrupt, format!("the {what} is truncated after {bytes} bytes")).into()
}
