//! `wale_backup_push()`, `wale_backup_progress()`, `wale_backup_cancel()`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;
use wal_e_core::base_backup::Phase;

use super::require_preloading;
use super::timestamp::timestamptz;
use super::worker_wait::{StartedWorker, wait_for_end};
use crate::backup_slot::{self, MAX_LABEL_BYTES, Request, Status, View};
use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::{interrupts, server};
use crate::server_log;
use crate::worker;

/// Takes a base backup in a background worker and returns its name. With
/// `wait => false` it returns as soon as the backup has begun.
#[pg_extern]
fn wale_backup_push(
    label: Option<&str>,
    fast: Option<bool>,
    permanent: Option<bool>,
    wait: Option<bool>,
) -> Result<String, ErrorReport> {
    // Not STRICT: a NULL must not look like a backup that was taken.
    let (Some(label), Some(fast), Some(permanent), Some(wait)) = (label, fast, permanent, wait)
    else {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the arguments of wale_backup_push must not be null",
        )
        .into());
    };
    check_requirements(label)?;
    let request = Request { label: label.to_owned(), fast, permanent };
    Ok(push(&request, wait)?)
}

/// The running or last base backup of this server; no row when there was none
/// since the server was started.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_backup_progress() -> Result<
    TableIterator<
        'static,
        (
            name!(backup_name, Option<String>),
            name!(phase, &'static str),
            name!(started_at, Option<TimestampWithTimeZone>),
            name!(bytes_total, Option<i64>),
            name!(bytes_read, Option<i64>),
            name!(bytes_uploaded, Option<i64>),
            name!(partitions_total, Option<i64>),
            name!(partitions_done, Option<i64>),
            name!(estimated_finish, Option<TimestampWithTimeZone>),
            name!(error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    require_preloading()?;
    let count = |number: u64| i64::try_from(number).ok();
    Ok(TableIterator::new(backup_slot::view().into_iter().map(move |view| {
        let estimated_finish = estimated_finish(&view, OffsetDateTime::now_utc());
        (
            view.name,
            match &view.status {
                Status::Active(phase) => phase.as_str(),
                Status::Done => "done",
                Status::Failed(failure) if failure.is_canceled() => "canceled",
                Status::Failed(_) => "failed",
            },
            view.started_at.and_then(timestamptz),
            count(view.counters.bytes_total),
            count(view.counters.bytes_read),
            count(view.counters.bytes_uploaded),
            count(view.counters.partitions_total),
            count(view.counters.partitions_done),
            estimated_finish.and_then(timestamptz),
            match view.status {
                Status::Failed(failure) => Some(failure.message),
                _ => None,
            },
        )
    })))
}

/// Stops the running base backup and waits until it has cleaned up. False when
/// none was running, or it was complete before it could be stopped.
#[pg_extern]
fn wale_backup_cancel() -> Result<bool, ErrorReport> {
    require_preloading()?;
    let Some(generation) = backup_slot::request_cancel(None) else { return Ok(false) };
    wait_for_end(|| is_active(generation), interrupts::check)?;
    match backup_slot::view_of(generation).map(|view| view.status) {
        Some(Status::Active(_)) => Err(Failure::new(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "the base backup was told to stop, but has not ended yet",
        )
        .with_hint("Watch it with wale_backup_progress().")
        .into()),
        status => Ok(status != Some(Status::Done)),
    }
}

/// Everything that would let the backup fail later, or never become complete.
fn check_requirements(label: &str) -> Result<()> {
    require_preloading()?;
    gucs::store_config()?;
    gucs::compression()?;
    let not_ready = |message: &str, hint: &str| {
        Err(Failure::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
            .with_hint(hint))
    };
    if server::in_recovery() {
        return not_ready(
            "a base backup cannot be taken during recovery",
            "Take it on the primary server.",
        );
    }
    if server::setting(c"archive_mode") == "off" {
        return not_ready(
            "a base backup needs WAL archiving, and \"archive_mode\" is off",
            "Set \"archive_mode\" to on and \"archive_library\" to wal_e, and restart the server.",
        );
    }
    if server::setting(c"archive_library").is_empty()
        && server::setting(c"archive_command").is_empty()
    {
        return not_ready(
            "a base backup needs WAL archiving, and neither \"archive_library\" nor \"archive_command\" is set",
            "Set \"archive_library\" to wal_e and reload the configuration.",
        );
    }
    if label.len() > MAX_LABEL_BYTES {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("backup label is too long (at most {MAX_LABEL_BYTES} bytes)"),
        ));
    }
    if label.contains(['\n', '\r']) {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "backup label must not contain a line break",
        ));
    }
    Ok(())
}

fn push(request: &Request, wait: bool) -> Result<String> {
    let generation = backup_slot::reserve(request, wait)?;
    let worker = worker::start(&worker::BACKUP, generation).inspect_err(|failure| {
        backup_slot::end_abandoned(generation, failure.clone());
    })?;
    let started = StartedWorker {
        worker,
        generation,
        is_active,
        request_cancel: |generation| {
            backup_slot::request_cancel(Some(generation));
        },
        end_abandoned: backup_slot::end_abandoned,
        canceled: Failure::canceled,
        lost,
    };
    started.wait(|| {
        let Some(view) = backup_slot::view_of(generation) else { return Err(lost()) };
        match view.status {
            Status::Done => {
                warn_of_corrupt_pages(&view);
                view.name.ok_or_else(lost).map(Some)
            }
            Status::Failed(failure) => Err(failure),
            Status::Active(_) if !wait && view.in_backup_mode => Ok(view.name),
            Status::Active(_) => Ok(None),
        }
    })
}

fn is_active(generation: u64) -> bool {
    let view = backup_slot::view_of(generation);
    view.is_some_and(|view| matches!(view.status, Status::Active(_)))
}

/// The worker's warnings go to the server log; the caller is told of them.
fn warn_of_corrupt_pages(view: &View) {
    if view.counters.corrupt_pages > 0 {
        server_log::warn(
            &Failure::new(
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!(
                    "the base backup has pages with a wrong checksum: {}",
                    view.counters.corrupt_pages
                ),
            )
            .with_hint("Their files and blocks are in the server log and in the backup's files_metadata.json."),
        );
    }
}

fn lost() -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        "the background worker of the base backup ended without a result",
    )
    .with_hint("See the server log for the reason.")
}

/// When the backup will be complete, if reading goes on as fast as so far.
fn estimated_finish(view: &View, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let since = view.uploading_since?;
    if view.status != Status::Active(Phase::Uploading) || view.counters.bytes_read == 0 {
        return None;
    }
    let elapsed = (now - since).as_seconds_f64();
    let whole = view.counters.bytes_total.max(view.counters.bytes_read) as f64;
    let seconds = elapsed * whole / view.counters.bytes_read as f64;
    since.checked_add(time::Duration::checked_seconds_f64(seconds)?)
}
