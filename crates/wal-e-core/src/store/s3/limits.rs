//! How long to wait before something counts as failed.

use std::time::Duration;

use crate::config::DEFAULT_S3_TIMEOUT;

/// A peer that takes longer to accept a connection is not there.
const LONGEST_CONNECT: Duration = Duration::from_secs(10);

/// The SDK's 5 s are short for instance metadata that has to be asked twice.
const LONGEST_LOOKUP: Duration = Duration::from_secs(20);

/// How long to wait before a request counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// For a connection.
    pub(super) connect: Duration,
    /// For keys to be fetched, or a region to be found: what a request needs
    /// before it can be sent.
    pub(super) lookup: Duration,
    /// For the next piece of content to move, up or down.
    pub(super) stall: Duration,
    /// For an answer; while content is on its way, from its last piece on.
    pub(super) answer: Duration,
    /// For the end of a multipart upload: a server may need minutes to put many
    /// parts together.
    pub(super) complete: Duration,
}

impl Limits {
    /// What follows from the one setting that there is, or from its default.
    pub(super) fn from_timeout(timeout: Option<Duration>) -> Limits {
        let timeout = timeout.unwrap_or(DEFAULT_S3_TIMEOUT);
        Limits {
            connect: timeout.min(LONGEST_CONNECT),
            lookup: timeout.min(LONGEST_LOOKUP),
            stall: timeout,
            answer: timeout.saturating_mul(2),
            complete: timeout.saturating_mul(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_limits_follow_from_the_timeout() {
        let seconds = |limits: Limits| {
            let Limits { connect, lookup, stall, answer, complete } = limits;
            [connect, lookup, stall, answer, complete].map(|limit| limit.as_secs())
        };
        assert_eq!(seconds(Limits::from_timeout(None)), [10, 20, 30, 60, 300]);
        let given = |timeout| seconds(Limits::from_timeout(Some(Duration::from_secs(timeout))));
        assert_eq!(given(1), [1, 1, 1, 2, 10]);
        assert_eq!(given(3600), [10, 20, 3600, 7200, 36000]);
    }
}
