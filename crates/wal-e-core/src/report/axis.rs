//! Where things stand in a drawing, from left to right.
//!
//! Positions are percentages of its width, so that a drawing fits any page while its text and
//! its lines keep their size.

use time::{Duration, OffsetDateTime, UtcOffset};

use super::figures;

/// A drawing has so many cells in a row. What falls into one cell is drawn as one mark.
pub(super) const CELLS: usize = 400;

/// Labels at an axis; more would overlap on a phone.
const MOST_TICKS: i64 = 5;

/// Distances of ticks, in seconds.
const STEPS: [i64; 17] = [
    60,
    5 * 60,
    15 * 60,
    3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    60 * DAY,
    90 * DAY,
    180 * DAY,
    360 * DAY,
    720 * DAY,
];

const DAY: i64 = 24 * 3600;

/// From a first to a last value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    first: f64,
    last: f64,
}

/// A label at an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// In percent.
    pub(super) at: f64,
    pub(super) label: String,
}

impl Tick {
    /// On which side of its position the label stands, so that it stays in the drawing.
    pub(super) fn anchor(&self) -> &'static str {
        match self.at {
            at if at < 10.0 => "start",
            at if at > 90.0 => "end",
            _ => "middle",
        }
    }
}

impl Axis {
    pub(super) fn new(first: f64, last: f64) -> Self {
        Axis { first, last: last.max(first) }
    }

    /// `None` without any moment.
    pub(super) fn of_times(times: impl Iterator<Item = OffsetDateTime>) -> Option<Self> {
        let seconds: Vec<f64> = times.map(seconds).collect();
        let first = seconds.iter().copied().reduce(f64::min)?;
        let last = seconds.iter().copied().reduce(f64::max)?;
        Some(Axis::new(first, last))
    }

    /// In percent, with two digits: 0 to 100.
    pub(super) fn place(&self, value: f64) -> f64 {
        let width = self.last - self.first;
        let share = if width > 0.0 { (value - self.first) / width } else { 0.5 };
        (share.clamp(0.0, 1.0) * 10_000.0).round() / 100.0
    }

    pub(super) fn place_of(&self, time: OffsetDateTime) -> f64 {
        self.place(seconds(time))
    }

    /// Round moments, oldest first.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let (first, last) = (self.first.ceil() as i64, self.last.floor() as i64);
        let fits = |step: &&i64| (last - first).max(0) / **step < MOST_TICKS;
        let step = STEPS.iter().find(fits).copied();
        let step = step.unwrap_or_else(|| ((last - first) / MOST_TICKS).max(DAY));
        let mut ticks = Vec::new();
        let mut at = first.div_euclid(step) * step;
        while at <= last {
            if at >= first
                && let Ok(time) = OffsetDateTime::from_unix_timestamp(at)
            {
                let label = match step < DAY {
                    true => figures::day_and_minute(time),
                    false => figures::day(time),
                };
                ticks.push(Tick { at: self.place(at as f64), label });
            }
            at += step;
        }
        ticks
    }
}

fn seconds(time: OffsetDateTime) -> f64 {
    let since = time.to_offset(UtcOffset::UTC) - OffsetDateTime::UNIX_EPOCH;
    since.as_seconds_f64()
}

/// How long something took; nothing is shorter than nothing.
pub(super) fn took(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    (to - from).max(Duration::ZERO)
}
