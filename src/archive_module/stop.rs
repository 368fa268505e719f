//! How long the archiver goes on once the server stops.
//!
//! The stop waits for the archiver, which archives what is left, the segment of
//! the shutdown checkpoint last. While the store answers it may take as long as
//! it needs. A store that hangs must not hang the stop: when nothing moves for
//! a few seconds, what is under way is given up, and so is all that follows.
//! The files keep their `.ready` marks and are archived after the next start.

use std::path::Path;
use std::time::{Duration, Instant};

use wal_e_core::postgres::{WalFileName, archive_status};

use crate::pg::server::PG_WAL;
use crate::pg::{interrupts, signals};
use crate::server_log;

/// How long a stopping archiver goes on when nothing moves.
const PATIENCE: Duration = Duration::from_secs(5);

/// For each second of [`PATIENCE`] more that a large file gets, this many bytes.
const BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;

/// How many files the log line names.
const NAMED_FILES: usize = 3;

/// Counts the time since the archiver was asked to stop.
#[derive(Debug, Default)]
pub struct StopWatch {
    /// When the request was seen, or something moved after it.
    since: Option<Instant>,
    progress: u64,
    patience: Duration,
    given_up: bool,
}

impl StopWatch {
    /// A file of this size is next.
    pub fn begin_file(&mut self, bytes: u64) {
        self.patience = PATIENCE + Duration::from_secs(bytes / BYTES_PER_SECOND);
    }

    /// The archive is open, and uploads are counted from zero.
    pub fn note_opened(&mut self) {
        self.since = None;
        self.progress = 0;
    }

    /// A file is stored.
    pub fn note_success(&mut self) {
        self.since = None;
    }

    /// How far uploads are: a number that grows as long as they move.
    pub fn note_progress(&mut self, progress: u64) {
        // It falls back when what was sent was in vain: trying again moves nothing.
        if progress > self.progress {
            self.progress = progress;
            self.since = None;
        }
    }

    /// Whether a stop has been waiting too long for something to move.
    pub fn is_overdue(&mut self, now: Instant) -> bool {
        if !signals::archiver_stop_requested() {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.duration_since(since) >= self.patience
    }

    /// Nothing is archived any more until the process ends.
    pub fn give_up(&mut self) {
        self.given_up = true;
        signals::end_archiving();
    }

    /// Whether the archiver has given up.
    pub fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// Says which files were not archived.
    pub fn log_files_left(&self) {
        let reason = if interrupts::postmaster_is_alive() {
            "the server is stopping and the store does not answer"
        } else {
            "the postmaster has died"
        };
        // Even if the directory cannot be read, the line has to be logged.
        let files =
            archive_status::ready_files(Path::new(PG_WAL), usize::MAX).unwrap_or_default().files;
        let more = if files.len() > NAMED_FILES { ", ..." } else { "" };
        let named: Vec<&str> = files.iter().take(NAMED_FILES).map(WalFileName::as_str).collect();
        server_log::log(
            &format!("archiver gave up: {reason}"),
            Some(&format!(
                "These files ({}) stay in \"pg_wal\" and are archived after the next start: {}{more}",
                files.len(),
                named.join(", ")
            )),
        );
    }
}
