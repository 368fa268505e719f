//! Columns and numbers for people.

use serde::Serialize;
pub use wal_e_core::columns::align;
use wal_e_core::{Error, ErrorKind, Result};

/// A JSON array, with a line for each of `rows`.
///
/// # Errors
/// [`ErrorKind::Bug`] for what JSON cannot express.
pub fn json_rows(rows: impl Iterator<Item = impl Serialize>) -> Result<String> {
    let row = |row| {
        serde_json::to_string(&row).map_err(|source| {
            Error::new(ErrorKind::Bug, format!("could not write a row as JSON: {source}"))
        })
    };
    let rows = rows.map(row).collect::<Result<Vec<_>>>()?;
    Ok(match rows.is_empty() {
        true => "[]\n".to_owned(),
        false => format!("[\n  {}\n]\n", rows.join(",\n  ")),
    })
}

/// Sizes in the manner of `pg_size_pretty()`: whole numbers up to 10240 of a unit.
pub fn size(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 10 * 1024 {
            return format!("{value} {unit}");
        }
        value = value / 1024 + u64::from(value % 1024 >= 512);
    }
    format!("{value} TB")
}

/// `part` of `whole` in whole percents, never above 100.
pub fn percentage(part: u64, whole: u64) -> String {
    let percents = if whole == 0 { 100 } else { u128::from(part) * 100 / u128::from(whole) };
    format!("{} %", percents.min(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_percentages_are_whole_numbers() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (1_500 << 20, "1500 MB"),
            (20 << 30, "20 GB"),
            (20 << 40, "20 TB"),
            (u64::MAX, "16777216 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(percentage(1, 3), "33 %");
        assert_eq!(percentage(5, 3), "100 %");
        assert_eq!(percentage(0, 0), "100 %");
    }
}
