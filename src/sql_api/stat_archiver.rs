//! `wale_stat_archiver()`, which the view of that name calls.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_preloading;
use super::timestamp::timestamptz;
use crate::archiver_stats;
use crate::pg::lsn_datum::LsnDatum;
use crate::pg::text::Text;

/// One row: what the archiver has done since the server was started, and what
/// it has left to do.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_stat_archiver() -> Result<
    TableIterator<
        'static,
        (
            name!(archived_count, Option<i64>),
            name!(failed_count, Option<i64>),
            name!(bytes_read, Option<i64>),
            name!(bytes_stored, Option<i64>),
            name!(bytes_per_second, Option<i64>),
            name!(queue_length, Option<i64>),
            name!(in_flight, Option<i32>),
            name!(last_archived_wal, Option<String>),
            name!(last_archived_lsn, Option<LsnDatum>),
            name!(last_archived_time, Option<TimestampWithTimeZone>),
            name!(lag_bytes, Option<i64>),
            name!(lag_seconds, Option<f64>),
            name!(last_failed_wal, Option<String>),
            name!(last_failed_time, Option<TimestampWithTimeZone>),
            name!(last_error, Option<Text>),
            name!(last_error_detail, Option<Text>),
            name!(last_error_hint, Option<Text>),
            name!(stats_reset, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    require_preloading()?;
    let queue = archiver_stats::queue()?;
    let view = archiver_stats::view();
    let lag = archiver_stats::lag(view.archived, &queue);
    let count = |number: u64| i64::try_from(number).ok();
    let (error, detail, hint) = match view.last_failure {
        Some(failure) => (Some(failure.message), failure.detail, failure.hint),
        None => (None, None, None),
    };
    Ok(TableIterator::once((
        count(view.archived_count),
        count(view.failed_count),
        count(view.bytes_read),
        count(view.bytes_stored),
        count(view.bytes_per_second),
        count(queue.files),
        i32::try_from(view.in_flight).ok(),
        view.last_archived_file,
        view.archived.lsn.map(LsnDatum),
        view.last_archived_time.and_then(timestamptz),
        lag.and_then(|lag| count(lag.bytes)),
        lag.and_then(|lag| lag.time).map(|time| time.as_secs_f64()),
        view.last_failed_file,
        view.last_failed_time.and_then(timestamptz),
        error.map(Text),
        detail.map(Text),
        hint.map(Text),
        view.since.and_then(timestamptz),
    )))
}
