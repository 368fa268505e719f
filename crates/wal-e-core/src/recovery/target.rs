//! Where recovery should end, and along which timeline.

use std::fmt;
use std::str::FromStr;

use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, TimelineId};

/// Where recovery should end. What is at the target is still replayed, as
/// PostgreSQL does it by default, unless the name says `Before`
/// (`recovery_target_inclusive = off`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// As soon as the cluster is consistent, at the end of the base backup.
    Immediate,
    /// After all transactions that ended at this time or before it.
    Time(TargetTime),
    /// After the first record that begins at this LSN or after it.
    Lsn(Lsn),
    /// At a restore point, made by `pg_create_restore_point`.
    Name(String),
    /// After the end of this transaction.
    Xid(u32),
    /// Before the first transaction that ended at this time or after it.
    BeforeTime(TargetTime),
    /// Before the first record that begins at this LSN or after it.
    BeforeLsn(Lsn),
    /// Before the end of this transaction.
    BeforeXid(u32),
}

impl RecoveryTarget {
    /// `recovery_target_inclusive`.
    pub fn is_inclusive(&self) -> bool {
        match self {
            RecoveryTarget::Immediate
            | RecoveryTarget::Time(_)
            | RecoveryTarget::Lsn(_)
            | RecoveryTarget::Name(_)
            | RecoveryTarget::Xid(_) => true,
            RecoveryTarget::BeforeTime(_)
            | RecoveryTarget::BeforeLsn(_)
            | RecoveryTarget::BeforeXid(_) => false,
        }
    }

    /// Just before the target. A restore point and the consistent point have no before:
    /// PostgreSQL heeds `recovery_target_inclusive` for the others only.
    #[must_use]
    pub fn exclusive(self) -> Self {
        match self {
            RecoveryTarget::Time(time) => RecoveryTarget::BeforeTime(time),
            RecoveryTarget::Lsn(lsn) => RecoveryTarget::BeforeLsn(lsn),
            RecoveryTarget::Xid(xid) => RecoveryTarget::BeforeXid(xid),
            other => other,
        }
    }

    /// The last moment of which transactions are replayed, for a target time.
    pub fn last_time(&self) -> Option<TargetTime> {
        match self {
            RecoveryTarget::Time(time) => Some(*time),
            RecoveryTarget::BeforeTime(time) => Some(time.previous()),
            _ => None,
        }
    }
}

/// As a phrase: `time "2026-11-23 12:00:00+00"`.
impl fmt::Display for RecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryTarget::Time(time) => write!(f, "time \"{time}\""),
            RecoveryTarget::Lsn(lsn) => write!(f, "LSN {lsn}"),
            RecoveryTarget::Name(name) => write!(f, "name \"{name}\""),
            RecoveryTarget::Xid(xid) => write!(f, "transaction {xid}"),
            RecoveryTarget::Immediate => f.write_str("the end of the base backup"),
            RecoveryTarget::BeforeTime(time) => write!(f, "just before time \"{time}\""),
            RecoveryTarget::BeforeLsn(lsn) => write!(f, "just before LSN {lsn}"),
            RecoveryTarget::BeforeXid(xid) => write!(f, "just before the end of transaction {xid}"),
        }
    }
}

/// A moment, to the microsecond, as PostgreSQL counts time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetTime(OffsetDateTime);

impl TargetTime {
    /// The moment.
    pub fn time(self) -> OffsetDateTime {
        self.0
    }

    /// The microsecond before.
    fn previous(self) -> Self {
        TargetTime(self.0.checked_sub(Duration::microseconds(1)).unwrap_or(self.0))
    }
}

impl From<OffsetDateTime> for TargetTime {
    fn from(time: OffsetDateTime) -> Self {
        let time = time.to_offset(UtcOffset::UTC);
        let rest = i64::from(time.nanosecond() % 1000);
        TargetTime(time.checked_sub(Duration::nanoseconds(rest)).unwrap_or(time))
    }
}

/// In UTC, as PostgreSQL prints a `timestamptz` and reads it back under every
/// `TimeZone` and `DateStyle`.
impl fmt::Display for TargetTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_time(self.0))
    }
}

