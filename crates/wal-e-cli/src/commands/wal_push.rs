//! `wal-e wal-push PATH`: one WAL file into the archive.

use std::path::Path;

use wal_e_core::postgres::WalFileName;
use wal_e_core::{Error, ErrorKind, Result, wal};

use super::{open, run_small};
use crate::cli::WalPush;
use crate::report::Report;
use crate::settings::Settings;

pub fn run(arguments: &WalPush, settings: &Settings, report: &Report) -> Result<()> {
    let name = wal_file_name(&arguments.path)?;
    run_small(async {
        let opened = open(settings, report).await?;
        let push = wal::push(opened.store, &name, &arguments.path);
        report.attend(&opened.queue, || None, push).await?;
        Ok(())
    })?
}

/// The name under which a file is archived is its own.
fn wal_file_name(path: &Path) -> Result<WalFileName> {
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) => name.parse(),
        None => {
            let message = format!("\"{}\" does not name a WAL file", path.display());
            Err(Error::new(ErrorKind::Config, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        for path in ["pg_wal/00000002.history", "/data/pg_wal/00000002.history", "00000002.history"]
        {
            assert_eq!(wal_file_name(Path::new(path)).unwrap().as_str(), "00000002.history");
        }
        for path in ["", "/", "..", "pg_wal/x"] {
            assert!(wal_file_name(Path::new(path)).is_err(), "{path}");
        }
    }
}
