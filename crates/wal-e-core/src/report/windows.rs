//! To which moments a restore is possible.

use std::collections::BTreeSet;

use maud::{Markup, html};
use time::OffsetDateTime;

use super::axis::{Axis, CELLS};
use super::marks::Cells;
use super::table::{LeftOut, MOST_ROWS, cell, head, long, table};
use super::{Report, figures, frame};
use crate::postgres::TimelineId;
use crate::recovery::{Window, format_time};

/// So many timelines are drawn.
const MOST_LANES: usize = 12;

const LANE_HEIGHT: usize = 38;

pub(super) fn section(report: &Report, axis: Option<Axis>) -> Markup {
    let content = match (report.windows.as_slice(), axis) {
        ([], _) | (_, None) => html! {
            p .bad { strong { "No restore is possible. " }
                "There is no base backup with all of its WAL." }
        },
        (windows, Some(axis)) => html! {
            (drawing(windows, axis, report.now))
            (rows(report, windows))
        },
    };
    frame::section("window", "Recovery window", content)
}

/// The last moment of a window to which a restore is possible.
pub(super) fn end(window: &Window) -> OffsetDateTime {
    window.to_time.unwrap_or(window.from_time)
}

fn drawing(windows: &[Window], axis: Axis, now: OffsetDateTime) -> Markup {
    let timelines: BTreeSet<TimelineId> = windows.iter().map(|window| window.timeline).collect();
    let left_out = timelines.len().saturating_sub(MOST_LANES);
    let lanes: Vec<TimelineId> = timelines.into_iter().skip(left_out).collect();
    let height = lanes.len() * LANE_HEIGHT + 28;
    let caption = html! {
        "The moments to which a restore is possible, by the timeline that leads there. "
        "Where there is no bar, no restore is possible. The dashed line is the moment of this page."
        @if left_out > 0 { " The oldest " (figures::counted(left_out as u64, "timeline")) " are left out." }
    };
    let description = format!(
        "{} on {}. The table below has the same moments.",
        stretches(windows.len()),
        figures::counted(lanes.len() as u64, "timeline"),
    );
    let now = format!("{}%", axis.place_of(now));
    frame::drawing(
        "Recovery window",
        &description,
        height,
        caption,
        None,
        html! {
            line .now x1=(now) x2=(now) y1="0" y2=(height - 24) {}
            @for (index, timeline) in lanes.iter().enumerate() {
                @let top = index * LANE_HEIGHT;
                text x="0" y=(top + 12) { "timeline " (timeline) }
                svg x="0" y=(top + 18) width="100%" height="14" viewBox=(format!("0 0 {CELLS} 14"))
                    preserveAspectRatio="none" {
                    @if let Some(path) = bar(windows, *timeline, &axis) { path .window d=(path) {} }
                }
                line .grid x1="0" x2="100%" y1=(top + 34) y2=(top + 34) {}
            }
            (frame::ticks(&axis, (lanes.len() * LANE_HEIGHT + 18) as f64))
        },
    )
}

/// The stretches of one timeline.
fn bar(windows: &[Window], timeline: TimelineId, axis: &Axis) -> Option<String> {
    let mut cells = Cells::new();
    for window in windows.iter().filter(|window| window.timeline == timeline) {
        cells.add(axis.place_of(window.from_time), axis.place_of(end(window)), ());
    }
    cells.path((), 0, 14)
}

fn rows(report: &Report, windows: &[Window]) -> Markup {
    const COLUMNS: [&str; 5] =
        ["From (UTC)", "To (UTC)", "Timeline", "Base backup", "Ends because"];
    let rows = html! {
        @for window in windows.iter().rev().take(MOST_ROWS) {
            tr data-row="window" data-timeline=(window.timeline)
                data-from-time=[figures::rfc3339(window.from_time)]
                data-to-time=[window.to_time.and_then(figures::rfc3339)]
                data-from-lsn=(window.from_lsn)
                data-to-lsn=[window.to_lsn]
                data-backup-name=(window.backup_name) {
                (head(html! { span .only-narrow { "from " } (utc(window.from_time)) }))
                (long("To (UTC)", match window.to_time {
                    Some(to) => utc(to),
                    None => "no transaction ended in it".to_owned(),
                }))
                (cell("Timeline", window.timeline.to_string()))
                (long("Base backup", &window.backup_name))
                (long("Ends because", report.said(&window.ends)))
            }
        }
    };
    table(
        "Moments to restore to, newest first",
        &COLUMNS,
        rows,
        LeftOut::of(windows.len(), "oldest"),
    )
}

/// How many stretches of moments there are.
pub(super) fn stretches(number: usize) -> String {
    match number {
        1 => "1 stretch".to_owned(),
        _ => format!("{} stretches", figures::count(number as u64)),
    }
}

/// To the microsecond: a target is no later than this.
fn utc(time: OffsetDateTime) -> String {
    format_time(time).trim_end_matches("+00").to_owned()
}
