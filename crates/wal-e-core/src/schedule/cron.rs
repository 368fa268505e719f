//! When something is due. Nothing else knows the crates that compute it.
//!
//! Croner is maintained, small, and careful about the two hours of the year that are missing or
//! come twice: a job at a fixed time runs once on such a day, and one that comes every so many
//! minutes goes on as if nothing were. It counts Sunday as 0 or 7, as cron does, where the crate
//! `cron` counts from 1; and saffron knows no time zones. The zones are those that jiff brings along,
//! because many a container has no files of them; chrono-tz's take ten times the room.

use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use time::OffsetDateTime;
use xxhash_rust::xxh3::xxh3_64;

use super::run::Slot;
use crate::error::{Error, ErrorKind, Result};

/// Minute, hour, day of the month, month and day of the week, perhaps with seconds before them
/// and a time zone after them.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    cron: Cron,
    zone: TimeZone,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Schedule {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last slot that is not later than `now`. `None` when there was none, or none in
    /// living memory.
    pub fn latest(&self, now: OffsetDateTime) -> Option<Slot> {
        let now = self.in_zone(now)?;
        to_slot(&self.cron.find_previous_occurrence(&now, true).ok()?)
    }

    /// The first slot after `now`.
    pub fn next(&self, now: OffsetDateTime) -> Option<Slot> {
        let now = self.in_zone(now)?;
        to_slot(&self.cron.find_next_occurrence(&now, false).ok()?)
    }

    /// The same for schedules that were written in the same way, and 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", xxh3_64(self.text.as_bytes()))
    }

    fn in_zone(&self, time: OffsetDateTime) -> Option<Zoned> {
        let time = Timestamp::from_second(time.unix_timestamp()).ok()?;
        Some(time.to_zoned(self.zone.clone()))
    }
}

fn to_slot(time: &Zoned) -> Option<Slot> {
    let seconds = time.timestamp().as_second();
    Some(Slot::at(OffsetDateTime::from_unix_timestamp(seconds).ok()?))
}

impl FromStr for Schedule {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Config`]; its detail says what is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (pattern, zone) = match fields.as_slice() {
            [pattern @ .., last] if !pattern.is_empty() && is_zone(last) => {
                let unknown = || refusal(text, format!("There is no time zone \"{last}\"."));
                (pattern, TimeZone::get(last).map_err(|_| unknown())?)
            }
            pattern => (pattern, TimeZone::UTC),
        };
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(&pattern.join(" ")).map_err(|why| {
            let why = why.to_string();
            refusal(text, format!("It cannot be read: {}.", why.trim_end_matches('.')))
        })?;
        let schedule = Schedule { text: fields.join(" "), cron, zone };
        // A date that is in no calendar is not there in eight years either.
        match schedule.next(OffsetDateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(refusal(text, "Such a time never comes.".to_owned())),
        }
    }
}

/// A day of the week may be the last word, too, but no zone is called like one.
fn is_zone(word: &str) -> bool {
    let has_lower = || word.chars().any(|c| c.is_ascii_lowercase());
    let looks_like_one =
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.contains('/') && has_lower();
    looks_like_one || TimeZone::get(word).is_ok()
}

fn refusal(text: &str, why: String) -> Error {
    Error::new(ErrorKind::Config, format!("\"{text}\" is not a schedule"))
        .with_detail(why)
        .with_hint(
            "Write minute, hour, day of the month, month and day of the week, as in \"0 2 * * *\", and perhaps a time zone, such as \"Europe/Berlin\".",
        )
}
