//! How far a restore is, in words for people and in events for programs.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use wal_e_core::restore::{DamagedObject, FetchProgress, Fetched};

use crate::interrupt::Failure;
use crate::table::{percentage, size};

/// The rate is measured over about this time.
const WINDOW: Duration = Duration::from_secs(20);

/// Over less than this, no rate is shown.
const SHORTEST: Duration = Duration::from_secs(1);

/// How far a restore is, and how fast it goes.
#[derive(Debug)]
pub struct Pace {
    progress: Arc<FetchProgress>,
    /// How many bytes there were at which time, oldest first.
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

/// How a restore stands.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Standing {
    fetched: u64,
    total: u64,
    /// Bytes a second, when they are known.
    rate: Option<f64>,
}

impl Standing {
    fn seconds_left(&self) -> Option<u64> {
        let rate = self.rate.filter(|rate| *rate > 0.0)?;
        let left = self.total.saturating_sub(self.fetched) as f64 / rate;
        (left < 1e9).then(|| left.ceil() as u64)
    }
}

impl Pace {
    /// Of the restore that advances `progress`.
    pub fn new(progress: Arc<FetchProgress>) -> Self {
        Pace { progress, samples: Mutex::default() }
    }

    /// `None` until it is known how much has to be fetched.
    fn standing(&self, now: Instant) -> Option<Standing> {
        let total = self.progress.bytes_total.load(Relaxed);
        let fetched = self.progress.bytes_fetched.load(Relaxed);
        // What was on disk before was not fetched now.
        let come = fetched.saturating_sub(self.progress.bytes_resumed.load(Relaxed));
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, come));
        while samples.len() > 2 && samples.get(1).is_some_and(|(then, _)| *then + WINDOW <= now) {
            samples.pop_front();
        }
        let (then, before) = *samples.front()?;
        let elapsed = now.saturating_duration_since(then);
        let rate = (elapsed >= SHORTEST)
            .then(|| come.saturating_sub(before) as f64 / elapsed.as_secs_f64());
        (total > 0).then_some(Standing { fetched, total, rate })
    }

    /// One line for people.
    pub fn describe(&self) -> Option<String> {
        self.standing(Instant::now()).map(|standing| describe(&standing))
    }

    /// One line for programs.
    pub fn event(&self) -> Option<String> {
        self.standing(Instant::now()).map(|standing| event(&standing).line())
    }
}

fn describe(standing: &Standing) -> String {
    let Standing { fetched, total, rate } = *standing;
    let mut line =
        format!("fetched {} of {} ({})", size(fetched), size(total), percentage(fetched, total));
    if let Some(rate) = rate {
        line.push_str(&format!(", {}/s", size(rate as u64)));
    }
    if let Some(seconds) = standing.seconds_left() {
        line.push_str(&format!(", {} left", duration(seconds)));
    }
    line
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn event(standing: &Standing) -> Event<'static> {
    Event::Progress {
        bytes_fetched: standing.fetched,
        bytes_total: standing.total,
        bytes_per_second: standing.rate.map(|rate| rate as u64),
        seconds_left: standing.seconds_left(),
    }
}

/// The events for a program that runs backup-fetch. Bytes of progress are those of
/// stored objects, those at the end are of files.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    Progress {
        bytes_fetched: u64,
        bytes_total: u64,
        bytes_per_second: Option<u64>,
        seconds_left: Option<u64>,
    },
    Done {
        backup_name: &'a str,
        directory: String,
        files: u64,
        bytes: u64,
        archive_mode: &'a str,
    },
    Error {
        message: String,
        detail: Option<&'a str>,
        hint: Option<&'a str>,
        /// The objects of the backup that could not be used.
        damaged: Vec<DamagedObject>,
    },
}

impl<'a> Event<'a> {
    pub fn of_result(fetched: &'a Fetched, directory: &Path, archive_mode: &'a str) -> Self {
        Event::Done {
            backup_name: &fetched.name,
            directory: directory.display().to_string(),
            files: fetched.files,
            bytes: fetched.bytes_written,
            archive_mode,
        }
    }

    pub fn of_failure(failure: &'a Failure, damaged: Vec<DamagedObject>) -> Self {
        match failure {
            Failure::Error(error) => Event::Error {
                message: error.message().to_owned(),
                detail: error.detail(),
                hint: error.hint(),
                damaged,
            },
            Failure::Signal(signal) => Event::Error {
                message: format!("ended by signal {}", signal.number()),
                detail: None,
                hint: None,
                damaged,
            },
        }
    }

    /// The event as one line.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use wal_e_core::{Error, ErrorKind};

    use super::*;

    #[test]
    fn progress_is_told_once_the_size_is_known() {
        let pace = Pace::new(Arc::default());
        assert_eq!(pace.describe(), None);
        assert_eq!(pace.event(), None);
        pace.progress.bytes_total.store(200 << 20, Relaxed);
        pace.progress.bytes_fetched.store(50 << 20, Relaxed);
        assert_eq!(pace.describe().as_deref(), Some("fetched 50 MB of 200 MB (25 %)"));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_of_what_came_now() {
        let pace = Pace::new(Arc::default());
        let (progress, start) = (&pace.progress, Instant::now());
        progress.bytes_total.store(1000 << 20, Relaxed);
        progress.bytes_resumed.store(500 << 20, Relaxed);
        let at = |seconds: u64, fetched: u64| {
            progress.bytes_fetched.store(fetched << 20, Relaxed);
            pace.standing(start + Duration::from_secs(seconds)).unwrap()
        };
        assert_eq!(at(0, 500).rate, None);
        let standing = at(10, 600);
        assert_eq!(describe(&standing), "fetched 600 MB of 1000 MB (60 %), 10 MB/s, 40 s left");
        assert_eq!(at(30, 620).rate, Some(f64::from(1 << 20)));
        let stalled = at(60, 620);
        assert_eq!((stalled.rate, stalled.seconds_left()), (Some(0.0), None));
        assert_eq!(describe(&stalled), "fetched 620 MB of 1000 MB (62 %), 0 bytes/s");
    }

    #[test]
    fn times_are_told_in_the_units_that_matter() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (90, "1 min 30 s"), (7300, "2 h 1 min")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn events_are_objects_of_one_line() {
        let standing = Standing { fetched: 1, total: 3, rate: Some(2.0) };
        assert_eq!(
            event(&standing).line(),
            "{\"event\":\"progress\",\"bytes_fetched\":1,\"bytes_total\":3,\"bytes_per_second\":2,\"seconds_left\":1}\n"
        );
        let fetched = Fetched { name: "base_1".into(), bytes_written: 7, files: 2 };
        assert_eq!(
            Event::of_result(&fetched, Path::new("/data"), "off").line(),
            "{\"event\":\"done\",\"backup_name\":\"base_1\",\"directory\":\"/data\",\"files\":2,\"bytes\":7,\"archive_mode\":\"off\"}\n"
        );
        let error = Error::new(ErrorKind::Corrupt, "line\nbreak").with_hint("Hint.");
        assert_eq!(
            Event::of_failure(&Failure::Error(error), Vec::new()).line(),
            "{\"event\":\"error\",\"message\":\"line\\nbreak\",\"detail\":null,\"hint\":\"Hint.\",\"damaged\":[]}\n"
        );
    }
}
