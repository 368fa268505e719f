//! What is said on standard error, in the style of PostgreSQL's programs.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wal_e_core::config::Face;
use wal_e_core::notice::{Level, Notice, NoticeQueue};
use wal_e_core::{Error, Result};

/// How often notices are printed and the line of progress is drawn again.
const TICK: Duration = Duration::from_millis(250);

/// How often progress is logged where there is no terminal to draw it on.
const PROGRESS_LINE_EVERY: Duration = Duration::from_secs(30);

/// How often progress is printed for programs.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// A line of progress that wrapped could not be erased; terminals have at least 80 columns.
const PROGRESS_COLUMNS: usize = 79;

/// Writes to standard error, in the program's words. A failure to write is ignored.
#[derive(Debug)]
pub struct Report {
    terse: bool,
    terminal: bool,
    /// Whether a line of progress stands at the cursor.
    progress_shown: Mutex<bool>,
}

impl Report {
    /// With `terse`, only warnings and errors are printed.
    pub fn new(terse: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Report { terse, terminal, progress_shown: Mutex::new(false) }
    }

    /// Why the command failed.
    pub fn error(&self, error: &Error) {
        self.print(&describe(error));
    }

    /// Something that has to be looked at.
    pub fn warning(&self, message: &str) {
        self.print(&format!("wal-e: warning: {message}\n"));
    }

    /// Something of interest.
    pub fn log(&self, message: &str) {
        if !self.terse {
            self.print(&format!("wal-e: {message}\n"));
        }
    }

    /// How to go on; may have several lines.
    pub fn hint(&self, text: &str) {
        if !self.terse {
            self.print(&format!("wal-e: hint: {text}\n"));
        }
    }

    /// Runs `work`, and meanwhile prints its notices and how far it is.
    /// `progress` may have nothing to show yet.
    pub async fn attend<T>(
        &self,
        notices: &NoticeQueue,
        progress: impl Fn() -> Option<String>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut next_line = Instant::now() + PROGRESS_LINE_EVERY;
        let show = || {
            if self.terminal {
                self.draw_progress(progress());
            } else if Instant::now() >= next_line {
                next_line = Instant::now() + PROGRESS_LINE_EVERY;
                if let Some(line) = progress() {
                    self.log(&line);
                }
            }
        };
        let output = self.attend_every(TICK, notices, show, work).await;
        self.clear_progress();
        output
    }

    /// As [`Report::attend`], with progress as lines on standard output, for programs.
    pub async fn attend_events<T>(
        &self,
        notices: &NoticeQueue,
        progress: impl Fn() -> Option<String>,
        work: impl Future<Output = T>,
    ) -> T {
        let show = || {
            if let Some(event) = progress() {
                // If the reader went away, it does not matter here: printing the result fails.
                let _ = print_result(&event);
            }
        };
        self.attend_every(EVENT_EVERY, notices, show, work).await
    }

    /// Runs `work`, and in each `period` once prints its notices and calls `show`.
    async fn attend_every<T>(
        &self,
        period: Duration,
        notices: &NoticeQueue,
        mut show: impl FnMut(),
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                output = &mut work => {
                    self.notices(notices);
                    return output;
                }
                _ = tick.tick() => self.notices(notices),
            }
            show();
        }
    }

    /// Prints what is in `queue`.
    pub fn notices(&self, queue: &NoticeQueue) {
        for notice in queue.drain() {
            if let Some(text) = describe_notice(&notice, self.terse) {
                self.print(&text);
            }
        }
    }

    fn print(&self, text: &str) {
        self.write(false, &format!("{}{text}", self.erase()));
    }

    fn draw_progress(&self, line: Option<String>) {
        if let Some(line) = line.filter(|_| !self.terse) {
            let fitting: String = line.chars().take(PROGRESS_COLUMNS).collect();
            self.write(true, &format!("{}{fitting}", self.erase()));
        }
    }

    fn clear_progress(&self) {
        let erase = self.erase();
        if !erase.is_empty() {
            self.write(false, erase);
        }
    }

    fn erase(&self) -> &'static str {
        let shown = *self.progress_shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown { "\r\x1b[K" } else { "" }
    }

    fn write(&self, progress: bool, text: &str) {
        *self.progress_shown.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        let text = in_words(text);
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

fn describe(error: &Error) -> String {
    let mut text = format!("wal-e: error: {}\n", error.message());
    for (word, part) in [("detail", error.detail()), ("hint", error.hint())] {
        if let Some(part) = part {
            // The lines of a list stand below the first.
            let _ = writeln!(text, "wal-e: {word}: {}", part.replace('\n', "\n  "));
        }
    }
    text
}

fn describe_notice(notice: &Notice, terse: bool) -> Option<String> {
    let mut text = match notice.level {
        Level::Debug => return None,
        Level::Log if terse => return None,
        Level::Log => format!("wal-e: {}\n", notice.message),
        Level::Warning => format!("wal-e: warning: {}\n", notice.message),
    };
    if let Some(hint) = &notice.hint {
        let _ = writeln!(text, "wal-e: hint: {hint}");
    }
    Some(text)
}

/// A text of the core in the words of the program; all that is printed comes through here.
fn in_words(text: &str) -> String {
    Face::Program.speak(text)
}

/// Writes a result to standard output, in the program's words. It is not an error when the
/// reader went away (`| head`).
pub fn print_result(text: &str) -> Result<()> {
    let text = in_words(text);
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("could not write to standard output", &source))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use wal_e_core::ErrorKind;
    use wal_e_core::config::{Setting, Word};

    use super::*;

    #[test]
    fn an_error_reads_like_one_of_postgresql_s_programs() {
        let error = Error::new(ErrorKind::Config, "no prefix is configured")
            .with_detail("It is empty.")
            .with_hint("Set it.");
        assert_eq!(
            describe(&error),
            "wal-e: error: no prefix is configured\nwal-e: detail: It is empty.\nwal-e: hint: Set it.\n"
        );
    }

    #[test]
    fn a_setting_is_named_as_the_program_has_it() {
        let hint = format!("Set {} or look at {}.", Setting::S3Region, Word::BackupList);
        let error = Error::new(ErrorKind::Config, "x").with_hint(hint);
        let notice = Notice { level: Level::Log, message: Setting::EnvDir.to_string(), hint: None };
        for (text, said) in [
            (describe(&error), "hint: Set --s3-region or look at wal-e backup-list.\n"),
            (describe_notice(&notice, false).unwrap(), "wal-e: --env-dir\n"),
        ] {
            let said_of = in_words(&text);
            assert!(said_of.ends_with(said), "{said_of}");
        }
        // JSON carries the marks through, so that a line of it is put into words like any other.
        let line = serde_json::json!({ "hint": error.hint() }).to_string();
        let spoken: serde_json::Value = serde_json::from_str(&in_words(&line)).unwrap();
        assert_eq!(spoken["hint"], "Set --s3-region or look at wal-e backup-list.");
    }

    #[test]
    fn terse_leaves_warnings() {
        let notice = |level| Notice { level, message: "m".to_owned(), hint: Some("H.".to_owned()) };
        assert_eq!(describe_notice(&notice(Level::Debug), false), None);
        assert_eq!(describe_notice(&notice(Level::Log), true), None);
        let line = describe_notice(&notice(Level::Log), false);
        assert_eq!(line.as_deref(), Some("wal-e: m\nwal-e: hint: H.\n"));
        let line = describe_notice(&notice(Level::Warning), true);
        assert_eq!(line.as_deref(), Some("wal-e: warning: m\nwal-e: hint: H.\n"));
    }
}
