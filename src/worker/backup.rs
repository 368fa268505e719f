//! One base backup, step by step, on the worker's main thread.

use std::sync::Arc;
use std::time::Duration;

use pgrx::PgSqlErrorCode;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use wal_e_core::base_backup::{BackupPush, BackupStart, Progress, Taker};
use wal_e_core::notice;
use wal_e_core::owner;
use wal_e_core::store::{self, retry::Patience};

use super::watcher::Watcher;
use crate::backup_slot::{self, Request};
use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::backup_mode::BackupMode;
use crate::pg::server;
use crate::runtime::Runtime;
use crate::server_log;

/// How long the core may take to abort its uploads after a request to stop.
/// Shorter than a waiting backend waits for the worker.
const CLEANUP_TIME: Duration = Duration::from_secs(5);

/// Takes the backup and returns its name. Whatever fails, the server leaves
/// backup mode when this process ends, and no sentinel has been written.
pub fn take(generation: u64, request: &Request) -> Result<String> {
    let config = gucs::store_config()?;
    let options = gucs::backup_options()?;
    let runtime = Runtime::start()?;
    let (notices, queue) = notice::channel();
    let progress = Arc::new(Progress::default());
    let cancel = CancellationToken::new();
    let mut watcher = Watcher {
        publish: {
            let progress = Arc::clone(&progress);
            move || backup_slot::publish(generation, &progress)
        },
        is_unwanted: || backup_slot::is_unwanted(generation),
        queue,
        cancel: cancel.clone(),
        stop_seen: None,
        patience: Duration::ZERO,
    };

    let store = {
        let notices = notices.clone();
        watcher
            .run(&runtime, async move { store::open(&config, Patience::backup(), notices).await })?
    };

    let claimant = server::claimant();
    let hostname = claimant.hostname.clone();
    watcher.run(&runtime, {
        let (store, notices) = (Arc::clone(&store), notices.clone());
        async move { owner::claim(&*store, &claimant, &notices).await }
    })?;

    if backup_slot::is_unwanted(generation) {
        return Err(Failure::canceled());
    }
    let start_time = OffsetDateTime::now_utc();
    let backup_mode = BackupMode::begin(&request.label, request.fast)?;
    let start_lsn = backup_mode.start_lsn();
    let facts = server::facts();
    let start = BackupStart {
        start_lsn,
        timeline: facts.timeline,
        segment_size: facts.segment_size.ok_or_else(|| {
            Failure::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the WAL segment size is invalid")
        })?,
        data_directory: facts.data_directory,
        pg_version: facts.version,
        system_identifier: facts.system_identifier,
        start_time,
        data_checksums: facts.data_checksums,
        permanent: request.permanent,
        hostname,
        taker: Taker::Server,
    };

    let push = watcher
        .run(&runtime, BackupPush::begin(store, start, options, progress, notices, cancel))?;
    backup_slot::set_name(generation, push.name());
    // From here on there may be uploads to abort.
    watcher.patience = CLEANUP_TIME;
    server_log::log(&format!("base backup \"{}\" started at {start_lsn}", push.name()), None);

    let push = watcher.run(&runtime, async move {
        let mut push = push;
        push.push_files().await?;
        Ok(push)
    })?;
    let stop = backup_mode.end()?;
    let stop_lsn = stop.stop_lsn;
    let name = watcher.run(&runtime, push.finish(stop))?;
    (watcher.publish)();
    server_log::log(&format!("base backup \"{name}\" completed at {stop_lsn}"), None);
    Ok(name)
}
