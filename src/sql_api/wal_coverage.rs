//! `wale_wal_show()`, `wale_wal_verify()`, `wale_wal_repair()`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;
use wal_e_core::coverage::{self, Archive, Repaired, TimelineRow, WalEncryption};
use wal_e_core::store::{self, retry::Patience};

use crate::error::{Failure, Result, in_words};
use crate::gucs;
use crate::own_wal;
use crate::pg::lsn_datum::LsnDatum;
use crate::pg::server;
use crate::pg::text::Text;
use crate::rate_limits;

/// A row for each timeline of the archive.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_wal_show() -> Result<
    TableIterator<
        'static,
        (
            name!(timeline, i64),
            name!(parent_timeline, Option<i64>),
            name!(switch_lsn, Option<LsnDatum>),
            name!(first_segment, Option<String>),
            name!(last_segment, Option<String>),
            name!(segments, i64),
            name!(missing, i64),
            name!(status, &'static str),
            name!(encryption, &'static str),
        ),
    >,
    ErrorReport,
> {
    let rows = timelines()?;
    Ok(TableIterator::new(rows.into_iter().map(|(row, encryption)| {
        let state = row.state();
        (
            i64::from(row.timeline.0),
            row.parent_timeline.map(|parent| i64::from(parent.0)),
            row.switch_lsn.map(LsnDatum),
            row.first_segment,
            row.last_segment,
            count(row.segments),
            count(row.missing),
            state,
            encryption.as_str(),
        )
    })))
}

/// All WAL from the oldest usable base backup up to now, and what became of it.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_wal_verify() -> Result<
    TableIterator<
        'static,
        (
            name!(timeline, i64),
            name!(first_segment, String),
            name!(last_segment, String),
            name!(segments, i64),
            name!(status, &'static str),
            name!(advice, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    let ranges = archive()?.verify().map_err(Failure::from)?;
    Ok(TableIterator::new(ranges.into_iter().map(|range| {
        (
            i64::from(range.timeline.0),
            range.first_segment,
            range.last_segment,
            count(range.segments),
            range.status.as_str(),
            range.advice.as_deref().map(in_words).map(Text),
        )
    })))
}

/// Archives again what the archive lacks and this server still has.
#[pg_extern]
fn wale_wal_repair() -> Result<
    TableIterator<'static, (name!(segment, String), name!(outcome, &'static str))>,
    ErrorReport,
> {
    let repaired = repair()?;
    Ok(TableIterator::new(repaired.into_iter().map(|done| {
        let outcome = done.as_str();
        (done.segment, outcome)
    })))
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn timelines() -> Result<Vec<(TimelineRow, WalEncryption)>> {
    let config = gucs::store_config()?;
    let own = own_wal::read()?;
    super::run(move |notices| async move {
        let store = store::open(&config, Patience::question(), notices.clone()).await?;
        let archive = Archive::of(&store, Some(own), OffsetDateTime::now_utc(), &notices).await?;
        let rows = archive.timelines();
        let encryption = coverage::encryption(&*store, &rows).await?;
        Ok(rows.into_iter().zip(encryption).collect())
    })
}

/// What this server has, and after that what the archive has.
fn archive() -> Result<Archive> {
    let config = gucs::store_config()?;
    let own = own_wal::read()?;
    super::run(move |notices| async move {
        let store = store::open(&config, Patience::question(), notices.clone()).await?;
        Archive::of(&store, Some(own), OffsetDateTime::now_utc(), &notices).await
    })
}

fn repair() -> Result<Vec<Repaired>> {
    let config = gucs::store_config()?;
    let archiving = own_wal::archiving()?;
    let (claimant, own) = (server::claimant(), own_wal::read()?);
    super::run(move |notices| async move {
        let limit = Some(rate_limits::upload());
        let store = store::open_limited(&config, Patience::command(), notices.clone(), limit);
        let store = store.await?;
        let now = OffsetDateTime::now_utc();
        let archive = Archive::of(&store, Some(own), now, &notices).await?;
        own_wal::repair(&store, &archive, (claimant, archiving), notices).await
    })
}
