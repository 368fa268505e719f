//! `wal-e wal-show`: the timelines of an archive, and what it lacks of them.

use serde::Serialize;
use time::OffsetDateTime;
use wal_e_core::coverage::{self, Archive, TimelineRow, WalEncryption};
use wal_e_core::{Error, Result};

use super::{open_for_question, run_large};
use crate::cli;
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{align, json_rows};

pub fn run(arguments: &cli::WalShow, settings: &Settings, report: &Report) -> Result<()> {
    let rows = run_large(async {
        let opened = open_for_question(settings, report).await?;
        let rows = async {
            let now = OffsetDateTime::now_utc();
            let rows = Archive::of(&opened.store, None, now, &opened.notices).await?.timelines();
            let encryption = coverage::encryption(&*opened.store, &rows).await?;
            Ok::<Vec<_>, Error>(rows.into_iter().zip(encryption).collect())
        };
        report.attend(&opened.queue, || None, rows).await
    })??;
    print_result(&match arguments.json {
        true => json_rows(rows.iter().map(|(row, encryption)| as_json(row, *encryption)))?,
        false => text(&rows),
    })
}

fn text(rows: &[(TimelineRow, WalEncryption)]) -> String {
    let header = [
        "timeline",
        "parent",
        "switch LSN",
        "first segment",
        "last segment",
        "segments",
        "missing",
        "status",
        "encryption",
    ];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|(row, encryption)| {
        vec![
            row.timeline.to_string(),
            or_dash(row.parent_timeline.map(|parent| parent.to_string())),
            or_dash(row.switch_lsn.map(|lsn| lsn.to_string())),
            or_dash(row.first_segment.clone()),
            or_dash(row.last_segment.clone()),
            row.segments.to_string(),
            row.missing.to_string(),
            row.state().to_owned(),
            encryption.to_string(),
        ]
    }));
    align(&table)
}

/// The columns of `wale_wal_show()`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    timeline: u32,
    parent_timeline: Option<u32>,
    switch_lsn: Option<String>,
    first_segment: Option<&'a str>,
    last_segment: Option<&'a str>,
    segments: u64,
    missing: u64,
    status: &'a str,
    encryption: &'a str,
}

fn as_json(row: &TimelineRow, encryption: WalEncryption) -> Row<'_> {
    Row {
        timeline: row.timeline.0,
        parent_timeline: row.parent_timeline.map(|parent| parent.0),
        switch_lsn: row.switch_lsn.map(|lsn| lsn.to_string()),
        first_segment: row.first_segment.as_deref(),
        last_segment: row.last_segment.as_deref(),
        segments: row.segments,
        missing: row.missing,
        status: row.state(),
        encryption: encryption.as_str(),
    }
}