/// A time as PostgreSQL prints a `timestamptz` where the time zone is UTC.
pub fn format_time(time: OffsetDateTime) -> String {
    let time = time.to_offset(UtcOffset::UTC);
    let (date, hour, minute, second) = (time.date(), time.hour(), time.minute(), time.second());
    let mut text = format!(
        "{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    );
    let microseconds = time.microsecond();
    if microseconds > 0 {
        text.push_str(format!(".{microseconds:06}").trim_end_matches('0'));
    }
    text.push_str("+00");
    text
}

impl FromStr for TargetTime {
    type Err = Error;

    /// Reads ISO 8601 and what PostgreSQL prints: `2026-11-23 12:00[:00[.123456]]`,
    /// with a `T` instead of the space if wanted, and a time zone: `Z`, `UTC`, `GMT`
    /// or an offset from UTC such as `+01`, `+0130`, `-05:30`.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |detail: &str| {
            Error::new(ErrorKind::Config, format!("invalid time \"{text}\""))
                .with_detail(detail)
                .with_hint("A time looks like \"2026-11-23 12:00:00+00\".")
        };
        let form = "It must be a date and a time of day, as in ISO 8601, and an offset from UTC.";
        let (local, zone) = parse_local(text.trim()).ok_or_else(|| invalid(form))?;
        if zone.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the time \"{text}\" has no time zone"),
            )
            .with_detail("The server would read it in its own time zone, which is not known here.")
            .with_hint(format!(
                "Add the offset from UTC: \"{0}+00\" for UTC, \"{0}+01\", \"{0}-05:30\".",
                text.trim()
            )));
        }
        let offset = parse_zone(zone).ok_or_else(|| {
            invalid("The time zone must be \"Z\", \"UTC\" or an offset from UTC such as \"+01\".")
        })?;
        let time = local.assume_utc().checked_sub(Duration::seconds(offset));
        let time = time.filter(|time| (1..=9999).contains(&time.year()));
        Ok(TargetTime::from(time.ok_or_else(|| invalid("That year is out of range."))?))
    }
}

/// Date and time of day, and what follows them.
fn parse_local(text: &str) -> Option<(PrimitiveDateTime, &str)> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?);
    let (hour, rest) = digits(rest.strip_prefix([' ', 'T', 't'])?, 2)?;
    let (minute, mut rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (mut second, mut nanosecond) = (0, 0);
    if let Some(seconds) = rest.strip_prefix(':') {
        (second, rest) = digits(seconds, 2)?;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let number = (1..=9).contains(&length).then(|| digits(fraction, length)).flatten()?;
            nanosecond = number.0 * 10_u32.pow(9 - u32::try_from(length).ok()?);
            rest = number.1;
        }
    }
    let byte = |number: u32| u8::try_from(number).ok();
    let time = Time::from_hms_nano(byte(hour)?, byte(minute)?, byte(second)?, nanosecond).ok()?;
    Some((PrimitiveDateTime::new(date.ok()?, time), rest.strip_prefix(' ').unwrap_or(rest)))
}

/// The number that the first `count` characters are, and the rest.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let sound = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| sound)?, rest))
}

/// Seconds east of UTC.
fn parse_zone(zone: &str) -> Option<i64> {
    if ["z", "utc", "gmt"].iter().any(|name| zone.eq_ignore_ascii_case(name)) {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, mut rest) = digits(rest, 2)?;
    let (mut minutes, mut seconds) = (0, 0);
    if !rest.is_empty() {
        (minutes, rest) = digits(rest.strip_prefix(':').unwrap_or(rest), 2)?;
    }
    if !rest.is_empty() {
        (seconds, rest) = digits(rest.strip_prefix(':')?, 2)?;
    }
    // PostgreSQL 15, src/include/datatype/timestamp.h, MAX_TZDISP_HOUR.
    let sound = rest.is_empty() && hours <= 15 && minutes < 60 && seconds < 60;
    sound.then(|| sign * i64::from(hours * 3600 + minutes * 60 + seconds))
}

