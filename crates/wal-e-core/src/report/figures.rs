//! Numbers and moments as a page shows them.

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

const DAY: &[BorrowedFormatItem<'static>] = format_description!("[year]-[month]-[day]");
const DAY_AND_MINUTE: &[BorrowedFormatItem<'static>] =
    format_description!("[month]-[day] [hour]:[minute]");
const MOMENT: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

/// What stands where nothing is known.
pub(super) const NOTHING: &str = "–";

fn formatted(time: OffsetDateTime, form: &[BorrowedFormatItem<'static>]) -> String {
    time.to_offset(UtcOffset::UTC).format(form).unwrap_or_else(|_| NOTHING.to_owned())
}

pub(super) fn day(time: OffsetDateTime) -> String {
    formatted(time, DAY)
}

pub(super) fn day_and_minute(time: OffsetDateTime) -> String {
    formatted(time, DAY_AND_MINUTE)
}

/// To the second, in UTC.
pub(super) fn moment(time: OffsetDateTime) -> String {
    formatted(time, MOMENT)
}

/// As JSON has it.
pub(super) fn rfc3339(time: OffsetDateTime) -> Option<String> {
    time.to_offset(UtcOffset::UTC).format(&Rfc3339).ok()
}

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 segment`, `2 segments`.
pub(super) fn counted(number: u64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {what}{ending}", count(number))
}

/// How long something takes, in its largest unit, and the next one if that is not zero.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.whole_seconds().max(0);
    let (large, small) = match seconds {
        0..60 => ((seconds, "s"), (0, "")),
        60..3600 => ((seconds / 60, "min"), (seconds % 60, "s")),
        3600..86_400 => ((seconds / 3600, "h"), (seconds / 60 % 60, "min")),
        _ => ((seconds / 86_400, days(seconds / 86_400)), (seconds / 3600 % 24, "h")),
    };
    match small.0 {
        0 => format!("{} {}", large.0, large.1),
        _ => format!("{} {} {} {}", large.0, large.1, small.0, small.1),
    }
}

fn days(number: i64) -> &'static str {
    if number == 1 { "day" } else { "days" }
}
