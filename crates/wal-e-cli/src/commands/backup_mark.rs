//! `wal-e backup-mark NAME`: whether a deletion may remove a base backup.

use std::sync::Arc;

use wal_e_core::retention;

use super::{open, run_small};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::Report;
use crate::settings::Settings;

pub fn run(
    arguments: &cli::BackupMark,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let permanent = !arguments.impermanent;
    run_small(async {
        let interrupt = Interrupt::listen(report)?;
        let work = async {
            let opened = open(settings, report).await?;
            let marking = retention::mark(&*opened.store, &arguments.name, permanent);
            report.attend(&opened.queue, || None, marking).await
        };
        interrupt.or_cancelled(work).await.map_err(|error| interrupt.failure(error))?;
        let how = if permanent { "permanent" } else { "not permanent any more" };
        report.log(&format!("base backup {} is {how}", arguments.name));
        Ok(())
    })?
}
