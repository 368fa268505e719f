//! What an archive has of WAL, as it is shown.

use super::archive::Archive;
use super::holes::{Range, Status};
use crate::config::Word;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, TimelineId};

/// A timeline of which the archive has WAL, or its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineRow {
    /// Its number.
    pub timeline: TimelineId,
    /// The timeline that it left; `None` for the first, and without history file.
    pub parent_timeline: Option<TimelineId>,
    /// Where it left that one.
    pub switch_lsn: Option<Lsn>,
    /// The name of the first segment that the archive has.
    pub first_segment: Option<String>,
    /// The name of the last one.
    pub last_segment: Option<String>,
    /// How many it has.
    pub segments: u64,
    /// How many it should have, too: between those, and where a server or the history of
    /// another timeline shows that there was more.
    pub missing: u64,
    /// The worst that can be said of a segment that is missing; `Found` when none is.
    pub status: Status,
    /// Whether the archive lacks its history file, without which no server follows it.
    pub lacks_history: bool,
}

impl TimelineRow {
    /// The word for its state.
    pub fn state(&self) -> &'static str {
        match self.lacks_history && !self.status.is_failure() {
            true => "no history",
            false => self.status.as_str(),
        }
    }
}

/// Segments of one timeline that have the same fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRange {
    /// The timeline.
    pub timeline: TimelineId,
    /// The name of the first.
    pub first_segment: String,
    /// The name of the last.
    pub last_segment: String,
    /// How many they are.
    pub segments: u64,
    /// What became of them.
    pub status: Status,
    /// What to do: whole sentences.
    pub advice: Option<String>,
}

/// WAL of one timeline that has the same fate, as it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where its first segment begins.
    pub from: Lsn,
    /// Where its last segment ends.
    pub to: Lsn,
    /// What became of it.
    pub status: Status,
}

impl Archive {
    /// All WAL of all timelines that is there or should be, whether a base backup needs it or
    /// not: by timeline, and in the order of the log.
    pub fn stretches(&self) -> Vec<Stretch> {
        let of = |timeline: &TimelineId| {
            let first = self.beginning(*timeline);
            let ranges = first.map(|first| self.ranges(*timeline, first)).unwrap_or_default();
            let timeline = *timeline;
            ranges.into_iter().map(move |range| Stretch {
                timeline,
                from: range.first.start_lsn(self.size),
                to: range.last.end_lsn(self.size),
                status: range.status,
            })
        };
        self.lines.keys().flat_map(of).collect()
    }

    /// A row for each timeline, in their order.
    pub fn timelines(&self) -> Vec<TimelineRow> {
        let row = |(timeline, line): (&TimelineId, &super::archive::Line)| {
            let name = |number| self.name(*timeline, number);
            let holes: Vec<Range> = match self.beginning(*timeline) {
                Some(first) => self.ranges(*timeline, first),
                None => Vec::new(),
            };
            let holes = holes.iter().filter(|range| range.status > Status::Found);
            TimelineRow {
                timeline: *timeline,
                parent_timeline: line.history.as_ref().and_then(|history| history.parent()),
                switch_lsn: line.history.as_ref().and_then(|history| history.begin()),
                first_segment: line.runs.first().map(|(first, _)| name(*first)),
                last_segment: line.runs.last().map(|(_, last)| name(*last)),
                segments: line.runs.iter().map(|(first, last)| last.0 - first.0 + 1).sum(),
                missing: holes.clone().map(Range::segments).fold(0, u64::saturating_add),
                status: holes.map(|hole| hole.status).max().unwrap_or(Status::Found),
                lacks_history: line.history.is_none(),
            }
        };
        self.lines.iter().map(row).collect()
    }

    /// All WAL that a restore from the oldest usable base backup, or from a newer one, can need
    /// to go on up to now: by timeline, and in the order of the log.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when no base backup is usable.
    pub fn verify(&self) -> Result<Vec<WalRange>> {
        if self.backups.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "there is no base backup with all of its WAL",
            )
            .with_detail("Without one, no WAL is of any use.")
            .with_hint(format!("Take a base backup with {}.", Word::TakeBackup)));
        }
        let mut rows = Vec::new();
        for timeline in self.lines.keys() {
            let Some(first) = self.needed_from(*timeline) else { continue };
            rows.extend(self.ranges(*timeline, first).iter().map(|range| WalRange {
                timeline: *timeline,
                first_segment: self.name(*timeline, range.first),
                last_segment: self.name(*timeline, range.last),
                segments: range.segments(),
                status: range.status,
                advice: self.advice(*timeline, range),
            }));
        }
        Ok(rows)
    }
}
