//! `wale_backup_push()`, `wale_backup_progress()`, `wale_backup_cancel()`.

use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;
use wal_e_core::base_backup::Phase;
use wal_e_core::pace::Pace;

use super::progress_notices::ProgressNotices;
use super::require_preloading;
use super::timestamp::timestamptz;
use crate::error::{Failure, Result};
use crate::jobs::backup::{Backup, Counters, Progress, Request};
use crate::jobs::caller::{self, Stop};
use crate::jobs::requirements;
use crate::jobs::slot::{self, Status, View};
use crate::pg::text::Text;
use crate::server_log;
use crate::shared_values::FixedText;

/// How often a caller that waits is told that WAL is awaited.
const REMIND_AFTER: Duration = Duration::from_secs(60);

/// Takes a base backup in a background worker and returns its name. With
/// `wait => false` it returns as soon as the backup has begun.
#[pg_extern]
fn wale_backup_push(
    label: Option<Text>,
    fast: Option<bool>,
    permanent: Option<bool>,
    wait: Option<bool>,
) -> Result<String, ErrorReport> {
    // Not STRICT: a NULL must not look like a backup that was taken.
    let (Some(Text(label)), Some(fast), Some(permanent), Some(wait)) =
        (label, fast, permanent, wait)
    else {
        return Err(null_argument().into());
    };
    Ok(request_and_push(&label, fast, permanent, wait, false)?)
}

/// As it is called since version 1.1.0 of the extension. The one above is for a database whose
/// extension has not been updated.
#[pg_extern]
fn wale_backup_push_incremental(
    label: Option<Text>,
    fast: Option<bool>,
    permanent: Option<bool>,
    wait: Option<bool>,
    incremental: Option<bool>,
) -> Result<String, ErrorReport> {
    let (Some(Text(label)), Some(fast), Some(permanent), Some(wait), Some(incremental)) =
        (label, fast, permanent, wait, incremental)
    else {
        return Err(null_argument().into());
    };
    Ok(request_and_push(&label, fast, permanent, wait, incremental)?)
}

fn null_argument() -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
        "the arguments of wale_backup_push must not be null",
    )
}

fn request_and_push(
    label: &str,
    fast: bool,
    permanent: bool,
    wait: bool,
    incremental: bool,
) -> Result<String> {
    require_preloading()?;
    requirements::check(label)?;
    let label = FixedText::new(label);
    push(&Request { label, fast, permanent, incremental, max_deltas: 0 }, wait)
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
            name!(error, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    require_preloading()?;
    let count = |number: u64| i64::try_from(number).ok();
    Ok(TableIterator::new(slot::view::<Backup>().into_iter().map(move |view| {
        let estimated_finish = estimated_finish(&view, OffsetDateTime::now_utc());
        let counters = view.progress.counters;
        (
            view.progress.name.get(),
            match &view.status {
                Status::Active => view.progress.phase.as_str(),
                Status::Done(_) => "done",
                Status::Failed(failure) if failure.is_canceled() => "canceled",
                Status::Failed(_) => "failed",
            },
            view.reserved_at.and_then(timestamptz),
            count(counters.bytes_total),
            count(counters.bytes_read),
            count(counters.bytes_uploaded),
            count(counters.partitions_total),
            count(counters.partitions_done),
            estimated_finish.and_then(timestamptz),
            match view.status {
                Status::Failed(failure) => Some(Text(failure.message)),
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
    match caller::stop::<Backup>()? {
        Stop::NoneRuns | Stop::WasDone => Ok(false),
        Stop::Stopped => Ok(true),
        Stop::StillActive => Err(Failure::new(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "the base backup was asked to stop, but has not ended yet",
        )
        .with_hint("Watch it with wale_backup_progress().")
        .into()),
    }
}

fn push(request: &Request, wait: bool) -> Result<String> {
    let mut reminder = Reminder { since: None };
    let mut notices = ProgressNotices::begin();
    let mut pace = Pace::begin(Instant::now());
    let mut is_told = false;
    caller::run::<Backup, String>(request, wait, |view| {
        if let Some(why) = view.progress.full_because.get().filter(|_| !is_told) {
            is_told = true;
            server_log::tell_progress(&format!(
                "taking a full base backup instead of an incremental one: {why}"
            ));
        }
        match view.status {
            Status::Done(_) => {
                warn_of_corrupt_pages(view.progress.counters.corrupt_pages);
                view.progress.name.get().ok_or_else(caller::lost::<Backup>).map(Some)
            }
            // It has a name when the server is in backup mode.
            Status::Active if !wait => Ok(view.progress.name.get()),
            _ => {
                reminder.look(view);
                notices.look(|now| Some(describe(&view.progress, &mut pace, now)));
                Ok(None)
            }
        }
    })
}

/// How far the backup is, for the caller that waits for it.
fn describe(progress: &Progress, pace: &mut Pace, now: Instant) -> String {
    let name = match progress.name.get() {
        Some(name) => format!("base backup \"{name}\""),
        None => "base backup".to_owned(),
    };
    let phase = progress.phase.as_str();
    let Counters { bytes_total, bytes_read, bytes_to_send, share, .. } = progress.counters;
    match progress.phase {
        Phase::Uploading if bytes_total > 0 => {
            let read = pace.describe(now, bytes_read, bytes_total);
            match share.describe(bytes_to_send) {
                Some(to_send) => format!("{name}: {phase}, {to_send}, looked at {read}"),
                None => format!("{name}: {phase}, {read}"),
            }
        }
        _ => format!("{name}: {phase}"),
    }
}

/// Tells the caller each minute that the backup waits for WAL.
struct Reminder {
    /// Since when it waits, or was told of it.
    since: Option<Instant>,
}

impl Reminder {
    fn look(&mut self, view: &View<Backup>) {
        if view.progress.phase != Phase::WaitingForWal {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= REMIND_AFTER {
            self.since = Some(Instant::now());
            let name = view.progress.name.get().unwrap_or_default();
            server_log::tell_client(
                &format!("base backup \"{name}\" waits for its WAL to be archived"),
                "All files are stored. Check that archiving works, with wale_check(); wale_backup_cancel() gives the backup up.",
            );
        }
    }
}

/// The worker's warnings go to the server log; this one goes to the caller as well.
fn warn_of_corrupt_pages(corrupt_pages: u64) {
    if corrupt_pages > 0 {
        server_log::warn(
            &Failure::new(
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!("the base backup has pages with a wrong checksum: {corrupt_pages}"),
            )
            .with_hint("Their files and blocks are in the server log and in the backup's files_metadata.json."),
        );
    }
}

/// When the backup will be complete, if reading goes on as fast as so far.
fn estimated_finish(view: &View<Backup>, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let progress = &view.progress;
    let counters = progress.counters;
    let since = progress.uploading_since.get()?;
    let is_uploading = matches!(view.status, Status::Active) && progress.phase == Phase::Uploading;
    if !is_uploading || counters.bytes_read == 0 {
        return None;
    }
    let elapsed = (now - since).as_seconds_f64();
    let whole = counters.bytes_total.max(counters.bytes_read) as f64;
    let seconds = elapsed * whole / counters.bytes_read as f64;
    since.checked_add(time::Duration::checked_seconds_f64(seconds)?)
}
