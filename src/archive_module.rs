//! WAL archiving, in the archiver process.
//!
//! The callbacks of [`crate::pg::archive_abi`] lead here. The threads, the
//! store and its connections are made at the first file and live as long as
//! the archiver; when a setting has changed, the next file gets a new store.

mod complaints;
mod held_back;
mod stop;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;
use wal_e_core::config::{Misfit, StoreConfig};
use wal_e_core::notice::{self, Level, NoticeQueue, Notices};
use wal_e_core::postgres::{SegmentSize, WalFileKind, WalFileName, archive_status};
use wal_e_core::store::{self, retry::Patience};
use wal_e_core::wal::{self, Archiving, Pipeline, Pushed};

use self::complaints::Complaints;
use self::held_back::HeldBack;
use self::stop::StopWatch;
use crate::archiver_stats;
use crate::error::{Failure, Result};
use crate::gucs;
use crate::pg::interrupts;
use crate::pg::server::{self, PG_WAL};
use crate::rate_limits;
use crate::runtime::{Runtime, Watch};
use crate::server_log;

/// How long an archiver that ends waits for its uploads to clean up.
const CLEANUP_TIME: Duration = Duration::from_secs(1);

thread_local! {
    static ARCHIVER: RefCell<Archiver> = RefCell::new(Archiver::new());
}

/// Whether files can be archived at all, and if not, why. PostgreSQL asks before each
/// file; if not, it leaves the file alone without counting a failure. The reason is
/// logged here unless the server logs it.
///
/// Under pg_upgrade nothing is archived. The WAL of a cluster that is being made leads nowhere:
/// it is removed before the cluster is finished. And should pg_upgrade fail, the prefix would
/// belong to a cluster that never came to be. The old cluster has stored all that matters when
/// it was stopped; should it be started again, it goes on from there.
///
/// # Errors
/// No prefix, or a malformed one; pg_upgrade runs the server.
pub fn check_configured(server_tells_reason: bool) -> Result<()> {
    let checked = match server::is_in_pg_upgrade() {
        false => gucs::prefix().map(|_| ()).map_err(Failure::from),
        true => {
            let code = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
            Err(Failure::new(code, "no WAL is archived while pg_upgrade runs the server"))
        }
    };
    if let Err(reason) = &checked {
        ARCHIVER.with_borrow_mut(|archiver| {
            // What is still on its way there may not be wanted any more.
            archiver.disconnect();
            if !server_tells_reason {
                archiver.complaints.warn("", reason);
            }
        });
    }
    checked
}

/// Archives one file: true once the store has confirmed it.
pub fn archive_file(name: &str) -> bool {
    ARCHIVER.with_borrow_mut(|archiver| archiver.archive(name))
}

/// Counts a file whose [`archive_file`] ended in an ERROR or a panic, which was logged
/// already.
pub fn note_inner_failure(name: &str) {
    let message = "an internal error of wal_e, which is in the server log";
    let failure = Failure::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message);
    archiver_stats::note_failed(name, &failure);
}

/// The archiver ends.
pub fn shutdown() {
    ARCHIVER.with_borrow_mut(Archiver::end);
}

/// Counts a file that the store has confirmed, and says so in the log: in the order
/// in which the server asked, whatever was sent ahead.
fn note_archived(name: &str, pushed: &Pushed) {
    let Ok(file) = name.parse::<WalFileName>() else { return };
    let finished_at = archive_status::ready_since(Path::new(PG_WAL), &file);
    let end_lsn = SegmentSize::new(pushed.bytes_read)
        .filter(|_| file.kind() == WalFileKind::Segment)
        .and_then(|size| Some(file.segment_number(size)?.end_lsn(size)));
    archiver_stats::note_archived(
        &file,
        finished_at,
        end_lsn,
        pushed.bytes_read,
        pushed.bytes_stored,
    );
    if gucs::log_archived_files() {
        server_log::log(&pushed.describe(&file), None);
    }
}

/// The state of the archiver process.
struct Archiver {
    runtime: Option<Runtime>,
    connection: Option<Connection>,
    held_back: HeldBack,
    notices: Notices,
    queue: NoticeQueue,
    complaints: Complaints,
    /// Variables that are not followed, as the log has them.
    misfits: Vec<Misfit>,
    stop: StopWatch,
}

/// An open archive, and what it was opened with.
struct Connection {
    settings: ArchiverSettings,
    pipeline: Arc<Pipeline>,
}

impl Archiver {
    fn new() -> Self {
        let (notices, queue) = notice::channel();
        Archiver {
            runtime: None,
            connection: None,
            held_back: HeldBack::default(),
            notices,
            queue,
            complaints: Complaints::default(),
            misfits: Vec::new(),
            stop: StopWatch::default(),
        }
    }

