//! `wal-e wal-verify`: whether the archive has all WAL that restores need.

use serde::Serialize;
use time::OffsetDateTime;
use wal_e_core::config::Face;
use wal_e_core::coverage::{Archive, Status, WalRange};
use wal_e_core::{Error, ErrorKind, Result};

use super::{open_for_question, run_large};
use crate::cli;
use crate::interrupt::Failure;
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{align, json_rows};

pub fn run(
    arguments: &cli::WalVerify,
    settings: &Settings,
    report: &Report,
) -> Result<(), Failure> {
    let ranges = read(settings, report)?.verify()?;
    print_result(&match arguments.json {
        true => json_rows(ranges.iter().map(as_json))?,
        false => text(&ranges),
    })?;
    let failed = ranges.iter().filter(|range| range.status.is_failure());
    match failed.map(|range| range.segments).fold(0, u64::saturating_add) {
        0 => Ok(()),
        segments => Err(Error::new(ErrorKind::Corrupt, "the archive lacks WAL")
            .with_detail(format!("Segments that are missing: {segments}."))
            .with_hint("wal-e recovery-window shows to which moments a restore is possible.")
            .into()),
    }
}

/// What an archive has, without regard to any server.
fn read(settings: &Settings, report: &Report) -> Result<Archive> {
    run_large(async {
        let opened = open_for_question(settings, report).await?;
        let archive = Archive::of(&opened.store, None, OffsetDateTime::now_utc(), &opened.notices);
        report.attend(&opened.queue, || None, archive).await
    })?
}

/// A row for each range, and what to do about those that are not there.
fn text(ranges: &[WalRange]) -> String {
    let header = ["timeline", "first segment", "last segment", "segments", "status"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(ranges.iter().map(|range| {
        vec![
            range.timeline.to_string(),
            range.first_segment.clone(),
            range.last_segment.clone(),
            range.segments.to_string(),
            range.status.to_string(),
        ]
    }));
    let mut text = align(&table);
    for range in ranges.iter().filter(|range| range.status != Status::Found) {
        if let Some(advice) = &range.advice {
            let advice = Face::Program.speak(advice);
            text.push_str(&format!("{}, {}: {advice}\n", range.first_segment, range.status));
        }
    }
    text
}

/// The columns of `wale_wal_verify()`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    timeline: u32,
    first_segment: &'a str,
    last_segment: &'a str,
    segments: u64,
    status: &'a str,
    advice: Option<String>,
}

fn as_json(range: &WalRange) -> Row<'_> {
    Row {
        timeline: range.timeline.0,
        first_segment: &range.first_segment,
        last_segment: &range.last_segment,
        segments: range.segments,
        status: range.status.as_str(),
        advice: range.advice.as_deref().map(|advice| Face::Program.speak(advice)),
    }
}
