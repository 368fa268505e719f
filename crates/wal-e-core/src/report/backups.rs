//! The base backups: a time line of sizes and durations, and a table.

use maud::{Markup, html};
use time::{Duration, OffsetDateTime};

use super::axis::{Axis, took};
use super::table::{LeftOut, MOST_ROWS, cell, head, number, table};
use super::{Report, figures, frame, marks};
use crate::catalogue::{BackupInfo, BackupKind};
use crate::pace::size;

/// How high the tallest bars are, and where they stand.
const SIZE_HEIGHT: f64 = 110.0;
const DURATION_HEIGHT: f64 = 50.0;
const BASE_LINE: f64 = 130.0;

pub(super) fn section(report: &Report, axis: Option<Axis>) -> Markup {
    let content = match (report.backups.as_slice(), axis) {
        ([], _) | (_, None) => html! { p { "The archive has no base backup." } },
        (backups, Some(axis)) => html! {
            (drawing(backups, axis))
            (rows(report, backups))
        },
    };
    frame::section("backups", "Base backups", content)
}

/// When it was complete, as far as that is known.
pub(super) fn finished(backup: &BackupInfo) -> OffsetDateTime {
    backup.finish_time.unwrap_or(backup.stored_at)
}

fn duration(backup: &BackupInfo) -> Option<Duration> {
    Some(took(backup.start_time?, backup.finish_time?))
}

/// As stored, if that is known.
fn bytes(backup: &BackupInfo) -> Option<u64> {
    backup.compressed_bytes.or(backup.uncompressed_bytes)
}

fn drawing(backups: &[BackupInfo], axis: Axis) -> Markup {
    let largest = backups.iter().filter_map(bytes).max();
    let longest = backups.iter().filter_map(duration).max();
    let places = backups.iter().map(|backup| (axis.place_of(finished(backup)), backup));
    let bars = marks::gathered(places);
    let width = match bars.len() {
        0..=20 => 10,
        21..=60 => 5,
        _ => 2,
    };
    let caption = html! {
        "Stored size of each base backup, upwards, and how long it took, downwards."
    };
    let key = html! {
        (frame::key("full", "full"))
        (frame::key("delta", "delta: outlined"))
        (frame::key("damaged", "damaged: crossed out"))
        (frame::key("permanent", "permanent: a dot above"))
    };
    let description = format!(
        "{} between {} and {}. The table below has the same numbers.",
        figures::counted(backups.len() as u64, "base backup"),
        backups.iter().map(finished).min().map(figures::day).unwrap_or_default(),
        backups.iter().map(finished).max().map(figures::day).unwrap_or_default(),
    );
    let bottom = BASE_LINE + DURATION_HEIGHT + 8.0;
    frame::drawing(
        "Time line of base backups",
        &description,
        216,
        caption,
        Some(key),
        html! {
            line .grid x1="0" x2="100%" y1=(BASE_LINE - SIZE_HEIGHT) y2=(BASE_LINE - SIZE_HEIGHT) {}
            line .grid x1="0" x2="100%" y1=(BASE_LINE + DURATION_HEIGHT) y2=(BASE_LINE + DURATION_HEIGHT) {}
            text x="0" y=(BASE_LINE - SIZE_HEIGHT - 6.0) {
                (largest.map_or_else(|| "size not known".to_owned(), size))
            }
            @for (at, met) in &bars { (bar(*at, width, met, largest, longest)) }
            line .base x1="0" x2="100%" y1=(BASE_LINE) y2=(BASE_LINE) {}
            text x="0" y=(bottom + 6.0) {
                (longest.map_or_else(|| "duration not known".to_owned(), figures::duration))
            }
            (frame::ticks(&axis, bottom + 24.0))
        },
    )
}

