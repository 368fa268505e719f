//! One base backup, step by step, on the worker's main thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use wal_e_core::base_backup::{BackupPush, BackupStart, Progress, Taker};
use wal_e_core::notice::{self, NoticeQueue};
use wal_e_core::store::{self, retry::Patience};

use super::session;
use crate::backup_slot::{self, Request};
use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::{interrupts, server};
use crate::runtime::{Runtime, Watch};
use crate::server_log;

/// How long the core may take to abort its uploads after a request to stop.
/// Shorter than a waiting backend waits for the worker.
const CLEANUP_TIME: Duration = Duration::from_secs(5);

/// Takes the backup and returns its name. Whatever fails, the server leaves
/// backup mode when this process ends, and no sentinel has been written.
pub fn take(request: &Request) -> Result<String> {
    let config = gucs::store_config()?;
    let options = gucs::backup_options()?;
    let runtime = Runtime::start()?;
    let (notices, queue) = notice::channel();
    let progress = Arc::new(Progress::default());
    let cancel = CancellationToken::new();
    let mut watcher = Watcher {
        progress: Arc::clone(&progress),
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

    session::prepare()?;
    if backup_slot::is_unwanted() {
        return Err(Failure::canceled());
    }
    let start_time = OffsetDateTime::now_utc();
    let start_lsn = session::backup_start(&request.label, request.fast)?;
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
        hostname: hostname(),
        taker: Taker::Server,
    };

    let push = watcher
        .run(&runtime, BackupPush::begin(store, start, options, progress, notices, cancel))?;
    backup_slot::set_name(push.name());
    // From here on there may be uploads to abort.
    watcher.patience = CLEANUP_TIME;
    server_log::log(&format!("base backup \"{}\" started at {start_lsn}", push.name()), None);

    let push = watcher.run(&runtime, async move {
        let mut push = push;
        push.push_files().await?;
        Ok(push)
    })?;
    let stop = session::backup_stop()?;
    let stop_lsn = stop.stop_lsn;
    let name = watcher.run(&runtime, push.finish(stop))?;
    backup_slot::publish(&watcher.progress);
    server_log::log(&format!("base backup \"{name}\" completed at {stop_lsn}"), None);
    Ok(name)
}

/// What the main thread does while the core works.
struct Watcher {
    progress: Arc<Progress>,
    queue: NoticeQueue,
    cancel: CancellationToken,
    stop_seen: Option<Instant>,
    /// How long the work may go on after a request to stop.
    patience: Duration,
}

impl Watcher {
    fn run<T: Send + 'static>(
        &mut self,
        runtime: &Runtime,
        work: impl Future<Output = wal_e_core::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let result = runtime.run(work, || self.look_around());
        server_log::emit(&self.queue);
        result
    }

    fn look_around(&mut self) -> Watch {
        server_log::emit(&self.queue);
        backup_slot::publish(&self.progress);
        let stop = interrupts::stop_requested()
            || backup_slot::is_unwanted()
            || !interrupts::postmaster_is_alive();
        if !stop && self.stop_seen.is_none() {
            return match interrupts::check() {
                Ok(()) => Watch::Continue,
                // A request that came just now, after the look above.
                Err(_) => {
                    self.stop_seen = Some(Instant::now());
                    self.cancel.cancel();
                    Watch::Continue
                }
            };
        }
        let since = *self.stop_seen.get_or_insert_with(Instant::now);
        self.cancel.cancel();
        if since.elapsed() < self.patience {
            return Watch::Continue;
        }
        let failure = Failure::canceled();
        Watch::GiveUp(match self.patience {
            Duration::ZERO => failure,
            patience => failure.with_detail(format!(
                "The store did not answer within {} seconds. Uploads in parts may be left in it.",
                patience.as_secs()
            )),
        })
    }
}

/// The host's name, for people; empty when the kernel does not tell.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
