//! Text, failures and times in a form that shared memory can hold: plain bytes,
//! valid in every process.

use pgrx::PgSqlErrorCode;
use time::OffsetDateTime;

use crate::error::Failure;

/// Text in shared memory; what does not fit is cut off.
#[derive(Debug, Clone, Copy)]
pub struct FixedText<const N: usize> {
    length: usize,
    bytes: [u8; N],
}

impl<const N: usize> Default for FixedText<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> FixedText<N> {
    /// No text.
    pub const EMPTY: Self = FixedText { length: 0, bytes: [0; N] };

    /// As much of `text` as fits.
    pub fn new(text: &str) -> Self {
        let length = text.floor_char_boundary(N);
        let mut fixed = Self::EMPTY;
        fixed.bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        fixed.length = length;
        fixed
    }

    /// The text; `None` when it is empty.
    pub fn get(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes[..self.length]);
        (!text.is_empty()).then(|| text.into_owned())
    }
}

/// A failure in shared memory.
#[derive(Debug, Clone, Copy)]
pub struct SharedFailure {
    code: i32,
    message: FixedText<1024>,
    detail: FixedText<2048>,
    hint: FixedText<1024>,
}

impl SharedFailure {
    /// Before any failure.
    pub const NONE: Self = SharedFailure {
        code: 0,
        message: FixedText::EMPTY,
        detail: FixedText::EMPTY,
        hint: FixedText::EMPTY,
    };

    /// A copy of `failure`.
    pub fn new(failure: &Failure) -> Self {
        SharedFailure {
            code: failure.code as i32,
            message: FixedText::new(&failure.message),
            detail: FixedText::new(failure.detail.as_deref().unwrap_or_default()),
            hint: FixedText::new(failure.hint.as_deref().unwrap_or_default()),
        }
    }

    /// The failure.
    pub fn get(&self) -> Failure {
        Failure {
            code: PgSqlErrorCode::from(self.code),
            message: self.message.get().unwrap_or_default(),
            detail: self.detail.get(),
            hint: self.hint.get(),
            passes: false,
        }
    }
}

/// Microseconds since 1970; 0 means that there is no time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedTime(i64);

impl SharedTime {
    /// No time.
    pub const NONE: Self = SharedTime(0);

    /// The time now.
    pub fn now() -> Self {
        SharedTime::new(OffsetDateTime::now_utc())
    }

    /// A time.
    pub fn new(time: OffsetDateTime) -> Self {
        SharedTime(i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(0))
    }

    /// The time, if it is one.
    pub fn get(self) -> Option<OffsetDateTime> {
        if self == Self::NONE {
            return None;
        }
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).ok()
    }
}
