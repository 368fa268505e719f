//! Says to a caller that waits how far the work is: a NOTICE every few seconds, which
//! `client_min_messages = warning` turns off.

use std::time::{Duration, Instant};

use crate::server_log;

/// How often the caller hears of it.
const EVERY: Duration = Duration::from_secs(5);

/// What a caller has heard.
pub struct ProgressNotices {
    looked_at: Instant,
    said: String,
}

impl ProgressNotices {
    /// The work begins now.
    pub fn begin() -> Self {
        ProgressNotices { looked_at: Instant::now(), said: String::new() }
    }

    /// To be called often. Every few seconds it says what `describe` does, if anything, unless
    /// that is what it said last.
    pub fn look(&mut self, describe: impl FnOnce(Instant) -> Option<String>) {
        let now = Instant::now();
        if now.duration_since(self.looked_at) < EVERY {
            return;
        }
        self.looked_at = now;
        let Some(text) = describe(now) else { return };
        if text != self.said {
            server_log::tell_progress(&text);
            self.said = text;
        }
    }
}
