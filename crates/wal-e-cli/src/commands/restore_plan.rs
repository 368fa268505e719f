//! `wal-e restore-plan [NAME|LATEST|AUTO]`: what a restore would need and reach, or
//! why it is impossible; and the same question before `backup-fetch` writes anything.

use std::sync::Arc;

use time::OffsetDateTime;
use wal_e_core::Result;
use wal_e_core::recovery::{self, BackupChoice, Outcome, PlanRequest, ReadWal, RestorePlan};

use self::json::{plan_as_json, refusal_as_json};
use self::text::rows;
use super::{Opened, archiving, open_for_question, run_large};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::align;

mod before_fetch;
mod json;
mod text;

pub use before_fetch::{Planned, before_fetch};

pub fn run(
    arguments: &cli::RestorePlan,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let request = PlanRequest {
        backup: BackupChoice::from(arguments.name.as_str()),
        target: arguments.target.target(),
        timeline: arguments.target.recovery_target_timeline,
        standby: false,
        read_end: true,
        read_wal: arguments.target.read_wal.unwrap_or(ReadWal::DEFAULT),
    };
    let outcome = run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let planned = interrupt.or_cancelled(async {
            let opened = open_for_question(settings, report).await?;
            plan(&opened, &request, report).await
        });
        planned.await.map_err(|error| interrupt.failure(error))
    })??;
    let now = OffsetDateTime::now_utc();
    let archiving = |plan: &RestorePlan| archiving::decide(None, plan.newest_wal, now);
    if arguments.json {
        let mut text = match &outcome {
            Outcome::Reachable(plan) => plan_as_json(plan, &archiving(plan)),
            Outcome::Refused(refusal) => refusal_as_json(refusal),
        }
        .to_string();
        text.push('\n');
        print_result(&text)?;
    }
    let plan = outcome.into_plan()?;
    if !arguments.json {
        print_result(&align(&rows(&plan, &archiving(&plan))))?;
    }
    Ok(())
}

async fn plan(opened: &Opened, request: &PlanRequest, report: &Report) -> Result<Outcome> {
    let planning = recovery::plan(Arc::clone(&opened.store), request, opened.notices.clone());
    report.attend(&opened.queue, || None, planning).await
}

#[cfg(test)]
mod tests;
