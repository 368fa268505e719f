//! `wale_retain()`, `wale_delete_before()`, `wale_backup_delete()`, `wale_delete_garbage()`.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use time::OffsetDateTime;
use wal_e_core::retention::{self, Item, Plan, Policy, Request, Survey};
use wal_e_core::store::{self, retry::Patience};

use crate::error::{Failure, Result};
use crate::gucs;
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

/// Keeps so many of the newest full backups, and every moment from the oldest of them on.
#[pg_extern]
fn wale_retain(full_backups: Option<i32>, dry_run: Option<bool>) -> Result<Rows, ErrorReport> {
    let (full_backups, dry_run) = (given(full_backups)?, given(dry_run)?);
    let Some(full_backups) = u32::try_from(full_backups).ok().filter(|number| *number > 0) else {
        let code = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;
        return Err(Failure::new(code, "full_backups must be at least 1").into());
    };
    let policy = Policy { full_backups, ..Policy::default() };
    Ok(rows(delete(Request::Retain(policy), dry_run)?))
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
    Ok(rows(delete(Request::Garbage, given(dry_run)?)?))
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
    super::run(move |notices| async move {
        let store = store::open(&config, Patience::command(), notices.clone()).await?;
        let survey = Survey::of(&store, OffsetDateTime::now_utc(), &notices).await?;
        let plan = Plan::new(&survey, &request)?;
        if !dry_run {
            retention::carry_out(&*store, &plan, &notices).await?;
        }
        Ok(plan.items)
    })
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
