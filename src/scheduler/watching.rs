//! Watches whether archiving stands still.

use std::time::{Duration, SystemTime};

use pgrx::PgSqlErrorCode;
use wal_e_core::archiving::{self, Attempts};
use wal_e_core::event::{Event, Kind};
use wal_e_core::postgres::archive_status::ReadyQueue;

use super::{LONGEST_SLEEP, SLEEP_WITHOUT_SCHEDULE};
use crate::archiver_stats;
use crate::error::Failure;
use crate::events;
use crate::pg::server;
use crate::server_log;

/// How often the archiver is looked at. That takes no request to the store.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The archiver, as it was when it was looked at last.
pub struct Watching {
    since: SystemTime,
    stands_still: bool,
}

impl Watching {
    /// From now on.
    pub fn new() -> Self {
        Watching { since: SystemTime::now(), stands_still: false }
    }

    /// Looks at the archiver, and says after how long to do so again.
    pub fn step(&mut self) -> Duration {
        if !archiver_stats::archives() {
            self.since = SystemTime::now();
            self.stands_still = false;
            return match server::setting(c"archive_mode").as_str() {
                "off" => SLEEP_WITHOUT_SCHEDULE,
                // A standby may be promoted.
                _ => LONGEST_SLEEP,
            };
        }
        let Ok(queue) = archiver_stats::queue() else { return LONGEST_SLEEP };
        let attempts = server::archiver_attempts();
        let silence = archiving::stalled_for(attempts, &queue, self.since, SystemTime::now());
        match (silence, self.stands_still) {
            (Some(silence), false) => say_stalled(attempts, &queue, silence),
            (None, true) => {
                server_log::log("archiving works again", None);
                events::send(&Event::new(Kind::ArchivingRecovered));
            }
            (Some(_), true) | (None, false) => {}
        }
        self.stands_still = silence.is_some();
        LOOK_EVERY
    }
}

fn say_stalled(attempts: Attempts, queue: &ReadyQueue, silence: Duration) {
    let first = queue.oldest_segment.as_ref().map(|oldest| oldest.name.to_string());
    let seconds = silence.as_secs();
    let files = queue.files;
    let message = format!(
        "archiving stands still: {files} WAL files wait, and none was archived for {seconds} s"
    );
    let last = archiver_stats::view().last_failure.filter(|_| attempts.last_failed());
    let detail = last.map(|last| format!("The last failure was: {}.", last.message));
    let code = PgSqlErrorCode::ERRCODE_WARNING;
    let failure = Failure { detail, ..Failure::new(code, message) };
    server_log::warn(&failure);
    events::send(&Event::new(Kind::ArchivingStalled).of(first).saying(failure.summary()));
}
