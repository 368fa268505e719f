//! `wale_wal_show()`, `wale_wal_verify()`, `wale_wal_repair()`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use wal_e_core::coverage::{self, Archive, OwnWal, Repaired};
use wal_e_core::store::{self, retry::Patience};
use wal_e_core::wal::{self, Archiving};

use crate::error::{Failure, Result, in_words};
use crate::gucs;
use crate::pg::lsn_datum::LsnDatum;
use crate::pg::server;
use crate::pg::text::Text;
use crate::rate_limits;

/// Where `pg_wal` is for a process of the server, whose directory is the data directory.
const PG_WAL: &str = "pg_wal";

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
        ),
    >,
    ErrorReport,
> {
    let rows = archive()?.timelines();
    Ok(TableIterator::new(rows.into_iter().map(|row| {
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

/// What this server has, and after that what the archive has.
fn archive() -> Result<Archive> {
    let config = gucs::store_config()?;
    let own = own_wal()?;
    super::run(move |notices| async move {
        let store = store::open(&config, Patience::question(), notices.clone()).await?;
        Archive::of(&store, Some(own), OffsetDateTime::now_utc(), &notices).await
    })
}

fn own_wal() -> Result<OwnWal> {
    let Some(size) = server::segment_size() else {
        let code = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR;
        return Err(Failure::new(code, "the size of the server's WAL segments is not known"));
    };
    let cluster = server::claimant().system_identifier;
    let position = server::wal_timeline_and_position();
    let own = OwnWal::read(Path::new(PG_WAL), size, cluster, position, server::in_recovery());
    Ok(own?)
}

fn repair() -> Result<Vec<Repaired>> {
    let config = gucs::store_config()?;
    let archiving = Archiving {
        wal_directory: PathBuf::from(PG_WAL),
        compression: gucs::compression()?,
        uploads: 1,
        standby: server::in_recovery(),
    };
    let (claimant, own) = (server::claimant(), own_wal()?);
    super::run(move |notices| async move {
        let limit = Some(rate_limits::upload());
        let store = store::open_limited(&config, Patience::command(), notices.clone(), limit);
        let store = store.await?;
        let now = OffsetDateTime::now_utc();
        let archive = Archive::of(&store, Some(own), now, &notices).await?;
        if !archive.can_be_repaired() {
            return Ok(Vec::new());
        }
        let (store, cancel) = (Arc::clone(&store), CancellationToken::new());
        let opening = wal::open_beside_archiver(store, &claimant, &archiving, cancel, notices);
        let pusher = opening.await?;
        coverage::repair(&archive, &pusher).await
    })
}
