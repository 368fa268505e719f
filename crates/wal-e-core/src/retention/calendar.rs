//! So many daily, weekly, monthly and yearly backups.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

/// For how many days, weeks, months and years a backup each is kept. Days begin at midnight
/// UTC, weeks on Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calendar {
    /// Days.
    pub daily: u32,
    /// Weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

impl Calendar {
    /// Whether it keeps nothing.
    pub fn is_empty(&self) -> bool {
        *self == Calendar::default()
    }

    /// What it keeps of backups that were complete at `moments`, oldest first: for each, the
    /// rule that keeps it.
    ///
    /// Of each period the last backup is kept, for the newest periods that have one: a time
    /// without backups does not count.
    pub fn keeps(&self, moments: &[OffsetDateTime]) -> Vec<Option<&'static str>> {
        let mut kept = vec![None; moments.len()];
        for (wanted, word, period) in [
            (self.yearly, "yearly", year as fn(OffsetDateTime) -> (i32, u16)),
            (self.monthly, "monthly", month),
            (self.weekly, "weekly", week),
            (self.daily, "daily", day),
        ] {
            let mut met = BTreeSet::new();
            for (moment, keep) in moments.iter().zip(&mut kept).rev() {
                if met.len() as u64 >= u64::from(wanted) {
                    break;
                }
                if met.insert(period(*moment)) {
                    *keep = Some(word);
                }
            }
        }
        kept
    }
}

fn day(moment: OffsetDateTime) -> (i32, u16) {
    let date = moment.to_offset(time::UtcOffset::UTC).date();
    (date.year(), date.ordinal())
}

fn week(moment: OffsetDateTime) -> (i32, u16) {
    let (year, week, _) = moment.to_offset(time::UtcOffset::UTC).date().to_iso_week_date();
    (year, u16::from(week))
}

fn month(moment: OffsetDateTime) -> (i32, u16) {
    let date = moment.to_offset(time::UtcOffset::UTC).date();
    (date.year(), u16::from(u8::from(date.month())))
}

fn year(moment: OffsetDateTime) -> (i32, u16) {
    (moment.to_offset(time::UtcOffset::UTC).year(), 0)
}

impl FromStr for Calendar {
    type Err = String;

    /// `7 daily, 4 weekly, 12 monthly, 5 yearly`, each at most once, in any order.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut calendar = Calendar::default();
        let mut met = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (number, word) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            let word = word.trim().to_ascii_lowercase();
            let wanted = match word.as_str() {
                "daily" => &mut calendar.daily,
                "weekly" => &mut calendar.weekly,
                "monthly" => &mut calendar.monthly,
                "yearly" => &mut calendar.yearly,
                _ => {
                    return Err(format!(
                        "\"{part}\" is not a number and daily, weekly, monthly or yearly"
                    ));
                }
            };
            *wanted = number.parse().map_err(|_| format!("\"{number}\" is not a number"))?;
            if !met.insert(word) {
                return Err(format!("\"{part}\" is the second of its kind"));
            }
        }
        Ok(calendar)
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.daily, "daily"),
            (self.weekly, "weekly"),
            (self.monthly, "monthly"),
            (self.yearly, "yearly"),
        ];
        let words: Vec<String> = parts
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, word)| format!("{number} {word}"))
            .collect();
        f.pad(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_calendar_is_read_and_written() {
        for (text, written) in [
            ("7 daily, 4 weekly, 12 monthly, 5 yearly", "7 daily, 4 weekly, 12 monthly, 5 yearly"),
            (" 2  Weekly ,1 daily,", "1 daily, 2 weekly"),
            ("0 daily", ""),
            ("", ""),
        ] {
            let calendar: Calendar = text.parse().unwrap();
            assert_eq!(calendar.to_string(), written);
            assert_eq!(calendar.is_empty(), written.is_empty());
        }
        for wrong in ["7", "daily", "7 days", "-1 daily", "1 daily, 2 daily", "1 daily 2 weekly"] {
            assert!(wrong.parse::<Calendar>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_backup_of_each_of_the_newest_periods_is_kept() {
        let moments = [
            datetime!(2024-12-30 02:00 UTC), // of the first week of 2025
            datetime!(2025-11-30 02:00 UTC),
            datetime!(2026-11-26 02:00 UTC), // a Thursday
            datetime!(2026-11-28 02:00 UTC),
            datetime!(2026-11-29 02:00 UTC),
            datetime!(2026-11-29 23:00 -02:00), // Monday, in UTC
        ];
        let kept = |text: &str| text.parse::<Calendar>().unwrap().keeps(&moments);
        let daily = Some("daily");
        assert_eq!(kept("2 daily"), [None, None, None, None, daily, daily]);
        let weekly = Some("weekly");
        assert_eq!(kept("2 weekly"), [None, None, None, None, weekly, weekly]);
        let monthly = Some("monthly");
        assert_eq!(kept("2 monthly"), [None, monthly, None, None, None, monthly]);
        let yearly = Some("yearly");
        assert_eq!(kept("9 yearly"), [yearly, yearly, None, None, None, yearly]);
        assert_eq!(kept("1 daily, 3 yearly"), [yearly, yearly, None, None, None, daily]);
        assert_eq!(kept(""), [None; 6]);
    }
}
