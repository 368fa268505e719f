//! What the sections of a page are made of.

use maud::{Markup, html};

use super::axis::Axis;

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

/// The moments of an axis, written at a height. A narrow page has no room for all of them.
pub(super) fn ticks(axis: &Axis, y: f64) -> Markup {
    let ticks = axis.ticks();
    let is_minor = |index: usize| ticks.len() > 3 && !index.is_multiple_of(2);
    html! {
        @for (index, tick) in ticks.iter().enumerate() {
            text .tick .minor[is_minor(index)] x=(format!("{}%", tick.at)) y=(y)
                text-anchor=(tick.anchor()) { (tick.label) }
        }
    }
}
