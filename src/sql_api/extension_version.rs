//! The SQL functions of a database and the library of the server may be of two versions: a
//! package is installed, a server restarted and an extension updated one after the other.

use std::cmp::Ordering;

use pgrx::PgSqlErrorCode;
use pgrx::spi::Spi;
use wal_e_core::check::Check;

use crate::error::{Failure, Result};

/// The version of this library.
const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// Whether they are of one version.
pub(super) fn check() -> Result<Check> {
    const NAME: &str = "extension";
    // The search path is the caller's: an operator without a schema could be anybody's.
    let query = "SELECT extversion FROM pg_catalog.pg_extension \
                 WHERE extname OPERATOR(pg_catalog.=) 'wal_e'";
    // Read only, so that it works on a standby, too.
    let installed =
        Spi::connect(|client| client.select(query, Some(1), &[])?.first().get_one::<String>());
    let installed = installed.map_err(|error| {
        let message = format!("the version of the extension could not be read: {error}");
        Failure::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message)
    })?;
    let Some(installed) = installed else {
        return Ok(Check::not_checked(NAME, "this function is not of the extension"));
    };
    let both = format!("the extension has version {installed}, the library {LIBRARY}");
    Ok(match numbers(&installed).cmp(&numbers(LIBRARY)) {
        Ordering::Equal => Check::passed(NAME, installed),
        Ordering::Less => {
            Check::failed(NAME, both, "Say ALTER EXTENSION wal_e UPDATE in this database.")
        }
        Ordering::Greater => Check::failed(
            NAME,
            both,
            format!(
                "Restart the server, so that it loads the library that is installed. If that does not help, install wal_e {installed}."
            ),
        ),
    })
}

/// The numbers of a version. What is no number counts as 0.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}
