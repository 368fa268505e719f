//! `wal-e job-history [--json]`.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use wal_e_core::schedule::{self, Entry};
use wal_e_core::{Error, ErrorKind, Result};

use super::{open_for_question, run_small};
use crate::cli;
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{align, size};

pub fn run(arguments: &cli::JobHistory, settings: &Settings, report: &Report) -> Result<()> {
    let entries = run_small(async {
        let opened = open_for_question(settings, report).await?;
        let history = schedule::history(opened.store.as_ref());
        report.attend(&opened.queue, || None, history).await
    })??;
    print_result(&match arguments.json {
        true => json(&entries)?,
        false => text(&entries),
    })
}

fn text(entries: &[Entry]) -> String {
    let header =
        ["job", "slot (UTC)", "attempt", "host", "started (UTC)", "took", "ok", "bytes", "detail"];
    let rows = entries.iter().map(|entry| {
        vec![
            entry.job.clone(),
            time(entry.slot),
            entry.attempt.to_string(),
            or_dash(Some(entry.host.clone())),
            time(entry.started),
            or_dash(took(entry)),
            match entry.ok {
                None => "-".to_owned(),
                Some(true) => "yes".to_owned(),
                Some(false) => "no".to_owned(),
            },
            or_dash(entry.bytes.map(size)),
            or_dash(entry.detail.clone()),
        ]
    });
    let header = header.map(str::to_owned).to_vec();
    align(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn took(entry: &Entry) -> Option<String> {
    let seconds = (entry.finished? - entry.started?).whole_seconds().max(0);
    Some(format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

fn or_dash(value: Option<String>) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or_else(|| "-".to_owned())
}

fn time(time: Option<OffsetDateTime>) -> String {
    let seconds = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    or_dash(time.and_then(|time| time.to_offset(time::UtcOffset::UTC).format(seconds).ok()))
}

/// The columns of `wale_job_history()`. Times are in RFC 3339.
#[derive(Debug, Serialize)]
struct Row<'a> {
    job: &'a str,
    slot: Option<String>,
    attempt: u32,
    hostname: &'a str,
    started_at: Option<String>,
    finished_at: Option<String>,
    ok: Option<bool>,
    detail: Option<&'a str>,
    bytes: Option<u64>,
}

fn json(entries: &[Entry]) -> Result<String> {
    let time = |time: Option<OffsetDateTime>| {
        time.and_then(|time| time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).ok())
    };
    let row = |entry: &'_ Entry| -> Result<String> {
        let row = Row {
            job: &entry.job,
            slot: time(entry.slot),
            attempt: entry.attempt,
            hostname: &entry.host,
            started_at: time(entry.started),
            finished_at: time(entry.finished),
            ok: entry.ok,
            detail: entry.detail.as_deref(),
            bytes: entry.bytes,
        };
        serde_json::to_string(&row).map_err(|source| {
            Error::new(ErrorKind::Bug, format!("could not write the history as JSON: {source}"))
        })
    };
    let rows = entries.iter().map(row).collect::<Result<Vec<_>>>()?;
    Ok(match rows.is_empty() {
        true => "[]\n".to_owned(),
        false => format!("[\n  {}\n]\n", rows.join(",\n  ")),
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_run_is_shown_with_what_is_known_of_it() {
        let done = Entry {
            job: "backup".to_owned(),
            slot: Some(datetime!(2026-11-29 02:00 UTC)),
            attempt: 1,
            host: "db1".to_owned(),
            started: Some(datetime!(2026-11-29 03:00:01 +1)),
            finished: Some(datetime!(2026-11-29 03:01:06 UTC)),
            ok: Some(true),
            detail: Some("took it".to_owned()),
            bytes: Some(5 << 20),
        };
        let running = Entry { finished: None, ok: None, detail: None, bytes: None, ..done.clone() };
        let shown = text(&[running.clone(), done.clone()]);
        let lines: Vec<Vec<&str>> =
            shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][7..], ["-", "-", "-", "-"], "{shown}");
        assert!(shown.contains("1:01:05") && shown.contains("took it"), "{shown}");
        let rows: serde_json::Value =
            serde_json::from_str(&json(&[running, done]).unwrap()).unwrap();
        assert_eq!(rows[0]["finished_at"], serde_json::Value::Null);
        assert_eq!(rows[1]["slot"], "2026-11-29T02:00:00Z");
        assert_eq!(rows[1]["bytes"], 5 << 20);
        assert_eq!(json(&[]).unwrap(), "[]\n");
    }
}
