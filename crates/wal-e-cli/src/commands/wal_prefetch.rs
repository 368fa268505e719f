//! `wal-e wal-prefetch DIR SEGMENT`: fetches WAL ahead of a server that recovers.
//! `wal-fetch` starts it.
//!
//! It must end with 0 or 1: where the postmaster is the first process of a
//! container it inherits this one, and takes any other end of a child that it
//! does not know for a crash of the server (PostgreSQL 15,
//! `src/backend/postmaster/postmaster.c`, `CleanupBackend`).

use std::sync::Arc;

use wal_e_core::catalogue::KeyEnding;
use wal_e_core::postgres::{SegmentSize, WalFileName};
use wal_e_core::store::{self, retry::Patience};
use wal_e_core::wal::{self, FetchOptions, Position, PrefetchDirectory};
use wal_e_core::{Error, Result, notice};

use super::run_small;
use crate::cli::WalPrefetch;
use crate::interrupt::Interrupt;
use crate::recovering_server::{self, ServerProcess};
use crate::report::Report;
use crate::settings::Settings;

pub fn run(arguments: &WalPrefetch, settings: &Settings, report: &Arc<Report>) -> Result<()> {
    let segment: WalFileName = arguments.segment.parse()?;
    let wal_directory = std::path::absolute(&arguments.directory)
        .map_err(|source| Error::file("make an absolute path of", &arguments.directory, &source))?;
    let system_identifier = recovering_server::system_identifier(&wal_directory.join("any"));
    let server = match arguments.server {
        // It has ended already.
        Some(pid) if ServerProcess::of(pid).is_none() => return Ok(()),
        Some(pid) => ServerProcess::of(pid),
        None => None,
    };
    let directory = PrefetchDirectory::new(&wal_directory, &settings.archive_identity());
    if directory.position().is_none() {
        directory.note(&Position {
            segment,
            segment_size: SegmentSize::DEFAULT,
            depth: arguments.pool_size,
            ending: KeyEnding::default(),
        })?;
    }
    run_small(async {
        let interrupt = Interrupt::listen(report)?;
        let (notices, queue) = notice::channel();
        let options = FetchOptions {
            system_identifier,
            likely: KeyEnding::default(),
            segment_size: None,
            gap_patience: None,
            is_final: false,
            guard: None,
            notices: notices.clone(),
            cancel: interrupt.token(),
        };
        let helping = async {
            let opening = store::open(&settings.store, Patience::archiver(), notices);
            let store = interrupt.or_cancelled(opening).await?;
            let is_needed = || server.is_none_or(ServerProcess::runs);
            wal::prefetch_ahead(&directory, store, &options, is_needed).await
        };
        report.attend(&queue, || None, helping).await
    })?
}
