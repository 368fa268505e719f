//! The server log.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::wait::PATIENCE;

use super::Cluster;

impl Cluster {
    /// The whole server log.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits for a line of the log that contains `text`, and hands it out.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_after(0, text)
    }

    /// As [`wait_for_log`](Self::wait_for_log), in what was logged since the log
    /// had `offset` bytes ([`log_offset`](Self::log_offset)).
    #[track_caller]
    pub fn wait_for_log_after(&self, offset: usize, text: &str) -> String {
        let mut log = String::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            log = self.log().split_off(offset);
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("waited in vain for \"{text}\" in the log:\n{log}");
    }

    /// How many bytes the log has now.
    pub fn log_offset(&self) -> usize {
        self.log().len()
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Where the server writes it.
    pub(super) fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }
}
