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

/// How long something takes, in its two largest units.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.whole_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!(
            "{} {} h",
            if days == 1 { "1 day".to_owned() } else { format!("{days} days") },
            hours % 24
        ),
    }
}
