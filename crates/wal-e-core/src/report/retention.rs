//! What retention would do.

use maud::{Markup, html};

use super::table::{LeftOut, MOST_ROWS, cell, head, long, number, table};
use super::{Report, Retention, figures, frame};
use crate::pace::size;
use crate::retention::{Action, Item, Policy, Tally};

pub(super) fn section(report: &Report) -> Markup {
    let Some(retention) = &report.retention else { return html! {} };
    let (deleted, kept) = (tally(retention, Action::Delete), tally(retention, Action::Keep));
    let content = html! {
        p { "With these rules: " strong { (rules(&retention.policy)) } "." }
        dl .figures data-row="retention"
            data-deleted-objects=(deleted.objects) data-deleted-bytes=(deleted.bytes)
            data-kept-objects=(kept.objects) data-kept-bytes=(kept.bytes) {
            (side("Would be deleted", deleted))
            (side("Stays", kept))
        }
        (rows(report, &retention.items))
    };
    frame::section("retention", "Retention", content)
}

fn side(name: &str, tally: Tally) -> Markup {
    html! {
        div { dt { (name) } dd { (size(tally.bytes)) small { (figures::counted(tally.objects, "object")) } } }
    }
}

pub(super) fn tally(retention: &Retention, action: Action) -> Tally {
    let with = retention.items.iter().filter(|item| item.action == action);
    with.fold(Tally::default(), |sum, item| Tally {
        objects: sum.objects.saturating_add(item.tally.objects),
        bytes: sum.bytes.saturating_add(item.tally.bytes),
    })
}

/// The rules in words; they add up.
fn rules(policy: &Policy) -> String {
    let full = (policy.full_backups > 0)
        .then(|| figures::counted(policy.full_backups.into(), "full backup"));
    let window =
        policy.window.map(|window| format!("every moment of {}", figures::duration(window)));
    let calendar = (!policy.calendar.is_empty()).then(|| policy.calendar.to_string());
    full.into_iter().chain(window).chain(calendar).collect::<Vec<_>>().join("; ")
}

fn rows(report: &Report, items: &[Item]) -> Markup {
    const COLUMNS: [&str; 6] = ["Object", "Kind", "Objects", "Stored", "Action", "Reason"];
    // What goes is what a reader looks for.
    let mut order: Vec<&Item> = items.iter().collect();
    order.sort_by_key(|item| item.action == Action::Keep);
    let rows = html! {
        @for item in order.iter().take(MOST_ROWS) {
            tr .goes[item.action == Action::Delete] data-row="item"
                data-object-name=(item.name) data-kind=(item.kind)
                data-objects=(item.tally.objects) data-bytes=(item.tally.bytes)
                data-action=(item.action) {
                (head(&item.name))
                (cell("Kind", item.kind.to_string()))
                (number("Objects", figures::count(item.tally.objects)))
                (number("Stored", size(item.tally.bytes)))
                (cell("Action", item.action.to_string()))
                (long("Reason", report.said(&item.reason)))
            }
        }
    };
    table("What is deleted, then what stays", &COLUMNS, rows, LeftOut::of(items.len(), "last"))
}
