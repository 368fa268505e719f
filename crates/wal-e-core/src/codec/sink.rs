//! Errors of the writer below a compressor.

use std::io::{self, Write};

use crate::error::Error;

/// Remembers the first error of the inner writer, and writes nothing after it.
///
/// Compressors write out of turn (buffered, or when they are dropped) and some
/// forget what went wrong then; what follows a gap is worth nothing.
#[derive(Debug)]
pub(super) struct FirstError<W> {
    inner: W,
    error: Option<io::Error>,
}

impl<W> FirstError<W> {
    pub(super) fn new(inner: W) -> Self {
        FirstError { inner, error: None }
    }

    /// The inner writer, unless a write to it has failed.
    pub(super) fn into_inner(self) -> io::Result<W> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.inner),
        }
    }
}

impl<W: Write> Write for FirstError<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.error.is_some() {
            return Err(io::Error::other("an earlier write failed"));
        }
        self.inner.write(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.error = Some(clone_io(error));
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// `io::Error` is not `Clone`: the same words and kind.
fn clone_io(error: &io::Error) -> io::Error {
    if let Some(core) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return core.clone().into();
    }
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
