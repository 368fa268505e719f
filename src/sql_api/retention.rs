//! `wale_retain()`, `wale_delete_before()`, `wale_backup_delete()`, `wale_delete_garbage()`,
//! `wale_backup_mark()`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::PgSqlErrorCode;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::{Duration, OffsetDateTime};
use wal_e_core::notice::{Level, Notices};
use wal_e_core::owner;
use wal_e_core::retention::{self, Calendar, Garbage, Item, Plan, Policy, Request, Survey, Tally};
use wal_e_core::store::{self, retry::Patience};

use crate::error::{Failure, Result};
use crate::events;
use crate::gucs;
use crate::pg::server;
use crate::pg::text::Text;

type Rows = TableIterator<
    'static,
    (
        name!(object_name, Text),
        name!(kind, String),
        name!(bytes, i64),
        name!(action, String),
        name!(reason, Text),
    ),
>;

/// Keeps what a policy of these rules keeps.
#[pg_extern]
fn wale_retain(
    full_backups: Option<i32>,
    dry_run: Option<bool>,
    recovery_window: Option<Interval>,
    calendar: Option<Text>,
) -> Result<Rows, ErrorReport> {
    let dry_run = given(dry_run)?;
    let given = Policy {
        full_backups: full_backups.map(number).transpose()?.unwrap_or_default(),
        window: recovery_window.map(duration).transpose()?,
        calendar: calendar.map(|Text(text)| parsed(&text)).transpose()?.unwrap_or_default(),
    };
    let policy =
        if given.is_empty() { gucs::retention_policy().map_err(Failure::from)? } else { given };
    if policy.is_empty() {
        let failure = Failure::new(INVALID, "no rule says what to keep").with_hint(
            "Give full_backups, recovery_window or calendar, or set \"wal_e.retain_full_backups\", \
             \"wal_e.retain_window\" or \"wal_e.retain_calendar\".",
        );
        return Err(failure.into());
    }
    Ok(rows(delete(Request::Retain(policy), dry_run)?))
}

const INVALID: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;

fn number(full_backups: i32) -> Result<u32> {
    let number = u32::try_from(full_backups).ok().filter(|number| *number > 0);
    number.ok_or_else(|| Failure::new(INVALID, "full_backups must be at least 1"))
}

/// No month and no day is longer than what they are taken for here, but for the day on which
/// clocks are set back; a window is rather too long than too short.
fn duration(interval: Interval) -> Result<Duration> {
    let days = i64::from(interval.months()) * 31 + i64::from(interval.days());
    let duration = Duration::days(days) + Duration::microseconds(interval.micros());
    match duration > Duration::ZERO {
        true => Ok(duration),
        false => Err(Failure::new(INVALID, "recovery_window must be longer than no time")),
    }
}

fn parsed(calendar: &str) -> Result<Calendar> {
    calendar.parse().map_err(|why: String| {
        Failure::new(INVALID, "invalid calendar").with_detail(format!("{why}."))
    })
}

/// Deletes what is older than a backup and not needed from it on.
#[pg_extern]
fn wale_delete_before(
    backup_name: Option<Text>,
    dry_run: Option<bool>,
) -> Result<Rows, ErrorReport> {
    let Text(backup_name) = given(backup_name)?;
    Ok(rows(delete(Request::Before(backup_name), given(dry_run)?)?))
}

/// Deletes one backup, and those that are deltas of it.
#[pg_extern]
fn wale_backup_delete(
    backup_name: Option<Text>,
    dry_run: Option<bool>,
) -> Result<Rows, ErrorReport> {
    let Text(backup_name) = given(backup_name)?;
    Ok(rows(delete(Request::Backup(backup_name), given(dry_run)?)?))
}

/// Deletes what is left of backups that never became complete, and WAL that no backup needs.
#[pg_extern]
fn wale_delete_garbage(dry_run: Option<bool>) -> Result<Rows, ErrorReport> {
    Ok(rows(delete(Request::Garbage(Garbage::All), given(dry_run)?)?))
}

/// Makes a backup permanent, or an ordinary one again.
#[pg_extern]
fn wale_backup_mark(backup_name: Option<Text>, permanent: Option<bool>) -> Result<(), ErrorReport> {
    let (Text(backup_name), permanent) = (given(backup_name)?, given(permanent)?);
    Ok(mark(backup_name, permanent)?)
}

fn mark(backup_name: String, permanent: bool) -> Result<()> {
    let config = gucs::store_config()?;
    let claimant = server::claimant();
    super::run(move |notices| async move {
        let store = store::open(&config, Patience::command(), notices).await?;
        owner::inspect(&*store, &claimant).await?;
        retention::mark(&*store, &backup_name, permanent).await
    })
}

/// An argument. The functions are not STRICT: an empty result would look as if there were
/// nothing to delete.
fn given<T>(argument: Option<T>) -> Result<T> {
    let code = PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED;
    argument.ok_or_else(|| Failure::new(code, "no argument of this function may be null"))
}

/// What becomes of everything, and without `dry_run` has become of it.
fn delete(request: Request, dry_run: bool) -> Result<Vec<Item>> {
    let config = gucs::store_config()?;
    let claimant = server::claimant();
    let progress = Arc::new(Progress::default());
    let shown = Arc::clone(&progress);
    let plan = super::run_described(
        move |_| Some(shown.describe()),
        |notices| async move {
            let store = store::open(&config, Patience::command(), notices.clone()).await?;
            // Another cluster's archive is not this one's to delete.
            match owner::inspect_to_delete(&*store, &claimant).await {
                Err(error) if dry_run => would_delete_nothing(&error, &notices),
                inspected => inspected?,
            }
            let survey = Survey::of(&store, OffsetDateTime::now_utc(), &notices).await?;
            let plan = Plan::new(&survey, &request)?;
            if !dry_run {
                progress.planned.store(plan.deletes().objects, Ordering::Relaxed);
                retention::carry_out(&*store, &plan, &progress.deleted, &notices).await?;
            }
            Ok(plan)
        },
    )?;
    if !dry_run {
        let Tally { objects, bytes } = plan.deletes();
        events::deleted(objects, bytes);
    }
    Ok(plan.items)
}

/// Says why what a plan shows would not happen.
fn would_delete_nothing(why: &wal_e_core::Error, notices: &Notices) {
    let message = format!("this server would delete nothing: {}", why.message_and_detail());
    notices.send(Level::Warning, message, why.hint().map(str::to_owned));
}

/// How far a deletion is, in objects.
#[derive(Debug, Default)]
struct Progress {
    /// 0 until there is a plan.
    planned: AtomicU64,
    deleted: AtomicU64,
}

impl Progress {
    fn describe(&self) -> String {
        let planned = self.planned.load(Ordering::Relaxed);
        match planned {
            0 => "finding out what the archive has and what is needed".to_owned(),
            _ => format!("deleted {} of {planned} objects", self.deleted.load(Ordering::Relaxed)),
        }
    }
}

fn rows(items: Vec<Item>) -> Rows {
    TableIterator::new(items.into_iter().map(|item| {
        (
            Text(item.name),
            item.kind.to_string(),
            i64::try_from(item.tally.bytes).unwrap_or(i64::MAX),
            item.action.to_string(),
            Text(item.reason),
        )
    }))
}
