//! What of a data directory is not PostgreSQL's, and is left out of base backups.

use std::str::FromStr;

use super::Setting;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::data_directory::OWN_NAMES;

/// Names at the top of the data directory; `*` in one stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclusions(Vec<String>);

impl Exclusions {
    /// Whether the file or directory at `path` below the data directory is left out. Only one
    /// at the top is: what is below it goes with it.
    pub fn cover(&self, path: &str) -> bool {
        !path.contains('/') && self.0.iter().any(|pattern| matches(pattern, path))
    }
}

/// Reads names that are separated by commas, with or without spaces after them.
///
/// # Errors
/// [`ErrorKind::Config`] for what is not a name at the top, or covers a file or directory
/// without which a server does not start.
impl FromStr for Exclusions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names: Vec<&str> =
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        for name in &names {
            let refused = |detail: String| {
                let message = format!("invalid name \"{name}\" in {}", Setting::BackupExclude);
                Err(Error::new(ErrorKind::Config, message).with_detail(detail).with_hint(
                    "Name files and directories at the top of the data directory, separated by commas. A \"*\" in a name stands for any characters.",
                ))
            };
            if name.contains('/') || [".", ".."].contains(name) {
                return refused("It is not a name at the top of the data directory.".to_owned());
            }
            if let Some(own) = OWN_NAMES.iter().find(|own| matches(name, own)) {
                return refused(format!("\"{own}\" belongs to PostgreSQL."));
            }
        }
        Ok(Exclusions(names.into_iter().map(str::to_owned).collect()))
    }
}

/// Whether `name` has the form of `pattern`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let (first, last) = (pieces.next().unwrap_or_default(), pieces.next_back());
    let Some(rest) = name.strip_prefix(first) else { return false };
    let Some(last) = last else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    pieces.all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_compared_whole() {
        for (pattern, name, expected) in [
            ("core", "core", true),
            ("core", "core.1", false),
            ("core.*", "core.1234", true),
            ("core.*", "core", false),
            ("*.sql", "all.sql", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_belongs_to_postgresql_is_refused() {
        for text in ["base", "pg_wal", "a, PG_VERSION", "*", "pg_*", "postgresql.conf", "a/b", ".."]
        {
            let error = text.parse::<Exclusions>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        }
        let exclusions: Exclusions = "core.*, dump.sql,,.snapshot ".parse().unwrap();
        assert!(exclusions.cover("core.7") && exclusions.cover("dump.sql"));
        assert!(exclusions.cover(".snapshot") && !exclusions.cover("base"));
        assert!(!"".parse::<Exclusions>().unwrap().cover(""));
    }

    #[test]
    fn a_pattern_covers_nothing_below_the_top() {
        let exclusions: Exclusions = "*.1, *84, b*f".parse().unwrap();
        assert!(exclusions.cover("messages.1"));
        for path in ["base/5/16384.1", "base/5/16384", "pg_tblspc/16384", "base/5/b.f"] {
            assert!(!exclusions.cover(path), "{path}");
        }
    }
}
