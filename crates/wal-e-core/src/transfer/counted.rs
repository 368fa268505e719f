//! Streams that count how far they are read.

use std::io::{self, Read};

/// A stream that reports to `count` how many bytes each read gave.
#[derive(Debug)]
pub struct Counted<R, C> {
    inner: R,
    count: C,
}

impl<R: Read, C: Fn(u64)> Counted<R, C> {
    /// Counts what is read from `inner`.
    pub fn new(inner: R, count: C) -> Self {
        Counted { inner, count }
    }
}

impl<R: Read, C: Fn(u64)> Read for Counted<R, C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        (self.count)(length as u64);
        Ok(length)
    }
}
