//! The page as a whole.

use std::fmt::Write as _;

use aws_smithy_types::base64;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::axis::Axis;
use super::frame::section;
use super::{Report, backups, checks, figures, jobs, retention, summary, wal, windows};

const STYLE: &str = include_str!("style.css");

/// Nothing is loaded, no script runs, and no style but our own counts.
fn policy() -> String {
    let style = base64::encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'")
}

impl Report {
    /// The page: one HTML document that needs nothing else.
    pub fn page(&self) -> String {
        let axis = self.axis();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy());
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
        in_ascii(&page.into_string())
    }

    /// From the first to the last moment of base backups and recovery windows, and up to now.
    fn axis(&self) -> Option<Axis> {
        let backups = self.backups.iter().map(backups::finished);
        let windows = self.windows.iter().flat_map(|it| [it.from_time, windows::end(it)]);
        Axis::of_times(backups.chain(windows).chain([self.now]))
    }
}

/// The page in characters that every encoding has. Control characters belong on no page.
fn in_ascii(page: &str) -> String {
    let mut ascii = String::with_capacity(page.len());
    for character in page.chars() {
        match character {
            '\n' | ' '..='~' => ascii.push(character),
            // Writing to a string cannot fail.
            _ if character.is_control() => ascii.push_str("&#xFFFD;"),
            _ => _ = write!(ascii, "&#x{:X};", u32::from(character)),
        }
    }
    ascii
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
