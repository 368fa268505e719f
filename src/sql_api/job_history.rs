//! `wale_job_history()`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use wal_e_core::schedule::{self, Entry};
use wal_e_core::store::{self, retry::Patience};

use super::timestamp::timestamptz;
use crate::error::{Result, in_words};
use crate::gucs;
use crate::pg::text::Text;

/// What was done by schedule: a row for each run that is kept, newest first.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_job_history() -> Result<
    TableIterator<
        'static,
        (
            name!(job, Text),
            name!(slot, Option<TimestampWithTimeZone>),
            name!(attempt, i64),
            name!(hostname, Text),
            name!(started_at, Option<TimestampWithTimeZone>),
            name!(finished_at, Option<TimestampWithTimeZone>),
            name!(ok, Option<bool>),
            name!(detail, Option<Text>),
            name!(bytes, Option<i64>),
        ),
    >,
    ErrorReport,
> {
    let entries = entries()?;
    Ok(TableIterator::new(entries.into_iter().map(|entry| {
        (
            Text(entry.job),
            entry.slot.and_then(timestamptz),
            i64::from(entry.attempt),
            Text(entry.host),
            entry.started.and_then(timestamptz),
            entry.finished.and_then(timestamptz),
            entry.ok,
            entry.detail.map(|detail| Text(in_words(&detail))),
            entry.bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        )
    })))
}

fn entries() -> Result<Vec<Entry>> {
    let config = gucs::store_config()?;
    super::run(|notices| async move {
        let store = store::open(&config, Patience::question(), notices).await?;
        schedule::history(&*store).await
    })
}
