//! `wal-e wal-show`: the timelines of an archive, and what it lacks of them.

use serde::Serialize;
use wal_e_core::Result;
use wal_e_core::coverage::TimelineRow;

use super::wal_verify::read;
use crate::cli;
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{align, json_rows};

pub fn run(arguments: &cli::WalShow, settings: &Settings, report: &Report) -> Result<()> {
    let rows = read(settings, report)?.timelines();
    print_result(&match arguments.json {
        true => json_rows(rows.iter().map(as_json))?,
        false => text(&rows),
    })
}

fn text(rows: &[TimelineRow]) -> String {
    let header = [
        "timeline",
        "parent",
        "switch LSN",
        "first segment",
        "last segment",
        "segments",
        "missing",
        "status",
    ];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| {
        vec![
            row.timeline.to_string(),
            or_dash(row.parent_timeline.map(|parent| parent.to_string())),
            or_dash(row.switch_lsn.map(|lsn| lsn.to_string())),
            or_dash(row.first_segment.clone()),
            or_dash(row.last_segment.clone()),
            row.segments.to_string(),
            row.missing.to_string(),
            row.state().to_owned(),
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
}

fn as_json(row: &TimelineRow) -> Row<'_> {
    Row {
        timeline: row.timeline.0,
        parent_timeline: row.parent_timeline.map(|parent| parent.0),
        switch_lsn: row.switch_lsn.map(|lsn| lsn.to_string()),
        first_segment: row.first_segment.as_deref(),
        last_segment: row.last_segment.as_deref(),
        segments: row.segments,
        missing: row.missing,
        status: row.state(),
    }
}