/// `recovery_target_timeline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetTimeline {
    /// The newest that the server will find.
    #[default]
    Latest,
    /// That of the base backup.
    Current,
    /// This one.
    Number(TimelineId),
}

/// As `recovery_target_timeline` has it.
impl fmt::Display for TargetTimeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetTimeline::Latest => f.write_str("latest"),
            TargetTimeline::Current => f.write_str("current"),
            TargetTimeline::Number(timeline) => write!(f, "{timeline}"),
        }
    }
}

impl FromStr for TargetTimeline {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
            None => text.parse(),
        };
        match (text, number) {
            ("latest", _) => Ok(TargetTimeline::Latest),
            ("current", _) => Ok(TargetTimeline::Current),
            (_, Ok(number @ 1..)) => Ok(TargetTimeline::Number(TimelineId(number))),
            _ => Err(Error::new(ErrorKind::Config, format!("invalid timeline \"{text}\""))
                .with_hint("A timeline is a number from 1, \"latest\" or \"current\".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        text.parse::<TargetTime>().unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
    }

    #[test]
    fn times_of_every_form_are_normalised() {
        for (text, expected) in [
            ("2026-11-23 12:00:00.123456+00", "2026-11-23 12:00:00.123456+00"),
            ("2026-11-23 12:00:00.120+00", "2026-11-23 12:00:00.12+00"),
            ("2026-11-23T12:00:00Z", "2026-11-23 12:00:00+00"),
            ("2026-11-23t12:00z", "2026-11-23 12:00:00+00"),
            (" 2026-11-23 12:00:00 UTC ", "2026-11-23 12:00:00+00"),
            ("2026-11-23 00:30:00+01", "2026-11-22 23:30:00+00"),
            ("2026-11-23 12:00:00 +0130", "2026-11-23 10:30:00+00"),
            ("2026-11-23 12:00:00-05:30", "2026-11-23 17:30:00+00"),
            ("1900-01-01 00:00:00+00:53:28", "1899-12-31 23:06:32+00"),
            ("2026-11-23T12:00:00,123456789+00:00", "2026-11-23 12:00:00.123456+00"),
            ("2024-02-29 23:59:59.999999-15", "2024-03-01 14:59:59.999999+00"),
        ] {
            assert_eq!(normal(text), expected, "{text}");
            assert_eq!(normal(&normal(text)), expected);
        }
    }

    #[test]
    fn a_time_without_a_zone_is_refused_with_the_way_out() {
        for text in ["2026-11-23 12:00:00", "2026-11-23T12:00", "2026-11-23 12:00:00.5 "] {
            let error = text.parse::<TargetTime>().unwrap_err();
            assert!(error.message().contains("no time zone"), "{error}");
            let first = error.hint().unwrap().split('"').nth(1).unwrap();
            first.parse::<TargetTime>().unwrap();
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "yesterday",
            "2026-11-23",
            "2026-11-23+00",
            "23.11.2026 12:00:00+00",
            "2026-13-01 12:00:00+00",
            "2026-02-29 12:00:00+00",
            "2026-11-23 24:00:00+00",
            "2026-11-23 12:60:00+00",
            "2026-11-23 12:00:00.+00",
            "2026-11-23 12:00:00.1234567890+00",
            "2026-11-23 12:00:00 Europe/Berlin",
            "2026-11-23 12:00:00+1",
            "2026-11-23 12:00:00+16",
            "2026-11-23 12:00:00+01:60",
            "2026-11-23 12:00:00+01:00:00:00",
            "2026-11-23 12:00:00+00 BC",
            "2026-11-23 12:00:0\u{660}+00",
            "0000-01-01 00:00:00+15",
        ] {
            let error = text.parse::<TargetTime>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        }
    }

    #[test]
    fn timelines_are_read_as_postgresql_reads_them() {
        for (text, shown) in
            [("latest", "latest"), ("current", "current"), ("12", "12"), ("0x1F", "31")]
        {
            assert_eq!(text.parse::<TargetTimeline>().unwrap().to_string(), shown);
        }
        for text in ["", "0", "newest", "-1", "0x", "4294967296"] {
            assert!(text.parse::<TargetTimeline>().is_err(), "{text}");
        }
    }
}
