//! `wal-e wal-repair [--json] DIR`: archives segments again that the archive lacks.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use time::OffsetDateTime;
use wal_e_core::coverage::{self, Archive, OwnWal, Repaired};
use wal_e_core::owner::Claimant;
use wal_e_core::postgres::ControlFile;
use wal_e_core::postgres::data_directory::CONTROL_FILE;
use wal_e_core::wal::{self, Archiving};
use wal_e_core::{Error, ErrorKind, Result};

use super::{open_limited, run_large};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::settings::Settings;
use crate::table::json_rows;

pub fn run(
    arguments: &cli::WalRepair,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let directory = std::path::absolute(&arguments.directory)
        .map_err(|source| Error::file("open directory", &arguments.directory, &source))?;
    let control = control_file(&directory)?;
    let size = control.segment_size.ok_or_else(|| {
        let file = directory.join(CONTROL_FILE);
        let message = format!("\"{}\" does not say how large WAL segments are", file.display());
        Error::new(ErrorKind::Corrupt, message)
    })?;
    let claimant =
        Claimant::on_this_host(control.system_identifier, directory.display().to_string())
            .with_segment_size(Some(size))
            .remembering(&directory);
    let archiving = Archiving {
        wal_directory: directory.join("pg_wal"),
        compression: arguments.compression.resolve(&settings.compression)?,
        uploads: 1,
        standby: false,
        notes_changed_blocks: false,
    };
    let own = OwnWal::read(&archiving.wal_directory, size, control.system_identifier, None, true)?;
    let repaired = run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let opened = open_limited(arguments.upload_rate_limit, settings, report).await?;
        let now = OffsetDateTime::now_utc();
        let repairing = async {
            let archive = Archive::of(&opened.store, Some(own), now, &opened.notices);
            let archive = interrupt.or_cancelled(archive).await?;
            if !archive.can_be_repaired() {
                return Ok(Vec::new());
            }
            let store = Arc::clone(&opened.store);
            let notices = opened.notices.clone();
            let token = interrupt.token();
            let opening = wal::open_beside_archiver(store, &claimant, &archiving, token, notices);
            let pusher = interrupt.or_cancelled(opening).await?;
            coverage::repair(&archive, &pusher).await
        };
        let repaired = report.attend(&opened.queue, || None, repairing).await;
        repaired.map_err(|error| interrupt.failure(error))
    })??;
    Ok(print_result(&match arguments.json {
        true => json_rows(repaired.iter().map(as_json))?,
        false => text(&repaired),
    })?)
}

fn control_file(directory: &Path) -> Result<ControlFile> {
    let file = directory.join(CONTROL_FILE);
    let bytes = std::fs::read(&file).map_err(|source| Error::file("read file", &file, &source))?;
    ControlFile::parse(&bytes)
}

fn text(repaired: &[Repaired]) -> String {
    match repaired {
        [] => "nothing to archive again\n".to_owned(),
        repaired => {
            repaired.iter().map(|done| format!("{} {}\n", done.segment, done.as_str())).collect()
        }
    }
}

/// The columns of `wale_wal_repair()`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    segment: &'a str,
    outcome: &'a str,
}

fn as_json(repaired: &Repaired) -> Row<'_> {
    Row { segment: &repaired.segment, outcome: repaired.as_str() }
}
