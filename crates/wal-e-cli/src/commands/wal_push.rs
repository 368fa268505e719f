//! `wal-e wal-push PATH`: archives one WAL file, and sends ahead those that come after it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wal_e_core::changed_blocks::KeptMaps;
use wal_e_core::owner::Claimant;
use wal_e_core::postgres::{SegmentSize, WalFileName, WalPageHeader};
use wal_e_core::wal::{self, Archiving, ConfirmedFiles};
use wal_e_core::{Error, ErrorKind, Result};

use super::{open_limited, run_small};
use crate::cli::WalPush;
use crate::interrupt::{Failure, Interrupt};
use crate::report::Report;
use crate::server::data_directory::read_system_identifier;
use crate::settings::Settings;

/// How long the answer about a file waits for those that were sent ahead.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// How long uploads may take to clean up after a signal.
const CLEANUP_TIME: Duration = Duration::from_secs(5);

pub fn run(arguments: &WalPush, settings: &Settings, report: &Arc<Report>) -> Result<(), Failure> {
    let path = &arguments.path;
    let name = wal_file_name(path)?;
    let wal_directory = directory_of(path);
    let confirmed = ConfirmedFiles::new(wal_directory, settings.archive_identity());
    if confirmed.take(&name) {
        report.log(&format!("archived WAL file \"{name}\": an earlier call sent it ahead"));
        return Ok(());
    }
    let claimant = claimant(path);
    let archiving = Archiving {
        wal_directory: wal_directory.to_owned(),
        compression: arguments.compression.resolve(&settings.compression)?,
        uploads: usize::from(arguments.pool_size),
        standby: false,
        // No setting of the server says it. An incremental base backup makes the place for them.
        notes_changed_blocks: KeptMaps::beside(wal_directory).are_wanted(),
    };
    run_small(async {
        let interrupt = Interrupt::listen(report)?;
        let opened = open_limited(arguments.upload_rate_limit, settings, report).await?;
        let pushing = async {
            let opening = wal::open(opened.store, claimant.as_ref(), &archiving, opened.notices);
            let pipeline = interrupt.or_cancelled(opening).await?;
            let pushed = interrupt.or_cancelled(pipeline.push(&name)).await;
            match &pushed {
                Ok(pushed) => {
                    report.log(&pushed.describe(&name));
                    confirmed.note_all(&pipeline.finish(FINISH_TIME).await);
                }
                // Whether they end in time or not, there is nothing more to be done.
                Err(_) => {
                    let _ = tokio::time::timeout(CLEANUP_TIME, pipeline.close()).await;
                }
            }
            pushed.map(drop)
        };
        let pushed = report.attend(&opened.queue, || None, pushing).await;
        pushed.map_err(|error| interrupt.failure(error))
    })?
}

/// The name of the WAL file at `path`, under which it is archived.
fn wal_file_name(path: &Path) -> Result<WalFileName> {
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) => name.parse(),
        None => {
            let message = format!("\"{}\" does not name a WAL file", path.display());
            Err(Error::new(ErrorKind::Config, message))
        }
    }
}

/// The server hands in `pg_wal/NAME` and runs the command in the data directory.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

/// The cluster that the file belongs to, from the data directory around it, or else from
/// the file itself. `None` when neither says.
fn claimant(path: &Path) -> Option<Claimant> {
    let wal_directory = std::path::absolute(directory_of(path)).ok()?;
    let data_directory = wal_directory.parent()?;
    let of_data_directory = read_system_identifier(data_directory).ok();
    let header = header_of_segment(path);
    let of_segment = header.map(|header| header.system_identifier);
    let system_identifier = of_data_directory.or(of_segment)?;
    let size = header.and_then(|header| SegmentSize::new(u64::from(header.segment_bytes)));
    let claimant = Claimant::on_this_host(system_identifier, data_directory.display().to_string())
        .with_segment_size(size);
    Some(match of_data_directory {
        Some(_) => claimant.remembering(data_directory),
        None => claimant,
    })
}

/// The header of a WAL segment, which says its cluster and its size.
fn header_of_segment(path: &Path) -> Option<WalPageHeader> {
    let mut start = [0; WalPageHeader::LENGTH];
    File::open(path).ok()?.read_exact(&mut start).ok()?;
    let header = WalPageHeader::parse(&start)?;
    let sound = header.check(&wal_file_name(path).ok()?, u64::from(header.segment_bytes));
    sound.ok().map(|()| header)
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

    #[test]
    fn the_cluster_is_told_by_its_control_file_or_by_the_segment() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, global) = (dir.path().join("pg_wal"), dir.path().join("global"));
        std::fs::create_dir(&wal).unwrap();
        let path = wal.join("000000010000000000000001");
        assert_eq!(claimant(&path), None);

        let mut segment = [0; WalPageHeader::LENGTH];
        segment[..2].copy_from_slice(&0xD110_u16.to_ne_bytes());
        segment[2..4].copy_from_slice(&2_u16.to_ne_bytes());
        segment[4..8].copy_from_slice(&1_u32.to_ne_bytes());
        segment[8..16].copy_from_slice(&(1_u64 << 24).to_ne_bytes());
        segment[24..32].copy_from_slice(&7_u64.to_ne_bytes());
        segment[32..36].copy_from_slice(&(1_u32 << 24).to_ne_bytes());
        segment[36..40].copy_from_slice(&8192_u32.to_ne_bytes());
        std::fs::write(&path, segment).unwrap();
        let found = claimant(&path).unwrap();
        assert_eq!(found.system_identifier, wal_e_core::postgres::SystemIdentifier(7));
        assert_eq!(found.data_directory, dir.path().display().to_string());

        std::fs::create_dir(&global).unwrap();
        std::fs::write(global.join("pg_control"), 8_u64.to_ne_bytes()).unwrap();
        assert_eq!(
            claimant(&path).unwrap().system_identifier,
            wal_e_core::postgres::SystemIdentifier(8)
        );
    }
}
