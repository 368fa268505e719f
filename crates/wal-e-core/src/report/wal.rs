//! The WAL: which there is of each timeline, and which is missing.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::axis::{Axis, CELLS};
use super::marks::{self, Cells};
use super::table::{LeftOut, MOST_ROWS, cell, head, long, number, table};
use super::{Report, figures, frame};
use crate::coverage::{Status, Stretch, TimelineRow, WalRange};
use crate::postgres::{Lsn, TimelineId};

/// So many timelines are drawn.
const MOST_LANES: usize = 20;

const LANE_HEIGHT: usize = 46;

/// Where the bar of a lane begins and ends.
const BAR: (usize, usize) = (20, 34);

pub(super) fn section(report: &Report) -> Markup {
    let content = html! {
        @if report.timelines.is_empty() {
            p { "The archive has no WAL." }
        } @else {
            (drawing(report))
            (timelines(&report.timelines))
        }
        @match &report.holes {
            None => p { "Which WAL is missing is not known: there is no base backup with all of its WAL." },
            Some(holes) if holes.is_empty() => p .good {
                "All WAL is there from the oldest base backup that can be used up to the newest segment."
            },
            Some(holes) => (missing(report, holes)),
        }
    };
    frame::section("wal", "WAL", content)
}

fn drawing(report: &Report) -> Markup {
    let first = report.stretches.iter().map(|stretch| stretch.from).min();
    let last = report.stretches.iter().map(|stretch| stretch.to).max();
    let (Some(first), Some(last)) = (first, last) else { return html! {} };
    let axis = Axis::new(first.0 as f64, last.0 as f64);
    let left_out = report.timelines.len().saturating_sub(MOST_LANES);
    let lanes = &report.timelines[left_out..];
    let lane_of: BTreeMap<TimelineId, usize> =
        lanes.iter().enumerate().map(|(index, row)| (row.timeline, index)).collect();
    let height = lanes.len() * LANE_HEIGHT + 22;
    let caption = html! {
        "The log of each timeline, from left to right by LSN. A line down shows where a timeline "
        "left another one, a dot where a base backup begins."
        @if left_out > 0 { " The oldest " (figures::counted(left_out as u64, "timeline")) " are left out." }
    };
    let key = html! {
        (frame::key("found", "in the archive"))
        (frame::key("not-kept", "not kept: a thin line"))
        (frame::key("in-flight", "on its way: half as high"))
        (frame::key("missing", "missing: a box"))
        (frame::key("lost", "lost: a filled box"))
    };
    let description = format!(
        "{}; {} in the archive, {} missing. The tables below say which.",
        figures::counted(lanes.len() as u64, "timeline"),
        figures::counted(lanes.iter().map(|row| row.segments).sum(), "segment"),
        figures::count(lanes.iter().map(|row| row.missing).fold(0, u64::saturating_add)),
    );
    frame::drawing(
        "WAL coverage",
        &description,
        height,
        caption,
        Some(key),
        html! {
            @for (index, row) in lanes.iter().enumerate() {
                (branch(row, index, &lane_of, &axis))
                (lane(report, row, index, &axis))
            }
            @for (at, anchor, lsn) in [("0%", "start", first), ("100%", "end", last)] {
                text .tick x=(at) y=(height - 4) text-anchor=(anchor) { (lsn) }
            }
        },
    )
}

/// A line from the timeline that was left.
fn branch(
    row: &TimelineRow,
    index: usize,
    lane_of: &BTreeMap<TimelineId, usize>,
    axis: &Axis,
) -> Markup {
    let parent = row.parent_timeline.and_then(|parent| lane_of.get(&parent));
    let (Some(parent), Some(lsn)) = (parent, row.switch_lsn) else { return html! {} };
    let at = format!("{}%", axis.place(lsn.0 as f64));
    html! {
        line .branch x1=(at) x2=(at) y1=(parent * LANE_HEIGHT + BAR.1)
            y2=(index * LANE_HEIGHT + BAR.1) {
            title { "timeline " (row.timeline) " left its parent at " (lsn) }
        }
    }
}

