//! What the errors of libraries and the words of servers say, as text for a message.

use std::error::Error as StdError;

/// No more of a text from outside than this goes into a message.
const LONGEST_TEXT: usize = 300;

/// The error itself, what caused it, and so on.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// An error with its causes, without repeating what a cause says again.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    one_line(&joined(error))
}

/// The same, at its full length.
pub(super) fn joined(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let words = cause.to_string();
        if text.contains(&words) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&words);
    }
    text
}

/// The causes of an error of the SDK, whose own words ("dispatch failure") say
/// nothing.
pub(super) fn error_text(error: &(dyn StdError + 'static)) -> String {
    match error.source() {
        Some(cause) => chain(cause),
        None => chain(error),
    }
}

/// Text from outside as it may stand in a message: one line, not too long.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_stays_on_one_short_line() {
        assert_eq!(one_line(" a\n\tb\u{7}c  d "), "a b c d");
        assert_eq!(one_line(&"x".repeat(1000)).len(), LONGEST_TEXT);
    }
}
