//! What time it is for the store. Its clock is the one that all servers of a prefix share.

use bytes::Bytes;
use time::{Duration, OffsetDateTime};

use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::store::{Attributes, ObjectStore, PutMode, PutOutcome};

/// By so much two clocks may differ and still count as the same: S3 says when an object was
/// stored to the second only, and requests take time.
const TOLERATED: Duration = Duration::seconds(60);

/// The store's clock, as far as it is not this host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    ahead: Duration,
}

impl Clock {
    /// This host's own.
    pub const OWN: Clock = Clock { ahead: Duration::ZERO };

    /// Stores a small object and looks when the store says that this was.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn measure(store: &dyn ObjectStore) -> Result<Clock> {
        let key = layout::job_clock();
        let before = OffsetDateTime::now_utc();
        let content = Bytes::from_static(b"When this was stored is the time of the store.\n");
        let (PutOutcome::Stored | PutOutcome::AlreadyExists) =
            store.put(&key, content, PutMode::Replace, &Attributes::default()).await?;
        let stored = store.head(&key).await?.ok_or_else(|| {
            let url = store.url(key.as_str());
            let message = format!("object \"{url}\" vanished after it was stored");
            Error::new(ErrorKind::Unavailable, message)
        })?;
        let after = OffsetDateTime::now_utc();
        Ok(Clock::compare(stored.last_modified, before, after))
    }

    /// By a moment that the store has noted between two of this host.
    pub fn compare(stored: OffsetDateTime, before: OffsetDateTime, after: OffsetDateTime) -> Clock {
        let ahead: Duration = stored - (before + (after - before) / 2);
        match ahead.abs() <= TOLERATED {
            true => Clock::OWN,
            false => Clock { ahead },
        }
    }

    /// The time.
    pub fn now(self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.ahead
    }

    /// By how much it is ahead of this host's; zero when the difference is small.
    pub fn ahead(self) -> Duration {
        self.ahead
    }
}