fn lane(report: &Report, row: &TimelineRow, index: usize, axis: &Axis) -> Markup {
    let top = index * LANE_HEIGHT;
    let mut cells = Cells::new();
    for Stretch { from, to, status, .. } in
        report.stretches.iter().filter(|stretch| stretch.timeline == row.timeline)
    {
        cells.add(axis.place(from.0 as f64), axis.place(to.0 as f64), *status);
    }
    let starts: BTreeSet<Lsn> = report
        .backups
        .iter()
        .filter(|backup| backup.timeline == row.timeline)
        .filter_map(|backup| backup.start_lsn)
        .collect();
    let starts = marks::gathered(starts.iter().map(|lsn| (axis.place(lsn.0 as f64), lsn)));
    let bars = [
        (Status::Found, "found", 3, 11),
        (Status::NotKept, "not-kept", 6, 8),
        (Status::InFlight, "in-flight", 7, 11),
        (Status::Missing, "missing", 0, 14),
        (Status::Lost, "lost", 0, 14),
    ];
    html! {
        text x="0" y=(top + 13) {
            "timeline " (row.timeline) ", " (figures::counted(row.segments, "segment"))
            @if row.missing > 0 { ", " (figures::count(row.missing)) " " (missing_word(row)) }
        }
        svg x="0" y=(top + BAR.0) width="100%" height=(BAR.1 - BAR.0)
            viewBox=(format!("0 0 {CELLS} 14")) preserveAspectRatio="none" {
            @for (status, class, from, to) in bars {
                @if let Some(path) = cells.path(status, from, to) {
                    path .(class) d=(path) { title { (status) } }
                }
            }
        }
        @for (at, met) in &starts {
            circle .start cx=(format!("{at}%")) cy=(top + BAR.1 + 4) r="3" {
                title { (figures::counted(met.len() as u64, "base backup")) }
            }
        }
    }
}

/// `missing` holds all that is not there, whatever became of it.
fn missing_word(row: &TimelineRow) -> &'static str {
    match row.status {
        Status::Found => "missing",
        status => status.as_str(),
    }
}

fn timelines(rows: &[TimelineRow]) -> Markup {
    const COLUMNS: [&str; 7] =
        ["Timeline", "Left", "At LSN", "First segment", "Last segment", "Segments", "Not there"];
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| figures::NOTHING.to_owned());
    let shown = html! {
        @for row in rows.iter().rev().take(MOST_ROWS) {
            tr data-row="timeline" data-timeline=(row.timeline)
                data-parent-timeline=[row.parent_timeline]
                data-switch-lsn=[row.switch_lsn]
                data-first-segment=[row.first_segment.as_deref()]
                data-last-segment=[row.last_segment.as_deref()]
                data-segments=(row.segments) data-missing=(row.missing) data-status=(row.state()) {
                (head(html! { span .only-narrow { "timeline " } (row.timeline) }))
                (cell("Left", or_nothing(row.parent_timeline.map(|parent| format!("timeline {parent}")))))
                (cell("At LSN", or_nothing(row.switch_lsn.map(|lsn| lsn.to_string()))))
                (long("First segment", or_nothing(row.first_segment.clone())))
                (long("Last segment", or_nothing(row.last_segment.clone())))
                (number("Segments", figures::count(row.segments)))
                (number("Not there", match row.missing {
                    0 if row.lacks_history => row.state().to_owned(),
                    0 => "0".to_owned(),
                    missing => format!("{} ({})", figures::count(missing), row.state()),
                }))
            }
        }
    };
    table("Timelines, newest first", &COLUMNS, shown, LeftOut::of(rows.len(), "oldest"))
}

fn missing(report: &Report, holes: &[WalRange]) -> Markup {
    const COLUMNS: [&str; 5] =
        ["First segment", "Last segment", "Segments", "Status", "What to do"];
    // The worst first; else in the order of the log.
    let mut order: Vec<&WalRange> = holes.iter().collect();
    order.sort_by_key(|hole| std::cmp::Reverse(hole.status.is_failure()));
    let rows = html! {
        @for hole in order.iter().take(MOST_ROWS) {
            tr data-row="hole" data-timeline=(hole.timeline)
                data-first-segment=(hole.first_segment) data-last-segment=(hole.last_segment)
                data-segments=(hole.segments) data-status=(hole.status) {
                (head(&hole.first_segment))
                (long("Last segment", &hole.last_segment))
                (number("Segments", figures::count(hole.segments)))
                (cell("Status", hole.status.to_string()))
                (long("What to do", hole.advice.as_deref().map(|advice| report.said(advice)).unwrap_or_default()))
            }
        }
    };
    table("WAL that is not in the archive", &COLUMNS, rows, LeftOut::of(holes.len(), "last"))
}
