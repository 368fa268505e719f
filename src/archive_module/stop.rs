//! How long the archiver goes on once the server stops.
//!
//! The stop waits for the archiver, which archives what is left, the segment of
//! the shutdown checkpoint last. While the store answers it may take as long as
//! it needs. A store that hangs must not hang the stop: what has no success for
//! a few seconds is given up, and so is all that follows. The files keep their
//! `.ready` marks and are archived after the next start.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::pg::{interrupts, signals};
use crate::server_log;

/// How long a stopping archiver goes on without a success.
const PATIENCE: Duration = Duration::from_secs(5);

/// For each second of [`PATIENCE`] more that a large file gets, this many bytes.
const BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;

/// How many files the log line names.
const NAMED_FILES: usize = 3;

/// Counts the time since the archiver was told to stop.
#[derive(Debug, Default)]
pub struct StopWatch {
    /// When the request was seen, or the last success after it.
    since: Option<Instant>,
    patience: Duration,
    given_up: bool,
}

impl StopWatch {
    /// A file of this size is next.
    pub fn begin_file(&mut self, bytes: u64) {
        self.patience = PATIENCE + Duration::from_secs(bytes / BYTES_PER_SECOND);
    }

    /// A file is stored.
    pub fn note_success(&mut self) {
        self.since = None;
    }

    /// Whether a stop has been waiting too long for a success.
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
        let files = ready_files();
        let more = if files.len() > NAMED_FILES { ", ..." } else { "" };
        let named: Vec<&str> = files.iter().take(NAMED_FILES).map(String::as_str).collect();
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

/// The names of the files that wait to be archived, in order; empty when the
/// directory cannot be read.
fn ready_files() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(Path::new("pg_wal/archive_status")) else {
        return Vec::new();
    };
    let mut files: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".ready").map(str::to_owned))
        .collect();
    files.sort();
    files
}
