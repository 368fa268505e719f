//! `wal-e backup-verify NAME|LATEST`: whether a base backup could be restored.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use wal_e_core::verify;
use wal_e_core::verify::{Finding, Verified, VerifyProgress, VerifyRequest};
use wal_e_core::{Error, ErrorKind, Result};

use super::{open, run_large};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::{percentage, size};

pub fn run(
    arguments: &cli::BackupVerify,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let request = VerifyRequest {
        name: arguments.name.clone(),
        concurrency: usize::from(arguments.pool_size),
    };
    let verified = run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let opened = interrupt.or_cancelled(open(settings, report)).await;
        let opened = opened.map_err(|error| interrupt.failure(error))?;
        let progress = Arc::new(VerifyProgress::default());
        let counters = Arc::clone(&progress);
        let verify = async {
            let store = Arc::clone(&opened.store);
            let verified = verify::verify(store, request, counters, interrupt.token()).await?;
            let recording = verified.record(&*opened.store, &opened.notices);
            interrupt.or_cancelled(recording).await?;
            Ok(verified)
        };
        let verified = report.attend(&opened.queue, || describe(&progress), verify).await;
        verified.map_err(|error| interrupt.failure(error))
    })??;
    print_result(&if arguments.json { json(&verified)? } else { text(&verified) })?;
    match verified.failures() {
        0 => Ok(()),
        failures => Err(Error::new(
            ErrorKind::Corrupt,
            format!("base backup \"{}\" is damaged", verified.name),
        )
        .with_detail(format!("Failures: {failures}."))
        .with_hint("Take a new base backup, and find out what happened to this one.")
        .into()),
    }
}

/// A line for each failure and for what could not be checked, and a summary.
fn text(verified: &Verified) -> String {
    let mut text = String::new();
    for finding in &verified.findings {
        let judgement = match finding.ok {
            Some(true) => continue,
            Some(false) => "failed",
            None => "unknown",
        };
        let Finding { check_name, detail, .. } = finding;
        text.push_str(&format!("{judgement}: {check_name}: {detail}\n"));
    }
    let passed: Vec<&Finding> =
        verified.findings.iter().filter(|finding| finding.ok == Some(true)).collect();
    let sizes = passed.iter().filter(|finding| ["tars", "wal"].contains(&finding.check_name));
    let sizes: Vec<&str> = sizes.map(|finding| finding.detail.as_str()).collect();
    let outcome = match verified.failures() {
        0 => "sound",
        _ => "damaged",
    };
    let read = if sizes.is_empty() { String::new() } else { format!(" ({})", sizes.join("; ")) };
    text.push_str(&format!(
        "base backup {} is {outcome}; checks passed: {}, failures: {}{read}\n",
        verified.name,
        passed.len(),
        verified.failures(),
    ));
    text
}

#[derive(Serialize)]
struct Document<'a> {
    backup_name: &'a str,
    ok: bool,
    checks: &'a [Finding],
}

fn json(verified: &Verified) -> Result<String> {
    let document = Document {
        backup_name: &verified.name,
        ok: verified.failures() == 0,
        checks: &verified.findings,
    };
    serde_json::to_string_pretty(&document).map(|json| format!("{json}\n")).map_err(|source| {
        Error::new(ErrorKind::Bug, format!("could not format the findings as JSON: {source}"))
    })
}

fn describe(progress: &VerifyProgress) -> Option<String> {
    let segments = progress.segments_total.load(Relaxed);
    if segments > 0 {
        let read = progress.segments_read.load(Relaxed);
        return Some(format!("read {read} of {segments} WAL segments"));
    }
    let (read, total) = (progress.bytes_read.load(Relaxed), progress.bytes_total.load(Relaxed));
    (total > 0)
        .then(|| format!("read {} of {} ({})", size(read), size(total), percentage(read, total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check_name: &'static str, ok: Option<bool>, detail: &str) -> Finding {
        let object = (ok == Some(false)).then(|| "file:///a/x".to_owned());
        Finding { check_name, object, ok, detail: detail.to_owned() }
    }

    fn verified() -> Verified {
        let findings = vec![
            finding("manifest", None, "not checked: the backup has no manifest"),
            finding("tars", Some(true), "2 tars"),
            finding("wal", Some(false), "object \"file:///a/x\" is damaged"),
        ];
        Verified { name: "base_1".to_owned(), findings }
    }

    #[test]
    fn failures_have_a_line_each_and_then_comes_a_summary() {
        assert_eq!(
            text(&verified()),
            "unknown: manifest: not checked: the backup has no manifest\n\
             failed: wal: object \"file:///a/x\" is damaged\n\
             base backup base_1 is damaged; checks passed: 1, failures: 1 (2 tars)\n"
        );
    }

    #[test]
    fn machines_get_every_row() {
        let json: serde_json::Value = serde_json::from_str(&json(&verified()).unwrap()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["checks"][2]["object"], "file:///a/x");
        assert_eq!(json["checks"][0]["ok"], serde_json::Value::Null);
    }

    #[test]
    fn progress_is_told_once_the_size_is_known() {
        let progress = VerifyProgress::default();
        assert_eq!(describe(&progress), None);
        progress.bytes_total.store(200 << 20, Relaxed);
        progress.bytes_read.store(50 << 20, Relaxed);
        assert_eq!(describe(&progress).as_deref(), Some("read 50 MB of 200 MB (25 %)"));
        progress.segments_total.store(3, Relaxed);
        assert_eq!(describe(&progress).as_deref(), Some("read 0 of 3 WAL segments"));
    }
}
