//! Each text that a user can see, as one list, and the rules that all of them keep.
//!
//! The texts are read from the sources, so that none is forgotten: what the constructors of
//! errors, notices and rows are given, the help of commands and settings, and, as `text`,
//! every other string that reads like prose. CONTRIBUTING.md says how to print the list.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sources::{Kind, Text, read_file, read_source};
use wal_e_e2e::installation::repository;

mod sources;

/// Words that have a better one.
const WORDS: [(&str, &str); 15] = [
    ("behind", "\"after\" or \"past\""),
    ("whoever", "who it is"),
    ("nobody", "\"no one\", or nothing"),
    ("somebody", "\"someone\", or who it is"),
    ("anybody", "\"anyone\", or who it is"),
    ("is no directory", "\"is not a directory\""),
    ("is no file", "\"is not a file\""),
    ("is no tar", "\"is not a tar\""),
    ("key ending", "\"suffix\""),
    ("in the place of", "\"exists but is not a ...\""),
    ("tells", "\"says\""),
    ("mend", "\"fix\""),
    ("shall", "\"must\" or \"will\""),
    ("mostly", "\"usually\""),
    ("amiss", "\"wrong\""),
];

/// Names that are written like ordinary words.
const NAMES: [&str; 2] = ["Amazon", "Rust"];

/// What is wrong with a text.
fn complaints(text: &Text) -> Vec<String> {
    let mut complaints = Vec::new();
    let said = text.text.trim();
    let first = said.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let is_word = first.chars().skip(1).all(|c| c.is_lowercase());
    let begins = |is_case: fn(char) -> bool| is_word && first.starts_with(is_case);
    match text.kind {
        Kind::Message | Kind::Notice | Kind::Row => {
            if begins(char::is_uppercase) && !NAMES.contains(&first) {
                complaints.push("begins with a capital".to_owned());
            }
            if said.ends_with('.') {
                complaints.push("ends with a full stop".to_owned());
            }
        }
        Kind::Detail | Kind::Hint => {
            let is_name = said[first.len()..].starts_with(['-', '_', '(', '.']);
            if begins(char::is_lowercase) && !is_name {
                complaints.push("does not begin with a capital".to_owned());
            }
            if !said.ends_with(['.', '?', '}']) {
                complaints.push("does not end with a full stop".to_owned());
            }
        }
        Kind::Help | Kind::Text => {}
    }
    let words: Vec<String> = without_placeholders(said)
        .to_lowercase()
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let words = format!(" {} ", words.join(" ")).replace(" behind a proxy ", " ");
    for (word, better) in WORDS {
        if words.contains(&format!(" {word} ")) {
            complaints.push(format!("has \"{word}\": write {better}"));
        }
    }
    complaints
}

/// `{name}` says what stands there in the sources only.
fn without_placeholders(text: &str) -> String {
    let parts = text.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
    parts.collect()
}

/// The texts by kind and file, as far as `wanted` says what to print of each.
fn listing(texts: &[Text], wanted: impl Fn(&Text) -> Option<String>) -> String {
    let mut list: BTreeMap<(Kind, &str), String> = BTreeMap::new();
    for text in texts {
        if let Some(line) = wanted(text) {
            let lines = list.entry((text.kind, &text.file)).or_default();
            let _ = writeln!(lines, "{:>6}  {line}", text.line);
        }
    }
    let mut listing = String::new();
    for ((kind, file), lines) in list {
        let _ = write!(listing, "{kind:?}  {file}\n{lines}");
    }
    listing
}

#[test]
fn texts_keep_the_rules_of_style() {
    let mut texts = Vec::new();
    for root in ["crates/wal-e-core/src/lib.rs", "crates/wal-e-cli/src/main.rs", "src/lib.rs"] {
        read_file(&repository().join(root), &mut texts);
    }
    println!("{}", listing(&texts, |text| Some(text.text.replace('\n', "\n        "))));
    let broken = listing(&texts, |text| {
        let complaints = complaints(text);
        let said = || format!("{}: {}", complaints.join(", "), text.text.replace('\n', " "));
        (!complaints.is_empty()).then(said)
    });
    assert!(broken.is_empty(), "these texts break a rule:\n{broken}");
}

/// The list would be empty if the reader understood nothing, and so would the complaints.
#[test]
fn each_kind_of_text_is_found_and_held_to_its_rules() {
    let source = r#"
        fn f() -> Result<()> {
            if x == "two words" { notices.warning(format!("A notice {}", "of two parts")); }
            let hint = match y { "not this" => "do this.", _ => "Do that, too" };
            report.failed(WAL, url, "It is missing.");
            Err(Error::new(Kind::Io, "Could not open it.").with_detail(format!("the {it} is behind"))
                .with_hint(hint))
        }
        #[cfg(test)]
        mod tests { const NOT_SEEN: &str = "these are words of a test"; }
    "#;
    let mut texts = Vec::new();
    read_source("sample.rs".to_owned(), source, &mut texts);
    let found: Vec<(Kind, &str, usize)> =
        texts.iter().map(|text| (text.kind, text.text.as_str(), complaints(text).len())).collect();
    assert_eq!(
        found,
        [
            (Kind::Text, "two words", 0),
            (Kind::Notice, "A notice {}", 1),
            (Kind::Text, "of two parts", 0),
            (Kind::Hint, "do this.", 1),
            (Kind::Hint, "Do that, too", 1),
            (Kind::Row, "It is missing.", 2),
            (Kind::Message, "Could not open it.", 2),
            (Kind::Detail, "the {it} is behind", 3),
        ]
    );
}
