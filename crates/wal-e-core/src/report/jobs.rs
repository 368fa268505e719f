//! What was done by schedule.

use maud::{Markup, html};

use super::axis::{Axis, took};
use super::table::{LeftOut, MOST_ROWS, cell, head, long, number, table};
use super::{Report, figures, frame, marks};
use crate::pace::size;
use crate::schedule::{Entry, Job};

const LANE_HEIGHT: usize = 40;

pub(super) fn section(report: &Report) -> Markup {
    let content = match report.jobs.as_slice() {
        [] => html! { p { "Nothing was done by schedule." } },
        jobs => html! {
            (drawing(jobs))
            (rows(report, jobs))
        },
    };
    frame::section("jobs", "Scheduled runs", content)
}

/// When it was to begin, or did.
fn at(entry: &Entry) -> Option<time::OffsetDateTime> {
    entry.started.or(entry.slot)
}

/// How a run ended.
pub(super) fn state(entry: &Entry) -> &'static str {
    match entry.ok {
        Some(true) => "done",
        Some(false) => "failed",
        None => "no end yet",
    }
}

fn drawing(jobs: &[Entry]) -> Markup {
    let Some(axis) = Axis::of_times(jobs.iter().filter_map(at)) else { return html! {} };
    let lanes: Vec<&str> = Job::ALL
        .iter()
        .map(|job| job.as_str())
        .filter(|job| jobs.iter().any(|entry| entry.job == *job))
        .collect();
    let height = lanes.len() * LANE_HEIGHT + 24;
    let caption = html! { "Runs by schedule, by when they began." };
    let key = html! {
        (frame::key("done", "done: a dot"))
        (frame::key("failed", "failed: a cross"))
        (frame::key("open", "no end yet: a ring"))
    };
    let failed = jobs.iter().filter(|entry| entry.ok == Some(false)).count() as u64;
    let description = format!(
        "{}, of which {} failed. The table below has each of them.",
        figures::counted(jobs.len() as u64, "run"),
        figures::count(failed)
    );
    frame::drawing(
        "Scheduled runs",
        &description,
        height,
        caption,
        Some(key),
        html! {
            @for (index, job) in lanes.iter().enumerate() {
                @let top = index * LANE_HEIGHT;
                @let line = top + 26;
                @let runs = jobs.iter().filter(|entry| entry.job == *job);
                @let places = runs.filter_map(|entry| Some((axis.place_of(at(entry)?), entry)));
                text x="0" y=(top + 13) { (job) }
                line .grid x1="0" x2="100%" y1=(line) y2=(line) {}
                @for (place, met) in marks::gathered(places) { (mark(place, line, &met)) }
            }
            (frame::ticks(&axis, (lanes.len() * LANE_HEIGHT + 16) as f64))
        },
    )
}

/// One mark, for all runs that stand in the same place: the worst of them.
fn mark(place: f64, line: usize, met: &[&Entry]) -> Markup {
    let worst = met.iter().find(|entry| entry.ok == Some(false));
    let worst = worst.or_else(|| met.iter().find(|entry| entry.ok.is_none())).or(met.first());
    let Some(entry) = worst else { return html! {} };
    let when = at(entry).map(figures::moment).unwrap_or_default();
    html! {
        svg .mark x=(format!("{place}%")) y=(line) {
            title {
                (when) ", " (state(entry))
                @if met.len() > 1 { ", and " (met.len() - 1) " more" }
            }
            @match entry.ok {
                Some(true) => circle .done r="4" {},
                Some(false) => path .failed d="M-5 -5l10 10m0 -10l-10 10" {},
                None => circle .open r="4" {},
            }
        }
    }
}

fn rows(report: &Report, jobs: &[Entry]) -> Markup {
    const COLUMNS: [&str; 7] = ["Due (UTC)", "Job", "Host", "Took", "Result", "Bytes", "Detail"];
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| figures::NOTHING.to_owned());
    let time = |entry: &Entry| Some(took(entry.started?, entry.finished?));
    let rows = html! {
        @for entry in jobs.iter().take(MOST_ROWS) {
            tr .failed[entry.ok == Some(false)] data-row="job" data-job=(entry.job)
                data-slot=[entry.slot.and_then(figures::rfc3339)]
                data-attempt=(entry.attempt) data-hostname=(entry.host)
                data-started-at=[entry.started.and_then(figures::rfc3339)]
                data-finished-at=[entry.finished.and_then(figures::rfc3339)]
                data-ok=[entry.ok] data-bytes=[entry.bytes] {
                (head(or_nothing(entry.slot.map(figures::moment))))
                (cell("Job", html! {
                    (entry.job) @if entry.attempt > 1 { ", attempt " (entry.attempt) }
                }))
                (cell("Host", &entry.host))
                (number("Took", or_nothing(time(entry).map(figures::duration))))
                (cell("Result", state(entry)))
                (number("Bytes", or_nothing(entry.bytes.map(size))))
                (long("Detail", or_nothing(entry.detail.as_deref().map(|detail| report.said(detail)))))
            }
        }
    };
    table("Runs, newest first", &COLUMNS, rows, LeftOut::of(jobs.len(), "oldest"))
}
