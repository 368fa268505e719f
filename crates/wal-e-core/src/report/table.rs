//! Tables.

use maud::{Markup, html};

use super::figures;

/// So many rows of a table are shown.
pub(super) const MOST_ROWS: usize = 100;

/// A table that can be folded. On a narrow page each of its rows becomes a block, in which the
/// cells say what they are ([`cell`]).
pub(super) fn table(caption: &str, columns: &[&str], rows: Markup, left_out: LeftOut) -> Markup {
    html! {
        details open {
            summary { (caption) }
            div .wide {
                table aria-label=(caption) {
                    thead { tr { @for column in columns { th scope="col" { (column) } } } }
                    tbody { (rows) }
                }
            }
            (left_out.line())
        }
    }
}

/// A cell, with the name of its column for a page on which the head of the table has no room.
pub(super) fn cell(column: &str, content: impl maud::Render) -> Markup {
    html! { td data-label=(column) { (content) } }
}

/// As [`cell`], for numbers.
pub(super) fn number(column: &str, content: impl maud::Render) -> Markup {
    html! { td .number data-label=(column) { (content) } }
}

/// As [`cell`], for what needs the whole width of a narrow page.
pub(super) fn long(column: &str, content: impl maud::Render) -> Markup {
    html! { td .long data-label=(column) { (content) } }
}

/// The first cell of a row: what the row is about.
pub(super) fn head(content: impl maud::Render) -> Markup {
    html! { th scope="row" { (content) } }
}

/// How many rows a table does not show.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeftOut {
    rows: usize,
    which: &'static str,
}

impl LeftOut {
    /// Of so many rows in all, those that are `which` are not shown.
    pub(super) fn of(all: usize, which: &'static str) -> Self {
        LeftOut { rows: all.saturating_sub(MOST_ROWS), which }
    }

    fn line(self) -> Markup {
        let rows = figures::counted(self.rows as u64, "row");
        let verb = if self.rows == 1 { "is" } else { "are" };
        html! {
            @if self.rows > 0 {
                p .left-out data-left-out=(self.rows) {
                    (rows) " " (verb) " left out: the " (self.which) ". "
                }
            }
        }
    }
}
