//! `wal-e delete`: shows what would go, and with `--confirm` deletes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use time::OffsetDateTime;
use wal_e_core::retention::{self, Action, Item, Plan, Survey, Tally};
use wal_e_core::{Error, ErrorKind, Result};

use super::{open, run_large};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{align, size};

pub fn run(
    arguments: &cli::Delete,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc();
    let request = arguments.request(now).map_err(|why| Error::new(ErrorKind::Config, why))?;
    run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let work = async {
            let opened = open(settings, report).await?;
            let survey = Survey::of(&opened.store, now, &opened.notices);
            let survey = report.attend(&opened.queue, || None, survey).await?;
            let plan = Plan::new(&survey, &request)?;
            // Of a large archive it is large.
            drop(survey);
            print_result(&match arguments.json {
                true => json(&plan)?,
                false => text(&plan, arguments.detail),
            })?;
            let tally = plan.deletes();
            if tally.objects == 0 {
                return Ok(());
            }
            if !arguments.confirm {
                report.log(&format!("would delete {}; --confirm deletes", describe(tally)));
                return Ok(());
            }
            let deleted = AtomicU64::new(0);
            let deleting = || {
                let deleted = deleted.load(Ordering::Relaxed);
                Some(format!("deleted {deleted} of {} objects", tally.objects))
            };
            let carry_out = retention::carry_out(&*opened.store, &plan, &deleted, &opened.notices);
            report.attend(&opened.queue, deleting, carry_out).await?;
            report.log(&format!("deleted {}", describe(tally)));
            Ok(())
        };
        interrupt.or_cancelled(work).await.map_err(|error| interrupt.failure(error))
    })?
}

fn describe(tally: Tally) -> String {
    let objects = if tally.objects == 1 { "object" } else { "objects" };
    format!("{} {objects}, {}", tally.objects, size(tally.bytes))
}

/// A row for each group of objects that goes, and with `detail` for those that stay.
fn text(plan: &Plan, detail: bool) -> String {
    let shown = plan.items.iter().filter(|item| detail || item.action == Action::Delete);
    let rows: Vec<Vec<String>> = shown.map(row).collect();
    if rows.is_empty() {
        return "nothing to delete\n".to_owned();
    }
    let header = ["object", "kind", "objects", "stored", "action", "reason"];
    let header = header.map(str::to_owned).to_vec();
    align(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn row(item: &Item) -> Vec<String> {
    vec![
        item.name.clone(),
        item.kind.to_string(),
        item.tally.objects.to_string(),
        size(item.tally.bytes),
        item.action.to_string(),
        item.reason.clone(),
    ]
}

/// The columns of the SQL functions that delete.
#[derive(Debug, Serialize)]
struct Row<'a> {
    object_name: &'a str,
    kind: String,
    objects: u64,
    bytes: u64,
    action: String,
    reason: &'a str,
}

fn json(plan: &Plan) -> Result<String> {
    let row = |item: &'_ Item| -> Result<String> {
        let row = Row {
            object_name: &item.name,
            kind: item.kind.to_string(),
            objects: item.tally.objects,
            bytes: item.tally.bytes,
            action: item.action.to_string(),
            reason: &item.reason,
        };
        serde_json::to_string(&row).map_err(|source| {
            Error::new(ErrorKind::Bug, format!("could not write the plan as JSON: {source}"))
        })
    };
    let rows = plan.items.iter().map(row).collect::<Result<Vec<_>>>()?;
    Ok(match rows.is_empty() {
        true => "[]\n".to_owned(),
        false => format!("[\n  {}\n]\n", rows.join(",\n  ")),
    })
}
