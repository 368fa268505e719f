//! What stands at the top: whether all is well, and the most important numbers.

use maud::{Markup, html};

use super::{Report, figures, jobs, retention, windows};
use crate::pace::size;
use crate::recovery::Window;
use crate::retention::Action;
use crate::schedule::{Entry, Job};

/// What is said first.
struct Verdict {
    /// Its class, and the sign that stands before it.
    class: &'static str,
    sign: &'static str,
    says: String,
}

pub(super) fn section(report: &Report) -> Markup {
    let verdict = verdict(report);
    html! {
        section id="summary" aria-label="Summary" {
            p .verdict .(verdict.class) {
                span .sign aria-hidden="true" { (verdict.sign) }
                span { (verdict.says) }
            }
            dl .figures { (figures_of(report)) }
        }
    }
}

fn verdict(report: &Report) -> Verdict {
    let bad = |says: String| Verdict { class: "bad", sign: "✗", says };
    let Some((first, newest)) = ends(&report.windows) else {
        return bad("No restore is possible.".to_owned());
    };
    let missing = missing_segments(report);
    let failed = report.checks.iter().flatten().filter(|check| check.ok == Some(false)).count();
    let from = figures::moment(first.from_time);
    let to = figures::moment(windows::end(newest));
    let mut says = match report.windows.len() {
        1 => format!("A restore is possible to any moment from {from} to {to}."),
        several => format!(
            "A restore is possible to moments from {from} to {to}, in {}.",
            windows::stretches(several)
        ),
    };
    if missing > 0 {
        let are = if missing == 1 { "is" } else { "are" };
        says += &format!(
            " WAL is missing: {} {are} not in the archive.",
            figures::counted(missing, "segment")
        );
    }
    if failed > 0 {
        says += &format!(" {} of the server failed.", figures::counted(failed as u64, "check"));
    }
    let jobs = failing_jobs(report);
    for job in &jobs {
        says += &format!(" The last {job} by schedule failed.");
    }
    match missing > 0 || failed > 0 || !jobs.is_empty() {
        true => Verdict { class: "warn", sign: "!", says },
        false => Verdict { class: "good", sign: "✓", says },
    }
}

/// The jobs of which the last run that ended failed.
fn failing_jobs(report: &Report) -> Vec<Job> {
    let last = |job: &Job| {
        let ended = |entry: &&Entry| entry.job == job.as_str() && entry.ok.is_some();
        report.jobs.iter().find(ended).and_then(|entry| entry.ok)
    };
    Job::ALL.into_iter().filter(|job| last(job) == Some(false)).collect()
}

/// The stretch that begins first, and the one that ends last.
fn ends(windows: &[Window]) -> Option<(&Window, &Window)> {
    let first = windows.iter().min_by_key(|window| window.from_time)?;
    let last = windows.iter().max_by_key(|window| windows::end(window))?;
    Some((first, last))
}

/// How many segments that restores need are missing or lost.
fn missing_segments(report: &Report) -> u64 {
    let holes = report.holes.iter().flatten().filter(|hole| hole.status.is_failure());
    holes.map(|hole| hole.segments).fold(0, u64::saturating_add)
}

fn figures_of(report: &Report) -> Markup {
    let ago = |time: time::OffsetDateTime| format!("{} ago", figures::duration(report.now - time));
    let stored = report.backups.iter().filter_map(|backup| backup.compressed_bytes);
    let stored = stored.fold(0, u64::saturating_add);
    let segments: u64 =
        report.timelines.iter().map(|row| row.segments).fold(0, u64::saturating_add);
    let newest = report.backups.last();
    let last_run = report.jobs.iter().find(|entry| entry.ok.is_some());
    html! {
        @if let Some((_, window)) = ends(&report.windows) {
            (figure("Newest moment", &ago(windows::end(window)), &figures::moment(windows::end(window))))
        }
        @if let Some(backup) = newest {
            @let finished = super::backups::finished(backup);
            (figure("Newest base backup", &ago(finished), &figures::moment(finished)))
        }
        div data-figure="backups" data-value=(report.backups.len()) {
            dt { "Base backups" }
            dd { (figures::count(report.backups.len() as u64)) small { (size(stored)) " stored" } }
        }
        div data-figure="segments" data-value=(segments) {
            dt { "WAL" }
            dd { (figures::count(segments)) small {
                @let timelines = figures::counted(report.timelines.len() as u64, "timeline");
                "segments on " (timelines) ", " (figures::count(missing_segments(report))) " missing"
            } }
        }
        @if let Some(planned) = &report.retention {
            @let goes = retention::tally(planned, Action::Delete);
            (figure("Retention would delete", &size(goes.bytes), &figures::counted(goes.objects, "object")))
        }
        @if let Some(entry) = last_run {
            @let when = entry.finished.or(entry.started).map(ago).unwrap_or_default();
            (figure("Last scheduled run", &format!("{} {}", entry.job, jobs::state(entry)), &when))
        }
    }
}

fn figure(name: &str, value: &str, more: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) small { (more) } } } }
}
