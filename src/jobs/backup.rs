//! The job that takes one base backup. Its worker is the process that is in backup
//! mode, so that its end, however it comes, ends backup mode.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pgrx::PgSqlErrorCode;
use time::OffsetDateTime;
use time::macros::format_description;
use wal_e_core::archiving::Way;
use wal_e_core::base_backup::{
    self, BackupPush, BackupStart, Incremental, Origin, Phase, PushOptions, Share, Taker,
};
use wal_e_core::event::{Event, Kind};
use wal_e_core::owner;
use wal_e_core::postgres::Lsn;
use wal_e_core::store::{self, retry::Patience};

use super::slot::{Slot, Tenant, View};
use super::watcher::Watcher;
use super::{Job, Words, canceled};
use crate::error::{Failure, Result};
use crate::events;
use crate::gucs;
use crate::pg::backup_mode::BackupMode;
use crate::pg::shared_memory::SharedMemory;
use crate::pg::{progress_view, server};
use crate::rate_limits;
use crate::runtime::Runtime;
use crate::server_log;
use crate::shared_values::{FixedText, SharedTime};

/// The longest label that `pg_backup_start` takes, in bytes (`MAXPGPATH`).
pub const MAX_LABEL_BYTES: usize = 1024;

/// How long the core may take to abort its uploads after a request to stop.
/// Shorter than a waiting backend waits for the worker.
const CLEANUP_TIME: Duration = Duration::from_secs(5);

static SLOT: SharedMemory<Slot<Backup>> = SharedMemory::new(c"wal_e backup slot");

/// Takes one base backup.
pub struct Backup;

/// What a backend asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// Label for `pg_backup_start`.
    pub label: FixedText<MAX_LABEL_BYTES>,
    /// Whether the checkpoint that begins the backup is hurried.
    pub fast: bool,
    /// Whether deletion must leave the backup.
    pub permanent: bool,
    /// Whether only what has changed since the latest backup is stored.
    pub incremental: bool,
    /// How many incremental ones may follow a full one; zero for any number.
    pub max_deltas: u32,
}

/// How far a backup is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The backup's name, once `pg_backup_start` has returned.
    pub name: FixedText<64>,
    /// When its first file was read.
    pub uploading_since: SharedTime,
    /// What it is doing.
    pub phase: Phase,
    /// Why it is a full one although an incremental one was asked for.
    pub full_because: FixedText<400>,
    /// How much is done.
    pub counters: Counters,
}

/// How much is done. Sizes are in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// What is to be looked at, estimated when the files are listed.
    pub bytes_total: u64,
    /// What of that is to be sent, before compression, as far as it is known.
    pub bytes_to_send: u64,
    /// Whether that is all of it.
    pub share: Share,
    /// Read from data files.
    pub bytes_read: u64,
    /// Confirmed by the store.
    pub bytes_uploaded: u64,
    /// Tar partitions planned.
    pub partitions_total: u64,
    /// Tar partitions stored.
    pub partitions_done: u64,
    /// Pages whose checksum was wrong.
    pub corrupt_pages: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            name: FixedText::EMPTY,
            uploading_since: SharedTime::NONE,
            phase: Phase::Starting,
            full_because: FixedText::EMPTY,
            counters: Counters::default(),
        }
    }
}

impl From<&base_backup::Progress> for Counters {
    fn from(progress: &base_backup::Progress) -> Self {
        Counters {
            bytes_total: progress.bytes_total.load(Ordering::Relaxed),
            bytes_to_send: progress.bytes_to_send.load(Ordering::Relaxed),
            share: progress.share(),
            bytes_read: progress.bytes_read.load(Ordering::Relaxed),
            bytes_uploaded: progress.bytes_uploaded.load(Ordering::Relaxed),
            partitions_total: progress.partitions_total.load(Ordering::Relaxed),
            partitions_done: progress.partitions_done.load(Ordering::Relaxed),
            corrupt_pages: progress.corrupt_pages.load(Ordering::Relaxed),
        }
    }
}

impl Job for Backup {
    const WORDS: Words = Words {
        process: "wal_e base backup",
        activity: c"taking a base backup",
        purpose: "the base backup",
        short: "the base backup",
        canceled: "base backup was canceled",
        failed: "base backup failed",
        failure_event: Some(Kind::BackupFailed),
    };

    type Request = Request;
    type Progress = Progress;
    type Outcome = ();

