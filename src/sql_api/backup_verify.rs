//! `wale_backup_verify()`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_preloading;
use super::worker_wait::StartedWorker;
use crate::error::{Failure, Result, in_words};
use crate::gucs;
use crate::verify_slot::{self, MAX_NAME_BYTES, Request, Row, Status};
use crate::worker;

/// Reads a base backup back in a background worker: a row for each kind of check
/// that was passed, and for each failure.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_backup_verify(
    backup_name: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (name!(check_name, String), name!(ok, Option<bool>), name!(detail, String)),
    >,
    ErrorReport,
> {
    // Not STRICT: no row must not look like no failure.
    let Some(name) = backup_name else {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the argument of wale_backup_verify must not be null",
        )
        .into());
    };
    let rows = verify(name)?;
    Ok(TableIterator::new(
        rows.into_iter().map(|row| (row.check_name, row.ok, in_words(&row.detail))),
    ))
}

fn verify(name: &str) -> Result<Vec<Row>> {
    require_preloading()?;
    gucs::store_config()?;
    if name.len() > MAX_NAME_BYTES {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("backup name is too long (at most {MAX_NAME_BYTES} bytes)"),
        ));
    }
    let request = Request { name: name.to_owned() };
    let generation = verify_slot::reserve(&request)?;
    let worker = worker::start(&worker::VERIFICATION, generation).inspect_err(|failure| {
        verify_slot::end_abandoned(generation, failure.clone());
    })?;
    let started = StartedWorker {
        worker,
        generation,
        is_active: |generation| verify_slot::status_of(generation) == Some(Status::Active),
        request_cancel: verify_slot::request_cancel,
        end_abandoned: verify_slot::end_abandoned,
        canceled: Failure::verification_canceled,
        lost,
    };
    started.wait(|| match verify_slot::status_of(generation) {
        None => Err(lost()),
        Some(Status::Active) => Ok(None),
        Some(Status::Done(rows)) => Ok(Some(rows)),
        Some(Status::Failed(failure)) => Err(failure),
    })
}

fn lost() -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        "the background worker of the verification ended without a result",
    )
    .with_hint("See the server log for the reason.")
}
