//! Points in time as SQL values.

use pgrx::datum::TimestampWithTimeZone;
use time::OffsetDateTime;

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const POSTGRES_EPOCH: i128 = 946_684_800_000_000;

/// A `timestamptz`; `None` for a time that SQL cannot express.
pub fn timestamptz(time: OffsetDateTime) -> Option<TimestampWithTimeZone> {
    let microseconds = time.unix_timestamp_nanos() / 1000 - POSTGRES_EPOCH;
    TimestampWithTimeZone::try_from(i64::try_from(microseconds).ok()?).ok()
}

/// The point in time of a `timestamptz`; `None` for infinity, and for a year of more
/// than four digits.
pub fn offset_date_time(time: TimestampWithTimeZone) -> Option<OffsetDateTime> {
    let microseconds = i128::from(i64::from(time));
    OffsetDateTime::from_unix_timestamp_nanos((microseconds + POSTGRES_EPOCH) * 1000).ok()
}
