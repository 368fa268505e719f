//! Columns and numbers for people.

use serde::Serialize;
pub use wal_e_core::columns::align;
pub use wal_e_core::pace::{percentage, size};
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
