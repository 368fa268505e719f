//! What a file of a cluster is called in a tar, and when it was changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use time::OffsetDateTime;

/// The name of a member in WAL-G's form: `/` and the path below the data directory.
pub fn member_name(path: &str) -> String {
    format!("/{path}")
}

/// When a file was last changed. A time before 1970 or after the year 9999, which file
/// systems can hold, is a mistake of some clock: it becomes 1970.
pub fn time_of(metadata: &Metadata) -> OffsetDateTime {
    sensible(metadata.mtime(), metadata.mtime_nsec())
}

fn sensible(second: i64, nanosecond: i64) -> OffsetDateTime {
    let nanosecond = u32::try_from(nanosecond).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(second.max(0))
        .and_then(|time| time.replace_nanosecond(nanosecond))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::format_time;

    #[test]
    fn impossible_times_are_no_obstacle() {
        assert_eq!(format_time(sensible(1_767_319_445, 1000)), "2026-01-02T02:04:05.000001Z");
        for second in [i64::MIN, -1, 300_000_000_000, i64::MAX] {
            assert!(format_time(sensible(second, 0)).starts_with("1970-01-01T00:00:00"));
        }
    }
}
