//! `wal-e recovery-window`: to which moments a restore is possible.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wal_e_core::Result;
use wal_e_core::config::Face;
use wal_e_core::coverage;
use wal_e_core::recovery::{Window, format_time};

use super::{open_for_question, run_large};
use crate::cli;
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{align, json_rows};

pub fn run(arguments: &cli::RecoveryWindow, settings: &Settings, report: &Report) -> Result<()> {
    let windows = run_large(async {
        let opened = open_for_question(settings, report).await?;
        let windows = coverage::windows(&opened.store, &opened.notices);
        report.attend(&opened.queue, || None, windows).await
    })??;
    print_result(&match arguments.json {
        true => json_rows(windows.iter().map(as_json))?,
        false => text(&windows),
    })
}

fn text(windows: &[Window]) -> String {
    if windows.is_empty() {
        return "no restore is possible\n".to_owned();
    }
    let header = ["timeline", "from", "to", "from LSN", "to LSN", "backup name", "ends because"];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(windows.iter().map(|window| {
        vec![
            window.timeline.to_string(),
            format_time(window.from_time),
            or_dash(window.to_time.map(format_time)),
            window.from_lsn.to_string(),
            or_dash(window.to_lsn.map(|lsn| lsn.to_string())),
            window.backup_name.clone(),
            Face::Program.speak(&window.ends),
        ]
    }));
    align(&table)
}

/// The columns of `wale_recovery_window()`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    timeline: u32,
    from_time: Option<String>,
    to_time: Option<String>,
    from_lsn: String,
    to_lsn: Option<String>,
    backup_name: &'a str,
    ends_because: String,
}

fn as_json(window: &Window) -> Row<'_> {
    let time = |time: OffsetDateTime| time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).ok();
    Row {
        timeline: window.timeline.0,
        from_time: time(window.from_time),
        to_time: window.to_time.and_then(time),
        from_lsn: window.from_lsn.to_string(),
        to_lsn: window.to_lsn.map(|lsn| lsn.to_string()),
        backup_name: &window.backup_name,
        ends_because: Face::Program.speak(&window.ends),
    }
}
