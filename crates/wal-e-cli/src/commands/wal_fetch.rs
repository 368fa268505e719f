//! `wal-e wal-fetch NAME DEST`: one WAL file out of the archive.

use wal_e_core::postgres::WalFileName;
use wal_e_core::{Result, wal};

use super::{open, run_small};
use crate::cli::WalFetch;
use crate::report::Report;
use crate::settings::Settings;

pub fn run(arguments: &WalFetch, settings: &Settings, report: &Report) -> Result<()> {
    let name: WalFileName = arguments.name.parse()?;
    run_small(async {
        let opened = open(settings, report).await?;
        let fetch = wal::fetch(opened.store, &name, &arguments.destination);
        report.attend(&opened.queue, || None, fetch).await?;
        Ok(())
    })?
}