    fn archive(&mut self, name: &str) -> bool {
        if self.stop.has_given_up() {
            return false;
        }
        let result = self.push(name);
        server_log::emit(&self.queue);
        archiver_stats::set_in_flight(self.in_flight());
        match result {
            Ok(pushed) => {
                note_archived(name, &pushed);
                self.stop.note_success();
                self.complaints.note_success();
                true
            }
            Err(failure) => {
                archiver_stats::note_failed(name, &failure);
                match self.stop.has_given_up() {
                    true => self.stop.log_files_left(),
                    false => self.complaints.warn(name, &failure),
                }
                false
            }
        }
    }

    fn push(&mut self, name: &str) -> Result<Pushed> {
        let file: WalFileName = name.parse()?;
        let settings = current_settings().inspect_err(|_| self.disconnect())?;
        self.held_back.check(&settings)?;
        let path = Path::new(PG_WAL).join(name);
        self.stop.begin_file(std::fs::metadata(path).map_or(0, |metadata| metadata.len()));

        let pipeline = self.pipeline(&settings)?;
        let pushed = self.run(async move { pipeline.push(&file).await });
        pushed.inspect_err(|failure| {
            if self.held_back.note_file(&settings, failure) {
                // The next attempt finds out anew what the store wants.
                self.disconnect();
            }
        })
    }

    /// The way into the archive, or a new one when the settings are not those it
    /// was opened with.
    fn pipeline(&mut self, settings: &ArchiverSettings) -> Result<Arc<Pipeline>> {
        if let Some(open) = self.connection.as_ref().filter(|open| open.settings == *settings) {
            return Ok(Arc::clone(&open.pipeline));
        }
        self.disconnect();
        self.log_misfits();
        let (wanted, notices) = (settings.clone(), self.notices.clone());
        let claimant = server::claimant();
        let opening = async move {
            let patience = Patience::archiver();
            let limit = Some(rate_limits::upload());
            let store =
                store::open_limited(&wanted.store, patience, notices.clone(), limit).await?;
            wal::open(store, Some(&claimant), &wanted.archiving, notices).await
        };
        let opened = self.run(opening);
        let opened = opened.inspect_err(|failure| self.held_back.note_opening(settings, failure));
        let pipeline = Arc::new(opened?);
        self.stop.note_opened();
        self.connection =
            Some(Connection { settings: settings.clone(), pipeline: Arc::clone(&pipeline) });
        Ok(pipeline)
    }

    /// Logs the variables that are not followed, once after each change.
    fn log_misfits(&mut self) {
        let found = gucs::misfits();
        for misfit in found.iter().filter(|misfit| !self.misfits.contains(misfit)) {
            let Misfit { message, hint } = misfit.clone();
            self.notices.send(Level::Warning, message, Some(hint));
        }
        self.misfits = found;
    }

    /// Gives up what is under way.
    fn disconnect(&mut self) {
        self.connection = None;
        archiver_stats::set_in_flight(0);
    }

    fn in_flight(&self) -> usize {
        self.connection.as_ref().map_or(0, |open| open.pipeline.in_flight())
    }

    /// Runs `work`, and meanwhile looks for a request to stop.
    fn run<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = wal_e_core::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Runtime::start()?,
        };
        let runtime = self.runtime.insert(runtime);
        let pipeline = self.connection.as_ref().map(|open| &open.pipeline);
        let (queue, stop) = (&self.queue, &mut self.stop);
        runtime.run(work, || {
            server_log::emit(queue);
            interrupts::absorb_barrier();
            if let Some(pipeline) = pipeline {
                archiver_stats::set_in_flight(pipeline.in_flight());
                stop.note_progress(pipeline.progress());
            }
            if !interrupts::postmaster_is_alive() || stop.is_overdue(Instant::now()) {
                stop.give_up();
                return Watch::GiveUp(given_up());
            }
            Watch::Continue
        })
    }

    /// Ends what is under way. What was sent and not acknowledged is known again
    /// by the next archiver.
    fn end(&mut self) {
        if let (Some(runtime), Some(open)) = (self.runtime.take(), self.connection.take()) {
            let deadline = Instant::now() + CLEANUP_TIME;
            let closing = async move {
                open.pipeline.close().await;
                Ok(())
            };
            let _ = runtime.run(closing, || match Instant::now() < deadline {
                true => Watch::Continue,
                false => Watch::GiveUp(given_up()),
            });
        }
        archiver_stats::set_in_flight(0);
        server_log::emit(&self.queue);
    }
}

fn given_up() -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
        "archiving was given up because the archiver has to end",
    )
}

/// Everything that an open archive depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiverSettings {
    /// Where objects live.
    pub store: StoreConfig,
    /// What is archived there, and how.
    pub archiving: Archiving,
}

/// The settings that are in effect now, and what the server is now: a standby
/// may have been promoted.
///
/// # Errors
/// As [`gucs::store_config`].
fn current_settings() -> Result<ArchiverSettings> {
    Ok(ArchiverSettings {
        store: gucs::store_config()?,
        archiving: Archiving {
            wal_directory: PathBuf::from(PG_WAL),
            compression: gucs::compression()?,
            uploads: gucs::wal_upload_concurrency(),
            standby: server::in_recovery(),
            notes_changed_blocks: gucs::backup_max_deltas() > 0,
        },
    })
}
