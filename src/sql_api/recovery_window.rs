//! `wale_recovery_window()`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use wal_e_core::coverage;
use wal_e_core::recovery::Window;
use wal_e_core::store::{self, retry::Patience};

use super::timestamp::timestamptz;
use crate::error::{Result, in_words};
use crate::gucs;
use crate::pg::lsn_datum::LsnDatum;
use crate::pg::text::Text;

/// To which moments a restore is possible: a row for each unbroken stretch.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_recovery_window() -> Result<
    TableIterator<
        'static,
        (
            name!(timeline, i64),
            name!(from_time, Option<TimestampWithTimeZone>),
            name!(to_time, Option<TimestampWithTimeZone>),
            name!(from_lsn, LsnDatum),
            name!(to_lsn, Option<LsnDatum>),
            name!(backup_name, Text),
            name!(ends_because, Text),
        ),
    >,
    ErrorReport,
> {
    let windows = windows()?;
    Ok(TableIterator::new(windows.into_iter().map(|window| {
        (
            i64::from(window.timeline.0),
            timestamptz(window.from_time),
            window.to_time.and_then(timestamptz),
            LsnDatum(window.from_lsn),
            window.to_lsn.map(LsnDatum),
            Text(window.backup_name),
            Text(in_words(&window.ends)),
        )
    })))
}

fn windows() -> Result<Vec<Window>> {
    let config = gucs::store_config()?;
    super::run(|notices| async move {
        let store = store::open(&config, Patience::question(), notices.clone()).await?;
        coverage::windows(&store, &notices).await
    })
}