/// One mark, for all backups that stand in the same place.
fn bar(
    at: f64,
    width: u32,
    met: &[&BackupInfo],
    largest: Option<u64>,
    longest: Option<Duration>,
) -> Markup {
    let share = |part: Option<f64>, whole: Option<f64>| match (part, whole) {
        (Some(part), Some(whole)) if whole > 0.0 => part / whole,
        _ => 0.0,
    };
    let most_bytes = met.iter().filter_map(|backup| bytes(backup)).max();
    let most_time = met.iter().filter_map(|backup| duration(backup)).max();
    let up = share(most_bytes.map(|it| it as f64), largest.map(|it| it as f64)) * SIZE_HEIGHT;
    let seconds = |time: Duration| time.as_seconds_f64();
    let down = share(most_time.map(seconds), longest.map(seconds)) * DURATION_HEIGHT;
    let (up, down) = (up.max(2.0).round(), down.max(1.0).round());
    let kinds = || met.iter().map(|backup| backup.kind());
    let kind = match kinds().any(|kind| kind == BackupKind::Damaged) {
        true => BackupKind::Damaged,
        false if kinds().any(|kind| kind == BackupKind::Full) => BackupKind::Full,
        false => BackupKind::Delta,
    };
    let left = -(f64::from(width) / 2.0);
    let top = BASE_LINE - up;
    html! {
        svg .mark x=(format!("{at}%")) {
            title { (title(met, most_bytes, most_time)) }
            rect .(kind.as_str()) x=(left) y=(top) width=(width) height=(up) {}
            rect .time x=(left) y=(BASE_LINE) width=(width) height=(down) {}
            @if kind == BackupKind::Damaged {
                path .cross d=(format!("M-5 {}l10 10m0 -10l-10 10", BASE_LINE - 11.0)) {}
            }
            @if met.iter().any(|backup| backup.permanent) {
                circle .permanent cx="0" cy=(top - 5.0) r="3" {}
            }
        }
    }
}

fn title(met: &[&BackupInfo], most_bytes: Option<u64>, most_time: Option<Duration>) -> String {
    let bytes = most_bytes.map_or_else(|| "size not known".to_owned(), size);
    let time = most_time.map_or_else(|| "duration not known".to_owned(), figures::duration);
    match met {
        [backup] => {
            let at = figures::moment(finished(backup));
            format!("{at}, {}: {bytes}, {time}", backup.kind())
        }
        many => {
            let at = |backup: Option<&&BackupInfo>| {
                backup.map(|backup| figures::day(finished(backup))).unwrap_or_default()
            };
            let (first, last) = (at(many.first()), at(many.last()));
            format!(
                "{} from {first} to {last}: at most {bytes}, {time}",
                figures::counted(many.len() as u64, "backup")
            )
        }
    }
}

fn rows(report: &Report, backups: &[BackupInfo]) -> Markup {
    const COLUMNS: [&str; 8] =
        ["Backup", "Type", "Finished (UTC)", "Took", "Size", "Stored", "Permanent", "Host"];
    let left_out = LeftOut::of(backups.len(), "oldest");
    let rows = html! {
        @for backup in backups.iter().rev().take(MOST_ROWS) { (row(report, backup)) }
    };
    table("Base backups, newest first", &COLUMNS, rows, left_out)
}

fn row(report: &Report, backup: &BackupInfo) -> Markup {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| figures::NOTHING.to_owned());
    html! {
        tr data-row="backup" data-backup-name=(backup.name) data-backup-type=(backup.kind())
            data-start-time=[backup.start_time.and_then(figures::rfc3339)]
            data-finish-time=[backup.finish_time.and_then(figures::rfc3339)]
            data-uncompressed-bytes=[backup.uncompressed_bytes]
            data-compressed-bytes=[backup.compressed_bytes]
            data-permanent=(backup.permanent) {
            (head(&backup.name))
            (cell("Type", html! {
                (backup.kind())
                @if let Some(damage) = backup.damage() { ": " (report.said(damage)) }
            }))
            (cell("Finished (UTC)", figures::moment(finished(backup))))
            (number("Took", or_nothing(duration(backup).map(figures::duration))))
            (number("Size", or_nothing(backup.uncompressed_bytes.map(size))))
            (number("Stored", or_nothing(backup.compressed_bytes.map(size))))
            (cell("Permanent", if backup.permanent { "yes" } else { "no" }))
            (cell("Host", or_nothing(backup.hostname.clone())))
        }
    }
}
