//! `wale_backup_verify()`.

use std::time::Instant;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use wal_e_core::pace::Pace;

use super::progress_notices::ProgressNotices;
use super::require_preloading;
use crate::error::{Failure, Result, in_words};
use crate::gucs;
use crate::jobs::caller;
use crate::jobs::slot::Status;
use crate::jobs::verification::{MAX_NAME_BYTES, Progress, Request, Row, Verification};
use crate::pg::text::Text;
use crate::shared_values::FixedText;

/// Reads a base backup back in a background worker: a row for each kind of check
/// that was passed, and for each failure.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_backup_verify(
    backup_name: Option<Text>,
) -> Result<
    TableIterator<'static, (name!(check_name, Text), name!(ok, Option<bool>), name!(detail, Text))>,
    ErrorReport,
> {
    // Not STRICT: an empty result would look like success.
    let Some(Text(name)) = backup_name else {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the argument of wale_backup_verify must not be null",
        )
        .into());
    };
    let rows = verify(&name)?;
    Ok(TableIterator::new(
        rows.into_iter().map(|row| (Text(row.check_name), row.ok, Text(in_words(&row.detail)))),
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
    let request = Request { name: FixedText::new(name) };
    let mut notices = ProgressNotices::begin();
    let mut pace = Pace::begin(Instant::now());
    caller::run::<Verification, Vec<Row>>(&request, true, |view| {
        Ok(match &view.status {
            Status::Done(findings) => Some(findings.rows()),
            _ => {
                notices.look(|now| Some(describe(name, &view.progress, &mut pace, now)));
                None
            }
        })
    })
}

/// How far the verification is, for the caller that waits for it.
fn describe(name: &str, progress: &Progress, pace: &mut Pace, now: Instant) -> String {
    let Progress { bytes_total, bytes_read, segments_total, segments_read } = *progress;
    let what = format!("verification of base backup \"{name}\"");
    match segments_total {
        0 => format!("{what}: reading tars, {}", pace.describe(now, bytes_read, bytes_total)),
        _ => format!("{what}: reading WAL, {segments_read} of {segments_total} segments"),
    }
}
