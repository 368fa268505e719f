//! `wale_restore_plan()`.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use wal_e_core::ErrorKind;
use wal_e_core::recovery::{
    self, BackupChoice, Outcome, PlanRequest, ReadWal, RecoveryTarget, Refusal, RestorePlan,
    TargetTimeline,
};
use wal_e_core::store::{self, retry::Patience};

use super::timestamp::{offset_date_time, timestamptz};
use crate::error::{Failure, Result, in_words};
use crate::gucs;
use crate::pg::lsn_datum::LsnDatum;
use crate::pg::text::Text;

/// One row: what a restore to the target would need and reach, or why it is impossible.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn wale_restore_plan(
    target_time: Option<TimestampWithTimeZone>,
    target_lsn: Option<LsnDatum>,
    target_name: Option<Text>,
    target_timeline: Option<Text>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(reachable, bool),
            name!(backup_name, Option<String>),
            name!(timelines, Option<Vec<i64>>),
            name!(first_segment, Option<String>),
            name!(last_segment, Option<String>),
            name!(wal_segments, Option<i64>),
            name!(wal_bytes, Option<i64>),
            name!(backup_bytes, Option<i64>),
            name!(consistent_lsn, Option<LsnDatum>),
            name!(reached_lsn, Option<LsnDatum>),
            name!(reached_time, Option<TimestampWithTimeZone>),
            name!(notes, Option<Text>),
            name!(reason, Option<Text>),
            name!(nearest, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    let target = target(target_time, target_lsn, target_name.map(|Text(name)| name))?;
    let timeline = target_timeline.map(|Text(text)| text.parse::<TargetTimeline>());
    let timeline = timeline.transpose().map_err(Failure::from)?;
    let row = match plan(target, timeline)? {
        Answer::Plan(plan) => {
            let count = |number: u64| i64::try_from(number).ok();
            let timelines = plan.timelines.iter().map(|range| i64::from(range.timeline.0));
            (
                true,
                Some(plan.backup.name),
                Some(timelines.collect()),
                Some(plan.first_segment),
                Some(plan.last_segment),
                count(plan.wal_segments),
                count(plan.wal_bytes),
                plan.backup_bytes.and_then(count),
                Some(LsnDatum(plan.consistent_lsn)),
                plan.reached_lsn.map(LsnDatum),
                plan.reached_time.and_then(timestamptz),
                Some(in_words(&plan.notes.join("\n"))).filter(|notes| !notes.is_empty()).map(Text),
                None,
                None,
            )
        }
        Answer::No { reason, nearest } => (
            false,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            Some(Text(in_words(&reason))),
            nearest.as_deref().map(in_words).map(Text),
        ),
    };
    Ok(TableIterator::once(row))
}

enum Answer {
    Plan(Box<RestorePlan>),
    No { reason: String, nearest: Option<String> },
}

fn plan(target: Option<RecoveryTarget>, timeline: Option<TargetTimeline>) -> Result<Answer> {
    let config = gucs::store_config()?;
    super::run(|notices| async move {
        let store = store::open(&config, Patience::question(), notices.clone()).await?;
        let request = PlanRequest {
            backup: BackupChoice::Auto,
            target,
            timeline,
            standby: false,
            read_end: true,
            read_wal: ReadWal::DEFAULT,
        };
        match recovery::plan(store, &request, notices).await {
            Ok(Outcome::Reachable(plan)) => Ok(Answer::Plan(plan)),
            Ok(Outcome::Refused(refusal)) => Ok(refused(&refusal)),
            // No base backup: that is an answer, too.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Answer::No {
                reason: error.message().to_owned(),
                nearest: error.hint().map(str::to_owned),
            }),
            Err(error) => Err(error),
        }
    })
}

fn refused(refusal: &Refusal) -> Answer {
    Answer::No { reason: refusal.explanation(), nearest: refusal.hint() }
}

fn target(
    time: Option<TimestampWithTimeZone>,
    lsn: Option<LsnDatum>,
    name: Option<String>,
) -> Result<Option<RecoveryTarget>> {
    let time = match time {
        None => None,
        Some(time) => Some(offset_date_time(time).ok_or_else(|| {
            Failure::new(
                PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
                "\"target_time\" is out of range",
            )
        })?),
    };
    let mut targets = [
        time.map(|time| RecoveryTarget::Time(time.into())),
        lsn.map(|lsn| RecoveryTarget::Lsn(lsn.0)),
        name.map(RecoveryTarget::Name),
    ]
    .into_iter()
    .flatten();
    let target = targets.next();
    if targets.next().is_some() {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "more than one recovery target was given",
        )
        .with_hint("Give one of \"target_time\", \"target_lsn\" and \"target_name\"."));
    }
    Ok(target)
}