    fn slot() -> &'static SharedMemory<Slot<Self>> {
        &SLOT
    }

    fn already_running(running: &View<Self>) -> Failure {
        let name = running.progress.name.get().map_or_else(
            || "a base backup that has no name yet".to_owned(),
            |name| format!("base backup \"{name}\""),
        );
        let pid = running.pid;
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        let since = running.reserved_at.and_then(|time| time.format(format).ok());
        let since = since.unwrap_or_default();
        Failure::new(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, "a base backup is already running")
            .with_detail(format!("Process {pid} has been taking {name} since {since}."))
            .with_hint(
                "Watch it with wale_backup_progress(), or stop it with wale_backup_cancel().",
            )
    }

    fn object(view: &View<Self>) -> Option<String> {
        view.progress.name.get()
    }

    /// Takes the backup. Whatever fails, the server leaves backup mode when this
    /// process ends, and no sentinel has been written.
    fn run(request: &Request, tenant: Tenant<Self>) -> Result<()> {
        let config = gucs::store_config()?;
        let incremental = request.incremental.then(|| Incremental {
            origin: Origin::Latest,
            max_deltas: (request.max_deltas > 0).then_some(request.max_deltas),
        });
        let options = PushOptions { incremental, ..gucs::backup_options()? };
        progress_view::begin();
        let runtime = Runtime::start()?;
        let progress = Arc::new(base_backup::Progress::default());
        let mut watcher = Watcher::new(tenant, {
            let progress = Arc::clone(&progress);
            move || publish(tenant, &progress)
        });
        let (notices, cancel) = (watcher.notices(), watcher.cancel());
        let uploads = Arc::clone(&progress);

        let store = {
            let notices = notices.clone();
            watcher.run(&runtime, async move {
                let limit = Some(rate_limits::upload());
                store::open_limited(&config, Patience::backup(), notices, limit).await
            })?
        };

        let claimant = server::claimant();
        let hostname = claimant.hostname.clone();
        watcher.run(&runtime, {
            let (store, notices) = (Arc::clone(&store), notices.clone());
            async move { owner::claim(&*store, &claimant, &notices).await }
        })?;

        if tenant.is_unwanted() {
            return Err(canceled::<Self>());
        }
        // The wait for the checkpoint lets nothing else be done.
        watcher.publish();
        let start_time = OffsetDateTime::now_utc();
        let backup_mode =
            BackupMode::begin(&request.label.get().unwrap_or_default(), request.fast)?;
        let start_lsn = backup_mode.start_lsn();
        let start = backup_start(start_lsn, start_time, request.permanent, hostname)?;

        let push = watcher
            .run(&runtime, BackupPush::begin(store, start, options, progress, notices, cancel))?;
        let push = match server::way_of_archiving() {
            Way::UnknownCommand(_) => watcher.run(&runtime, async move {
                push.refuse_other_archive().await?;
                Ok(push)
            })?,
            _ => push,
        };
        name_backup(tenant, push.name(), push.full_because());
        // From here on there may be uploads to abort.
        watcher.let_clean_up(CLEANUP_TIME);
        server_log::log(&format!("base backup \"{}\" started at {start_lsn}", push.name()), None);

        let push = watcher.run(&runtime, async move {
            let mut push = push;
            push.push_files().await?;
            Ok(push)
        })?;
        let stop = backup_mode.end()?;
        let stop_lsn = stop.stop_lsn;
        let name = watcher.run(&runtime, push.finish(stop))?;
        watcher.publish();
        let uploaded = uploads.bytes_uploaded.load(Ordering::Relaxed);
        server_log::log(&format!("base backup \"{name}\" completed at {stop_lsn}"), None);
        events::send(&Event::new(Kind::BackupDone).of(Some(name)).with_bytes(uploaded));
        Ok(())
    }
}

/// What the core has to know of a backup that began at `start_lsn`. Only on a primary.
pub fn backup_start(
    start_lsn: Lsn,
    start_time: OffsetDateTime,
    permanent: bool,
    hostname: String,
) -> Result<BackupStart> {
    let facts = server::facts();
    let segment_size = facts.segment_size.ok_or_else(|| {
        Failure::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the WAL segment size is invalid")
    })?;
    Ok(BackupStart {
        start_lsn,
        timeline: facts.timeline,
        segment_size,
        data_directory: facts.data_directory,
        log_directory: Some(server::log_directory()),
        pg_version: facts.version,
        system_identifier: facts.system_identifier,
        start_time,
        data_checksums: facts.data_checksums,
        logs_hints: facts.logs_hints,
        summarizes_wal: server::setting(c"summarize_wal") == "on",
        server_started_at: facts.started_at.into(),
        permanent,
        hostname,
        taker: Taker::Server,
    })
}

/// Says that the server is in backup mode, how the backup is called, and why it is a full one if
/// that is not what was asked for.
fn name_backup(tenant: Tenant<Backup>, name: &str, full_because: Option<&str>) {
    let name = FixedText::new(name);
    let full_because = FixedText::new(full_because.unwrap_or_default());
    tenant.update(|shared| {
        shared.name = name;
        shared.full_because = full_because;
        shared.phase = Phase::Uploading;
        shared.uploading_since = SharedTime::now();
    });
}

/// Copies how far the core is into the slot.
fn publish(tenant: Tenant<Backup>, progress: &base_backup::Progress) {
    let counters = Counters::from(progress);
    let phase = progress.phase();
    progress_view::show(phase, counters.bytes_total, counters.bytes_read);
    tenant.update(|shared| {
        shared.counters = counters;
        shared.phase = phase;
    });
}
