//! The page as a whole, and what its sections are made of.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::axis::Axis;
use super::{Report, backups, checks, figures, jobs, retention, summary, wal, windows};

const STYLE: &str = include_str!("style.css");

/// Nothing is loaded, and no script runs.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

impl Report {
    /// The page: one HTML document that needs nothing else.
    pub fn page(&self) -> String {
        let axis = self.axis();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="referrer" content="no-referrer";
                    title { "wal_e: " (self.prefix) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { "Archive report" }
                        p .prefix { (self.prefix) }
                        p .when { "As of " time datetime=[figures::rfc3339(self.now)] {
                            (figures::moment(self.now)) " UTC" } }
                    }
                    main {
                        (summary::section(self))
                        (windows::section(self, axis))
                        (backups::section(self, axis))
                        (wal::section(self))
                        (retention::section(self))
                        (jobs::section(self))
                        (checks::section(self))
                        (warnings(self))
                    }
                    footer {
                        p { "Made by wal_e " (env!("CARGO_PKG_VERSION")) " from the archive"
                            @if self.checks.is_some() { " and its server" } ". All times are UTC." }
                    }
                }
            }
        };
        // No control character belongs on a page, and PostgreSQL's text holds no NUL.
        let is_stray = |c: char| c.is_control() && c != '\n';
        page.into_string().replace(is_stray, "\u{FFFD}")
    }

    /// From the first to the last moment of base backups and recovery windows, and up to now.
    fn axis(&self) -> Option<Axis> {
        let backups = self.backups.iter().map(backups::finished);
        let windows = self.windows.iter().flat_map(|it| [it.from_time, windows::end(it)]);
        Axis::of_times(backups.chain(windows).chain([self.now]))
    }
}

fn warnings(report: &Report) -> Markup {
    if report.warnings.is_empty() {
        return html! {};
    }
    let content = html! {
        ul { @for warning in report.warnings.iter().take(MOST_WARNINGS) { li { (report.said(warning)) } } }
        @if report.warnings.len() > MOST_WARNINGS {
            p .left-out { (report.warnings.len() - MOST_WARNINGS) " more are left out." }
        }
    };
    section("warnings", "Warnings", content)
}

const MOST_WARNINGS: usize = 50;

/// A section with its heading.
pub(super) fn section(id: &str, heading: &str, content: Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby=(format!("{id}-heading")) {
            h2 id=(format!("{id}-heading")) { (heading) }
            (content)
        }
    }
}

/// A drawing of a height in pixels, as wide as the page. `description` is for those who do not
/// see it.
pub(super) fn drawing(
    title: &str,
    description: &str,
    height: usize,
    caption: Markup,
    key: Option<Markup>,
    content: Markup,
) -> Markup {
    html! {
        figure {
            svg .drawing role="img" aria-label=(format!("{title}: {description}")) width="100%" height=(height) {
                (content)
            }
            @if let Some(key) = key { ul .key aria-hidden="true" { (key) } }
            figcaption { (caption) }
        }
    }
}

/// What a mark of a drawing means.
pub(super) fn key(class: &str, meaning: &str) -> Markup {
    html! {
        li {
            svg .key width="16" height="16" viewBox="0 0 16 16" { (sample(class)) }
            (meaning)
        }
    }
}

fn sample(class: &str) -> Markup {
    let square = |x: i32, y: i32, width: i32, height: i32| {
        html! { rect .(class) x=(x) y=(y) width=(width) height=(height) {} }
    };
    match class {
        "permanent" | "done" | "open" => html! { circle .(class) cx="8" cy="8" r="4" {} },
        "failed" => html! { path .failed d="M3 3l10 10m0 -10l-10 10" {} },
        "damaged" => html! { (square(4, 1, 8, 14)) path .cross d="M3 3l10 10m0 -10l-10 10" {} },
        "full" | "delta" => square(4, 1, 8, 14),
        "found" => square(0, 4, 16, 8),
        "not-kept" => square(0, 7, 16, 2),
        "in-flight" => square(0, 8, 16, 4),
        _ => square(2, 1, 12, 14),
    }
}

/// The moments of an axis, written at a height.
pub(super) fn ticks(axis: &Axis, y: f64) -> Markup {
    html! {
        @for tick in axis.ticks() {
            text .tick x=(format!("{}%", tick.at)) y=(y) text-anchor=(tick.anchor()) { (tick.label) }
        }
    }
}
