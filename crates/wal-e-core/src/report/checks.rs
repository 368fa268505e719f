//! What a server says of its set-up.

use maud::{Markup, html};

use super::table::{LeftOut, cell, head, long, table};
use super::{Report, frame};

pub(super) fn section(report: &Report) -> Markup {
    let Some(checks) = &report.checks else { return html! {} };
    const COLUMNS: [&str; 4] = ["Check", "Result", "Found", "What to do"];
    let rows = html! {
        @for check in checks {
            tr .failed[check.ok == Some(false)] data-row="check" data-check-name=(check.name)
                data-ok=[check.ok] {
                (head(check.name))
                (cell("Result", match check.ok {
                    Some(true) => "✓ passed",
                    Some(false) => "✗ failed",
                    None => "– open",
                }))
                (long("Found", report.said(&check.detail)))
                (long("What to do", check.hint.as_deref().map(|hint| report.said(hint)).unwrap_or_default()))
            }
        }
    };
    let content = table("Checks of the server", &COLUMNS, rows, LeftOut::of(0, ""));
    frame::section("checks", "The server", content)
}
